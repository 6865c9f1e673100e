"""Runs as they are written: one for each training, and one for each grid, whose children the trainings are."""

import hashlib
import io
import os
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from mlflow.entities import Dataset, DatasetInput, InputTag, Param, RunTag
from mlflow.entities import Run as StoredRun
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import (
    MLFLOW_DATASET_CONTEXT,
    MLFLOW_GIT_COMMIT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NOTE,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
    MLFLOW_USER,
)

from aepretrain.records import EpochResult
from aepretrain.spec import SCHEMA, TrainingSpec, canonical_json
from aepretrain.stopping import whole
from aepretrain.tracking.availability import Unavailable, one_line
from aepretrain.tracking.journal import Journal, Sender
from aepretrain.tracking.operations import Operation
from aepretrain.tracking.provenance import git_state, user
from aepretrain.tracking.store import TAG, Store

MAX_TAG_LENGTH = 5000
"""What every version of MLflow's stores holds; longer values are cut or refused, depending on the store."""

DESCRIBED = f"{TAG}described"
"""Tag of an experiment: the SHA-256 of the description that it was last given here."""

Number = tuple[str, float, int, int]
"""A logged number: its name, its value, when (ms) and at which step."""


@dataclass(frozen=True)
class DatasetReference:
    """What a run says of its data: name, digest (SHA-256 of all values) and where it was read."""

    name: str
    digest: str
    source: str


@dataclass(frozen=True)
class Run:
    """A run while it is written: at once, or through a journal that a sender takes to the store."""

    store: Store
    run_id: str
    journal: Journal | None = None
    sender: Sender | None = None

    def journaled(self, key: str, sender: Sender) -> "Run":
        """The same run, the training of this key, written through a journal from now on."""
        journal = Journal.begin(self.store, key, self.run_id)
        sender.add(journal)
        return replace(self, journal=journal, sender=sender)

    @whole()
    def _write(self, kind: str, body: Any, content: bytes | None = None) -> None:
        operation = Operation(kind, body)
        if self.journal is not None and self.sender is not None:
            self.journal.append(operation, content)
            self.sender.wake()
            return
        with tempfile.TemporaryDirectory() as folder:
            if content is not None:
                path = Path(folder, body)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            operation.apply(self.store.client, self.run_id, Path(folder))

    def log_numbers(self, rows: Sequence[Number]) -> None:
        """Numbers of any steps: name, value, time in ms and step of each."""
        self._write("metrics", rows)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Numbers of one step, in one request."""
        now_ms = time.time_ns() // 1_000_000
        self.log_numbers([(name, float(value), now_ms, step) for name, value in metrics.items()])

    def log_history(self, history: Sequence[EpochResult]) -> None:
        """The numbers of these epochs."""
        now_ms = time.time_ns() // 1_000_000
        self.log_numbers([(name, value, now_ms, one.epoch) for one in history for name, value in one.metrics().items()])

    @whole()
    def log_params(self, params: Mapping[str, Any]) -> None:
        """Parameters, except those that ``mlflow run`` has written already, as text of its own."""
        known = self.store.client.get_run(self.run_id).data.params
        rows = [Param(name, _text(value)) for name, value in params.items() if name not in known]
        self.store.client.log_batch(self.run_id, params=rows)

    def log_bytes(self, path: str, content: bytes) -> None:
        """An artifact of this content at a path of any depth."""
        self._write("artifact", path, content)

    def log_files(self, files: Mapping[str, bytes]) -> None:
        """Artifacts by name, under ``results``."""
        for name, content in files.items():
            self.log_bytes(f"results/{name}", content)

    def log_weights(self, content: bytes) -> None:
        """The checkpoint, with its SHA-256 as a tag."""
        self.log_bytes("weights.pt", content)
        self.tag(weights_sha256=hashlib.sha256(content).hexdigest())

    def log_figure(self, path: str, figure: Figure) -> None:
        """A figure as an image artifact."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        self.log_bytes(path, buffer.getvalue())

    @whole()
    def log_dataset(self, dataset: DatasetReference) -> None:
        """The dataset as an input of the run, as MLflow shows it."""
        entity = Dataset(dataset.name, dataset.digest[:36], "local", canonical_json({"uri": dataset.source}))
        inputs = [DatasetInput(entity, [InputTag(MLFLOW_DATASET_CONTEXT, "training")])]
        try:
            self.store.client.log_inputs(self.run_id, inputs)
        except MlflowException:  # it looks first and inserts then: of two first-comers one fails, who now finds the row
            self.store.client.log_inputs(self.run_id, inputs)

    def tag(self, **values: object) -> None:
        """Tags of ours, in one request."""
        self._write("tags", {TAG + name: _text(value)[:MAX_TAG_LENGTH] for name, value in values.items()})

    def describe(self, note: str) -> None:
        """The description that the UI shows above the run, in Markdown."""
        self._write("tags", {MLFLOW_RUN_NOTE: note})

    @whole()
    def describe_experiment(self, note: str) -> None:
        """The description that the UI shows above the runs of the experiment that this one is in, in Markdown.

        What a person has written there is left as it is.
        """
        client = self.store.client
        experiment = client.get_experiment(client.get_run(self.run_id).info.experiment_id)
        there, ours = (experiment.tags.get(name, "") for name in (MLFLOW_RUN_NOTE, DESCRIBED))
        if there and _digest(there) != ours:
            return
        note = note[:MAX_TAG_LENGTH]
        client.set_experiment_tag(experiment.experiment_id, DESCRIBED, _digest(note))  # first: ours until proved other
        client.set_experiment_tag(experiment.experiment_id, MLFLOW_RUN_NOTE, note)

    def finish(self) -> None:
        """Mark the run as done, then end it: in this order, and after everything else."""
        self.tag(done="true")
        self.end("FINISHED")

    @whole()
    def fail(self, error: BaseException) -> None:
        """End the run as FAILED, with the error as a tag."""
        self.tag(error=one_line(error))
        self.end("FAILED")

    def end(self, status: str, time_ms: int | None = None) -> None:
        """End the run with one of MLflow's final states, FINISHED, FAILED or KILLED; now, or at a time in the past."""
        self._write("end", (status, time_ms or time.time_ns() // 1_000_000))


def open_training(
    store: Store,
    spec: TrainingSpec,
    key: str,
    dataset: DatasetReference,
    *,
    parent_run_id: str | None,
    run_id: str | None,
    **tags: object,
) -> Run:
    """The run of a training, begun: `run_id`, which ``mlflow run`` opened, or else a new one.

    The caller holds the key's lock. So a run of the same key that this host left RUNNING has lost its process, and is
    ended here as KILLED; and so has one of the same parent, whatever its host, for a grid has each key trained by one
    worker at a time.
    """
    earlier = [one for one in store.search({"key": key}) if one.info.run_id != run_id]
    for one in earlier:
        is_of_parent = parent_run_id is not None and one.data.tags.get(MLFLOW_PARENT_RUN_ID) == parent_run_id
        if one.info.status == "RUNNING" and (is_of_parent or has_locks_here(store, one)):
            end_orphan(store, one)
    identity = spec.identity()
    ours = identity | {
        "kind": "training",
        "key": key,
        "spec": canonical_json(identity),
        "dataset_digest": dataset.digest,
        "schema": SCHEMA,
        "attempt": 1 + max((_attempt(one) for one in earlier), default=0),
    }
    run = _open(store, spec.name, parent_run_id, run_id, ours | tags)
    run.log_params(identity)
    run.log_dataset(dataset)
    return run


def open_grid(store: Store, name: str, key: str, *, run_id: str | None, again: bool, kind: str = "grid") -> Run:
    """The parent run of a grid or a study (its `kind`): `run_id`, which ``mlflow run`` opened, or the run of an earlier
    start of the same, or (where there is none, or `again` is set) a new one. The caller holds the lock of its key."""
    earlier = [] if run_id or again else list(store.search({"grid": key, "kind": kind}))
    if earlier:
        return _reopen(store, earlier[-1])
    return _open(store, name, None, run_id, {"kind": kind, "grid": key})


def open_import(store: Store, name: str, digest: str) -> Run:
    """The parent run of trainings that come from a bundle: that of an earlier import of the same, or a new one.

    What an earlier import, whose process was killed, left RUNNING is ended. (Its tags are those of another host, so
    `recover` leaves it alone.) The caller holds the import's lock.
    """
    earlier = list(store.search({"bundle": digest, "kind": "import"}))
    if not earlier:
        return _open(store, name, None, None, {"kind": "import", "bundle": digest})
    run = _reopen(store, earlier[-1])
    for one in list(
        store.search({}, f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run.run_id}'", "attributes.status = 'RUNNING'")
    ):
        end_orphan(store, one)
    return run


def has_locks_here(store: Store, run: StoredRun) -> bool:
    """Whether the process of a run holds its locks where this one does: same host, same folder for them."""
    host, folder = (run.data.tags.get(TAG + name) for name in ("host", "locks"))
    return bool(host == socket.gethostname() and folder == str(store.folder))


def end_orphan(store: Store, orphan: StoredRun) -> None:
    """End as KILLED a run that no process is at any more."""
    run = Run(store, orphan.info.run_id)
    run.tag(error="its process ended without ending the run")
    run.end("KILLED")


@contextmanager
def ending(*runs: Run) -> Iterator[list[Run]]:
    """See that these runs, and those added to the list it gives, are ended whatever happens.

    An exception ends those in the list as FAILED, with the error as a tag; being told to stop ends them as KILLED.
    A run is opened and added as a `whole`, or it would stay RUNNING if it is told to stop between. What the caller has
    ended itself, it takes out. What cannot be ended, for the store or the disk takes nothing, the next start ends.
    """
    open_runs = list(runs)
    try:
        yield open_runs
    except Unavailable:
        raise
    except Exception as error:
        for run in open_runs:
            with suppress(Exception):
                run.fail(error)
        raise
    except BaseException:
        for run in open_runs:
            with suppress(Exception):
                run.end("KILLED")
        raise


def point_to(store: Store, run_id: str, reused: str, metrics: Mapping[str, float]) -> None:
    """Make the run that ``mlflow run`` opened a pointer to the finished one; it never counts as a training itself."""
    run = Run(store, run_id)
    run.tag(kind="pointer", reused=reused)
    run.log_metrics(metrics)
    run.describe(f"Already done: see {run_link(f'run {reused}', reused)}.")
    run.end("FINISHED")


def _open(store: Store, name: str, parent_run_id: str | None, run_id: str | None, ours: Mapping[str, object]) -> Run:
    tags = {TAG + name: _text(value)[:MAX_TAG_LENGTH] for name, value in {**ours, **_circumstances(store)}.items()}
    if parent_run_id is not None:
        tags[MLFLOW_PARENT_RUN_ID] = parent_run_id
    if run_id is not None:
        store.client.update_run(run_id, status="RUNNING", name=name)
        store.client.log_batch(run_id, tags=[RunTag(*tag) for tag in tags.items()])
        return Run(store, run_id)
    tags |= {MLFLOW_USER: user(), MLFLOW_SOURCE_NAME: "aepretrain", MLFLOW_SOURCE_TYPE: "LOCAL"}
    if (commit := tags[f"{TAG}commit"]) != "unknown":
        tags[MLFLOW_GIT_COMMIT] = commit
    return Run(store, store.client.create_run(store.experiment_id, tags=tags, run_name=name).info.run_id)


def _reopen(store: Store, earlier: StoredRun) -> Run:
    """A parent run of an earlier start, RUNNING again, and now this process's."""
    run = Run(store, earlier.info.run_id)
    run.tag(**_circumstances(store))  # first: what is RUNNING belongs to whom its tags name
    store.client.update_run(run.run_id, status="RUNNING")
    if f"{TAG}error" in earlier.data.tags:
        store.client.delete_tag(run.run_id, f"{TAG}error")
    return run


def _circumstances(store: Store) -> dict[str, object]:
    """Whose a run is, by the tags that `recover` asks for, and the code it is made by."""
    commit, dirty = git_state()
    return {"host": socket.gethostname(), "locks": store.folder, "pid": os.getpid(), "commit": commit, "dirty": dirty}


def run_link(name: str, run_id: str) -> str:
    """A run as a link in the Markdown of a description, which leads there wherever the UI is served."""
    return f"[{name}](#/runs/{run_id})"


def listing(run_ids: Sequence[str]) -> str:
    """Run ids as the value of a tag, or how many there are, where they are more than a tag holds."""
    text = ",".join(run_ids)
    return text if len(text) <= MAX_TAG_LENGTH else f"{len(run_ids)} runs; results/grid.json names those of the cells"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _attempt(run: StoredRun) -> int:
    return int(run.data.tags.get(f"{TAG}attempt", 0))


def _text(value: object) -> str:
    """Text as the command line takes it: ``0.1,0.15`` for a pair."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
