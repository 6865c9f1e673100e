"""Writing a run: metrics, tags, artifacts and its end, directly or through a journal."""

import hashlib
import io
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Param
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_RUN_NOTE

from aepretrain.config import canonical_json
from aepretrain.records import DIGITS, WEIGHTS, EpochResult
from aepretrain.tracking.journal import Journal, Sender
from aepretrain.tracking.metric_names import stored_name
from aepretrain.tracking.operations import Operation
from aepretrain.tracking.retry import one_line
from aepretrain.tracking.store import TAG, Store

if TYPE_CHECKING:  # predicting needs no Matplotlib
    from matplotlib.figure import Figure

MAX_TAG_LENGTH = 5000
"""The limit of all MLflow stores. Some cut longer values, others refuse them."""

DATASET_DIGITS = 8
"""Digits of a dataset's digest in its entry in MLflow; all are in a tag."""

DESCRIBED = f"{TAG}described"
"""Tag of an experiment: the SHA-256 of the last description that we wrote."""

Number = tuple[str, float, int, int]
"""A logged number: name, value, time in ms and step."""


@dataclass(frozen=True)
class DatasetReference:
    """The dataset of a run: name, digest (SHA-256 of all values) and where it was read."""

    name: str
    digest: str
    source: str
    profile: Mapping[str, Any] = field(default_factory=dict)
    """What MLflow's page of a dataset shows: numbers of images, shape and classes."""


@dataclass(frozen=True)
class Run:
    """A run while it is written: directly, or through a journal that a sender uploads to the store."""

    store: Store
    run_id: str
    journal: Journal | None = None
    sender: Sender | None = None
    digests: dict[str, str] = field(default_factory=dict, compare=False)
    """The SHA-256 of each artifact that was logged, by path."""

    def journaled(self, key: str, sender: Sender) -> "Run":
        """The same run, written through a journal from now on. `key` is that of its training."""
        journal = Journal.begin(self.store, key, self.run_id)
        sender.add(journal)
        return replace(self, journal=journal, sender=sender)

    def _write(self, kind: str, body: Any, content: bytes | None = None) -> None:
        operation = Operation(kind, body)
        if self.journal is not None and self.sender is not None:
            self.journal.append(operation, content)
            self.sender.wake()
            return
        if content is None:
            operation.apply(self.store.client, self.run_id)
            return
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            path = Path(folder, body)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            operation.apply(self.store.client, self.run_id, Path(folder))

    def log_numbers(self, rows: Sequence[Number]) -> None:
        """Log numbers of any steps."""
        self._write("metrics", [(stored_name(name), *rest) for name, *rest in rows])

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log the metrics of one step in one request."""
        now_ms = time.time_ns() // 1_000_000
        self.log_numbers([(name, float(value), now_ms, step) for name, value in metrics.items()])

    def log_history(self, history: Sequence[EpochResult]) -> None:
        """Log the metrics of these epochs."""
        now_ms = time.time_ns() // 1_000_000
        self.log_numbers([(name, value, now_ms, one.epoch) for one in history for name, value in one.metrics().items()])

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters, except those that ``mlflow run`` has already written in its own format."""
        known = self.store.client.get_run(self.run_id).data.params
        rows = [Param(name, _text(value)) for name, value in params.items() if name not in known]
        self.store.client.log_batch(self.run_id, params=rows)

    def log_bytes(self, path: str, content: bytes) -> None:
        """Log an artifact of this content at this path."""
        self._write("artifact", path, content)
        self.digests[path] = hashlib.sha256(content).hexdigest()

    def log_files(self, files: Mapping[str, bytes]) -> None:
        """Log artifacts by name, in the folder ``results``."""
        for name, content in files.items():
            self.log_bytes(f"results/{name}", content)

    def log_weights(self, content: bytes) -> None:
        """Log the checkpoint, with its SHA-256 as a tag."""
        self.log_bytes(WEIGHTS, content)
        self.tag(weights_sha256=hashlib.sha256(content).hexdigest())

    def log_figure(self, path: str, figure: "Figure") -> None:
        """Log a figure as a PNG artifact."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        self.log_bytes(path, buffer.getvalue())

    def log_dataset(self, dataset: DatasetReference) -> None:
        """Log the dataset as an input of the run."""
        source, profile = canonical_json({"uri": dataset.source}), canonical_json(dict(dataset.profile))
        entity = Dataset(dataset.name, dataset.digest[:DATASET_DIGITS], "local", source, profile=profile)
        inputs = [DatasetInput(entity, [InputTag(MLFLOW_DATASET_CONTEXT, "training")])]
        try:
            self.store.client.log_inputs(self.run_id, inputs)
        except MlflowException:  # another process inserted the same dataset meanwhile; now MLflow finds it
            self.store.client.log_inputs(self.run_id, inputs)

    def tag(self, **values: object) -> None:
        """Set our tags in one request."""
        self._write("tags", our_tags(values))

    def describe(self, note: str) -> None:
        """Set the description that the UI shows above the run, in Markdown."""
        self._write("tags", {MLFLOW_RUN_NOTE: note})

    def describe_experiment(self, note: str) -> None:
        """Set the description that the UI shows above the runs of this run's experiment, in Markdown.

        A description that a person has written stays.
        """
        client = self.store.client
        experiment = client.get_experiment(client.get_run(self.run_id).info.experiment_id)
        present, ours = (experiment.tags.get(name, "") for name in (MLFLOW_RUN_NOTE, DESCRIBED))
        if present and _digest(present) != ours:
            return
        note = note[:MAX_TAG_LENGTH]
        client.set_experiment_tag(
            experiment.experiment_id, DESCRIBED, _digest(note)
        )  # first, or a crash in between would make it look like a person's
        client.set_experiment_tag(experiment.experiment_id, MLFLOW_RUN_NOTE, note)

    def finish(self, time_ms: int | None = None) -> None:
        """Mark the run as done, with the artifacts that it has, then end it. Call this last."""
        artifacts = ",".join(f"{path}={digest[:DIGITS]}" for path, digest in self.digests.items())
        self.tag(artifacts=artifacts, done="true")
        self.end("FINISHED", time_ms)

    def fail(self, error: BaseException) -> None:
        """End the run as FAILED, with the error as a tag."""
        self.tag(error=one_line(error))
        self.end("FAILED")

    def end(self, status: str, time_ms: int | None = None) -> None:
        """End the run as FINISHED, FAILED or KILLED, now or at a time in the past."""
        self._write("end", (status, time_ms or time.time_ns() // 1_000_000))


def our_tags(values: Mapping[str, object]) -> dict[str, str]:
    """Our tags in MLflow: with our prefix, as text, cut to `MAX_TAG_LENGTH`."""
    return {TAG + name: _text(value)[:MAX_TAG_LENGTH] for name, value in values.items()}


def run_link(name: str, run_id: str) -> str:
    """A link to a run for the Markdown of a description, relative to the UI's address."""
    return f"[{name}](#/runs/{run_id})"


def listing(run_ids: Sequence[str]) -> str:
    """Run ids as the value of a tag; only their number where the list is too long."""
    text = ",".join(run_ids)
    return text if len(text) <= MAX_TAG_LENGTH else f"{len(run_ids)} runs, too many to list"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _text(value: object) -> str:
    """A value as on the command line: ``0.1,0.15`` for a pair."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
