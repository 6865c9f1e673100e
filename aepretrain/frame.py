"""Finished trainings as one data frame: a row a training, settings and figures as columns."""

import ast
import json
from collections.abc import Iterable
from dataclasses import fields

import pandas as pd

from aepretrain.config import Settings
from aepretrain.errors import UsageError
from aepretrain.records import Record

FIXED = ("key", "run_id", "parent_run_id", "attempt", "study", "network", "augmentation", "variant", "seed")
"""The columns before the settings."""

SETTINGS: dict[str, type] = {one.name: one.metadata["kind"] for one in fields(Settings)}
"""The settings with their types."""

REQUIRED = ("network", "augmentation", "variant", "seed", "dataset")


def frame(records: Iterable[Record]) -> pd.DataFrame:
    """One row a training, in the order given.

    The columns are `FIXED`, every field of `Settings`, and every figure of any training. A setting is missing (NA)
    where the training does not depend on it; pairs are tuples. A figure is missing (NaN) where a training lacks it;
    one with the name of another column is left out. `study` is missing for trainings of a grid.
    """
    records = list(records)
    rows = [
        {
            **{name: getattr(record, name) for name in ("key", "run_id", "parent_run_id", "attempt", "study")},
            **dict(zip(("network", "augmentation", "variant"), record.cell, strict=True)),
            "seed": record.seed,
            **{name: record.setting(name) for name in SETTINGS},
        }
        for record in records
    ]
    columns = [*FIXED, *SETTINGS]
    figures = pd.DataFrame([dict(record.metrics) for record in records], index=range(len(rows)), dtype="float64")
    return tidy(pd.DataFrame(rows, columns=columns).join(figures.drop(columns=columns, errors="ignore")))


def tidy(table: pd.DataFrame) -> pd.DataFrame:
    """The same trainings with the column types of `frame`, for a table that was read from a CSV file.

    Columns of `FIXED` and `Settings` that the table lacks are added without values. Raises `UsageError` where one of
    `REQUIRED` is missing, or a setting has a value of another type.
    """
    if lacking := [name for name in REQUIRED if name not in table]:
        raise UsageError(f"a table of trainings needs the columns {', '.join(REQUIRED)}: {', '.join(lacking)} missing")
    columns = {name: table[name] if name in table else pd.Series(None, table.index, "object") for name in FIXED}
    try:
        for name, kind in SETTINGS.items():
            columns[name] = _typed(table[name] if name in table else pd.Series(None, table.index, "object"), kind)
        columns["seed"] = columns["seed"].astype("int64")
    except (ValueError, TypeError, SyntaxError) as error:
        raise UsageError(f"a column of the table has values of another type: {error}") from None
    return pd.DataFrame(columns).join(table.drop(columns=[name for name in table if name in columns]))


def to_bytes(table: pd.DataFrame, format: str) -> bytes:
    """A table as a file: ``csv``, ``parquet`` or ``json`` (a list of objects, one a row).

    What is missing is an empty cell or null; a pair is a text like ``(0.02, 0.33)``, or in JSON a list. `tidy` gives
    the table again from ``pandas.read_csv``, ``read_parquet`` or ``read_json(dtype=False)``.
    """
    if format == "csv":
        return str(table.to_csv(index=False, lineterminator="\n")).encode()
    if format == "parquet":
        pairs = [name for name, kind in SETTINGS.items() if kind is tuple and name in table]
        texts = {name: table[name].map(str, na_action="ignore") for name in pairs}
        return bytes(table.assign(**texts).to_parquet(index=False))
    plain = table.astype("object").where(table.notna(), None)
    return json.dumps(plain.to_dict("records"), ensure_ascii=False, indent=1).encode() + b"\n"


def _typed(column: pd.Series, kind: type) -> pd.Series:
    if kind is int:
        return column.astype("Int64")
    if kind is float:
        return column.astype("float64")
    if kind is bool:
        return column.astype("boolean")
    objects = column.map(_pair, na_action="ignore") if kind is tuple else column
    return objects.astype("object").where(column.notna(), None)


def _pair(value: object) -> tuple[float, ...]:
    """A pair from a list, or from the text of one."""
    return tuple(map(float, ast.literal_eval(value) if isinstance(value, str) else value))  # type: ignore[arg-type]
