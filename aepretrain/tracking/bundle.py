"""Finished trainings as a few Parquet files, from which any other store can be filled again.

``records.parquet`` has one row a training: its cell and seed, its final figures, and the rest as JSON.
``histories.parquet`` has every number that was logged, with its step. ``artifacts.parquet`` has files: the evidence of
every training but those of studies, and the weights and figures of the selected ones. ``SHA256SUMS`` has the digests of
the three, as ``sha256sum --check`` takes them.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from mlflow.entities import Run as StoredRun
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE

from aepretrain.records import EPOCH_METRICS, Record, curve_of
from aepretrain.spec import (
    AUGMENTATIONS,
    BUILT_IN_VARIANTS,
    DATASETS,
    NETWORKS,
    PHASES,
    SCHEMA,
    Failure,
    canonical_json,
    identity_key,
)
from aepretrain.stopping import whole
from aepretrain.tracking.runs import DatasetReference, Run, ending, open_import, run_link
from aepretrain.tracking.store import Store
from aepretrain.tracking.tables import read_rows

RECORDS, HISTORIES, ARTIFACTS = "records.parquet", "histories.parquet", "artifacts.parquet"
SUMS = "SHA256SUMS"

KEPT = ("evidence",)
"""What a training keeps of its artifacts, unless it was trained for a study: those are many."""

KEPT_OF_SELECTED = (*KEPT, "figures", "weights.pt")
"""What a selected one keeps; its MLflow model can be made again from its weights."""

OF_THE_STORE = ("done", "locks", "model", "pid")
"""Tags that are written anew or mean nothing elsewhere."""

FIXED = {
    "key": pa.string(),
    "name": pa.string(),
    "network": pa.string(),
    "augmentation": pa.string(),
    "variant": pa.string(),
    "seed": pa.int64(),
    "spec": pa.string(),
    "tags": pa.string(),
    "params": pa.string(),
    "note": pa.string(),
    "run_id": pa.string(),
    "start_ms": pa.int64(),
    "end_ms": pa.int64(),
}
"""The columns of records that are not final figures."""

OF_HISTORIES = {
    "key": pa.string(),
    "name": pa.string(),
    "step": pa.int64(),
    "value": pa.float64(),
    "timestamp_ms": pa.int64(),
}
OF_ARTIFACTS = {"key": pa.string(), "path": pa.string(), "content": pa.binary()}

DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, MemoryError, pa.ArrowException)
"""What reading a damaged bundle may raise, from its JSON to Arrow."""

Row = dict[str, Any]


def export(store: Store, records: Sequence[Record], selected: Collection[str], folder: Path) -> None:
    """Write these trainings into a folder; those whose run ids are in `selected` with their weights and figures.

    Files that are there are replaced at the end, their digests last. Raises `Failure` where the folder cannot be
    written and `StoreError` where a run cannot be read.
    """
    runs = [(record, store.client.get_run(record.run_id)) for record in records]
    artifacts = [row for record, _ in runs for row in _artifact_rows(store, record, record.run_id in selected)]
    histories = [row for record, run in runs for row in _history_rows(store, record, run)]
    figures = sorted({name for record in records for name in record.metrics})
    rows = [_record_row(record, run, record.run_id in selected) for record, run in runs]
    tables = {
        ARTIFACTS: (artifacts, OF_ARTIFACTS),
        HISTORIES: (histories, OF_HISTORIES),
        RECORDS: (rows, FIXED | dict.fromkeys(figures, pa.float64())),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, (content, columns) in tables.items():
            table = pa.Table.from_pylist(content, pa.schema(list(columns.items())))
            with _partial(folder, name).open("wb") as file:  # by itself, Arrow takes a path only if it is UTF-8
                pq.write_table(table, file, compression="zstd")
        sums = "".join(f"{_digest(_partial(folder, name))}  {name}\n" for name in tables)
        _partial(folder, SUMS).write_text(sums)
        for name in (*tables, SUMS):
            _partial(folder, name).replace(folder / name)
    except OSError as error:
        raise Failure(f"the bundle cannot be written to {folder}: {error.strerror or error}") from None


def _partial(folder: Path, name: str) -> Path:
    return folder / f".{name}.partial"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _record_row(record: Record, run: StoredRun, selected: bool) -> Row:
    left_out = OF_THE_STORE if selected else (*OF_THE_STORE, "weights_sha256")
    network, augmentation, variant = record.cell
    return dict(record.metrics) | {
        "key": record.key,
        "name": run.info.run_name,
        "network": network,
        "augmentation": augmentation,
        "variant": variant,
        "seed": record.seed,
        "spec": canonical_json(dict(record.identity)),
        "tags": canonical_json({name: value for name, value in record.tags.items() if name not in left_out}),
        "params": canonical_json(run.data.params),
        "note": run.data.tags.get(MLFLOW_RUN_NOTE, ""),
        "run_id": record.run_id,
        "start_ms": run.info.start_time,
        "end_ms": run.info.end_time,
    }


def _history_rows(store: Store, record: Record, run: StoredRun) -> Iterator[Row]:
    for name in sorted(run.data.metrics):
        for one in store.client.get_metric_history(record.run_id, name):
            yield {
                "key": record.key,
                "name": name,
                "step": one.step,
                "value": one.value,
                "timestamp_ms": one.timestamp,
            }


def _artifact_rows(store: Store, record: Record, selected: bool) -> Iterator[Row]:
    kept = KEPT_OF_SELECTED if selected else KEPT if record.study is None else ()
    for one in store.client.list_artifacts(record.run_id) if kept else ():
        if one.path in kept:
            files = store.client.list_artifacts(record.run_id, one.path) if one.is_dir else [one]
            for file in files:
                yield {"key": record.key, "path": file.path, "content": store.artifact(record, file.path)}


@dataclass(frozen=True)
class Training:
    """One training of a bundle: its row, its logged numbers, and its files by path."""

    row: Row
    numbers: list[Row]
    files: dict[str, bytes]

    @cached_property
    def record(self) -> Record:
        """The training as a record; its run id is that of the store it comes from."""
        tags = json.loads(self.row["tags"])
        figures = {name: value for name, value in self.row.items() if name not in FIXED and value is not None}
        return Record(
            run_id=self.row["run_id"],
            parent_run_id=None,
            key=self.row["key"],
            attempt=int(tags["attempt"]),
            identity=json.loads(self.row["spec"]),
            metrics=figures,
            tags=tags,
        )

    def values(self, metric: str) -> list[tuple[int, float]]:
        """All logged values of a metric, each with its step."""
        return [(one["step"], one["value"]) for one in self.numbers if one["name"] == metric]


@dataclass(frozen=True)
class Bundle:
    """A bundle that has been read; its trainings by the ids of their runs, pretraining before what depends on it."""

    name: str
    digest: str
    trainings: Mapping[str, Training]

    def records(self) -> dict[str, Record]:
        """All finished trainings by key."""
        return {one.row["key"]: one.record for one in self.trainings.values()}

    def curves(self, records: Sequence[Record], metric: str) -> list[list[float]]:
        """Each training's values of one of `EPOCH_METRICS`, epoch by epoch; empty where it does not apply."""
        return [curve_of(record.run_id, self.trainings[record.run_id].values(metric)) for record in records]

    def artifact(self, record: Record, path: str) -> bytes:
        """The content of one of a training's files. Raises `Failure` where the bundle does not have it."""
        try:
            return self.trainings[record.run_id].files[path]
        except KeyError:
            raise Failure(f"run {record.run_id} has no {path} in bundle {self.name}") from None

    def has_artifact(self, record: Record, path: str) -> bool:
        """Whether the bundle has this file of a training."""
        return path in self.trainings[record.run_id].files

    def link(self, record: Record) -> str:
        """A run's id: it is in no store that could be linked to."""
        return record.run_id


def restore(store: Store, bundle: Bundle) -> int:
    """Fill the store with the trainings of a bundle that it does not have; gives how many those were.

    What comes without its weights counts as done, but is trained again where something else has to start from it. An
    import that was interrupted is continued by another. Raises `Failure` for a bundle of another schema.
    """
    schemas = {one.record.tags.get("schema") for one in bundle.trainings.values()}
    if schemas != {str(SCHEMA)}:
        found = ", ".join(sorted(map(str, schemas)))
        raise Failure(f"bundle {bundle.name} has trainings of schema {found}, which this version ({SCHEMA}) cannot use")
    with store.lock(f"import-{bundle.digest}", lambda: None):
        known = store.records()
        if bundle.records().keys() <= known.keys():
            return 0
        with ending() as open_runs:
            with whole():
                parent = open_import(store, f"import {bundle.name}", bundle.digest)
                open_runs.append(parent)
            num_new = _restore_missing(store, parent.run_id, bundle)
            parent.describe(f"{len(bundle.trainings)} trainings from the bundle {bundle.name}.")
            parent.end("FINISHED")
    return num_new


def _restore_missing(store: Store, parent_run_id: str, bundle: Bundle) -> int:
    """Write what no run of the store has; gives how many that were."""
    num_new = 0
    run_ids: dict[str, str] = {}
    """Where each run of the bundle is in this store."""
    for run_id, one in bundle.trainings.items():
        with store.lock(one.row["key"], lambda: None):
            there = store.done(one.row["key"])
            run_ids[run_id] = there.run_id if there else _write(store, parent_run_id, one, run_ids)
        num_new += there is None
    return num_new


def _write(store: Store, parent_run_id: str, training: Training, run_ids: Mapping[str, str]) -> str:
    """A run with all that a training of the bundle has; gives its id."""
    row, tags = training.row, dict(training.record.tags)
    note = re.sub("`([0-9a-f]{32})`", lambda found: run_link(found[1], found[1]), row["note"])  # as it once was written
    note = _with_new_ids(note, run_ids)
    tags |= {name: _with_new_ids(tags[name], run_ids) for name in ("pretraining_run", "evaluated") if name in tags}
    of_mlflow = {MLFLOW_PARENT_RUN_ID: parent_run_id, MLFLOW_RUN_NOTE: note}
    with ending() as open_runs:
        with whole():
            stored = store.client.create_run(store.experiment_id, row["start_ms"], tags=of_mlflow, run_name=row["name"])
            run = Run(store, stored.info.run_id)
            open_runs.append(run)
        run.tag(**{"imported_run": row["run_id"]} | tags)  # of the store where it was trained, however often imported
        run.log_params(json.loads(row["params"]))
        run.log_dataset(DatasetReference(training.record.identity["dataset"], tags["dataset_digest"], "bundle"))
        run.log_numbers([(one["name"], one["value"], one["timestamp_ms"], one["step"]) for one in training.numbers])
        for path, content in training.files.items():
            run.log_bytes(path, content)
        run.tag(done="true")
        run.end("FINISHED", row["end_ms"])
    return run.run_id


def _with_new_ids(text: str, run_ids: Mapping[str, str]) -> str:
    return re.sub("[0-9a-f]{32}", lambda found: run_ids.get(found[0], found[0]), text)


def read_bundle(folder: Path) -> Bundle:
    """The bundle in a folder. Raises `Failure` where it is damaged or made by something else, in one line."""
    try:
        sums = (folder / SUMS).read_text()
        listed = {name: digest for digest, name in (line.split() for line in sums.splitlines())}
        for name in (RECORDS, HISTORIES, ARTIFACTS):
            if listed[name] != _digest(folder / name):
                raise ValueError(f"{name} is not what {SUMS} says")
        order = {variant: place for place, variant in enumerate(PHASES)}  # a plugin's, if unknown, comes last
        rows = sorted(
            read_rows(folder / RECORDS, FIXED, others=pa.float64()),
            key=lambda row: order.get(row["variant"], len(order)),
        )
        trainings = {row["key"]: Training(row, [], {}) for row in rows}
        for one in read_rows(folder / HISTORIES, OF_HISTORIES):
            trainings[one["key"]].numbers.append(one)
        for one in read_rows(folder / ARTIFACTS, OF_ARTIFACTS):
            trainings[one["key"]].files[_inside(one["path"])] = one["content"]
        for training in trainings.values():
            _check(training)
        if not len(rows) == len(trainings) == len({row["run_id"] for row in rows}):
            raise ValueError("a training is in it more than once")
    except DAMAGE as error:
        told = " ".join(str(error).split())[:200]
        raise Failure(f"there is no readable bundle in {folder}: {type(error).__name__}: {told}") from None
    digest = hashlib.sha256(sums.encode()).hexdigest()
    return Bundle(folder.resolve().name, digest, {one.row["run_id"]: one for one in trainings.values()})


def _inside(path: str) -> str:
    if not re.fullmatch(r"(\w[\w.-]*/)?\w[\w.-]*", path):
        raise ValueError(f"{path!r} is no path of an artifact")
    return path


def _check(training: Training) -> None:
    """See that a training is whole, and that its key is the one that belongs to it, as far as this can be known."""
    row, record = training.row, training.record.checked()
    if not (re.fullmatch("[0-9a-f]{64}", record.key) and re.fullmatch("[0-9a-f]{32}", record.run_id)):
        raise ValueError(f"{record.key!r} or {record.run_id!r} is no key or no id of a run")
    if (*record.cell, record.seed) != tuple(row[name] for name in ("network", "augmentation", "variant", "seed")):
        raise ValueError(f"training {record.key[:12]} is another than its row says")
    if not all(isinstance(value, str) for value in (*record.tags.values(), *json.loads(row["params"]).values())):
        raise ValueError(f"training {record.key[:12]} has tags or parameters that are no texts")
    epochs = list(range(1, round(record.metrics.get("num_epochs", 0)) + 1))
    for name in EPOCH_METRICS & record.metrics.keys() | {"val_loss"}:
        if sorted(step for step, _ in training.values(name)) != epochs:
            raise ValueError(f"training {record.key[:12]} has epochs without their {name}, or with several")
    current = record.tags["schema"] == str(SCHEMA)
    network, augmentation, variant = record.cell
    built_in = network in NETWORKS and augmentation in AUGMENTATIONS and variant in BUILT_IN_VARIANTS
    if current and built_in and record.identity["dataset"] in DATASETS:  # else a plugin's source is part of the key
        expected = identity_key(record.identity, record.tags["dataset_digest"], {})
        if record.key != expected:
            raise ValueError(f"training {record.key[:12]} is not what its key stands for")
