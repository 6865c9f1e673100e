"""A store written into a bundle and filled again from it: the same records, histories and evidence."""

import hashlib
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aepretrain import suite, tracking
from aepretrain.records import Record
from aepretrain.spec import Execution, Failure, Settings, TrainingSpec
from tests.conftest import Command

EXECUTION = Execution(jobs=1)
SETTINGS = Settings(dataset="digits", ae_epochs=1, cls_epochs=2)


def train(store: tracking.Store, variant: str, seed: int = 0) -> suite.SingleResult:
    spec = TrainingSpec(variant=variant, network="fc", seed=seed, settings=SETTINGS)
    return suite.run_single(spec, store, EXECUTION, lambda _: None)


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
    records = store.records()
    whole = {record.run_id for record in records.values() if record.seed == 0}
    tracking.export(store, list(records.values()), whole, folder)
    return records


def comparable(record: Record) -> tuple[object, ...]:
    passing = {"done", "pid", "imported_run", "pretraining_run", "model", "weights_sha256"}
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
            assert store.artifact(record.run_id, path) == filled.artifact(there.run_id, path)
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
        assert bundle.history(record) == filled.history(before[key])
        assert len(bundle.history(record)) == record.metrics["num_epochs"]
    with pytest.raises(Failure, match=r"no figures/nothing\.png"):
        bundle.artifact(record.run_id, "figures/nothing.png")


def test_importing_twice_adds_nothing(filled: tracking.Store, store: tracking.Store, tmp_path: Path) -> None:
    export(filled, tmp_path / "bundle")
    tracking.restore(store, tracking.read_bundle(tmp_path / "bundle"))
    known = {one.run_id for one in store.records().values()}
    assert tracking.restore(store, tracking.read_bundle(tmp_path / "bundle")) == 0
    assert {one.run_id for one in store.records().values()} == known


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
    events: list[suite.Event] = []
    specs = [
        TrainingSpec(variant=variant, network="fc", seed=seed, settings=SETTINGS)
        for seed in (0, 1)
        for variant in ("pretrain", "finetune")
    ]
    suite.run_grid(specs, store, EXECUTION, events.append, lambda _parent, _records: None)
    assert {event.kind for event in events} == {"reused"}


@pytest.mark.parametrize("name", ["records.parquet", "histories.parquet", "artifacts.parquet"])
def test_a_damaged_bundle_is_one_line_and_writes_nothing(
    filled: tracking.Store, store: tracking.Store, tmp_path: Path, name: str
) -> None:
    export(filled, tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-100])
    with pytest.raises(Failure, match=re.escape(name)):
        tracking.read_bundle(tmp_path)
    assert not list(store.search({}))


def test_a_file_that_is_not_as_written_or_leads_elsewhere_is_refused(
    filled: tracking.Store, store: tracking.Store, tmp_path: Path
) -> None:
    export(filled, tmp_path)
    rows = pq.read_table(tmp_path / "artifacts.parquet").to_pylist()
    elsewhere = {"path": "../../outside", "content": b"x", "sha256": hashlib.sha256(b"x").hexdigest()}
    for change in ({"content": rows[0]["content"] + b"x"}, elsewhere):
        pq.write_table(pa.Table.from_pylist([rows[0] | change, *rows[1:]]), tmp_path / "artifacts.parquet")
        with pytest.raises(Failure, match="not as written"):
            tracking.read_bundle(tmp_path)
    assert not list(store.search({}))


def test_commands(filled: tracking.Store, store: tracking.Store, command: Command) -> None:
    done = command("export", "bundle", uri=filled.uri)
    assert done.returncode == 0, done.stderr
    assert re.search(r"4 trainings, 2 of them whole, written to bundle \(\d+\.\d MB\)", done.stdout)
    done = command("import", "bundle", uri=store.uri)
    assert done.returncode == 0, done.stderr
    assert "4 of 4 trainings of bundle were new" in done.stdout
    done = command("import", "nowhere", uri=store.uri)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    done = command("export", "bundle", "--dataset", "mnist", uri=filled.uri)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
