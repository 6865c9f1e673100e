"""Opening a store: checks, creation and migration."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage, Run
from mlflow.exceptions import MlflowException
from mlflow.tracking._tracking_service import utils
from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENTRY_POINT
from sqlalchemy import NullPool, create_engine
from sqlalchemy.exc import SQLAlchemyError

from aepretrain.config import Execution
from aepretrain.errors import UsageError
from aepretrain.tracking.address import absolute_uri, mlflow_command, shown_uri, sqlite_file
from aepretrain.tracking.relocation import ARTIFACTS, LOCKS, relocate
from aepretrain.tracking.retry import StoreError, one_line
from aepretrain.tracking.schema import check_schema
from aepretrain.tracking.server import MALFORMED, check_server, proxy_hint
from aepretrain.tracking.store import OPENING, TAG, Store, client_of, own_folder

EXPERIMENT = "aepretrain"
BUSY_TIMEOUT_S = 20
DATABASES = ("postgresql", "mysql", "mssql")
"""The databases besides SQLite that MLflow supports."""

FIRST_TABLES = frozenset({"experiments", "runs", "tags", "metrics", "params"})
"""The tables that every version of MLflow creates first."""


def open_store(
    uri: str,
    experiment: str | None = None,
    run_id: str | None = None,
    outage_s: float = Execution.outage_s,
    experiment_id: str | None = None,
) -> Store:
    """The store of a URI, created and migrated under a lock where needed.

    New runs go to the experiment of `run_id` (a run that ``mlflow run`` opened), else to that of `experiment_id`, else
    to the one named. Raises `StoreError` where the store cannot be opened or the experiment is deleted, and
    `UsageError` where `run_id` is another run or there is no such `experiment_id`.
    """
    uri = absolute_uri(uri)
    _check_reachable(uri)
    with _failing_in_a_line(uri), FileLock(own_folder(uri) / OPENING):
        _check_tables(uri)
        client = client_of(uri)
        if (file := sqlite_file(uri)) is not None:
            with closing(sqlite3.connect(file, timeout=BUSY_TIMEOUT_S)) as connection:
                relocate(connection, own_folder(uri))
            vars(utils).get("_artifact_repos_cache", {}).clear()  # by run id: a copy of a store has the same ids
        if run_id is not None:
            chosen = client.get_experiment(_opened_run(client, run_id).info.experiment_id)
        elif experiment_id is not None:
            chosen = _experiment_of_id(client, uri, experiment_id, experiment)
        else:
            chosen = _experiment_of_name(client, uri, experiment or EXPERIMENT)
        _check_artifacts(chosen)
        _use_wal(uri)
        return Store(uri, str(chosen.experiment_id), outage_s)


def find_store(uri: str, outage_s: float = Execution.outage_s) -> Store | None:
    """The store of a URI, for reading only; None where an SQLite store is not there yet. Nothing is created.

    Raises `StoreError` where the store cannot be opened.
    """
    uri = absolute_uri(uri)
    file = sqlite_file(uri)
    if file is not None and not file.exists():
        return None
    _check_reachable(uri)
    with _failing_in_a_line(uri):
        _check_tables(uri)
        if file is not None and not _table_names(file) >= FIRST_TABLES:
            return None
        client_of(uri).search_experiments(max_results=1)
    return Store(uri, "", outage_s)


@contextmanager
def _failing_in_a_line(uri: str) -> Iterator[None]:
    """Turn all errors but `StoreError` and `UsageError` into a `StoreError`: every database has errors of its own."""
    try:
        yield
    except (StoreError, UsageError):
        raise
    except Exception as error:  # noqa: BLE001
        raise _cannot_be_opened(uri, f"{one_line(error)}{proxy_hint(uri)}") from None


def _cannot_be_opened(uri: str, why: str) -> StoreError:
    return StoreError(f"the tracking store {shown_uri(uri)} cannot be opened: {why}")


def _check_reachable(uri: str) -> None:
    """Fail at once and in one line where MLflow would retry for minutes."""
    try:
        if (file := sqlite_file(uri)) is not None:
            _check_sqlite(file)
        elif uri.startswith(("http://", "https://")):
            check_server(uri)
        elif uri.partition("+")[0].partition(":")[0] in DATABASES:
            create_engine(uri, poolclass=NullPool).connect().close()
    except ValueError:  # its message would show a part of the password
        raise _cannot_be_opened(uri, MALFORMED) from None
    except (OSError, ImportError, sqlite3.Error, SQLAlchemyError) as error:
        raise _cannot_be_opened(uri, one_line(error)) from None


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
    """Raise `StoreError` where an SQLite file belongs to another program or has lost tables, or for another schema.

    MLflow would add its tables to such a file. A file without a schema version may be a store whose creation was
    interrupted; MLflow continues that.
    """
    file = sqlite_file(uri)
    there = set() if file is None else _table_names(file)
    if not there <= FIRST_TABLES and not there >= FIRST_TABLES | {"alembic_version"}:
        lost = ", ".join(sorted(FIRST_TABLES - there)) or "alembic_version"
        raise StoreError(
            f"{shown_uri(uri)} is not an MLflow store, or has lost these tables: {lost}; nothing was changed"
        )
    if not uri.startswith("http"):
        check_schema(uri)


def _table_names(file: Path) -> set[str]:
    with closing(sqlite3.connect(file, timeout=BUSY_TIMEOUT_S)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _opened_run(client: MlflowClient, run_id: str) -> Run:
    """A run that ``mlflow run`` has opened and nothing has ended. Raises `UsageError` for any other run.

    A command renames this run, writes to it and ends it, so it must not be a run that somebody needs as it is.
    """
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        problem = "is not in the store"
    else:
        if run.info.lifecycle_stage != LifecycleStage.ACTIVE:
            problem = "is deleted"
        elif run.data.tags.get(f"{TAG}kind") == "training":
            problem = "is a training"
        elif run.info.status not in ("RUNNING", "SCHEDULED"):
            problem = f"has ended as {run.info.status}"
        elif MLFLOW_PROJECT_ENTRY_POINT not in run.data.tags:
            problem = "was not opened by `mlflow run`"
        else:
            return run
    raise UsageError(
        f"run_id={run_id!r} (argument or MLFLOW_RUN_ID) is not allowed: this run {problem}, and results are only "
        "written to a new run that `mlflow run` has opened for them; leave run_id out, or unset MLFLOW_RUN_ID"
    )


def _experiment_of_name(client: MlflowClient, uri: str, name: str) -> Experiment:
    """The experiment of this name, which is made if it is missing. Raises `StoreError` where it is deleted."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        where: dict[str, Any] = {}  # the tag is for `relocate`
        if (file := sqlite_file(uri)) is not None:
            where = {"artifact_location": file.with_name(ARTIFACTS).as_uri(), "tags": {LOCKS: str(own_folder(uri))}}
        return client.get_experiment(client.create_experiment(name, **where))
    _check_active(experiment, uri)
    return experiment


def _experiment_of_id(client: MlflowClient, uri: str, experiment_id: str, name: str | None) -> Experiment:
    """The experiment with this id, and with this name if one is given.

    Raises `UsageError` where there is none, and `StoreError` where it is deleted.
    """
    given = f"MLFLOW_EXPERIMENT_ID={experiment_id!r} is not allowed: "
    try:
        experiment = client.get_experiment(experiment_id)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise UsageError(f"{given}there is no such experiment in {shown_uri(uri)}; correct it, or unset it") from None
    if name is not None and experiment.name != name:
        named = f"MLFLOW_EXPERIMENT_NAME={name!r}"
        raise UsageError(f"{given}this experiment is named {experiment.name!r}, and {named}; unset one of them")
    _check_active(experiment, uri)
    return experiment


def _check_active(experiment: Experiment, uri: str) -> None:
    if experiment.lifecycle_stage != LifecycleStage.ACTIVE:
        raise StoreError(
            f"experiment {experiment.name!r} in {shown_uri(uri)} is deleted; restore it with: "
            + mlflow_command(uri, f"experiments restore --experiment-id {experiment.experiment_id}")
        )


def _check_artifacts(one: Experiment) -> None:
    """Raise `StoreError` where MLflow would write artifacts elsewhere: it decodes a path that it has not coded."""
    decoded = unquote(one.artifact_location)
    if one.artifact_location.startswith("/") and decoded != one.artifact_location:
        raise StoreError(
            f"experiment {one.name!r} has its artifacts in {one.artifact_location}, but MLflow would write them into "
            f"{decoded}: name another experiment with MLFLOW_EXPERIMENT_NAME, or rename the folder"
        )


def _use_wal(uri: str) -> None:
    """Set SQLite's WAL mode, in which readers and a writer work at the same time. The file keeps the mode."""
    if (file := sqlite_file(uri)) is not None:
        connection = sqlite3.connect(file, timeout=BUSY_TIMEOUT_S)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
