"""Addresses of stores: one spelling for each store, and the file that an SQLite address names.

SQLAlchemy decodes %-codes in an SQLite address and ends the path at ``?``, so `sqlite_file` asks it.
"""

import re
import shlex
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from sqlalchemy import make_url

from aepretrain.redaction import CONTROL, redact
from aepretrain.tracking.retry import StoreError

SQLITE = "sqlite:///"

CODED = re.compile(rf"%(?=[0-9A-Fa-f]{{2}})|\?|{CONTROL.pattern}")
"""What must be written as a %-code: ``%`` where SQLAlchemy would decode it, ``?``, and control characters."""

WITHOUT_SCHEME = re.compile(r"(?:[^/@]+@)?(?:localhost|[\w.-]+:\d+|\[[\da-f:]+\](?::\d+)?)(?:/.*)?", re.ASCII)
"""The address of a server without its ``http://``."""

PORTS = {"http": ":80", "https": ":443", "postgresql": ":5432", "mysql": ":3306", "mssql": ":1433"}


def default_uri(folder: Path) -> str:
    """SQLite's ``mlflow.db`` in the nearest folder upward that holds an MLproject, else in `folder` itself."""
    root = next((one for one in (folder, *folder.parents) if (one / "MLproject").is_file()), folder)
    return sqlite_uri((root / "mlflow.db").absolute())


def absolute_uri(uri: str) -> str:
    """The one address of a store: of an SQLite file with its absolute path without links, else as it is.

    Raises `StoreError` for what is no address, and where MLflow cannot open the file.
    """
    file = sqlite_file(uri)
    if file is not None:
        return sqlite_uri(file.resolve())
    scheme, colon, rest = uri.partition(":")
    if scheme in ("http", "https") and not rest.startswith("//"):
        raise _refused(uri, f"{scheme}://{rest.lstrip('/')}")
    if WITHOUT_SCHEME.fullmatch(uri):
        raise _refused(uri, f"http://{uri}")
    if scheme == "file" or not (colon or uri == "databricks"):
        path = urlsplit(uri).path if colon else uri
        raise _refused(uri, SQLITE + _coded(path if Path(path).suffix else str(Path(path, "mlflow.db"))))
    return uri


def sqlite_file(uri: str) -> Path | None:
    """The file of an SQLite address; None for another one. Raises `StoreError` for an SQLite address of no file."""
    scheme, _, rest = uri.partition(":")
    if scheme.lower() not in ("sqlite", "sqlite+pysqlite"):
        return None
    if not rest.startswith("///"):
        raise _refused(uri, SQLITE + (rest.removeprefix("//") or "mlflow.db"))
    path, query, _ = rest.partition("?")
    if query:
        raise StoreError(f"{redact(uri)}: options after ? are not supported; write a ? in the path as %3F")
    file = make_url(SQLITE + path.removeprefix("///")).database
    if file in (None, "", ":memory:"):
        raise _refused(uri, f"{SQLITE}mlflow.db")
    return Path(file)


def sqlite_uri(file: Path) -> str:
    """The address of an SQLite file with an absolute path. Raises `StoreError` where the path is not UTF-8."""
    try:
        str(file).encode()
    except UnicodeEncodeError:
        raise StoreError(f"MLflow cannot open a store in {str(file)!r}: the path is not UTF-8; rename it") from None
    return SQLITE + _coded(str(file))


def _coded(path: str) -> str:
    """A path as it is written in an address.

    MLflow makes the parent folder of an address before it is decoded. So from the first folder with a code on, slashes
    are codes too: the parent is then a folder that is there, and MLflow makes none.
    """
    first = CODED.search(path)
    if first is None:
        return path
    start = path.rfind("/", 0, first.start()) + 1
    return path[:start] + CODED.sub(lambda one: quote(one[0], errors="surrogateescape"), path[start:]).replace(
        "/", "%2F"
    )


def shown_uri(uri: str) -> str:
    """The address without passwords. The path of an SQLite file holds none, whatever it looks like."""
    return uri if uri.startswith(SQLITE) else redact(uri)


def mlflow_command(uri: str, command: str) -> str:
    """A command of MLflow's on a store, without passwords."""
    return f"MLFLOW_TRACKING_URI={shlex.quote(shown_uri(uri))} mlflow {command}"


def without_credentials(address: str) -> str:
    """A server's address without user and password, one for all ways to write it."""
    parts = urlsplit(address)
    scheme = parts.scheme.partition("+")[0]  # without the driver of a database
    host = parts.netloc.rpartition("@")[2].lower().removesuffix(PORTS.get(scheme, ""))
    return urlunsplit(parts._replace(scheme=scheme, netloc=host)).rstrip("/")


def _refused(uri: str, meant: str) -> StoreError:
    shown, proposed = (redact(one if "://" in one else f"://{one}").removeprefix("://") for one in (uri, meant))
    return StoreError(f"{shown!r} is no address of a store: it must begin with {SQLITE} or http://, like {proposed}")
