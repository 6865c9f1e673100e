"""Where runs are kept: finding what is done in a store, reading records and artifacts back."""

import hashlib
import json
import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import Metric, Run, ViewType
from mlflow.environment_variables import MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from aepretrain import stopping
from aepretrain.config import IN_EVERY_IDENTITY, SCHEMA, Execution, Settings
from aepretrain.errors import UsageError
from aepretrain.records import PREDICTIONS, Outcomes, Predictions, Record, curve_of
from aepretrain.redaction import redact
from aepretrain.tracking.retry import StoreError, one_line, patient

TAG = "aepretrain."
"""Every tag of ours begins so. Queries use tags, never parameters, which MLflow itself may have written first."""

SQLITE = "sqlite:///"
RUNS_AT_ONCE = 1000
"""Whose metrics a database is asked for at once: SQLite looks at every run's for each question."""

LOCK_CHECK_S = 0.5
"""How often a process that waits for a lock checks whether it should stop."""

NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Store:
    """An opened store: its URI, the experiment that new runs go to, and how long it is waited for where it is away.

    Small enough to send to a worker.
    """

    uri: str
    experiment_id: str
    outage_s: float = Execution.outage_s

    @property
    def bare_client(self) -> MlflowClient:
        """MLflow's client of this store, one in a process."""
        return client_of(self.uri)

    @property
    def client(self) -> MlflowClient:
        """The same, patient with a server that is away (see `patient`)."""
        return self.bare_client if self.is_of_one_host else patient(self.bare_client, self.outage_s)

    @property
    def is_of_one_host(self) -> bool:
        """Whether only processes of one host can use it."""
        return self.uri.startswith(SQLITE)

    @property
    def has_local_artifacts(self) -> bool:
        """Whether the experiment's files lie on a disk, not with a server or in the cloud."""
        location = self.client.get_experiment(self.experiment_id).artifact_location
        return urlsplit(location).scheme in ("", "file")

    @property
    def folder(self) -> Path:
        """Where this host keeps what belongs to the store but is not in it: locks, snapshots, journals."""
        return own_folder(self.uri)

    @contextmanager
    def lock(self, name: str, on_wait: Callable[[], None]) -> Iterator[None]:
        """Hold the lock of this name on this host; `on_wait` is called if another process holds it.

        The lock is free again when its holder dies. A signal ends the waiting (see `stopping`).
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
            lock.release()

    @contextmanager
    def try_lock(self, name: str) -> Iterator[bool]:
        """Like `lock`, but without waiting; gives whether the lock was free."""
        lock = FileLock(self.folder / f"{name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def done(self, key: str) -> Record | None:
        """The finished training of a key, the highest attempt where there are several."""
        return max(self._records({"key": key}), key=lambda record: record.attempt, default=None)

    def records(self, wanted: Mapping[str, Any] = NOTHING, **tags: str) -> dict[str, Record]:
        """All finished trainings whose tags have these values, by key; of each key the highest attempt.

        Of the `wanted` settings those are left to the database that every training depends on, so that a large store
        is not read as a whole; whether the others fit, the caller sees. Raises `UsageError` for what is no setting's
        value.
        """
        settings = Settings(**{name: value for name, value in wanted.items() if name in IN_EVERY_IDENTITY})
        asked = {name: str(getattr(settings, name)) for name in IN_EVERY_IDENTITY if name in wanted}
        latest: dict[str, Record] = {}
        for record in self._records({"schema": str(SCHEMA), **asked, **tags}):
            if record.key not in latest or latest[record.key].attempt < record.attempt:
                latest[record.key] = record
        return latest

    def record(self, run_id: str) -> Record:
        """The finished training of a run. Raises `UsageError` for what is no id, `StoreError` where there is none."""
        if not re.fullmatch("[0-9a-f]{32}", run_id):
            raise UsageError(f"run={run_id!r} is no id of a run: it must be 32 digits and letters from a to f")
        found = next(self._records({"schema": str(SCHEMA)}, f"attributes.run_id = '{run_id}'"), None)
        if found is None:
            raise StoreError(f"there is no finished training with run id {run_id} in {redact(self.uri)}")
        return found

    def _records(self, tags: Mapping[str, str], *conditions: str) -> Iterator[Record]:
        filters = {"done": "true", **tags}
        return map(_record, self.search(filters, "attributes.status = 'FINISHED'", *conditions))

    def search(self, tags: Mapping[str, str], *conditions: str) -> Iterator[Run]:
        """Every run, in all experiments, whose tags have these values; read page by page."""
        clauses = [f"tags.`{TAG}{name}` = '{value}'" for name, value in tags.items()] + list(conditions)
        experiments = [one.experiment_id for one in _pages(self.client.search_experiments)]
        return _pages(
            self.client.search_runs,
            experiment_ids=experiments,
            filter_string=" and ".join(clauses),
            run_view_type=ViewType.ACTIVE_ONLY,
            order_by=["attributes.start_time ASC"],
        )

    def artifact(self, record: Record, path: str) -> bytes:
        """The content of one artifact. Raises `StoreError` where it cannot be had."""
        with suppress(MlflowException, OSError):
            return self._download(record, path)
        try:
            self.client.get_run(
                record.run_id
            )  # waits for a server that is away; downloading takes that for a lost file
            return self._download(record, path)
        except (MlflowException, OSError) as error:
            raise StoreError(f"run {record.run_id} has no readable artifact {path}: {one_line(error)}") from None

    def _download(self, record: Record, path: str) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            address = f"{record.artifact_uri}/{path}"  # by the run's id, MLflow would look for it among models too
            return Path(download_artifacts(artifact_uri=address, dst_path=folder, tracking_uri=self.uri)).read_bytes()

    def has_artifact(self, record: Record, path: str) -> bool:
        """Whether a training has an artifact at ``folder/name``."""
        return path in (one.path for one in self.client.list_artifacts(record.run_id, path.rpartition("/")[0]))

    def outcomes(self, record: Record) -> Outcomes:
        """A classifier's outcomes on the test images. Raises `Failure` where they cannot be had."""
        return Predictions.from_bytes(self.artifact(record, PREDICTIONS)).outcomes()

    def curves(self, records: Sequence[Record], metric: str) -> list[list[float]]:
        """Each training's values of one of `EPOCH_METRICS`, epoch by epoch; empty where it does not apply."""
        numbers: dict[str, list[tuple[int, float]]] = {record.run_id: [] for record in records}
        run_ids = [record.run_id for record in records if metric in record.metrics]
        for run_id, one in self._logged(run_ids, metric):
            numbers[run_id].append((one.step, one.value))
        return [curve_of(record.run_id, numbers[record.run_id]) for record in records]

    def _logged(self, run_ids: Sequence[str], name: str) -> Iterator[tuple[str, Metric]]:
        """All values of a metric with their runs.

        A database is asked for many runs at once, as MLflow's own server does, for run by run takes several times as
        long. MLflow's client has no call for that: the database is its own, and a server is asked run by run.
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
        """Where a run can be looked at: on the server (never with a password), or with ``mlflow ui`` at its address."""
        server = without_credentials(self.uri) if self.uri.startswith("http") else "http://127.0.0.1:5000"
        return f"{server}/#/runs/{record.run_id}"

    def weights(self, record: Record) -> bytes:
        """The checkpoint of a finished training. Raises `StoreError` where its SHA-256 is not the one recorded."""
        content = self.artifact(record, "weights.pt")
        if hashlib.sha256(content).hexdigest() != record.tags["weights_sha256"]:
            raise StoreError(f"weights.pt of run {record.run_id} is not what was written there: its SHA-256 differs")
        return content


@lru_cache(maxsize=4)
def client_of(uri: str) -> MlflowClient:
    """MLflow's client, in whatever process: there MLflow says no more than it has to."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db").setLevel(logging.CRITICAL)  # it prints the traceback of what it raises
    os.environ[MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.name] = "true"  # it would print the address with its password
    return MlflowClient(tracking_uri=uri)


def without_credentials(address: str) -> str:
    """A server's address as it can be shown, and as Python's own client takes it."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")


def own_folder(uri: str) -> Path:
    """Beside an SQLite database; else in the user's folder for states, named by a hash of the URI without password."""
    if uri.startswith(SQLITE):
        folder = Path(uri.removeprefix(SQLITE) + ".locks")
    else:
        states = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
        folder = states / "aepretrain" / hashlib.sha256(without_credentials(uri).encode()).hexdigest()[:16]
    folder.mkdir(parents=not uri.startswith(SQLITE), exist_ok=True)
    return folder


def _pages(search: Any, **arguments: Any) -> Iterator[Any]:
    """All results of one of the client's searches, which give at most 1,000 and a token."""
    token = None
    while True:
        page = search(page_token=token, **arguments)
        yield from page
        token = page.token
        if not token:
            return


def _record(run: Run) -> Record:
    """What a run that counts as done holds. Raises `StoreError` where it does not hold it."""
    tags = {name.removeprefix(TAG): value for name, value in run.data.tags.items() if name.startswith(TAG)}
    try:
        return Record(
            run_id=run.info.run_id,
            parent_run_id=run.data.tags.get(MLFLOW_PARENT_RUN_ID),
            key=tags["key"],
            attempt=int(tags["attempt"]),
            identity=json.loads(tags["spec"]),
            metrics=run.data.metrics,
            tags=tags,
            artifact_uri=run.info.artifact_uri,
        ).checked()
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise StoreError(
            f"run {run.info.run_id} is marked as done, but is no finished training ({type(error).__name__}: "
            f"{one_line(error)}); without it: mlflow runs delete --run-id {run.info.run_id}"
        ) from None
