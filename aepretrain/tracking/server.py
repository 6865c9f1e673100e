"""A tracking server, asked as MLflow's own client asks it: with its certificates, credentials, headers and proxies."""

import re
import ssl
from urllib.parse import urlsplit

from mlflow.exceptions import InvalidUrlException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from requests.utils import get_environ_proxies, select_proxy

from aepretrain.redaction import redact
from aepretrain.tracking.retry import StoreError, one_line

CONNECT_TIMEOUT_S = 10

OLDEST_SERVER = 3
"""The first major version of MLflow whose server keeps models of runs."""

MALFORMED = "the address is malformed (in a password, write / as %2F and @ as %40)"


def check_server(uri: str) -> None:
    """Raise `StoreError` at once where a server does not answer, or is too old. MLflow would retry for minutes."""
    try:
        urlsplit(uri).port  # noqa: B018  # raises where it is no number
        creds = get_default_host_creds(uri)  # type: ignore[no-untyped-call]  # MLflow has no types here
        asked = {"max_retries": 0, "timeout": CONNECT_TIMEOUT_S, "raise_on_status": False}
        answer = http_request(creds, "/version", "GET", **asked)  # type: ignore[no-untyped-call]
    except (ValueError, InvalidUrlException):  # their messages would show a part of the password
        raise StoreError(f"the tracking store {redact(uri)} cannot be opened: {MALFORMED}") from None
    except Exception as error:  # noqa: BLE001  # MLflow has many
        problem = f"{one_line(_cause(error))}{_certificate_hint(error)}{proxy_hint(uri)}"
        raise StoreError(f"the tracking store {redact(uri)} cannot be opened: {problem}") from None
    version = re.fullmatch(r"(\d+)\.\d+[\w.]*", answer.text.strip()) if answer.ok else None
    if version and int(version[1]) < OLDEST_SERVER:
        raise StoreError(
            f"the tracking server {redact(uri)} has MLflow {version[0]}, which cannot keep the models of runs: upgrade "
            f"MLflow there to version {OLDEST_SERVER} or newer, or choose another store with --tracking-uri"
        )


def proxy_hint(uri: str) -> str:
    """What to do about the proxy through which a server is asked; empty where there is none."""
    proxy = select_proxy(uri, get_environ_proxies(uri)) if uri.startswith("http") else None
    if not proxy:
        return ""
    return (
        f"; it was asked through the proxy {redact(proxy)}; to ask it directly, set NO_PROXY={urlsplit(uri).hostname}"
    )


def _certificate_hint(error: BaseException) -> str:
    if not isinstance(_cause(error), ssl.SSLCertVerificationError):
        return ""
    return "; if you trust the server, name the file of its certificate in MLFLOW_TRACKING_SERVER_CERT_PATH"


def _cause(error: BaseException) -> BaseException:
    """The first error of the system that led to this one, without what libraries have put around it."""
    cause, inner = error, error.__context__
    while inner is not None:
        if isinstance(inner, OSError):
            cause = inner
        inner = inner.__context__
    return cause
