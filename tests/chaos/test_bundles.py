"""Bundles that were damaged or made up, with digests that fit: one line by ``import`` and by ``report``."""

import hashlib
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
from aepretrain.records import EPOCH_METRICS
from tests.chaos.damage import cut, flip, rewrite, splice
from tests.commands import aepretrain

pytestmark = pytest.mark.chaos

RECORDS, HISTORIES, ARTIFACTS = "records.parquet", "histories.parquet", "artifacts.parquet"


@pytest.fixture(scope="package")
def good(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of one seed's four trainings."""
    folder = tmp_path_factory.mktemp("good") / "bundle"
    store = tracking.open_store(f"sqlite:///{original}/mlflow.db", "own")
    records = list(store.records().values())
    tracking.export(store, records, {record.run_id for record in records}, folder)
    return folder


def seal(folder: Path) -> None:
    """Make the digests fit what is there."""
    names = (ARTIFACTS, HISTORIES, RECORDS)
    sums = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / "SHA256SUMS").write_text("".join(sums))


def trainings_or_line(folder: Path) -> int | str:
    """How many trainings a bundle has, or why it is refused."""
    try:
        return len(tracking.read_bundle(folder).trainings)
    except Failure as error:
        return str(error)


def test_damaged_parquet_whose_digests_fit_is_refused_or_whole(good: Path, tmp_path: Path, full_length: bool) -> None:
    draw = random.Random(11)  # noqa: S311  # nothing secret
    num, refused = 1_000 if full_length else 60, 0
    folder = tmp_path / "bundle"
    shutil.copytree(good, folder)
    for number in range(num):
        name = (RECORDS, HISTORIES, ARTIFACTS)[number % 3]
        content = (good / name).read_bytes()
        at_end = draw.random() < 0.7  # where Parquet says what is in the file
        part = content[-3_000:] if at_end else content
        (folder / name).write_bytes(content[: len(content) - len(part)] + draw.choice((flip, cut, splice))(draw, part))
        seal(folder)
        found = trainings_or_line(folder)
        assert found == 4 or (isinstance(found, str) and "\n" not in found)
        refused += isinstance(found, str)
        (folder / name).write_bytes(content)
    print(f"bundles: {num:,} damaged with digests that fit, {refused:,} refused, {num - refused:,} read as 4 trainings")
    assert refused > num / 2


def of_first(**values: Any) -> Callable[[list[dict[str, Any]]], None]:
    """A change of a table's first row."""
    return lambda rows: rows[0].update(values)


def without(*names: str) -> Callable[[list[dict[str, Any]]], None]:
    """Without the first number of each of these names."""

    def change(rows: list[dict[str, Any]]) -> None:
        for name in names:
            rows.remove(next(row for row in rows if row["name"] == name))

    return change


def with_twice(name: str) -> Callable[[list[dict[str, Any]]], None]:
    """With the first number of this name once more, and another value."""
    return lambda rows: rows.append(next(row for row in rows if row["name"] == name) | {"value": 0.5})


def tags_of_first(**values: Any) -> Callable[[list[dict[str, Any]]], None]:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[0]["tags"] = json.dumps(json.loads(rows[0]["tags"]) | values)

    return change


def predictions(**arrays: Any) -> Callable[[list[dict[str, Any]]], None]:
    """Other predictions for all trainings that have any."""

    def change(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            if row["path"].endswith("predictions.npz"):
                with np.load(io.BytesIO(row["content"])) as archive:
                    found = dict(archive)
                buffer = io.BytesIO()
                np.savez_compressed(buffer, **found | arrays)
                row["content"] = buffer.getvalue()

    return change


def all_accuracies(value: float) -> Callable[[list[dict[str, Any]]], None]:
    def change(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["test_accuracy"] = value

    return change


TAMPERED = {
    "path upwards": (ARTIFACTS, of_first(path="../../marker"), "no path of an artifact"),
    "path from the root": (ARTIFACTS, of_first(path="/marker"), "no path of an artifact"),
    "path with a line": (ARTIFACTS, of_first(path="evidence/a\nb"), "no path of an artifact"),
    "file of nobody": (ARTIFACTS, of_first(key="0" * 64), "KeyError"),
    "file without content": (ARTIFACTS, of_first(content=None), "empty fields"),
    "number without value": (HISTORIES, of_first(value=None), "empty fields"),
    "half an epoch": (HISTORIES, without("val_loss"), "epochs without their val_loss"),
    "an epoch less": (HISTORIES, without(*sorted(EPOCH_METRICS)), "epochs without their"),
    "an epoch twice": (HISTORIES, with_twice("val_loss"), "epochs without their val_loss, or with several"),
    "accuracy above 1": (RECORDS, all_accuracies(1.5), "test_accuracy is 1.5"),
    "accuracy unknown": (RECORDS, all_accuracies(float("nan")), "test_accuracy is nan"),
    "no accuracy": (RECORDS, all_accuracies(None), "test_accuracy is nan"),  # type: ignore[arg-type]  # on purpose
    "other seed in the row": (RECORDS, of_first(seed=7), "another than its row says"),
    "other variant": (RECORDS, of_first(variant="frozen2"), "another than its row says"),
    "other options": (
        RECORDS,
        of_first(spec='{"network":"fc","augmentation":"none","variant":"x","seed":0}'),
        "test_accuracy is nan",  # as a classifier, which it would be, it lacks one
    ),
    "endless JSON": (RECORDS, of_first(spec="[" * 100_000), "RecursionError"),
    "JSON of another kind": (RECORDS, of_first(tags="[]"), "TypeError"),
    "tag that is no text": (RECORDS, tags_of_first(host=["x"]), "no texts"),
    "parameter that is no text": (RECORDS, of_first(params='{"lr":1}'), "no texts"),
    "id that is none": (RECORDS, of_first(run_id="../../marker"), "no id of a run"),
    "the same twice": (RECORDS, lambda rows: rows.append(rows[0]), "more than once"),
    "shorter predictions": (ARTIFACTS, predictions(labels_N=np.zeros(9, np.uint8)), "predictions are damaged"),
    "no probabilities": (ARTIFACTS, predictions(nll_label_N=np.full(257, np.nan, np.float16)), "predictions are"),
    "pickles for predictions": (ARTIFACTS, predictions(labels_N=np.array([{}])), "predictions are damaged"),
    "predictions of 100 MB": (ARTIFACTS, predictions(more=np.zeros(10**8, np.uint8)), "would unpack to 100,0"),
}
ONLY_READ_BY_REPORT = {name for name in TAMPERED if "predictions" in name or "probabilities" in name}


@pytest.mark.parametrize("name", TAMPERED)
def test_what_was_changed_is_refused_in_one_line(name: str, good: Path, uri: str, tmp_path: Path) -> None:
    table, change, told = TAMPERED[name]
    folder = tmp_path / "bundle"
    shutil.copytree(good, folder)
    rewrite(folder, table, change)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    commands = [("report", "--bundle", "bundle")] + [("import", "bundle")] * (name not in ONLY_READ_BY_REPORT)
    for arguments in commands:
        done = aepretrain(*arguments, folder=tmp_path, MLFLOW_TRACKING_URI=uri)
        assert told in done.refusal(), arguments
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert not list(tracking.open_store(uri, "own").search({}))
    assert not list(tmp_path.rglob("marker"))


def test_a_few_bytes_that_stand_for_gigabytes_are_not_unpacked(good: Path, uri: str, tmp_path: Path) -> None:
    columns = {"key": pa.string(), "name": pa.string(), "step": pa.int64(), "value": pa.float64()}
    schema = pa.schema([*columns.items(), ("timestamp_ms", pa.int64())])
    for name, num, text in (
        ("rows", 20_000_000, "x"),
        ("texts", 3_000, "x" * 2_000_000),
        ("both", 9_000, "x" * 200_000),
    ):
        folder = tmp_path / name
        shutil.copytree(good, folder)
        texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(num, np.int32)), pa.array([text]))
        zeros = pa.array(np.zeros(num))
        table = pa.table([texts, texts, zeros.cast(pa.int64()), zeros, zeros.cast(pa.int64())], names=schema.names)
        pq.write_table(table, folder / HISTORIES, compression="zstd", store_schema=False)
        seal(folder)
        done = aepretrain("report", "--bundle", name, folder=tmp_path, MLFLOW_TRACKING_URI=uri)
        assert "claims" in done.refusal() or "repeats its texts" in done.refusal(), done.err
