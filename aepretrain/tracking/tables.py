"""A Parquet file of unknown origin as rows, where it is what it should be and does not grow beyond its size."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

MAX_GROWTH = 200
"""How many times its file's size a table's values may take; ours take three times as much."""


def read_rows(
    path: Path, columns: Mapping[str, pa.DataType], others: pa.DataType | None = None
) -> list[dict[str, Any]]:
    """The rows of a file that has these columns, without nulls, and perhaps `others`, all of one type.

    A few bytes of Parquet can stand for any number of equal rows, and for a long text in each of them. Raises
    `ValueError` for such a file or other columns, and whatever Arrow raises for a damaged one.
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
        raise ValueError(f"{path.name} repeats its texts to more than {MAX_GROWTH} times its size")
    if any(table[name].null_count for name in columns):
        raise ValueError(f"{path.name} has empty fields")
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _check_columns(
    name: str, schema: pa.Schema, columns: Mapping[str, pa.DataType], others: pa.DataType | None
) -> None:
    found = {one.name: one.type.value_type if pa.types.is_dictionary(one.type) else one.type for one in schema}
    expected = {**dict.fromkeys(found, others), **columns}
    odd = sorted(name for name, kind in expected.items() if found.get(name) != kind)
    if odd:
        raise ValueError(f"{name} has not the columns it should have: {', '.join(odd)}")


def _num_bytes(column: pa.ChunkedArray) -> int:
    """How many bytes the texts of a column are, each time that they stand there; it holds each only once."""
    return sum(
        pc.sum(pc.binary_length(chunk.dictionary).take(chunk.indices).cast(pa.int64())).as_py() or 0
        for chunk in column.chunks
    )
