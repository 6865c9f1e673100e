"""A store written into a bundle and filled again from it: the same records, histories and evidence."""

import itertools
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from aepretrain import runner, stats, tracking
from aepretrain.cli.commands import cli
from aepretrain.config import SCHEMA, Execution, Settings, TrainingSpec
from aepretrain.errors import Failure
from aepretrain.records import EPOCH_METRICS, Record
from aepretrain.report.answer import draw_for
from aepretrain.report.numbers import ends_text, interval_text, p_text
from tests.chaos.damage import rewrite
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
    with pytest.MonkeyPatch.context() as patched:  # exporting models takes seconds, and no bundle holds them
        patched.setattr("aepretrain.runner.jobs.log_model", lambda *_: None)
        for seed in (0, 1):
            train(store, "finetune", seed)
    return store


def export(store: tracking.Store, folder: Path) -> dict[str, Record]:
    records = store.records()
    whole = {record.run_id for record in records.values() if record.seed == 0}
    tracking.export(store, list(records.values()), whole, folder)
    return records


def comparable(record: Record) -> tuple[object, ...]:
    passing = {"done", "pid", "locks", "imported_run", "pretraining_run", "model", "weights_sha256"}
    tags = {name: value for name, value in record.tags.items() if name not in passing}
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
                [(one.step, one.value, one.timestamp) for one in each.client.get_metric_history(run_id, name)]
                for each, run_id in ((store, record.run_id), (filled, there.run_id))
            )
            assert ours == theirs
        infos = [each.client.get_run(run_id) for each, run_id in ((store, record.run_id), (filled, there.run_id))]
        assert infos[0].data.params == infos[1].data.params
        assert (infos[0].info.start_time, infos[0].info.end_time) == (infos[1].info.start_time, infos[1].info.end_time)
        assert infos[0].info.run_name == infos[1].info.run_name
        if record.cell[2] == "finetune":
            path = "evidence/predictions.npz"
            assert store.artifact(record, path) == filled.artifact(there, path)
            assert after[record.tags["pretraining_key"]].run_id == record.tags["pretraining_run"]
        assert record.has_weights == (record.seed == 0)
        if record.has_weights:
            assert store.weights(record) == filled.weights(there)


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


@pytest.mark.parametrize("name", ["records.parquet", "histories.parquet", "artifacts.parquet", "SHA256SUMS"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "missing"])
def test_a_damaged_bundle_is_one_line(filled: tracking.Store, tmp_path: Path, name: str, damage: str) -> None:
    export(filled, tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    if damage == "missing":
        (tmp_path / name).unlink()
    else:
        content[len(content) // 2] ^= 0xFF
        changed = {"cut": bytes(content[:-100]), "flipped": bytes(content), "emptied": b""}
        (tmp_path / name).write_bytes(changed[damage])
    with pytest.raises(Failure) as error:
        tracking.read_bundle(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("artifacts.parquet", {"path": "../../outside"}, "no path"),
        ("artifacts.parquet", {"path": "/outside"}, "no path"),
        ("artifacts.parquet", {"key": "0" * 64}, "KeyError"),
        ("records.parquet", {"key": "../../x"}, "KeyError|no key"),
        ("records.parquet", {"spec": "{}"}, "KeyError"),
        ("records.parquet", {"tags": "not JSON"}, "JSONDecodeError"),
    ],
)
def test_a_bundle_that_was_tampered_with_is_refused(
    filled: tracking.Store, tmp_path: Path, name: str, change: dict[str, Any], told: str
) -> None:
    export(filled, tmp_path)
    rewrite(tmp_path, name, lambda rows: rows[0].update(change))
    with pytest.raises(Failure, match=told):
        tracking.read_bundle(tmp_path)


def test_another_spec_under_a_known_key_is_refused(filled: tracking.Store, tmp_path: Path) -> None:
    export(filled, tmp_path)

    def change(rows: list[dict[str, Any]]) -> None:
        rows[0]["spec"] = rows[0]["spec"].replace('"lr":0.001', '"lr":0.01')

    rewrite(tmp_path, "records.parquet", change)
    with pytest.raises(Failure, match="not what its key stands for"):
        tracking.read_bundle(tmp_path)


def test_a_bundle_of_another_schema_can_be_read_but_not_imported(
    filled: tracking.Store, store: tracking.Store, tmp_path: Path
) -> None:
    export(filled, tmp_path)

    def change(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["tags"] = row["tags"].replace(f'"schema":"{SCHEMA}"', '"schema":"1"')

    rewrite(tmp_path, "records.parquet", change)
    bundle = tracking.read_bundle(tmp_path)
    assert len(bundle.records()) == 4
    with pytest.raises(Failure, match="schema 1"):
        tracking.restore(store, bundle)
    assert not list(store.search({}))


def test_the_records_alone_have_the_final_figures(filled: tracking.Store, tmp_path: Path) -> None:
    records = export(filled, tmp_path)
    rows = {row["key"]: row for row in pq.read_table(tmp_path / "records.parquet").to_pylist()}
    for key, record in records.items():
        assert {name: rows[key][name] for name in record.metrics} == record.metrics
    assert any("test_accuracy" in record.metrics for record in records.values())


def test_the_committed_records_alone_have_the_committed_statistics() -> None:
    """What any reader of Parquet can do: pair one column by seed, compare, judge."""
    accuracies: dict[tuple[str, ...], dict[int, float]] = {}
    for row in pq.read_table(ROOT / "docs" / "bundle" / "records.parquet").to_pylist():
        cell = {name: row[name] for name in ("network", "augmentation", "variant")}
        of_grid = cell["variant"] in ("finetune", "scratch") and TrainingSpec(**cell, seed=row["seed"]).identity()
        if of_grid and json.loads(row["spec"]) == json.loads(json.dumps(of_grid)):
            accuracies.setdefault(tuple(cell.values()), {})[row["seed"]] = row["test_accuracy"]
    compared = {}
    for network, augmentation in itertools.product(("fc", "conv"), ("none", "erasing")):
        finetune, scratch = (accuracies[network, augmentation, variant] for variant in ("finetune", "scratch"))
        seeds = sorted(finetune.keys() & scratch.keys())
        finetune_S, scratch_S = (np.array([one[seed] for seed in seeds]) for one in (finetune, scratch))
        draw = draw_for("primary", (network, augmentation))
        compared[network, augmentation] = stats.compare(finetune_S, scratch_S, draw, 0.001)
    lines = (ROOT / "docs" / "answer.md").read_text().splitlines()
    for (network, augmentation), one in stats.judge(compared).items():
        (line,) = (line for line in lines if line.startswith(f"| {network}, {augmentation} | {one.num_seeds} of "))
        numbers = (
            interval_text(one.difference),
            ends_text(one.narrow),
            p_text(one.adjusted_p),
            f"{one.num_seeds_needed}",
        )
        assert all(f"| {number} |" in line for number in numbers)
        assert one.verdict in line


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
        done = CliRunner().invoke(cli, [*arguments, "--tracking-uri", uri], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    printed = run(filled.uri, "export", "bundle")
    assert re.search(r"4 trainings, 2 of them whole, written to bundle \(\d+\.\d MB\)", printed)
    assert "4 of 4 trainings of bundle were new" in run(store.uri, "import", "bundle")
    for name, arguments in {"store": [], "bundle": ["--bundle", "bundle"]}.items():
        printed = run(filled.uri, "report", *arguments, "--out", name)
        assert "There is no verdict" in printed
        assert "report.html" in printed
    pages = [(tmp_path / name / "report.md").read_text() for name in ("store", "bundle")]
    run_ids = {record.run_id for record in filled.records().values() if record.cell[2] == "finetune"}
    assert all(run_id in page for page in pages for run_id in run_ids)
    assert pages[0].replace("http://127.0.0.1:5000/#/runs/", "") == pages[1]
    pictures = [
        {file.name: file.read_bytes() for file in (tmp_path / name / "report").iterdir()}
        for name in ("store", "bundle")
    ]
    assert pictures[0] == pictures[1]
    assert len(pictures[0]) == 5  # the grid, the curves, what the shown run (two) and its pretraining brought with them
