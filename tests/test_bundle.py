"""A store written into a bundle and filled again from it: the same records, histories and evidence."""

import errno
import itertools
import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from aepretrain import display, runner, stats, tracking
from aepretrain.cli.commands import cli
from aepretrain.config import SCHEMA, Execution, Settings, TrainingSpec
from aepretrain.errors import Failure
from aepretrain.plans import read_plan
from aepretrain.records import EPOCH_METRICS, OUTCOMES, PER_CLASS, PREDICTIONS, Predictions, Record
from aepretrain.report.answer import draw_for
from aepretrain.report.numbers import ends_text, interval_text, p_text
from aepretrain.tracking import old_bundle, tables, transfer
from aepretrain.tracking.metric_names import stored_name
from aepretrain.tracking.transfer import Part
from tests.chaos.damage import rewrite, seal
from tests.conftest import ROOT

EXECUTION = Execution(jobs=1)
SETTINGS = Settings(dataset="digits", ae_epochs=1, cls_epochs=2)


def train(store: tracking.Store, variant: str, seed: int = 0) -> runner.SingleResult:
    spec = TrainingSpec(variant=variant, network="fc", seed=seed, settings=SETTINGS)
    return runner.run_single(spec, store, EXECUTION, lambda _: None)


@pytest.fixture(scope="module")
def filled(template: Path, tmp_path_factory: pytest.TempPathFactory) -> tracking.Store:
    """A store with two finetune seeds, and their pretrainings."""
    folder = tmp_path_factory.mktemp("filled")
    shutil.copy(template, folder / "mlflow.db")
    store = tracking.open_store(f"sqlite:///{folder}/mlflow.db")
    store.client.create_experiment("own", artifact_location=(folder / "artifacts").as_uri())
    store = tracking.open_store(store.uri, "own")
    for seed in (0, 1):
        train(store, "finetune", seed)
    return store


def export(store: tracking.Store, folder: Path) -> dict[str, Record]:
    """Write a bundle in which seed 0 is shown."""
    records = store.records()
    tracking.export(store, list(records.values()), {one.run_id for one in records.values() if one.seed == 0}, folder)
    return records


def comparable(record: Record) -> tuple[object, ...]:
    changed = {"artifacts", "done", "pid", "locks", "imported_run", "pretraining_run", "model", "weights_sha256"}
    tags = {name: value for name, value in record.tags.items() if name not in changed}
    return record.key, record.attempt, record.identity, record.metrics, tags


def test_a_bundle_restores_records_histories_and_evidence(
    filled: tracking.Store, store: tracking.Store, tmp_path: Path
) -> None:
    before = export(filled, tmp_path / "bundle")
    assert tracking.restore(store, tracking.read_bundle(tmp_path / "bundle")) == 4
    after = store.records()
    assert {key: comparable(one) for key, one in after.items()} == {key: comparable(one) for key, one in before.items()}
    for key, record in after.items():
        there = before[key]
        for name in record.metrics:
            ours, theirs = (
                [(one.step, one.value) for one in each.client.get_metric_history(run_id, stored_name(name))]
                for each, run_id in ((store, record.run_id), (filled, there.run_id))
            )
            assert ours == theirs != []
        infos = [each.client.get_run(run_id) for each, run_id in ((store, record.run_id), (filled, there.run_id))]
        assert infos[0].data.params == infos[1].data.params
        assert (infos[0].info.start_time, infos[0].info.end_time) == (infos[1].info.start_time, infos[1].info.end_time)
        assert infos[0].info.run_name == infos[1].info.run_name
        if record.cell[2] == "finetune":
            assert not store.has_artifact(record, PREDICTIONS)
            assert store.artifact(record, PER_CLASS) == filled.artifact(there, PER_CLASS)
            restored, original = store.outcomes(record), filled.outcomes(there)
            assert np.array_equal(restored.correct_N, original.correct_N)
            assert (restored.nll, restored.ece) == (original.nll, original.ece)
            assert after[record.tags["pretraining_key"]].run_id == record.tags["pretraining_run"]
        assert record.has_weights == (record.seed == 0 and record.cell[2] == "finetune")
        if record.has_weights:
            assert store.weights(record) == filled.weights(there)
        assert store.has_artifact(record, "figures/loss_curve.png") == (record.seed == 0)


def test_the_times_of_imported_epochs_are_in_order_and_within_the_run(
    filled: tracking.Store, store: tracking.Store, tmp_path: Path
) -> None:
    export(filled, tmp_path / "bundle")
    tracking.restore(store, tracking.read_bundle(tmp_path / "bundle"))
    (record, _) = (one for one in store.records().values() if one.cell[2] == "finetune")
    info = store.client.get_run(record.run_id).info
    times = [one.timestamp for one in store.client.get_metric_history(record.run_id, "loss/train")]
    assert times == [info.start_time + (info.end_time - info.start_time) // 2, info.end_time]


def test_a_bundle_reads_as_its_store_does(filled: tracking.Store, tmp_path: Path) -> None:
    before = export(filled, tmp_path)
    bundle = tracking.read_bundle(tmp_path)
    after = bundle.records()
    assert {key: comparable(one) for key, one in after.items()} == {key: comparable(one) for key, one in before.items()}
    for key, record in after.items():
        for metric in EPOCH_METRICS:
            (curve,) = bundle.curves([record], metric)
            assert [curve] == filled.curves([before[key]], metric)
            assert len(curve) == (record.metrics["num_epochs"] if metric in record.metrics else 0)
    with pytest.raises(Failure, match=r"no figures/nothing\.png"):
        bundle.artifact(record, "figures/nothing.png")


def test_what_was_imported_is_exported_and_imported_again(
    filled: tracking.Store, store: tracking.Store, template: Path, tmp_path: Path
) -> None:
    first = export(filled, tmp_path / "first")
    tracking.restore(store, tracking.read_bundle(tmp_path / "first"))
    export(store, tmp_path / "second")
    shutil.copy(template, tmp_path / "another.db")
    another = tracking.open_store(f"sqlite:///{tmp_path}/another.db")
    assert tracking.restore(another, tracking.read_bundle(tmp_path / "second")) == len(first)
    trained = {key: one.run_id for key, one in first.items()}
    assert {key: one.tags["imported_run"] for key, one in another.records().items()} == trained


def test_importing_twice_adds_nothing(filled: tracking.Store, store: tracking.Store, tmp_path: Path) -> None:
    export(filled, tmp_path / "bundle")
    tracking.restore(store, tracking.read_bundle(tmp_path / "bundle"))
    known = {one.run_id for one in store.records().values()}
    num_runs = len(list(store.search({})))
    assert tracking.restore(store, tracking.read_bundle(tmp_path / "bundle")) == 0
    assert {one.run_id for one in store.records().values()} == known
    assert len(list(store.search({}))) == num_runs


def test_what_is_restored_is_done_but_pretraining_without_weights_is_trained_where_it_is_needed(
    filled: tracking.Store, store: tracking.Store, tmp_path: Path
) -> None:
    export(filled, tmp_path / "bundle")
    tracking.restore(store, tracking.read_bundle(tmp_path / "bundle"))
    assert train(store, "finetune", 1).reused
    restored = store.records()
    pretraining = next(one for one in restored.values() if one.cell[2] == "pretrain" and one.seed == 1)
    frozen = train(store, "frozen", 1)
    assert not frozen.reused
    again = store.records()[pretraining.key]
    assert (again.attempt, again.has_weights) == (pretraining.attempt + 1, True)
    assert frozen.record.tags["pretraining_run"] == again.run_id
    assert {key: one.run_id for key, one in store.records().items() if key in restored and key != pretraining.key} == {
        key: one.run_id for key, one in restored.items() if key != pretraining.key
    }


def test_a_grid_on_a_restored_store_trains_only_what_it_needs(
    filled: tracking.Store, store: tracking.Store, tmp_path: Path
) -> None:
    export(filled, tmp_path / "bundle")
    tracking.restore(store, tracking.read_bundle(tmp_path / "bundle"))
    events: list[runner.Event] = []
    specs = [
        TrainingSpec(variant=variant, network="fc", seed=seed, settings=SETTINGS)
        for seed in (0, 1)
        for variant in ("pretrain", "finetune")
    ]
    runner.run_grid(specs, store, EXECUTION, events.append, lambda _parent, _records: None)
    assert {event.kind for event in events} == {"reused"}


def test_a_second_export_writes_only_what_is_new(filled: tracking.Store, tmp_path: Path) -> None:
    records = filled.records()
    first = [one for one in records.values() if one.seed == 0]
    assert tracking.export(filled, first, {one.run_id for one in first}, tmp_path) == Part(tmp_path / "0001", 2)
    before = {path: path.read_bytes() for path in (tmp_path / "0001").iterdir()}
    assert tracking.export(filled, list(records.values()), set(), tmp_path) == Part(tmp_path / "0002", 2)
    assert {path: path.read_bytes() for path in (tmp_path / "0001").iterdir()} == before
    rows = pq.read_table(tmp_path / "0002" / "trainings.parquet", columns=["seed"]).to_pylist()
    assert rows == [{"seed": 1}] * 2
    bundle = tracking.read_bundle(tmp_path)
    assert bundle.records().keys() == records.keys()
    assert {one.record.seed for one in bundle.trainings.values() if "weights.pt" in one.files} == {0}
    assert tracking.export(filled, list(records.values()), set(), tmp_path) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0001", "0002"]


def test_a_training_that_is_selected_later_comes_again_with_its_files(filled: tracking.Store, tmp_path: Path) -> None:
    export(filled, tmp_path)
    (later,) = (one for one in filled.records().values() if one.seed == 1 and one.cell[2] == "finetune")
    assert tracking.export(filled, [later], {later.run_id}, tmp_path) == Part(tmp_path / "0002", 1)
    training = tracking.read_bundle(tmp_path).trainings[later.run_id]
    assert training.files.keys() >= {"weights.pt", "figures/loss_curve.png", OUTCOMES}
    assert training.files["weights.pt"] == filled.weights(later)


def test_a_training_of_a_study_that_became_one_of_a_grid_comes_again(filled: tracking.Store, tmp_path: Path) -> None:
    records = list(filled.records().values())
    of_study = [replace(one, tags={**one.tags, "study": "labels"}) for one in records]
    tracking.export(filled, of_study, set(), tmp_path)
    assert {one.study for one in tracking.read_bundle(tmp_path).records().values()} == {"labels"}
    assert tracking.export(filled, records, set(), tmp_path) == Part(tmp_path / "0002", 4)
    assert {one.study for one in tracking.read_bundle(tmp_path).records().values()} == {None}


@pytest.mark.parametrize(("attempts", "expected"), [((1, 2), 0.5), ((2, 1), 0.25), ((1, 1), 0.5)])
def test_of_several_parts_the_highest_attempt_counts_then_the_last_part(
    filled: tracking.Store, tmp_path: Path, attempts: tuple[int, int], expected: float
) -> None:
    export(filled, tmp_path)
    shutil.copytree(tmp_path / "0001", tmp_path / "0002")
    for part, accuracy, attempt in zip(("0001", "0002"), (0.25, 0.5), attempts, strict=True):

        def change(rows: list[dict[str, Any]], accuracy: float = accuracy, attempt: int = attempt) -> None:
            for row in rows:
                row["tags"] = json.dumps(json.loads(row["tags"]) | {"attempt": str(attempt)})
                row["test_accuracy"] = accuracy if row["variant"] == "finetune" else None

        rewrite(tmp_path / part, "trainings.parquet", change)
    records = tracking.read_bundle(tmp_path).records().values()
    assert [one.metrics["test_accuracy"] for one in records if one.cell[2] == "finetune"] == [expected] * 2
    assert {one.attempt for one in records} == {max(attempts)}


def test_a_missing_part_is_named_and_other_entries_are_ignored(filled: tracking.Store, tmp_path: Path) -> None:
    export(filled, tmp_path)
    shutil.copytree(tmp_path / "0001", tmp_path / "0003")
    with pytest.raises(Failure, match="part 0002 is missing"):
        tracking.read_bundle(tmp_path)
    with pytest.raises(Failure, match="part 0002 is missing"):
        export(filled, tmp_path)
    (tmp_path / "0003").rename(tmp_path / ".part-unfinished")
    (tmp_path / "README.md").write_text("Evidence")
    assert len(tracking.read_bundle(tmp_path).trainings) == 4


def test_an_export_that_was_killed_leaves_a_bundle_that_can_be_read_and_continued(
    filled: tracking.Store, tmp_path: Path
) -> None:
    records = filled.records()
    first = [one for one in records.values() if one.seed == 0]
    tracking.export(filled, first, set(), tmp_path)
    code = f"""
import os, signal
from pathlib import Path
from aepretrain import tracking
from aepretrain.tracking import tables
write, calls = tables.pq.write_table, []
def write_table(*arguments, **options):
    write(*arguments, **options)
    calls.append(arguments)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
tables.pq.write_table = write_table
store = tracking.open_store({filled.uri!r}, "own")
tracking.export(store, list(store.records().values()), set(), Path({str(tmp_path)!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert len(tracking.read_bundle(tmp_path).trainings) == 2
    assert tracking.export(filled, list(records.values()), set(), tmp_path) == Part(tmp_path / "0002", 2)
    assert tracking.read_bundle(tmp_path).records().keys() == records.keys()


def test_two_exports_at_once_write_two_parts(
    filled: tracking.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = {seed: [one for one in filled.records().values() if one.seed == seed] for seed in (0, 1)}
    write = tables.write_tables

    def write_while_another_exports(folder: Path, content: tables.Tables) -> None:
        write(folder, content)
        monkeypatch.setattr(transfer, "write_tables", write)
        assert tracking.export(filled, seeds[1], set(), tmp_path) == Part(tmp_path / "0001", 2)

    monkeypatch.setattr(transfer, "write_tables", write_while_another_exports)
    assert tracking.export(filled, seeds[0], set(), tmp_path) == Part(tmp_path / "0002", 2)
    assert tracking.read_bundle(tmp_path).records().keys() == filled.records().keys()


def test_a_run_that_lost_an_epoch_is_not_exported(filled: tracking.Store, tmp_path: Path) -> None:
    records = [replace(one, metrics={**one.metrics, "num_epochs": 3.0}) for one in filled.records().values()]
    with pytest.raises(Failure, match=r"cannot be exported: .* does not have each of its 3 epochs"):
        tracking.export(filled, records, set(), tmp_path)
    assert not list(tmp_path.iterdir())


def write_old(store: tracking.Store, folder: Path) -> None:
    """A bundle of version 1, as that version wrote it."""
    trainings, epochs, files = [], [], []
    for record in store.records().values():
        run = store.client.get_run(record.run_id)
        row = {"key": record.key, "name": run.info.run_name, "seed": record.seed, "run_id": record.run_id}
        row |= dict(zip(("network", "augmentation", "variant"), record.cell, strict=True)) | {"params": "{}"}
        row |= {"note": "", "start_ms": run.info.start_time, "end_ms": run.info.end_time}
        tags = {name: value for name, value in record.tags.items() if name != "weights_sha256"}
        row |= {"spec": json.dumps(dict(record.identity)), "tags": json.dumps(tags)}
        metrics = dict(record.metrics)
        if record.cell[2] == "finetune":
            per_class = json.loads(store.artifact(record, PER_CLASS))
            metrics |= {
                f"test_{name}_{i}": share for name, shares in per_class.items() for i, share in enumerate(shares)
            }
            content = store.artifact(record, PREDICTIONS)
            files.append({"key": record.key, "path": PREDICTIONS, "content": content})
        trainings.append(row | metrics)
        for name, value in metrics.items():
            (curve,) = store.curves([record], name) if name in EPOCH_METRICS else ([value],)
            for step, number in enumerate(curve, start=name in EPOCH_METRICS):
                epochs.append({"key": record.key, "name": name, "step": step, "value": number, "timestamp_ms": 0})
    figures = sorted({name for row in trainings for name in row} - old_bundle.OLD_TRAINING_COLUMNS.keys())
    columns = old_bundle.OLD_TRAINING_COLUMNS | dict.fromkeys(figures, pa.float64())
    folder.mkdir()
    for name, rows, kinds in (
        ("records.parquet", trainings, columns),
        ("histories.parquet", epochs, old_bundle.OLD_EPOCH_COLUMNS),
        ("artifacts.parquet", files, tables.FILE_COLUMNS),
    ):
        pq.write_table(pa.Table.from_pylist(rows, pa.schema(list(kinds.items()))), folder / name)
    seal(folder, "artifacts.parquet", "histories.parquet", "records.parquet")


def test_a_bundle_of_version_1_reads_as_its_store_does(filled: tracking.Store, tmp_path: Path) -> None:
    write_old(filled, tmp_path / "old")
    bundle, records = tracking.read_bundle(tmp_path / "old"), filled.records()
    assert {key: comparable(one) for key, one in bundle.records().items()} == {
        key: comparable(one) for key, one in records.items()
    }
    for key, record in bundle.records().items():
        for metric in EPOCH_METRICS:
            assert bundle.curves([record], metric) == filled.curves([records[key]], metric)
        if record.cell[2] == "finetune":
            predictions = Predictions.from_bytes(filled.artifact(records[key], PREDICTIONS))
            outcomes = bundle.outcomes(record)
            assert np.array_equal(outcomes.correct_N, predictions.predicted_N == predictions.labels_N)
            assert (outcomes.nll, outcomes.ece) == (predictions.outcomes().nll, predictions.outcomes().ece)
            assert json.loads(bundle.artifact(record, PER_CLASS)) == json.loads(
                filled.artifact(records[key], PER_CLASS)
            )


def test_a_bundle_of_version_1_is_continued_by_parts_and_imported(
    filled: tracking.Store, store: tracking.Store, tmp_path: Path
) -> None:
    write_old(filled, tmp_path / "old")
    records = list(filled.records().values())
    assert tracking.export(filled, records, set(), tmp_path / "old") is None
    (later,) = (one for one in records if one.seed == 1 and one.cell[2] == "finetune")
    assert tracking.export(filled, [later], {later.run_id}, tmp_path / "old") == Part(tmp_path / "old" / "0001", 1)
    assert tracking.restore(store, tracking.read_bundle(tmp_path / "old")) == 4
    assert [one.seed for one in store.records().values() if one.has_weights] == [1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.append(rows[0]), "has several values"),
        (lambda rows: rows.remove(rows[0]), "has .* values of"),
    ],
)
def test_a_damaged_bundle_of_version_1_is_one_line(
    filled: tracking.Store, tmp_path: Path, change: Callable[[list[dict[str, Any]]], None], message: str
) -> None:
    write_old(filled, tmp_path / "old")

    def of_epochs(rows: list[dict[str, Any]]) -> None:
        rows.sort(key=lambda row: row["name"] != "val_loss")
        change(rows)

    rewrite(tmp_path / "old", "histories.parquet", of_epochs)
    with pytest.raises(Failure, match=message):
        tracking.read_bundle(tmp_path / "old")


@pytest.mark.parametrize("name", ["trainings.parquet", "epochs.parquet", "files.parquet", "SHA256SUMS"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "missing"])
def test_a_damaged_bundle_is_one_line(filled: tracking.Store, tmp_path: Path, name: str, damage: str) -> None:
    export(filled, tmp_path)
    path = tmp_path / "0001" / name
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    else:
        content[len(content) // 2] ^= 0xFF
        changed = {"cut": bytes(content[:-100]), "flipped": bytes(content), "emptied": b""}
        path.write_bytes(changed[damage])
    with pytest.raises(Failure) as error:
        tracking.read_bundle(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("files.parquet", {"path": "../../outside"}, "not the path"),
        ("files.parquet", {"path": "/outside"}, "not the path"),
        ("files.parquet", {"key": "0" * 64}, "KeyError"),
        ("trainings.parquet", {"key": "../../x"}, "KeyError|not a key"),
        ("trainings.parquet", {"spec": "{}"}, "KeyError"),
        ("trainings.parquet", {"tags": "not JSON"}, "JSONDecodeError"),
    ],
)
def test_a_bundle_that_was_tampered_with_is_refused(
    filled: tracking.Store, tmp_path: Path, name: str, change: dict[str, Any], told: str
) -> None:
    export(filled, tmp_path)
    rewrite(tmp_path / "0001", name, lambda rows: rows[0].update(change))
    with pytest.raises(Failure, match=told):
        tracking.read_bundle(tmp_path)


def test_another_spec_under_a_known_key_is_refused(filled: tracking.Store, tmp_path: Path) -> None:
    export(filled, tmp_path)

    def change(rows: list[dict[str, Any]]) -> None:
        rows[0]["spec"] = rows[0]["spec"].replace('"lr":0.001', '"lr":0.01')

    rewrite(tmp_path / "0001", "trainings.parquet", change)
    with pytest.raises(Failure, match="its key does not belong to its settings"):
        tracking.read_bundle(tmp_path)


def test_a_bundle_of_another_schema_can_be_read_but_not_imported(
    filled: tracking.Store, store: tracking.Store, tmp_path: Path
) -> None:
    export(filled, tmp_path)

    def change(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["tags"] = row["tags"].replace(f'"schema":"{SCHEMA}"', '"schema":"1"')

    rewrite(tmp_path / "0001", "trainings.parquet", change)
    bundle = tracking.read_bundle(tmp_path)
    assert len(bundle.records()) == 4
    with pytest.raises(Failure, match="schema 1"):
        tracking.restore(store, bundle)
    assert not list(store.search({}))


def remove(path: Path) -> None:
    path.unlink()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("path", "harm", "is_older"),
    [
        *itertools.product((PREDICTIONS, PER_CLASS, "figures/loss_curve.png", "weights.pt"), (remove, flip), (False,)),
        *itertools.product((PREDICTIONS, "weights.pt"), (remove,), (True,)),
    ],
)
def test_a_training_that_lost_an_artifact_or_has_a_damaged_one_is_not_exported(
    path: str, harm: Callable[[Path], None], is_older: bool, filled: tracking.Store, tmp_path: Path
) -> None:
    """An older run lists no artifacts, but a classifier has predictions, and the digest of its weights is known."""
    shutil.copytree(Path(filled.folder).parent / "artifacts", tmp_path / "artifacts")
    with (
        closing(sqlite3.connect(filled.uri.removeprefix("sqlite:///"))) as source,
        closing(sqlite3.connect(tmp_path / "copy.db")) as copy,
    ):
        source.backup(copy)
    store = tracking.open_store(f"sqlite:///{tmp_path}/copy.db")
    record = next(one for one in store.records().values() if one.cell[2] == "finetune" and one.seed == 0)
    if is_older:
        store.client.delete_tag(record.run_id, "aepretrain.artifacts")
    harm(tmp_path / "artifacts" / record.run_id / "artifacts" / path)
    with pytest.raises(Failure, match=f"{record.run_id}.*(artifact {path}|damaged)"):
        export(store, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_the_table_of_trainings_alone_has_the_final_figures(filled: tracking.Store, tmp_path: Path) -> None:
    records = export(filled, tmp_path)
    rows = {row["key"]: row for row in pq.read_table(tmp_path / "0001" / "trainings.parquet").to_pylist()}
    for key, record in records.items():
        assert {name: rows[key][name] for name in record.metrics} == record.metrics
    assert any("test_accuracy" in record.metrics for record in records.values())


def test_the_committed_tables_alone_have_the_committed_statistics() -> None:
    """What any reader of Parquet can do: pair one column by seed, compare, judge."""
    accuracies: dict[tuple[str, ...], dict[int, float]] = {}
    parts = sorted((ROOT / "evidence").glob("*/trainings.parquet"))
    for row in itertools.chain(*(pq.read_table(part).to_pylist() for part in parts)):
        cell = {name: row[name] for name in ("network", "augmentation", "variant")}
        of_grid = cell["variant"] in ("finetune", "scratch") and TrainingSpec(**cell, seed=row["seed"]).identity()
        if of_grid and json.loads(row["spec"]) == json.loads(json.dumps(of_grid)):
            accuracies.setdefault(tuple(cell.values()), {})[row["seed"]] = row["test_accuracy"]
    compared, planned = {}, read_plan(ROOT / "plans" / "source-grid.yaml").networks
    for network, augmentation in itertools.product(("fc", "conv"), ("none", "erasing")):
        finetune, scratch = (accuracies[network, augmentation, variant] for variant in ("finetune", "scratch"))
        seeds = sorted(finetune.keys() & scratch.keys() & set(planned[network]))
        finetune_S, scratch_S = (np.array([one[seed] for seed in seeds]) for one in (finetune, scratch))
        draw = draw_for("primary", (network, augmentation))
        compared[network, augmentation] = stats.paired_difference(finetune_S - scratch_S, draw)
    lines = (ROOT / "docs" / "answer.md").read_text().splitlines()
    for (network, augmentation), one in stats.judge(compared, 0.001).items():
        (line,) = (
            line
            for line in lines
            if re.match(rf"\| {network}, {augmentation} \| [a-z, ]+ \| {one.num_seeds} of ", line)
        )
        numbers = (
            interval_text(one.difference),
            ends_text(one.narrow),
            p_text(one.adjusted_p),
            f"{one.num_seeds_needed}",
        )
        assert all(f"| {number} |" in line for number in numbers)
        assert f"| {one.words} |" in line


def test_an_import_that_was_killed_is_continued(filled: tracking.Store, store: tracking.Store, tmp_path: Path) -> None:
    export(filled, tmp_path / "bundle")
    code = f"""
import os, signal
from pathlib import Path
from aepretrain import tracking
log, calls = tracking.Run.log_bytes, []
def log_bytes(self, path, content):
    calls.append(path)
    if len(calls) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    log(self, path, content)
tracking.Run.log_bytes = log_bytes
store = tracking.open_store({store.uri!r}, "own")
tracking.restore(store, tracking.read_bundle(Path({str(tmp_path / "bundle")!r})))
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    there = len(store.records())
    assert there < 4
    bundle = tracking.read_bundle(tmp_path / "bundle")
    assert tracking.restore(store, bundle) == 4 - there
    assert {key: comparable(one) for key, one in store.records().items()} == {
        key: comparable(one) for key, one in bundle.records().items()
    }
    assert not list(store.search({}, "attributes.status = 'RUNNING'"))
    assert len(list(store.search({"kind": "import"}))) == 1


def test_commands(
    filled: tracking.Store, store: tracking.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def run(uri: str, *arguments: str) -> str:
        done = CliRunner().invoke(cli, [*arguments], catch_exceptions=False, env={"MLFLOW_TRACKING_URI": uri})
        assert done.exit_code == 0, done.output
        return done.stdout

    monkeypatch.setattr(display, "HEARTBEAT_S", -1)  # a line after each training
    printed = run(filled.uri, "export", "bundle")
    assert printed.startswith("[1/4] trainings read\n")
    assert re.search(r"^4 trainings written to bundle/0001 \(\d+\.\d MB\)$", printed, re.MULTILINE)
    assert "nothing new: bundle holds all 4 trainings" in run(filled.uri, "export", "bundle")
    assert [path.name for path in (tmp_path / "bundle").iterdir()] == ["0001"]
    printed = run(store.uri, "import", "bundle")
    assert "[4/4] trainings imported\n4 of 4 trainings of bundle were new" in printed
    for name, arguments in {"store": [], "bundle": ["--bundle", "bundle"]}.items():
        printed = run(filled.uri, "report", *arguments, "--out", name)
        assert "There is no verdict" in printed
        assert "report.html" in printed
    pages = [(tmp_path / name / "report.md").read_text() for name in ("store", "bundle")]
    run_ids = {record.run_id for record in filled.records().values() if record.cell[2] == "finetune"}
    assert all(run_id in page for page in pages for run_id in run_ids)
    of_store = pages[0].replace("http://127.0.0.1:5000/#/runs/", "").replace(f" --tracking-uri {filled.uri}", "")
    assert of_store == pages[1]
    pictures = [
        {file.name: file.read_bytes() for file in (tmp_path / name / "report").iterdir()}
        for name in ("store", "bundle")
    ]
    assert pictures[0] == pictures[1]
    assert (
        len(pictures[0]) == 6
    )  # pipeline, grid, curves, and what the shown run (two) and its pretraining brought with them


def test_trainings_with_the_same_run_id_are_refused(filled: tracking.Store, tmp_path: Path) -> None:
    export(filled, tmp_path)

    def change(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["run_id"] = "0" * 32

    rewrite(tmp_path / "0001", "trainings.parquet", change)
    with pytest.raises(Failure, match="several trainings have the same run id"):
        tracking.read_bundle(tmp_path)


def test_a_small_file_of_huge_texts_is_refused_before_they_are_made(tmp_path: Path) -> None:
    text = np.random.default_rng(0).bytes(10_000)
    rows = [{"key": "k", "path": "p", "content": text}] * 1_000
    path = tmp_path / "files.parquet"
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(list(tables.FILE_COLUMNS.items()))), path)
    with pytest.raises(ValueError, match=r"the texts of files\.parquet are more than 200 times as large as the file"):
        tables.read_rows(path, tables.FILE_COLUMNS)


def test_wrong_columns_are_named(tmp_path: Path) -> None:
    path = tmp_path / "files.parquet"
    pq.write_table(pa.table({"key": ["k"], "path": [1], "content": [b"c"], "other": ["o"]}), path)
    with pytest.raises(ValueError, match=r"^files\.parquet has wrong columns: other, path$"):
        tables.read_rows(path, tables.FILE_COLUMNS)


def test_a_bundle_that_cannot_be_written_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Failure, match=f"the bundle cannot be written to {tmp_path}/file: File exists"):
        transfer.write_part(tmp_path / "file", [])

    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(Failure, match="No space left"):
        transfer.write_part(tmp_path / "new", [])
    assert list((tmp_path / "new").iterdir()) == []
