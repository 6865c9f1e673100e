"""Finished trainings as a few Parquet files, from which any other store can be filled again.

``records.parquet`` has one row a training: its cell and seed, its final figures, and the rest as JSON.
``histories.parquet`` has every number that was logged, with its step. ``artifacts.parquet`` has files: the evidence of
every training, and all that the selected ones have (weights and figures).
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from mlflow.entities import Metric
from mlflow.entities import Run as StoredRun
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE

from aepretrain.records import EPOCH_METRICS, EpochResult, Record
from aepretrain.spec import Failure, canonical_json
from aepretrain.tracking.runs import MAX_METRICS, DatasetReference, Run, ending, open_import
from aepretrain.tracking.store import Store

RECORDS, HISTORIES, ARTIFACTS = "records.parquet", "histories.parquet", "artifacts.parquet"
EVIDENCE = "evidence"
"""The folder of artifacts that every training keeps in a bundle."""

KEPT = ("weights.pt", "figures", EVIDENCE)
"""What a selected training keeps; its MLflow model can be made again from its weights."""

OF_THE_STORE = ("done", "model", "pid")
"""Tags that are written anew or mean nothing elsewhere."""

Row = dict[str, Any]


def export(store: Store, records: Sequence[Record], whole: Collection[str], folder: Path) -> None:
    """Write these trainings into a folder; those whose run ids are in `whole` with all their files.

    Files that are there are replaced at the end, each at once. Raises `Failure` where the folder cannot be written and
    `StoreError` where a run cannot be read.
    """
    runs = {record.key: store.client.get_run(record.run_id) for record in records}
    tables = {
        ARTIFACTS: [row for key, run in runs.items() for row in _artifact_rows(store, key, run, whole)],
        HISTORIES: [row for key, run in runs.items() for row in _history_rows(store, key, run)],
        RECORDS: [_record_row(record, runs[record.key]) for record in records],
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in tables.items():
            pq.write_table(pa.Table.from_pylist(rows), folder / f".{name}.partial", compression="zstd")
        for name in tables:
            (folder / f".{name}.partial").replace(folder / name)
    except OSError as error:
        raise Failure(f"the bundle cannot be written to {folder}: {error.strerror or error}") from None


def _record_row(record: Record, run: StoredRun) -> Row:
    network, augmentation, variant = record.cell
    cell = {"network": network, "augmentation": augmentation, "variant": variant, "seed": record.seed}
    tags = {name: value for name, value in record.tags.items() if name not in OF_THE_STORE}
    rest = {
        "spec": canonical_json(dict(record.identity)),
        "tags": canonical_json(tags),
        "params": canonical_json(run.data.params),
        "note": run.data.tags.get(MLFLOW_RUN_NOTE, ""),
        "run_id": record.run_id,
        "start_ms": run.info.start_time,
        "end_ms": run.info.end_time,
    }
    final = {name: float(value) for name, value in sorted(record.metrics.items())}
    return {"key": record.key, "name": run.info.run_name} | cell | final | rest


def _history_rows(store: Store, key: str, run: StoredRun) -> Iterator[Row]:
    for name in sorted(run.data.metrics):
        for one in store.client.get_metric_history(run.info.run_id, name):
            yield {"key": key, "name": name, "step": one.step, "value": one.value, "timestamp_ms": one.timestamp}


def _artifact_rows(store: Store, key: str, run: StoredRun, whole: Collection[str]) -> Iterator[Row]:
    run_id = run.info.run_id
    for path in _files(store, run_id, KEPT if run_id in whole else (EVIDENCE,)):
        content = store.artifact(run_id, path)
        yield {"key": key, "path": path, "content": content, "sha256": hashlib.sha256(content).hexdigest()}


def _files(store: Store, run_id: str, kept: Collection[str]) -> Iterator[str]:
    """The paths of a run's artifacts that are, or lie in, what is kept."""
    for one in store.client.list_artifacts(run_id):
        if one.path in kept:
            inside = store.client.list_artifacts(run_id, one.path) if one.is_dir else [one]
            yield from (file.path for file in inside)


@dataclass(frozen=True)
class Training:
    """One training of a bundle: its row, its logged numbers, and its files by path."""

    row: Row
    numbers: list[Row]
    files: dict[str, bytes]


@dataclass(frozen=True)
class Bundle:
    """A bundle that has been read; its trainings by the ids of their runs, pretraining before what depends on it."""

    name: str
    trainings: Mapping[str, Training]

    def records(self) -> dict[str, Record]:
        """All finished trainings by key."""
        found = {}
        for run_id, one in self.trainings.items():
            tags = json.loads(one.row["tags"])
            metrics = {number["name"]: number["value"] for number in one.numbers}  # of each name the last step's
            spec = json.loads(one.row["spec"])
            found[one.row["key"]] = Record(run_id, None, one.row["key"], int(tags["attempt"]), spec, metrics, tags)
        return found

    def history(self, record: Record) -> list[EpochResult]:
        """A training's epochs, in order."""
        epochs: dict[int, dict[str, float]] = {}
        for one in self.trainings[record.run_id].numbers:
            if one["name"] in EPOCH_METRICS:
                epochs.setdefault(one["step"], {})[one["name"]] = one["value"]
        return [EpochResult.of(epoch, epochs[epoch]) for epoch in sorted(epochs)]

    def artifact(self, run_id: str, path: str) -> bytes:
        """The content of one of a run's files. Raises `Failure` where the bundle does not have it."""
        try:
            return self.trainings[run_id].files[path]
        except KeyError:
            raise Failure(f"run {run_id} has no {path} in bundle {self.name}") from None

    def link(self, record: Record) -> str:
        """A run's id: it is in no store that could be linked to."""
        return record.run_id


def restore(store: Store, bundle: Bundle) -> int:
    """Fill the store with the trainings of a bundle that it does not have; gives how many those were.

    What comes without its weights counts as done, but is trained again where something else has to start from it.
    """
    run_ids: dict[str, str] = {}
    """Where each run of the bundle is in this store."""
    parent = open_import(store, f"import {bundle.name}")
    with ending(parent):
        num_new = 0
        for run_id, one in bundle.trainings.items():
            with store.lock(one.row["key"], lambda: None):
                known = store.done(one.row["key"])
                run_ids[run_id] = known.run_id if known else _write(store, parent.run_id, one, run_ids)
            num_new += known is None
        parent.describe(f"{num_new} of {len(bundle.trainings)} trainings of the bundle {bundle.name} were new.")
        parent.end("FINISHED")
    return num_new


def _write(store: Store, parent_run_id: str, training: Training, run_ids: Mapping[str, str]) -> str:
    """A run with all that a training of the bundle has; gives its id."""
    row = training.row
    tags = json.loads(row["tags"]) | {"imported_run": row["run_id"]}
    if "weights.pt" not in training.files:
        tags.pop("weights_sha256", None)
    if "pretraining_run" in tags:
        tags["pretraining_run"] = run_ids.get(tags["pretraining_run"], tags["pretraining_run"])
    of_mlflow = {MLFLOW_PARENT_RUN_ID: parent_run_id, MLFLOW_RUN_NOTE: row["note"]}
    stored = store.client.create_run(store.experiment_id, row["start_ms"], tags=of_mlflow, run_name=row["name"])
    run = Run(store, stored.info.run_id)
    with ending(run) as open_runs:
        run.tag(**tags)
        run.log_params(json.loads(row["params"]))
        run.log_dataset(DatasetReference(json.loads(row["spec"])["dataset"], tags["dataset_digest"], "bundle"))
        metrics = [Metric(one["name"], one["value"], one["timestamp_ms"], one["step"]) for one in training.numbers]
        for start in range(0, len(metrics), MAX_METRICS):
            store.client.log_batch(run.run_id, metrics=metrics[start : start + MAX_METRICS])
        for path, content in training.files.items():
            run.log_bytes(path, content)
        run.tag(done="true")
        store.client.set_terminated(run.run_id, "FINISHED", row["end_ms"])
        open_runs.remove(run)
    return run.run_id


def read_bundle(folder: Path) -> Bundle:
    """The bundle in a folder. Raises `Failure` where it is damaged, in one line."""
    rows, numbers, artifacts = (_read_table(folder / name) for name in (RECORDS, HISTORIES, ARTIFACTS))
    trainings = {
        row["key"]: Training(row, [], {}) for row in sorted(rows, key=lambda row: row["variant"] != "pretrain")
    }
    for one in numbers:
        trainings[one["key"]].numbers.append(one)
    for one in artifacts:
        path, content = Path(one["path"]), one["content"]
        intact = hashlib.sha256(content).hexdigest() == one["sha256"]
        if not intact or path.is_absolute() or ".." in path.parts:
            raise Failure(f"{folder / ARTIFACTS} is damaged: {path} of training {one['key'][:12]} is not as written")
        trainings[one["key"]].files[one["path"]] = content
    return Bundle(folder.resolve().name, {one.row["run_id"]: one for one in trainings.values()})


def _read_table(path: Path) -> list[Row]:
    try:
        rows: list[Row] = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise Failure(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from None
    return rows
