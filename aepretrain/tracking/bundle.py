"""Finished trainings as Parquet files, from which any store can be filled.

A bundle is a folder of parts ``0001``, ``0002``, …, one for each export. A part is never changed. Its
``trainings.parquet`` has a row for each training: cell, seed, final figures, and the rest as JSON.
``epochs.parquet`` has a row for each epoch, ``files.parquet`` the artifacts, and ``SHA256SUMS`` the checksums of the
three in the format of ``sha256sum --check``. Where several parts have the same training, the highest attempt counts,
and of equal attempts the last part.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from aepretrain.config import AUGMENTATIONS, CORRUPTIONS, DATASETS, NETWORKS, OBJECTIVES, SCHEMA, identity_key
from aepretrain.errors import Failure
from aepretrain.records import EPOCH_METRICS, NO_FILTER, OUTCOMES, WEIGHTS, Outcomes, Record, check_run_id
from aepretrain.tracking.old_bundle import is_old, read_old
from aepretrain.tracking.tables import SUMS, TRAINING_COLUMNS, Row, Tables, read_tables
from aepretrain.variants import EVALUATIONS, VARIANTS

DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, MemoryError, pa.ArrowException)
"""What reading a damaged bundle may raise, in its JSON or in Arrow."""


@dataclass(frozen=True)
class Training:
    """One training of a bundle: its row, the rows of its epochs in order, and its files by path."""

    row: Row
    epochs: Sequence[Row]
    files: Mapping[str, bytes]

    @cached_property
    def record(self) -> Record:
        """The training as a record. Its run id is that of the store from which it was exported."""
        tags = json.loads(self.row["tags"])
        figures = {name: value for name, value in self.row.items() if name not in TRAINING_COLUMNS}
        return Record(
            run_id=self.row["run_id"],
            parent_run_id=None,
            key=self.row["key"],
            attempt=int(tags["attempt"]),
            identity=json.loads(self.row["spec"]),
            metrics={name: value for name, value in figures.items() if value is not None},
            tags=tags,
            end_ms=self.row.get("end_ms"),
        )

    def curve(self, metric: str) -> list[float]:
        """The values of one of `EPOCH_METRICS`, epoch by epoch; empty where it does not apply."""
        return [epoch[metric] for epoch in self.epochs] if metric in self.record.metrics else []

    def checked(self) -> "Training":
        """The training itself. Raises `ValueError` where it is incomplete or its key is not that of its identity."""
        row, record = self.row, self.record.checked()
        name = f"training {record.key[:12]}"
        if not (re.fullmatch("[0-9a-f]{64}", record.key) and re.fullmatch("[0-9a-f]{32}", record.run_id)):
            raise ValueError(f"{record.key!r} is not a key, or {record.run_id!r} is not a run id")
        if (*record.cell, record.seed) != tuple(
            row[column] for column in ("network", "augmentation", "variant", "seed")
        ):
            raise ValueError(f"{name}: its spec differs from its row")
        if not all(isinstance(value, str) for value in record.tags.values()):
            raise ValueError(f"{name} has tags that are not text")
        if record.has_weights != (WEIGHTS in self.files):
            raise ValueError(f"{name} has weights without their checksum, or a checksum without weights")
        self._check_epochs(name)
        network, augmentation, variant = record.cell
        built_in = (
            network in NETWORKS
            and augmentation in (*AUGMENTATIONS, *CORRUPTIONS)
            and record.identity.get("objective", OBJECTIVES[0]) in OBJECTIVES
            and (VARIANTS.is_built_in(variant) or variant in EVALUATIONS)
        )
        if not (built_in and record.identity["dataset"] in DATASETS and record.tags["schema"] == str(SCHEMA)):
            return self  # the key also depends on the source code of plugins, or belongs to another schema
        unlabelled = {"unlabelled": record.tags["unlabelled_digest"]} if "unlabelled" in record.identity else {}
        if record.key != identity_key(record.identity, record.tags["dataset_digest"], unlabelled):
            raise ValueError(f"{name}: its key does not belong to its settings")
        return self

    def _check_epochs(self, name: str) -> None:
        figures = self.record.metrics
        num_epochs = round(figures.get("num_epochs", 0))
        if [epoch["epoch"] for epoch in self.epochs] != list(range(1, num_epochs + 1)):
            raise ValueError(f"{name} does not have each of its {num_epochs} epochs once and in order")
        for metric in sorted(EPOCH_METRICS):
            num_values = sum(epoch.get(metric) is not None for epoch in self.epochs)
            if num_values != (num_epochs if metric in figures or metric == "val_loss" else 0):
                raise ValueError(f"{name} has {num_values} values of {metric} for {num_epochs} epochs")


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory. Its trainings are ordered so that a pretraining stands before its classifiers."""

    name: str
    digest: str
    trainings: Mapping[str, Training]
    """By run id."""

    @property
    def place(self) -> str:
        """What a message calls it."""
        return f"the bundle {self.name}"

    def records(self, wanted: Mapping[str, Any] = NO_FILTER) -> dict[str, Record]:
        """All finished trainings with these settings by key."""
        records = {one.row["key"]: one.record for one in self.trainings.values()}
        return {
            key: record
            for key, record in records.items()
            if all(record.setting(name) == value for name, value in wanted.items())
        }

    def record(self, run_id: str) -> Record:
        """The training of a run of the store that the bundle was exported from. Raises as `Store.record` does."""
        check_run_id(run_id)
        if run_id not in self.trainings:
            raise Failure(f"there is no finished training with run id {run_id} in {self.place}")
        return self.trainings[run_id].record

    def curves(self, records: Sequence[Record], metric: str) -> list[list[float]]:
        """Each training's values of one of `EPOCH_METRICS`, epoch by epoch; empty where it does not apply."""
        return [self.trainings[record.run_id].curve(metric) for record in records]

    def artifact(self, record: Record, path: str) -> bytes:
        """The content of one of a training's files. Raises `Failure` where the bundle does not have it."""
        try:
            return self.trainings[record.run_id].files[path]
        except KeyError:
            raise Failure(f"run {record.run_id} has no {path} in bundle {self.name}") from None

    def weights(self, record: Record) -> bytes:
        """The checkpoint of a finished training. Raises `Failure` as `artifact` does."""
        return self.artifact(record, WEIGHTS)

    def outcomes(self, record: Record) -> Outcomes:
        """A classifier's outcomes on the test images. Raises `Failure` where they are missing or damaged."""
        return Outcomes.from_bytes(self.artifact(record, OUTCOMES))

    def has_artifact(self, record: Record, path: str) -> bool:
        """Whether the bundle has this file of a training."""
        return path in self.trainings[record.run_id].files

    def link(self, record: Record) -> str:
        """The run's id, since a bundle has no pages that could be linked."""
        return record.run_id


def read_bundle(folder: Path) -> Bundle:
    """The bundle in a folder. Raises `Failure`, in one line, where a part is damaged or is not a part."""
    trainings: dict[str, Training] = {}
    digest = hashlib.sha256()
    try:
        parts = list_parts(folder)
        if not parts and not is_old(folder):
            raise ValueError("there is no part 0001")
        for part in [folder] * is_old(folder) + parts:
            digest.update((part / SUMS).read_bytes())
            for training in _trainings(read_old(part) if part == folder else read_tables(part)):
                held = trainings.get(training.record.key)
                if held is None or held.record.attempt <= training.record.attempt:
                    trainings[training.record.key] = training
        order = {
            variant: place for place, variant in enumerate((*VARIANTS, *EVALUATIONS))
        }  # variants of unknown plugins come last
        ordered = sorted(trainings.values(), key=lambda one: order.get(one.row["variant"], len(order)))
        by_run_id = {one.record.run_id: one for one in ordered}
        if len(by_run_id) < len(ordered):
            raise ValueError("several trainings have the same run id")
    except DAMAGE as error:
        reason = " ".join(str(error).split())[:200]
        raise Failure(f"there is no readable bundle in {folder}: {type(error).__name__}: {reason}") from None
    return Bundle(folder.resolve().name, digest.hexdigest(), by_run_id)


def list_parts(folder: Path) -> list[Path]:
    """The parts in a folder, in order; other entries are ignored. Raises `ValueError` where a part is missing."""
    parts = sorted(path for path in folder.iterdir() if re.fullmatch(r"\d{4}", path.name))
    for number, part in enumerate(parts, start=1):
        if part.name != part_name(number):
            raise ValueError(f"part {part_name(number)} is missing")
    return parts


def part_name(number: int) -> str:
    """The folder of a part; parts count from 1."""
    return f"{number:04}"


def _trainings(tables: Tables) -> Iterator[Training]:
    """The trainings of a part. Raises `ValueError` or `KeyError` where its tables do not fit together."""
    epochs: dict[str, list[Row]] = {row["key"]: [] for row in tables.trainings}
    files: dict[str, dict[str, bytes]] = {key: {} for key in epochs}
    if len(epochs) < len(tables.trainings):
        raise ValueError("a training is in one part more than once")
    for row in tables.epochs:
        epochs[row["key"]].append(row)
    for row in tables.files:
        if not re.fullmatch(r"(\w[\w.-]*/)?\w[\w.-]*", row["path"]):
            raise ValueError(f"{row['path']!r} is not the path of an artifact")
        if row["path"] in files[row["key"]]:
            raise ValueError(f"training {row['key'][:12]} has several files {row['path']}")
        files[row["key"]][row["path"]] = row["content"]
    for row in tables.trainings:
        yield Training(row, epochs[row["key"]], files[row["key"]]).checked()
