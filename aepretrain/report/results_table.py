"""A table of other people's runs, read from a CSV or Parquet file and checked."""

import csv
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd

from aepretrain.errors import UsageError
from aepretrain.report.undecidable import MANY_SEEDS

REQUIRED = ("experiment", "variant", "seed", "accuracy")
SHARES = {"accuracy": "accuracy", "macro_f1": "macro-F1", "val_accuracy": "validation accuracy"}
"""Columns with shares from 0 to 1. All but the first are optional."""

TEST_IMAGES = "test_images"
"""The optional column with the number of test images (or other examples) that the accuracy is of."""

MAX_SEEDS = MANY_SEEDS
"""More runs of one variant in one experiment are taken for a wrong column."""


@dataclass(frozen=True, eq=False)
class Runs:
    """Runs of a file, a row each, in its order."""

    path: str
    frame: pd.DataFrame
    """The columns of `REQUIRED`, those of `SHARES` and `TEST_IMAGES` that the file has, and `further` ones as text. The
    index is the line of the file (in Parquet the row)."""
    further: tuple[str, ...]
    """Columns that have one value in each experiment: tests may be grouped by them."""
    ignored: tuple[str, ...]
    """All other columns of the file."""
    digest: str
    """SHA-256 of the file, in hexadecimal."""


def read_runs(path: str | Path) -> Runs:
    """The runs in a file. Raises `UsageError`, naming file, line, cause and remedy."""
    content = _content(Path(path))
    suffix = Path(path).suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise UsageError(f"{path}: the name must end in .csv or .parquet")
    table = _read_parquet(path, content) if suffix == ".parquet" else _read_csv(path, content)
    where = "line" if suffix == ".csv" else "row"
    lacking = [name for name in REQUIRED if name not in table]
    if lacking:
        found = ", ".join(map(str, table.columns)) or "none"
        hint = "; separate columns by commas" if ";" in found or "\t" in found else ""
        raise UsageError(f"{path}: the column {lacking[0]} is missing: there is {found[:200]}{hint}")
    if table.empty:
        raise UsageError(f"{path}: there are no runs below the heading")
    return _checked(_Checks(str(path), where, table), hashlib.sha256(content).hexdigest())


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise UsageError(f"{path}: {'this is not an ordinary file' if path.exists() else 'there is no such file'}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
    if not content.strip():
        raise UsageError(f"{path}: the file is empty")
    return content


def _read_csv(path: str | Path, content: bytes) -> pd.DataFrame:
    """All cells as text without spaces around it; the index has the line of each row."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}:{line}: this is not text in UTF-8: save the file as CSV in UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        heading, *numbered = list(_rows(reader))
    except csv.Error as error:
        raise UsageError(f"{path}:{reader.line_num}: this is not CSV: {error}") from None
    names = heading[1]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{path}:{heading[0]}: the column {name!r} is there twice")
    for line, cells in numbered:
        if len(cells) != len(names):
            raise UsageError(f"{path}:{line}: {len(cells)} cells, but the heading has {len(names)}")
    cells_of = [cells for _, cells in numbered]
    return pd.DataFrame(cells_of, [line for line, _ in numbered], names, dtype="object")


def _rows(reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not empty, with the lines on which they end."""
    for cells in reader:
        stripped = [cell.strip() for cell in cells]
        if any(stripped):
            yield reader.line_num, stripped  # type: ignore[attr-defined]  # of csv.reader


def _read_parquet(path: str | Path, content: bytes) -> pd.DataFrame:
    try:
        table = pd.read_parquet(io.BytesIO(content))
    except Exception as error:  # noqa: BLE001  # pyarrow documents no class for what a damaged file raises
        raise UsageError(f"{path}: this is not a Parquet file: {' '.join(str(error).split())[:200]}") from None
    return table.set_axis(range(1, len(table) + 1))


@dataclass(frozen=True, eq=False)
class _Checks:
    """A table while its columns are checked."""

    path: str
    where: str
    table: pd.DataFrame

    def refuse(self, line: object, message: str) -> NoReturn:
        """Raise the error about a line."""
        raise UsageError(f"{self.path}{':' if self.where == 'line' else ', row '}{line}: {message}")

    def first(self, bad: pd.Series) -> object | None:
        """The line of the first row of which this is true."""
        return bad.index[bad.to_numpy()][0] if bad.any() else None

    def text(self, name: str) -> pd.Series:
        """A column as text, each in one line of printable characters."""
        column = self.any_text(name)
        if (line := self.first(column == "")) is not None:
            self.refuse(line, f"{name} is empty: fill it in, or remove the row")
        if (line := self.first(~column.map(str.isprintable))) is not None:
            self.refuse(line, f"{name} has control characters: remove them")
        return column

    def any_text(self, name: str) -> pd.Series:
        """A column as text, each in one line; empty where there is nothing."""
        return self.table[name].map(lambda value: " ".join(str(value).split()), na_action="ignore").fillna("")

    def numbers(self, name: str) -> pd.Series:
        """A column as finite numbers."""
        given = self.table[name]
        column = pd.to_numeric(given, errors="coerce").astype("float64")
        if (line := self.first(~np.isfinite(column))) is not None:
            value = given.loc[line]
            is_empty = value is None or str(value) in ("", "nan", "<NA>")
            said = f"{name} is empty" if is_empty else f"{name} is {str(value)[:40]!r}, which is not a number"
            self.refuse(line, f"{said}: give a number, or remove the row")
        return column

    def shares(self, name: str) -> pd.Series:
        """A column as shares from 0 to 1."""
        column = self.numbers(name)
        if (line := self.first((column < 0) | (column > 1))) is not None:
            hint = "divide percentages by 100" if (column >= 0).all() and (column <= 100).all() else "correct it"
            self.refuse(line, f"{name} is {column.loc[line]:g}, but must lie between 0 and 1: {hint}")
        return column

    def counts(self, name: str, least: int) -> pd.Series:
        """A column as integers."""
        column = self.numbers(name)
        if (line := self.first((column != column.round()) | (column < least) | (column > 2**53))) is not None:
            self.refuse(line, f"{name} is {self.table[name].loc[line]}, but must be an integer from {least} on")
        return column.astype("int64")


def _checked(checks: _Checks, digest: str) -> Runs:
    table = checks.table
    columns = {name: checks.text(name) for name in ("experiment", "variant")} | {"seed": checks.counts("seed", 0)}
    columns |= {name: checks.shares(name) for name in SHARES if name in table}
    columns |= {name: checks.counts(name, 1) for name in [TEST_IMAGES] if name in table}
    others = [name for name in table if name not in columns]
    frame = pd.DataFrame(columns | {str(name): checks.any_text(name) for name in others})
    _check_runs(checks, frame)
    num_values = frame.groupby("experiment", sort=False).nunique().max()
    if num_values.get(TEST_IMAGES, 1) > 1:
        raise UsageError(f"{checks.path}: {TEST_IMAGES} must have one value in each experiment")
    further = tuple(name for name in map(str, others) if num_values[name] == 1 and frame[name].ne("").all())
    ignored = tuple(name for name in map(str, others) if name not in further)
    return Runs(checks.path, frame.drop(columns=list(ignored)), further, ignored, digest)


def _check_runs(checks: _Checks, frame: pd.DataFrame) -> None:
    """Check that each run is there once, and that there are not too many."""
    run = ["experiment", "variant", "seed"]
    if (line := checks.first(frame.duplicated(run))) is not None:
        one = frame.loc[line]
        first = frame.index[(frame[run] == one[run]).all(axis=1).to_numpy()][0]
        named = f"experiment {one['experiment']}, variant {one['variant']}, seed {one['seed']}"
        checks.refuse(line, f"{named} is on {checks.where} {first} already: each run may be there once")
    counts = frame.groupby(["experiment", "variant"], sort=False).size()
    if counts.max() > MAX_SEEDS:
        experiment, variant = counts.idxmax()
        raise UsageError(
            f"{checks.path}: {counts.max():,} seeds of experiment {experiment}, variant {variant}: at most "
            f"{MAX_SEEDS:,} are judged; is the column experiment the right one?"
        )
