"""Removal of credentials and control characters from text that is printed or stored."""

import os
import re

HIDDEN = "***"

IN_URL = re.compile(r"(?<=://)(?!/)\S*(?=@)")
"""The part of an address before the last ``@``: a password may contain an unquoted ``@`` or ``/``.

An address with nothing between ``://`` and the next ``/`` is that of a file: an ``@`` is part of its path.
"""

IN_QUERY = re.compile(r"(?<=[?&])([^=&\s]*(?:pass|pwd|secret|token|key)[^=&\s]*=)[^&\s'\"]+", re.IGNORECASE)

IN_HEADER = re.compile(r"(?<![\w/])(Basic|Bearer) [\w+/=.~-]{4,}")
"""The value of an authorization header, which a server may repeat in its answer. After a ``/`` it is a folder."""

CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")
"""Characters that steer a terminal, break a line or turn the direction of writing; and bytes that are no UTF-8."""

LINE_BREAK = re.compile(r"\s*[\r\n]\s*")

IN_ENVIRONMENT = (
    *("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "DATABRICKS_TOKEN"),
    *("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    *("AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_CONNECTION_STRING"),
)


def redact(text: str) -> str:
    """The text without credentials in addresses and without those in the environment."""
    text = IN_HEADER.sub(rf"\1 {HIDDEN}", IN_QUERY.sub(rf"\1{HIDDEN}", IN_URL.sub(HIDDEN, text)))
    for name in IN_ENVIRONMENT:
        if secret := os.environ.get(name):
            text = text.replace(secret, HIDDEN)
    return text


def in_a_line(text: str) -> str:
    """The text on one line, without credentials and control characters."""
    return printable(redact(LINE_BREAK.sub(" ", text.strip())))


def printable(text: str) -> str:
    """The text with control characters as Python writes them, like ``\\n``."""
    return CONTROL.sub(lambda one: repr(one[0])[1:-1], text)
