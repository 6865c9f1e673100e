"""Bundles of version 1: three files for all trainings, with predictions in full and figures for each class."""

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from aepretrain.records import EPOCH_METRICS, OUTCOMES, PER_CLASS, PREDICTIONS, Predictions
from aepretrain.tracking.tables import FILE_COLUMNS, TRAINING_COLUMNS, Row, Tables, check_sums, read_rows

RECORDS, HISTORIES, ARTIFACTS = "records.parquet", "histories.parquet", "artifacts.parquet"
OLD_TRAINING_COLUMNS = TRAINING_COLUMNS | {"params": pa.string()}
OLD_EPOCH_COLUMNS = {
    "key": pa.string(),
    "name": pa.string(),
    "step": pa.int64(),
    "value": pa.float64(),
    "timestamp_ms": pa.int64(),
}
NUM_CLASSES = 10


def is_old(folder: Path) -> bool:
    """Whether a folder holds a bundle of version 1."""
    return (folder / RECORDS).is_file()


def read_old(folder: Path) -> Tables:
    """The tables of a bundle of version 1 as those of a part. Raises as `read_tables` does."""
    check_sums(folder, (RECORDS, HISTORIES, ARTIFACTS))
    rows = read_rows(folder / RECORDS, OLD_TRAINING_COLUMNS, others=pa.float64())
    per_class = [file for row in rows for file in _per_class(row)]
    for row in rows:
        del row["params"]  # they repeat the identity
    files = map(_with_outcomes, read_rows(folder / ARTIFACTS, FILE_COLUMNS))
    return Tables(rows, list(_epochs(read_rows(folder / HISTORIES, OLD_EPOCH_COLUMNS))), [*files, *per_class])


def _per_class(row: Row) -> Iterator[Row]:
    """Move precision and recall of each class from a row to a file."""
    names = {name: [f"test_{name}_{digit}" for digit in range(NUM_CLASSES)] for name in ("precision", "recall")}
    shares = {name: [row.pop(column, None) for column in columns] for name, columns in names.items()}
    if None not in shares["precision"] + shares["recall"]:
        yield {"key": row["key"], "path": PER_CLASS, "content": json.dumps(shares).encode()}


def _with_outcomes(file: Row) -> Row:
    """The file; outcomes in the place of predictions."""
    if file["path"] != PREDICTIONS:
        return file
    outcomes = Predictions.from_bytes(file["content"]).outcomes()
    return file | {"path": OUTCOMES, "content": outcomes.to_bytes()}


def _epochs(numbers: list[Row]) -> Iterator[Row]:
    """A row for each epoch, in order, from a row for each number; the other numbers repeat the final figures."""
    epochs: dict[tuple[str, int], Row] = {}
    for number in numbers:
        key, step, name = number["key"], number["step"], number["name"]
        if name in EPOCH_METRICS:
            row = epochs.setdefault((key, step), {"key": key, "epoch": step})
            if name in row:
                raise ValueError(f"training {key[:12]} has several values of {name} in epoch {step}")
            row[name] = number["value"]
    yield from (epochs[place] for place in sorted(epochs))
