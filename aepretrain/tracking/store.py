"""An MLflow store: locks, finished trainings as records, their artifacts and learning curves."""

import hashlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import LifecycleStage, Metric, Run, ViewType
from mlflow.environment_variables import MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from aepretrain import stopping
from aepretrain.config import IN_EVERY_IDENTITY, SCHEMA, Execution, Settings
from aepretrain.errors import Failure
from aepretrain.records import (
    NO_FILTER,
    OUTCOMES,
    PREDICTIONS,
    WEIGHTS,
    Outcomes,
    Predictions,
    Record,
    check_run_id,
    curve_of,
)
from aepretrain.tracking.address import SQLITE, mlflow_command, shown_uri, sqlite_file, without_credentials
from aepretrain.tracking.metric_names import our_name, stored_name
from aepretrain.tracking.pages import RUNS_IN_PAGE, RUNS_OF_SERVER, pages, shared
from aepretrain.tracking.retry import StoreError, one_line, patient, where_possible

TAG = "aepretrain."
"""Prefix of our tags. Queries use tags, since MLflow itself may have written the parameters."""

RUNS_AT_ONCE = 1000
"""Runs in one query for metrics. SQLite reads the metrics of all runs for each query."""

OPENING = "open.lock"
"""The file that is locked while a store is opened."""

LOCK_CHECK_S = 0.5
"""How often a process that waits for a lock checks whether it should stop."""


@dataclass(frozen=True)
class Store:
    """An open store: its URI, the experiment of new runs, and how long to wait while its server is unavailable.

    Small enough to send to a worker.
    """

    uri: str
    experiment_id: str
    outage_s: float = Execution.outage_s

    @property
    def place(self) -> str:
        """What a message calls it: the URI without credentials."""
        return shown_uri(self.uri)

    @property
    def bare_client(self) -> MlflowClient:
        """MLflow's client of this store, one for each process."""
        return client_of(self.uri)

    @property
    def client(self) -> MlflowClient:
        """The same client, which repeats calls while the server is unavailable (see `patient`)."""
        return self.bare_client if self.is_of_one_host else patient(self.bare_client, self.outage_s)

    @property
    def is_of_one_host(self) -> bool:
        """Whether only processes of one host can use the store."""
        return self.uri.startswith(SQLITE)

    @property
    def has_local_artifacts(self) -> bool:
        """Whether the experiment's artifacts are on a local disk."""
        location = self.client.get_experiment(self.experiment_id).artifact_location
        return urlsplit(location).scheme in ("", "file")

    @property
    def folder(self) -> Path:
        """This host's folder for the locks, snapshots and journals of the store."""
        return own_folder(self.uri)

    @property
    def is_in_use(self) -> bool:
        """Whether a process on this host trains into the store."""
        return is_locked(self.folder)

    @contextmanager
    def lock(self, name: str, on_wait: Callable[[], None]) -> Iterator[None]:
        """Hold the lock of this name on this host; `on_wait` is called if another process holds it.

        The lock is free again when its holder dies. A signal ends the waiting (see `stopping`). The lock's file is
        removed in the end.
        """
        lock = FileLock(self.folder / f"{name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            on_wait()
            while not lock.is_locked:
                stopping.check()
                with suppress(Timeout):
                    lock.acquire(timeout=LOCK_CHECK_S)
        try:
            yield
        finally:
            _release(lock)

    @contextmanager
    def try_lock(self, name: str) -> Iterator[bool]:
        """Like `lock`, but without waiting: yields whether the lock was free."""
        lock = FileLock(self.folder / f"{name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            _release(lock)

    def done(self, key: str) -> Record | None:
        """The finished training of a key; of several attempts the highest."""
        return max(self._records({"key": key}), key=lambda record: record.attempt, default=None)

    def records(self, wanted: Mapping[str, Any] = NO_FILTER, **tags: str) -> dict[str, Record]:
        """All finished trainings whose tags have these values, by key; of each key the highest attempt.

        The query filters by those `wanted` settings that are in every identity, so that a large store is not read
        completely; the caller filters by the others. Raises `UsageError` for a value that a setting cannot have.
        """
        settings = Settings(**{name: value for name, value in wanted.items() if name in IN_EVERY_IDENTITY})
        filters = {name: str(getattr(settings, name)) for name in IN_EVERY_IDENTITY if name in wanted}
        latest: dict[str, Record] = {}
        for record in self._records({"schema": str(SCHEMA), **filters, **tags}):
            if record.key not in latest or latest[record.key].attempt < record.attempt:
                latest[record.key] = record
        return latest

    def record(self, run_id: str) -> Record:
        """The finished training of a run. Raises `UsageError` for a malformed id, `StoreError` where there is none."""
        check_run_id(run_id)
        record = next(self._records({"schema": str(SCHEMA)}, f"attributes.run_id = '{run_id}'"), None)
        if record is None:
            raise StoreError(f"there is no finished training with run id {run_id} in {self.place}")
        return record

    def has_run(self, run_id: str) -> bool:
        """Whether there is a run with this id that is neither deleted nor purged."""
        with where_possible():
            return bool(self.client.get_run(run_id).info.lifecycle_stage == LifecycleStage.ACTIVE)
        return False

    def _records(self, tags: Mapping[str, str], *conditions: str) -> Iterator[Record]:
        filters = {"done": "true", **tags}
        runs = self.search(filters, "attributes.status = 'FINISHED'", *conditions)
        return (_record(run, self.uri) for run in runs)

    def search(self, tags: Mapping[str, str], *conditions: str) -> Iterator[Run]:
        """All runs, of all experiments, whose tags have these values."""
        clauses = [f"tags.`{TAG}{name}` = '{value}'" for name, value in tags.items()] + list(conditions)
        experiments = [one.experiment_id for one in pages(self.client.search_experiments)]
        return pages(
            self.client.search_runs,
            experiment_ids=experiments,
            filter_string=" and ".join(clauses),
            run_view_type=ViewType.ACTIVE_ONLY,
            order_by=["attributes.start_time ASC"],
            max_results=RUNS_IN_PAGE if self.is_of_one_host else RUNS_OF_SERVER,
        )

    def artifact(self, record: Record, path: str) -> bytes:
        """The content of one artifact. Raises `StoreError` where it cannot be read or has changed."""
        content = self._read(record, path)
        if not hashlib.sha256(content).hexdigest().startswith(record.artifacts.get(path, "")):
            raise StoreError(
                f"{path} of run {record.run_id} is damaged: its SHA-256 differs from the one in the run; "
                f"{self._way_out(record)}"
            )
        return content

    def _read(self, record: Record, path: str) -> bytes:
        with suppress(MlflowException, OSError):
            return self._download(record, path)
        try:
            self.client.get_run(record.run_id)  # waits for the server; a download would report a missing file
            return self._download(record, path)
        except (MlflowException, OSError) as error:
            raise StoreError(
                f"run {record.run_id} has no readable artifact {path}: {one_line(error)}; {self._way_out(record)}"
            ) from None

    def _way_out(self, record: Record) -> str:
        command = mlflow_command(self.uri, f"runs delete --run-id {record.run_id}")
        return f"put it back, or delete the run, and it is trained again: {command}"

    def _download(self, record: Record, path: str) -> bytes:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            address = f"{record.artifact_uri}/{path}"  # with the run id, MLflow would also search the models
            return Path(download_artifacts(artifact_uri=address, dst_path=folder, tracking_uri=self.uri)).read_bytes()

    def has_artifact(self, record: Record, path: str) -> bool:
        """Whether a training has the artifact ``folder/name``."""
        return path in (one.path for one in self.client.list_artifacts(record.run_id, path.rpartition("/")[0]))

    def outcomes(self, record: Record) -> Outcomes:
        """A classifier's outcomes on the test images. Raises `Failure` where they are missing or damaged."""
        if "imported_run" in record.tags and self.has_artifact(record, OUTCOMES):
            return Outcomes.from_bytes(self.artifact(record, OUTCOMES))
        content = self.artifact(record, PREDICTIONS)
        try:
            return Predictions.from_bytes(content).outcomes()
        except Failure as error:
            raise Failure(f"run {record.run_id}: {error}") from None

    def curves(self, records: Sequence[Record], metric: str) -> list[list[float]]:
        """Each training's values of one of `EPOCH_METRICS`, epoch by epoch; empty where it does not apply."""
        numbers: dict[str, list[tuple[int, float]]] = {record.run_id: [] for record in records}
        for name in dict.fromkeys((stored_name(metric), metric)):  # runs of version 1 have our names in MLflow
            run_ids = [one.run_id for one in records if metric in one.metrics and not numbers[one.run_id]]
            for run_id, number in self._logged(run_ids, name):
                numbers[run_id].append((number.step, number.value))
        return [curve_of(record.run_id, numbers[record.run_id]) for record in records]

    def _logged(self, run_ids: Sequence[str], name: str) -> Iterator[tuple[str, Metric]]:
        """All values of a metric with their run ids.

        One query for many runs is several times as fast as one for each run. MLflow's client has no such call, so it
        is made on the database behind the client; a server is queried run by run.
        """
        database = getattr(getattr(self.bare_client, "_tracking_client", None), "store", None)
        if database is None or not hasattr(database, "get_metric_history_bulk"):
            for run_id in run_ids:
                for one in self.client.get_metric_history(run_id, name):
                    yield run_id, one
            return
        for start in range(0, len(run_ids), RUNS_AT_ONCE):
            for one in database.get_metric_history_bulk(run_ids[start : start + RUNS_AT_ONCE], name, sys.maxsize):
                yield one.run_id, one

    def link(self, record: Record) -> str:
        """Address of a run's page: on the server (without its password), or in ``mlflow ui``."""
        server = without_credentials(self.uri) if self.uri.startswith("http") else "http://127.0.0.1:5000"
        return f"{server}/#/runs/{record.run_id}"

    def weights(self, record: Record) -> bytes:
        """The checkpoint of a finished training. Raises `StoreError` as `artifact` does."""
        return self.artifact(record, WEIGHTS)


@lru_cache(maxsize=4)
def client_of(uri: str) -> MlflowClient:
    """MLflow's client, with MLflow's own messages reduced to errors."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db").setLevel(logging.CRITICAL)  # it prints the traceback of errors that it raises
    os.environ[MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.name] = "true"  # MLflow would print the address with its password
    return MlflowClient(tracking_uri=uri)


def is_locked(folder: Path) -> bool:
    """Whether a process holds one of the locks in a store's folder; the lock for opening the store does not count."""
    for path in folder.glob("*.lock"):
        if path.name != OPENING:
            with suppress(Timeout), FileLock(path, timeout=0):
                continue
            return True
    return False


def _release(lock: FileLock) -> None:
    """Remove a lock's file and release the lock.

    In this order no two processes hold the lock at once: the file that is removed is the one that is locked, and who
    gets the lock of a removed file takes it for none and tries again (filelock, since 3.21).
    """
    with suppress(OSError):
        os.unlink(lock.lock_file)
    lock.release()


def own_folder(uri: str) -> Path:
    """A folder beside an SQLite database; for a server one in the user's state folder, named by a hash of the URI.

    Raises `StoreError` where the latter cannot be written to.
    """
    if (file := sqlite_file(uri)) is not None:
        folder = file.with_name(f"{file.name}.locks")
        folder.mkdir(exist_ok=True)
        return folder
    states = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state")
    try:
        folder = states.expanduser() / "aepretrain" / hashlib.sha256(without_credentials(uri).encode()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError("it is not yours")
    except (OSError, RuntimeError) as error:  # the latter where nobody knows the home
        raise StoreError(
            f"nothing can be written to {states} ({one_line(error)}), where locks and unsent results are kept for a "
            "server: set XDG_STATE_HOME to a folder that can be written to and is kept"
        ) from None
    return folder


def _record(run: Run, uri: str) -> Record:
    """The record of a run in this store that is marked as done. Raises `StoreError` where something is missing."""
    tags = shared((name.removeprefix(TAG), value) for name, value in run.data.tags.items() if name.startswith(TAG))
    try:
        return Record(
            run_id=run.info.run_id,
            parent_run_id=run.data.tags.get(MLFLOW_PARENT_RUN_ID),
            key=tags["key"],
            attempt=int(tags["attempt"]),
            identity=json.loads(tags["spec"], object_pairs_hook=shared),
            metrics={our_name(name): value for name, value in run.data.metrics.items()},
            tags=tags,
            artifact_uri=run.info.artifact_uri,
            end_ms=run.info.end_time,
        ).checked()
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise StoreError(
            f"run {run.info.run_id} is marked as done, but is not a finished training ({type(error).__name__}: "
            f"{one_line(error)}); to remove it: {mlflow_command(uri, f'runs delete --run-id {run.info.run_id}')}"
        ) from None
