"""Damaged or changed bundles whose checksums fit: refused in one line by ``import`` and by ``report``."""

import io
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aepretrain import tracking
from aepretrain.errors import Failure
from aepretrain.records import OUTCOMES
from aepretrain.tracking.tables import EPOCHS, FILES, TRAININGS
from tests.chaos.damage import cut, flip, rewrite, seal, splice
from tests.commands import aepretrain

pytestmark = pytest.mark.chaos


@pytest.fixture(scope="package")
def good(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of one seed's four trainings."""
    folder = tmp_path_factory.mktemp("good") / "bundle"
    store = tracking.open_store(f"sqlite:///{original}/mlflow.db", "own")
    records = list(store.records().values())
    tracking.export(store, records, {record.run_id for record in records}, folder)
    return folder


def trainings_or_line(folder: Path) -> int | str:
    """The number of a bundle's trainings, or why it is refused."""
    try:
        return len(tracking.read_bundle(folder).trainings)
    except Failure as error:
        return str(error)


def test_damaged_parquet_whose_digests_fit_is_refused_or_whole(good: Path, tmp_path: Path, full_length: bool) -> None:
    draw = random.Random(11)  # noqa: S311  # nothing secret
    num, refused = 1_000 if full_length else 60, 0
    folder = tmp_path / "bundle"
    shutil.copytree(good, folder)
    part = folder / "0001"
    for number in range(num):
        name = (TRAININGS, EPOCHS, FILES)[number % 3]
        content = (part / name).read_bytes()
        at_end = draw.random() < 0.7  # where Parquet describes the file
        changed = content[-3_000:] if at_end else content
        kept = content[: len(content) - len(changed)]
        (part / name).write_bytes(kept + draw.choice((flip, cut, splice))(draw, changed))
        seal(part, TRAININGS, EPOCHS, FILES)
        found = trainings_or_line(folder)
        assert found == 4 or (isinstance(found, str) and "\n" not in found)
        refused += isinstance(found, str)
        (part / name).write_bytes(content)
    print(f"bundles: {num:,} damaged with digests that fit, {refused:,} refused, {num - refused:,} read as 4 trainings")
    assert refused > num / 2


def of_first(**values: Any) -> Callable[[list[dict[str, Any]]], None]:
    """A change of a table's first row."""
    return lambda rows: rows[0].update(values)


def without_value(metric: str) -> Callable[[list[dict[str, Any]]], None]:
    """Without this metric in the first epoch that has it."""

    def change(rows: list[dict[str, Any]]) -> None:
        next(row for row in rows if row[metric] is not None)[metric] = None

    return change


def tags_of_first(**values: Any) -> Callable[[list[dict[str, Any]]], None]:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[0]["tags"] = json.dumps(json.loads(rows[0]["tags"]) | values)

    return change


def without_checksums(rows: list[dict[str, Any]]) -> None:
    """Without the checksums of weights."""
    for row in rows:
        tags = json.loads(row["tags"])
        row["tags"] = json.dumps({name: value for name, value in tags.items() if name != "weights_sha256"})


def outcomes(**arrays: Any) -> Callable[[list[dict[str, Any]]], None]:
    """Other outcomes for all trainings that have any."""

    def change(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            if row["path"] == OUTCOMES:
                with np.load(io.BytesIO(row["content"])) as archive:
                    original = dict(archive)
                buffer = io.BytesIO()
                np.savez_compressed(buffer, **original | arrays)
                row["content"] = buffer.getvalue()

    return change


def all_accuracies(value: float) -> Callable[[list[dict[str, Any]]], None]:
    def change(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["test_accuracy"] = value

    return change


TAMPERED = {
    "path upwards": (FILES, of_first(path="../../marker"), "is not the path of an artifact"),
    "path from the root": (FILES, of_first(path="/marker"), "is not the path of an artifact"),
    "path with a line": (FILES, of_first(path="evidence/a\nb"), "is not the path of an artifact"),
    "file of no training": (FILES, of_first(key="0" * 64), "KeyError"),
    "file without content": (FILES, of_first(content=None), "empty fields"),
    "weights without checksum": (TRAININGS, without_checksums, "weights without their checksum"),
    "a file twice": (FILES, lambda rows: rows.append(rows[0]), "has several files"),
    "epoch without a number": (EPOCHS, of_first(epoch=None), "empty fields"),
    "epoch of no training": (EPOCHS, of_first(key="0" * 64), "KeyError"),
    "half an epoch": (EPOCHS, without_value("val_loss"), "values of val_loss for"),
    "half a curve": (EPOCHS, without_value("val_accuracy"), "values of val_accuracy for"),
    "an epoch less": (EPOCHS, lambda rows: rows.pop(), "each of its 1 epochs"),
    "an epoch twice": (EPOCHS, lambda rows: rows.append(rows[-1]), "each of its 1 epochs"),
    "accuracy above 1": (TRAININGS, all_accuracies(1.5), "test_accuracy is 1.5"),
    "accuracy unknown": (TRAININGS, all_accuracies(float("nan")), "test_accuracy is nan"),
    "no accuracy": (TRAININGS, all_accuracies(None), "test_accuracy is nan"),  # type: ignore[arg-type]  # on purpose
    "other seed in the row": (TRAININGS, of_first(seed=7), "its spec differs from its row"),
    "other variant": (TRAININGS, of_first(variant="frozen2"), "its spec differs from its row"),
    "other options": (
        TRAININGS,
        of_first(spec='{"network":"fc","augmentation":"none","variant":"x","seed":0}'),
        "test_accuracy is nan",  # a classifier, which it would be, needs one
    ),
    "endless JSON": (TRAININGS, of_first(spec="[" * 100_000), "RecursionError"),
    "JSON of another kind": (TRAININGS, of_first(tags="[]"), "TypeError"),
    "tag that is not text": (TRAININGS, tags_of_first(host=["x"]), "tags that are not text"),
    "checksum without weights": (TRAININGS, tags_of_first(weights_sha256="0" * 64), "a checksum without weights"),
    "wrong run id": (TRAININGS, of_first(run_id="../../marker"), "is not a run id"),
    "the same twice": (TRAININGS, lambda rows: rows.append(rows[0]), "more than once"),
    "fewer outcomes": (FILES, outcomes(correct=np.zeros(9, np.uint8)), "outcomes are damaged"),
    "no images": (FILES, outcomes(correct=np.zeros(0, np.uint8), num_images=0), "outcomes are damaged"),
    "likelihood unknown": (FILES, outcomes(nll=np.nan), "outcomes are damaged"),
    "bits that are numbers": (FILES, outcomes(correct=np.zeros(33)), "outcomes are damaged"),
    "pickles for outcomes": (FILES, outcomes(correct=np.array([{}])), "outcomes are damaged"),
    "outcomes of 100 MB": (FILES, outcomes(more=np.zeros(10**8, np.uint8)), "would unpack to 100,0"),
}
ONLY_READ_BY_REPORT = {name for name, (_, _, message) in TAMPERED.items() if "outcomes are" in message}
ONLY_READ_BY_REPORT |= {"outcomes of 100 MB"}


@pytest.mark.parametrize("name", TAMPERED)
def test_what_was_changed_is_refused_in_one_line(name: str, good: Path, uri: str, tmp_path: Path) -> None:
    table, change, message = TAMPERED[name]
    folder = tmp_path / "bundle"
    shutil.copytree(good, folder)
    rewrite(folder / "0001", table, change)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    commands = [("report", "--bundle", "bundle")] + [("import", "bundle")] * (name not in ONLY_READ_BY_REPORT)
    for arguments in commands:
        done = aepretrain(*arguments, folder=tmp_path, MLFLOW_TRACKING_URI=uri)
        assert message in done.refusal(), arguments
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert not list(tracking.open_store(uri, "own").search({}))
    assert not list(tmp_path.rglob("marker"))


def test_a_few_bytes_that_stand_for_gigabytes_are_not_unpacked(good: Path, uri: str, tmp_path: Path) -> None:
    for name, num, text in (
        ("rows", 20_000_000, "x"),
        ("texts", 3_000, "x" * 2_000_000),
        ("both", 9_000, "x" * 200_000),
    ):
        folder = tmp_path / name
        shutil.copytree(good, folder)
        texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(num, np.int32)), pa.array([text]))
        zeros = pa.array(np.zeros(num))
        table = pa.table([texts, zeros.cast(pa.int64()), zeros], names=["key", "epoch", "val_loss"])
        pq.write_table(table, folder / "0001" / EPOCHS, compression="zstd", store_schema=False)
        seal(folder / "0001", TRAININGS, EPOCHS, FILES)
        done = aepretrain("report", "--bundle", name, folder=tmp_path, MLFLOW_TRACKING_URI=uri)
        assert "claims" in done.refusal() or "times as large as the file" in done.refusal(), done.err
