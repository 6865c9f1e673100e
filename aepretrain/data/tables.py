"""Encoded pictures in Parquet files, as the Hugging Face hub exports them."""

import io
import json
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from aepretrain.data.collection import Collection, Picture
from aepretrain.errors import Failure
from aepretrain.pictures import Pixels, read_pixels

LABELS = ("label", "labels", "fine_label", "class", "target")
"""Names of the column of classes; the first that is there is used."""

DIVISIONS = {"test": "test", "train": "training", "validation": "training", "valid": "training", "val": "training"}
"""How files' names begin, and what their pictures are for. Validation pictures are drawn from all for training."""


def collect(path: Path) -> Collection:
    """The pictures of a file, or of all files in a folder, which are for testing where their name begins with ``test``.

    One column holds encoded pictures, as bytes or as the hub's pairs of bytes and path, another the classes: numbers or
    texts. Names of numbered classes are read from the hub's metadata. Raises `Failure`.
    """
    parts: dict[str, list[Picture]] = {"training": [], "test": []}
    classes: list[str] = []
    for file in _files(path):
        table, image = _read(file)
        label = next((name for name in LABELS if name in table.column_names), None)
        if label is None:
            raise Failure(f"{file} has the columns {', '.join(table.column_names)}: it needs one named {LABELS[0]}")
        classes = classes or _class_names(table.schema, label)
        parts["training" if file == path else _division(file, path)] += _pictures(
            file, table, image, _labels(file, table.column(label))
        )
    if not parts["training"]:
        raise Failure(f"there are only test pictures in {path}")
    return Collection(str(path.absolute()), parts["training"], parts["test"], classes)


def collect_unlabelled(path: Path) -> Collection:
    """The pictures of a file or of all files in a folder, whose classes are not looked at. Raises `Failure`."""
    pictures: list[Picture] = []
    for file in _files(path):
        table, image = _read(file)
        pictures += _pictures(file, table, image, [None] * len(table))
    return Collection(str(path.absolute()), pictures, ())


def _files(path: Path) -> list[Path]:
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not (files and files[0].is_file()):
        raise Failure(f"there is no Parquet file in {path}" if path.is_dir() else f"there is no file {path}")
    return files


def _division(file: Path, root: Path) -> str:
    """What the pictures of a file are for. Names look like ``test-00000-of-00001.parquet`` or ``test/0000.parquet``."""
    parts = reversed(file.relative_to(root).parts)
    begin = (match[0] for part in parts if (match := re.match("[a-z]*", part.lower())))
    return next((DIVISIONS[name] for name in begin if name in DIVISIONS), "training")


def _read(file: Path) -> tuple[pa.Table, str]:
    """A file's table, and the name of its column of pictures."""
    try:
        schema = pq.read_schema(file)
        images = [name for name, kind in zip(schema.names, schema.types, strict=True) if _holds_pictures(kind)]
        if len(images) != 1:
            listed = ", ".join(f"{name} ({kind})" for name, kind in zip(schema.names, schema.types, strict=True))
            raise Failure(f"{file} has the columns {listed[:200]}: one of them must hold encoded pictures as bytes")
        return pq.read_table(file, columns=[*images, *(name for name in LABELS if name in schema.names)]), images[0]
    except (OSError, pa.ArrowException) as error:
        raise Failure(f"{file} is no readable Parquet file: {' '.join(str(error).split())[:200]}") from None


def _holds_pictures(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(kind.field(place).name == "bytes" for place in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _labels(file: Path, column: pa.ChunkedArray) -> list[int] | list[str]:
    kind = column.type
    if column.null_count or not (
        pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)
    ):
        nulls = f" with {column.null_count:,} empty cells" if column.null_count else ""
        raise Failure(f"{file}: its classes are of type {kind}{nulls}, expected whole numbers or texts")
    values: list[Any] = column.to_pylist()
    if pa.types.is_integer(kind) and min(values, default=0) < 0:
        raise Failure(f"{file} has the class {min(values)}: classes are numbered from 0")
    return values


def _class_names(schema: pa.Schema, label: str) -> list[str]:
    """The names of numbered classes, from the metadata that the hub writes; none where there are none."""
    try:
        about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        return [str(name) for name in about["info"]["features"][label]["names"]]
    except (ValueError, LookupError, TypeError):
        return []


def _pictures(file: Path, table: pa.Table, image: str, labels: Sequence[int | str | None]) -> list[Picture]:
    cells = table.column(image)
    return [
        Picture(f"{file.name}[{row}]", label, partial(_decode, cell))
        for row, (cell, label) in enumerate(zip(cells, labels, strict=True))
    ]


def _decode(cell: pa.Scalar) -> Pixels:
    value = cell.as_py()
    content = value.get("bytes") if isinstance(value, dict) else value
    if content is None:
        raise Failure("is an empty cell")
    return read_pixels(io.BytesIO(content))
