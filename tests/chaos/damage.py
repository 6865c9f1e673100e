"""What tests of damage share: bytes damaged, tables rewritten, and a store that was filled once, with copies of it."""

import hashlib
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aepretrain import runner, tracking
from aepretrain.config import Execution, Settings, TrainingSpec
from aepretrain.variants import CLASSIFIERS
from tests.conftest import Once

SETTINGS = Settings(dataset="digits", ae_epochs=1, cls_epochs=1)
OPTIONS = ("--network", "fc", "--dataset", "digits", "--epochs", "1")
"""The same settings as a command's options."""


@pytest.fixture(scope="package")
def original(template: Path, once: Once) -> Path:
    """A folder with the store of one seed's four trainings of ``fc``."""

    def train(folder: Path) -> None:
        folder.mkdir()
        shutil.copy(template, folder / "mlflow.db")
        store = tracking.open_store(f"sqlite:///{folder}/mlflow.db")
        store.client.create_experiment("own", artifact_location=(folder / "artifacts").as_uri())
        store = tracking.open_store(store.uri, "own")
        for variant in CLASSIFIERS:
            spec = TrainingSpec(variant=variant, network="fc", settings=SETTINGS)
            runner.run_single(spec, store, Execution(), lambda _: None)

    return once("original", train)


@pytest.fixture
def copied(original: Path) -> Callable[[Path], str]:
    """Copies that store, with its artifacts, into a folder; gives its URI."""

    def copy(folder: Path) -> str:
        shutil.copytree(original / "artifacts", folder / "artifacts")
        with (
            closing(sqlite3.connect(original / "mlflow.db")) as ours,
            closing(sqlite3.connect(folder / "mlflow.db")) as its,
        ):
            ours.backup(its)
        return f"sqlite:///{folder}/mlflow.db"

    return copy


Mutation = Callable[[random.Random, bytes], bytes]


def flip(draw: random.Random, content: bytes) -> bytes:
    """Some bits in some bytes, more often than not in the header."""
    flipped = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 8, 64))):
        end = draw.choice((20, 40, len(flipped)))
        flipped[draw.randrange(min(end, len(flipped)))] ^= 1 << draw.randrange(8)
    return bytes(flipped)


def cut(draw: random.Random, content: bytes) -> bytes:
    return content[: draw.randrange(len(content))]


def splice(draw: random.Random, content: bytes) -> bytes:
    """A part of it once more, or left out, or other bytes in its place."""
    start, end = sorted(draw.choices(range(len(content)), k=2))
    between = draw.choice((b"", content[start:end] * 2, draw.randbytes(draw.randrange(200))))
    return content[:start] + between + content[end:]


def rewrite(folder: Path, name: str, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Change a table's rows, as somebody with Parquet at hand could, and make the digests fit again."""
    table = pq.read_table(folder / name)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, table.schema), folder / name)
    seal(folder, *(line.split()[1] for line in (folder / "SHA256SUMS").read_text().splitlines()))


def seal(folder: Path, *names: str) -> None:
    """Write checksums that fit the files of these names."""
    sums = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / "SHA256SUMS").write_text("".join(sums))
