"""Opening a store: its address, checks, creation and migration."""

import http.client
import os
import shlex
import sqlite3
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.tracking._tracking_service import utils
from sqlalchemy import NullPool, create_engine
from sqlalchemy.exc import SQLAlchemyError

from aepretrain.config import Execution
from aepretrain.redaction import redact
from aepretrain.tracking.relocation import ARTIFACTS, LOCKS, relocate
from aepretrain.tracking.retry import StoreError, one_line
from aepretrain.tracking.store import SQLITE, Store, client_of, own_folder, without_credentials

EXPERIMENT = "aepretrain"
CONNECT_TIMEOUT_S = 10
BUSY_TIMEOUT_S = 20
DATABASES = ("postgresql", "mysql", "mssql")
"""The databases besides SQLite that MLflow supports."""

FIRST_TABLES = frozenset({"experiments", "runs", "tags", "metrics", "params"})
"""The tables that every version of MLflow creates first."""


def default_uri(folder: Path) -> str:
    """SQLite's ``mlflow.db`` in the nearest folder upward that holds an MLproject, else in `folder` itself."""
    root = next((one for one in (folder, *folder.parents) if (one / "MLproject").is_file()), folder)
    return f"{SQLITE}{(root / 'mlflow.db').absolute()}"


def open_store(
    uri: str, experiment: str | None = None, run_id: str | None = None, outage_s: float = Execution.outage_s
) -> Store:
    """The store of a URI, created and migrated under a lock where needed.

    New runs go to the experiment of `run_id` (a run that ``mlflow run`` opened), else to the one named. Raises
    `StoreError` where the store cannot be opened or the experiment is deleted.
    """
    uri = absolute_uri(uri)
    _check_reachable(uri)
    try:
        with FileLock(own_folder(uri) / "open.lock"):
            _check_tables(uri)
            client = client_of(uri)
            if uri.startswith(SQLITE):
                with closing(sqlite3.connect(uri.removeprefix(SQLITE), timeout=BUSY_TIMEOUT_S)) as connection:
                    relocate(connection, own_folder(uri))
                vars(utils).get("_artifact_repos_cache", {}).clear()  # by run id: a copy of a store has the same ids
            if run_id is not None:
                experiment_id = client.get_run(run_id).info.experiment_id
            else:
                experiment_id = _experiment_id(client, uri, experiment or EXPERIMENT)
            _use_wal(uri)
            return Store(uri, experiment_id, outage_s)
    except StoreError:
        raise
    except Exception as error:  # noqa: BLE001  # every database has errors of its own
        raise StoreError(f"the tracking store {redact(uri)} cannot be opened: {one_line(error)}") from None


def find_store(uri: str, outage_s: float = Execution.outage_s) -> Store | None:
    """The store of a URI, for reading only; None where an SQLite store is not there yet. Nothing is created.

    Raises `StoreError` where the store cannot be opened.
    """
    uri = absolute_uri(uri)
    if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).exists():
        return None
    _check_reachable(uri)
    try:
        _check_tables(uri)
        if uri.startswith(SQLITE) and not _table_names(uri) >= FIRST_TABLES:
            return None
        client_of(uri).search_experiments(max_results=1)
    except StoreError:
        raise
    except Exception as error:  # noqa: BLE001  # every database has errors of its own
        raise StoreError(f"the tracking store {redact(uri)} cannot be opened: {one_line(error)}") from None
    return Store(uri, "", outage_s)


def ui_hint(uri: str) -> str:
    """The command that shows the runs of a store, or its address, without passwords."""
    shown = redact(uri)
    return shown if uri.startswith("http") else f"mlflow ui --backend-store-uri {shlex.quote(shown)}"


def absolute_uri(uri: str) -> str:
    """The URI with an absolute path without links, so that one store has one name in every folder."""
    return f"{SQLITE}{Path(uri.removeprefix(SQLITE)).resolve()}" if uri.startswith(SQLITE) else uri


def _check_reachable(uri: str) -> None:
    """Fail at once and in one line where MLflow would retry for minutes."""
    try:
        if uri.startswith(SQLITE):
            _check_sqlite(Path(uri.removeprefix(SQLITE)))
        elif uri.startswith(("http://", "https://")):
            address = f"{without_credentials(uri)}/health"
            urllib.request.urlopen(address, timeout=CONNECT_TIMEOUT_S).close()  # noqa: S310  # http(s)
        elif uri.partition("+")[0].partition(":")[0] in DATABASES:
            create_engine(uri, poolclass=NullPool).connect().close()
    except urllib.error.HTTPError:
        return  # it answers, so it can be reached
    except (ValueError, http.client.HTTPException):  # their messages would show a part of the password
        wrong = "the address is malformed (in a password, write / as %2F and @ as %40)"
        raise StoreError(f"the tracking store {redact(uri)} cannot be opened: {wrong}") from None
    except (OSError, ImportError, sqlite3.Error, SQLAlchemyError) as error:
        raise StoreError(f"the tracking store {redact(uri)} cannot be opened: {one_line(error)}") from None


def _check_sqlite(path: Path) -> None:
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):  # SQLite would only say that it cannot open the file
        raise PermissionError(f"nothing can be written to {path.parent}")
    if path.exists():
        # By SQLite itself: opening and closing the file in any other way would drop the locks that this process holds
        # on it (sqlite.org/howtocorrupt.html, section 2.2), and another process could then corrupt the database.
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA schema_version")


def _check_tables(uri: str) -> None:
    """Raise `StoreError` where an SQLite file belongs to another program or has lost tables.

    MLflow would add its tables to such a file. A file without a schema version may be a store whose creation was
    interrupted; MLflow continues that.
    """
    if not uri.startswith(SQLITE):
        return
    there = _table_names(uri)
    if not there <= FIRST_TABLES and not there >= FIRST_TABLES | {"alembic_version"}:
        lost = ", ".join(sorted(FIRST_TABLES - there)) or "alembic_version"
        raise StoreError(f"{redact(uri)} is not an MLflow store, or has lost these tables: {lost}; nothing was changed")


def _table_names(uri: str) -> set[str]:
    with closing(sqlite3.connect(uri.removeprefix(SQLITE), timeout=BUSY_TIMEOUT_S)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _experiment_id(client: MlflowClient, uri: str, name: str) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        if not uri.startswith(SQLITE):
            return str(client.create_experiment(name))
        folder = Path(uri.removeprefix(SQLITE)).parent / ARTIFACTS
        tags = {LOCKS: str(own_folder(uri))}  # for `relocate`
        return str(client.create_experiment(name, artifact_location=folder.as_uri(), tags=tags))
    if experiment.lifecycle_stage != "active":
        raise StoreError(
            f"experiment {name!r} in {redact(uri)} is deleted; restore it with: "
            f"MLFLOW_TRACKING_URI={redact(uri)} mlflow experiments restore --experiment-id {experiment.experiment_id}"
        )
    return str(experiment.experiment_id)


def _use_wal(uri: str) -> None:
    """Set SQLite's WAL mode, in which readers and a writer work at the same time. The file keeps the mode."""
    if uri.startswith(SQLITE):
        connection = sqlite3.connect(uri.removeprefix(SQLITE), timeout=BUSY_TIMEOUT_S)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
