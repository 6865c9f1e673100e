"""Finished trainings as a few Parquet files, from which any other store can be filled again.

``records.parquet`` has one row a training: its cell and seed, its final figures, and the rest as JSON.
``histories.parquet`` has every number that was logged, with its step. ``artifacts.parquet`` has files: the evidence of
every training but those of studies, and the weights and figures of the selected ones. ``SHA256SUMS`` has the digests of
the three, as ``sha256sum --check`` takes them.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from aepretrain.config import AUGMENTATIONS, DATASETS, NETWORKS, SCHEMA, identity_key
from aepretrain.errors import Failure
from aepretrain.records import EPOCH_METRICS, PREDICTIONS, Outcomes, Predictions, Record, curve_of
from aepretrain.tracking.tables import read_rows
from aepretrain.variants import EVALUATIONS, VARIANTS

RECORDS, HISTORIES, ARTIFACTS = "records.parquet", "histories.parquet", "artifacts.parquet"
SUMS = "SHA256SUMS"

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

    def outcomes(self, record: Record) -> Outcomes:
        """A classifier's outcomes on the test images. Raises `Failure` where they cannot be had."""
        return Predictions.from_bytes(self.artifact(record, PREDICTIONS)).outcomes()

    def has_artifact(self, record: Record, path: str) -> bool:
        """Whether the bundle has this file of a training."""
        return path in self.trainings[record.run_id].files

    def link(self, record: Record) -> str:
        """A run's id: it is in no store that could be linked to."""
        return record.run_id


def digest_of(path: Path) -> str:
    """A file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_bundle(folder: Path) -> Bundle:
    """The bundle in a folder. Raises `Failure` where it is damaged or made by something else, in one line."""
    try:
        sums = (folder / SUMS).read_text()
        listed = {name: digest for digest, name in (line.split() for line in sums.splitlines())}
        for name in (RECORDS, HISTORIES, ARTIFACTS):
            if listed[name] != digest_of(folder / name):
                raise ValueError(f"{name} is not what {SUMS} says")
        order = {variant: place for place, variant in enumerate((*VARIANTS, *EVALUATIONS))}
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
    built_in = (
        network in NETWORKS
        and augmentation in AUGMENTATIONS
        and (VARIANTS.is_built_in(variant) or variant in EVALUATIONS)
    )
    if current and built_in and record.identity["dataset"] in DATASETS:  # else a plugin's source is part of the key
        expected = identity_key(record.identity, record.tags["dataset_digest"], {})
        if record.key != expected:
            raise ValueError(f"training {record.key[:12]} is not what its key stands for")
