"""Tables of a bundle's part: their columns, how they are written, and how files of unknown origin are read."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aepretrain.records import EPOCH_METRICS

TRAININGS, EPOCHS, FILES = "trainings.parquet", "epochs.parquet", "files.parquet"
SUMS = "SHA256SUMS"

TRAINING_COLUMNS = {
    "key": pa.string(),
    "name": pa.string(),
    "network": pa.string(),
    "augmentation": pa.string(),
    "variant": pa.string(),
    "seed": pa.int64(),
    "spec": pa.string(),
    "tags": pa.string(),
    "note": pa.string(),
    "run_id": pa.string(),
    "start_ms": pa.int64(),
    "end_ms": pa.int64(),
}
"""The columns of trainings that are not final figures. `spec` and `tags` are JSON."""

EPOCH_COLUMNS = {"key": pa.string(), "epoch": pa.int64()}
"""The columns of epochs that are not metrics."""

FILE_COLUMNS = {"key": pa.string(), "path": pa.string(), "content": pa.binary()}

EPOCH_ENCODINGS = {
    "use_dictionary": ["key", "epoch", "val_accuracy"],  # accuracies of one validation set have few different values
    "use_byte_stream_split": sorted(EPOCH_METRICS - {"val_accuracy"}),
}
"""Saves a quarter of the file."""

MAX_GROWTH = 200
"""How many times the size of its file a table may have in memory. Tables of real trainings have three times."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Tables:
    """The rows of a part's tables."""

    trainings: Sequence[Row]
    epochs: Sequence[Row]
    files: Sequence[Row]


def write_tables(folder: Path, tables: Tables) -> None:
    """Write a part's three Parquet files and their checksums into an existing folder."""
    figures = sorted({name for row in tables.trainings for name in row} - TRAINING_COLUMNS.keys())
    contents: dict[str, tuple[Sequence[Row], dict[str, pa.DataType], dict[str, Any]]] = {
        TRAININGS: (tables.trainings, TRAINING_COLUMNS | dict.fromkeys(figures, pa.float64()), {}),
        EPOCHS: (tables.epochs, EPOCH_COLUMNS | dict.fromkeys(sorted(EPOCH_METRICS), pa.float64()), EPOCH_ENCODINGS),
        FILES: (tables.files, FILE_COLUMNS, {}),
    }
    for name, (rows, columns, encodings) in contents.items():
        table = pa.Table.from_pylist(list(rows), pa.schema(list(columns.items())))
        with (folder / name).open("wb") as file:  # Arrow itself accepts only paths in UTF-8
            pq.write_table(table, file, compression="zstd", compression_level=19, **encodings)
    (folder / SUMS).write_text("".join(f"{digest_of(folder / name)}  {name}\n" for name in contents))


def read_tables(folder: Path) -> Tables:
    """The tables of a part. Raises as `check_sums` and `read_rows` do."""
    check_sums(folder, (TRAININGS, EPOCHS, FILES))
    return Tables(
        read_rows(folder / TRAININGS, TRAINING_COLUMNS, others=pa.float64()),
        read_rows(folder / EPOCHS, EPOCH_COLUMNS, others=pa.float64()),
        read_rows(folder / FILES, FILE_COLUMNS),
    )


def check_sums(folder: Path, names: Sequence[str]) -> None:
    """Compare these files with the folder's checksums. Raises `ValueError` where one differs."""
    listed = {name: digest for digest, name in map(str.split, (folder / SUMS).read_text().splitlines())}
    for name in names:
        if listed[name] != digest_of(folder / name):
            raise ValueError(f"the checksum of {name} differs from the one in {SUMS}")


def digest_of(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_rows(path: Path, columns: Mapping[str, pa.DataType], others: pa.DataType | None = None) -> list[Row]:
    """The rows of a Parquet file that has these columns, without nulls; all further columns have the type `others`.

    A few bytes of Parquet can stand for any number of equal rows or long texts, so sizes are compared before rows are
    made. Raises `ValueError` for a file that is too large in memory or has other columns, and whatever Arrow raises
    for a damaged file.
    """
    texts = [name for name, kind in columns.items() if kind in (pa.string(), pa.binary())]
    with path.open("rb") as file:
        parquet, size = pq.ParquetFile(file, read_dictionary=texts), path.stat().st_size
        claimed = sum(parquet.metadata.row_group(i).total_byte_size for i in range(parquet.num_row_groups))
        if parquet.metadata.num_rows > size or claimed > MAX_GROWTH * size:
            raise ValueError(f"{path.name} claims {parquet.metadata.num_rows:,} rows and {claimed:,} bytes in {size:,}")
        _check_columns(path.name, parquet.schema_arrow, columns, others)
        table = parquet.read()
    if sum(map(_num_bytes, table.select(texts).columns)) > MAX_GROWTH * size:
        raise ValueError(f"the texts of {path.name} are more than {MAX_GROWTH} times as large as the file")
    if any(table[name].null_count for name in columns):
        raise ValueError(f"{path.name} has empty fields")
    rows: list[Row] = table.to_pylist()
    return rows


def _check_columns(
    name: str, schema: pa.Schema, columns: Mapping[str, pa.DataType], others: pa.DataType | None
) -> None:
    types = {one.name: one.type.value_type if pa.types.is_dictionary(one.type) else one.type for one in schema}
    expected = {**dict.fromkeys(types, others), **columns}
    wrong = sorted(name for name, kind in expected.items() if types.get(name) != kind)
    if wrong:
        raise ValueError(f"{name} has wrong columns: {', '.join(wrong)}")


def _num_bytes(column: pa.ChunkedArray) -> int:
    """The size of a text column in bytes, each repetition counted, although Arrow holds each text once."""
    return sum(
        pc.sum(pc.binary_length(chunk.dictionary).take(chunk.indices).cast(pa.int64())).as_py() or 0
        for chunk in column.chunks
    )
