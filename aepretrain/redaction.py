"""Keeping credentials out of whatever is printed or stored."""

import os
import re

HIDDEN = "***"

IN_URL = re.compile(r"(?<=://)\S*(?=@)")
"""What stands before the last ``@`` of an address: a password may have an unquoted ``@`` or ``/`` in it."""

IN_QUERY = re.compile(r"(?<=[?&])([^=&\s]*(?:pass|pwd|secret|token|key)[^=&\s]*=)[^&\s'\"]+", re.IGNORECASE)

IN_HEADER = re.compile(r"\b(Basic|Bearer) [\w+/=.~-]{4,}")
"""An authorization header's value, as a server may repeat it."""

IN_ENVIRONMENT = (
    *("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "DATABRICKS_TOKEN"),
    *("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    *("AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_CONNECTION_STRING"),
)


def redact(text: str) -> str:
    """The text without the credentials of addresses in it, and without those of the environment."""
    text = IN_HEADER.sub(rf"\1 {HIDDEN}", IN_QUERY.sub(rf"\1{HIDDEN}", IN_URL.sub(HIDDEN, text)))
    for name in IN_ENVIRONMENT:
        if secret := os.environ.get(name):
            text = text.replace(secret, HIDDEN)
    return text
