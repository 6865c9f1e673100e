"""Removal of credentials from text that is printed or stored."""

import os
import re

HIDDEN = "***"

IN_URL = re.compile(r"(?<=://)\S*(?=@)")
"""The part of an address before the last ``@``: a password may contain an unquoted ``@`` or ``/``."""

IN_QUERY = re.compile(r"(?<=[?&])([^=&\s]*(?:pass|pwd|secret|token|key)[^=&\s]*=)[^&\s'\"]+", re.IGNORECASE)

IN_HEADER = re.compile(r"\b(Basic|Bearer) [\w+/=.~-]{4,}")
"""The value of an authorization header, which a server may repeat in its answer."""

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
