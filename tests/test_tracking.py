"""What is written to MLflow and read back: identity, order, attempts, failures, and stores that cannot be opened."""

import errno
import gc
import json
import os
import sqlite3
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, RESOURCE_DOES_NOT_EXIST

from aepretrain import tracking
from aepretrain.config import SCHEMA
from aepretrain.errors import Failure, UsageError
from aepretrain.records import EPOCH_METRICS, OUTCOMES, PREDICTIONS, Predictions
from aepretrain.tracking import DatasetReference, Run, Store, StoreError, Unavailable, ending, open_grid, provenance
from aepretrain.tracking.metric_names import NAMES, our_name, stored_name
from aepretrain.tracking.pages import pages
from aepretrain.tracking.store import own_folder
from tests.commands import start
from tests.runs import FIGURES, KEY, SPEC, begin, finish, stored


def test_a_run_tells_what_it_is(store: Store) -> None:
    run = begin(store, parent_run_id="parent")
    found = stored(store, run.run_id)
    assert found.info.run_name == "fc-erasing-scratch-s3"
    assert found.info.status == "RUNNING"
    assert found.data.params == {
        name: ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        for name, value in SPEC.identity().items()
    }
    tags = found.data.tags
    assert json.loads(tags["aepretrain.spec"]) == json.loads(json.dumps(SPEC.identity()))
    assert tags["mlflow.parentRunId"] == "parent"
    expected = {
        "key": KEY,
        "network": "fc",
        "augmentation": "erasing",
        "variant": "scratch",
        "seed": "3",
        "attempt": "1",
    }
    assert expected.items() <= {name.removeprefix("aepretrain."): value for name, value in tags.items()}.items()
    assert {"host", "pid", "commit", "dirty", "device", "threads", "schema", "dataset_digest"} <= {
        name.removeprefix("aepretrain.") for name in tags
    }
    assert found.inputs is not None
    (dataset,) = found.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("digits", "f" * 8)


def test_epochs_are_metrics_with_their_step(store: Store) -> None:
    run = begin(store)
    for epoch in (1, 2, 3):
        run.log_metrics({"val_loss": 1 / epoch}, epoch)
    history = store.client.get_metric_history(run.run_id, "loss/validation")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]


@pytest.mark.parametrize(
    ("ours", "stored"),
    [
        ("train_loss", "loss/train"),
        ("val_accuracy", "accuracy/validation"),
        ("test_accuracy", "accuracy/test"),
        ("finetune_accuracy_at_30", "robustness/finetune_accuracy_at_30"),
        ("cka_initial_pretrain_1", "similarity/cka_initial_pretrain_1"),
        ("other", "other"),
    ],
)
def test_names_of_metrics_are_translated_and_back(ours: str, stored: str) -> None:
    assert stored_name(ours) == stored
    assert our_name(stored) == ours
    assert our_name(ours) == ours, "as version 1 wrote it"


def test_every_metric_of_epochs_and_trainings_is_in_a_section() -> None:
    assert {"accuracy", "loss", "training"} == {stored_name(name).partition("/")[0] for name in EPOCH_METRICS}
    assert all("/" in stored_name(name) for name in FIGURES)
    assert len(set(NAMES.values())) == len(NAMES)


@pytest.mark.parametrize("translate", [stored_name, str], ids=["now", "version 1"])
def test_runs_of_this_version_and_of_version_1_are_read_alike(store: Store, translate: Callable[[str], str]) -> None:
    run = begin(store)
    for name, value in (FIGURES | {"num_epochs": 2.0, "cka_initial_pretrain_1": 0.25}).items():
        store.client.log_metric(run.run_id, translate(name), value)
    for epoch, loss in ((1, 0.5), (2, 0.125)):
        store.client.log_metric(run.run_id, translate("val_loss"), loss, step=epoch)
    run.finish()
    record = store.done(KEY)
    assert record is not None
    assert record.metrics == FIGURES | {"num_epochs": 2.0, "cka_initial_pretrain_1": 0.25, "val_loss": 0.125}
    assert store.curves([record], "val_loss") == [[0.5, 0.125]]


def test_outcomes_are_those_of_the_predictions_or_those_that_were_imported(store: Store) -> None:
    predictions = Predictions(
        labels_N=np.array([1, 2, 3], np.uint8),
        predicted_N=np.array([1, 2, 4], np.uint8),
        nll_label_N=np.array([0.5, 0.25, 3], np.float16),
        nll_predicted_N=np.array([0.5, 0.25, 1], np.float16),
    )
    for path, content, tags in (
        (PREDICTIONS, predictions.to_bytes(), {}),
        (PREDICTIONS, predictions.to_bytes(), {"imported_run": "0" * 32}),
        (OUTCOMES, predictions.outcomes().to_bytes(), {"imported_run": "0" * 32}),
    ):
        run = begin(store)
        run.log_metrics(FIGURES)
        run.log_bytes(path, content)
        run.tag(**tags)
        run.finish()
        found = store.outcomes(store.record(run.run_id))
        assert found.correct_N.tolist() == [True, True, False]
        assert (found.nll, found.ece) == (1.25, predictions.outcomes().ece)


def test_first_comers_with_the_same_dataset_do_not_collide(store: Store) -> None:
    runs = [Run(store, store.client.create_run(store.experiment_id).info.run_id) for _ in range(4)]
    barrier = threading.Barrier(len(runs))

    def log(run: Run, digest: str) -> None:
        barrier.wait()
        run.log_dataset(DatasetReference("digits", digest, "somewhere"))

    with ThreadPoolExecutor(len(runs)) as pool:
        for digest in map(str, range(10)):
            list(pool.map(log, runs, [digest] * len(runs)))
    for run in runs:
        inputs = stored(store, run.run_id).inputs
        assert inputs is not None
        assert {one.dataset.digest for one in inputs.dataset_inputs} == set(map(str, range(10)))


def test_done_needs_the_tag_and_the_end(store: Store) -> None:
    assert store.done(KEY) is None
    run = begin(store)
    run.log_metrics(FIGURES)
    assert store.done(KEY) is None
    run.tag(done="true")
    assert store.done(KEY) is None, "still running"
    run.end("FINISHED")
    record = store.done(KEY)
    assert record is not None
    assert record.run_id == run.run_id
    assert record.cell == ("fc", "erasing", "scratch")
    unmarked = begin(store)
    unmarked.end("FINISHED")
    assert store.done(KEY) == record


def test_the_highest_attempt_counts_not_the_newest(store: Store) -> None:
    first, second = finish(store, 0.1), finish(store, 0.2)
    assert store.client.get_run(second).data.tags["aepretrain.attempt"] == "2"
    store.client.set_tag(first, "aepretrain.attempt", "9")
    record = store.done(KEY)
    assert record is not None
    assert (record.run_id, record.metrics["test_accuracy"]) == (first, 0.1)
    assert store.records(dataset_digest="f" * 64) == {KEY: record}
    assert store.records(dataset_digest="0") == {}
    assert store.records({"lr": 1e-3, "cls_epochs": 99}) == {KEY: record}, (
        "only what every training depends on is asked"
    )
    assert store.records({"lr": 0.002}) == {}
    with pytest.raises(UsageError, match="batch_size=0 is not allowed"):
        store.records({"batch_size": 0})


def test_done_is_found_in_every_experiment(store: Store) -> None:
    run_id = finish(store)
    other = tracking.open_store(store.uri, "another")
    assert other.experiment_id != store.experiment_id
    record = other.done(KEY)
    assert record is not None
    assert record.run_id == run_id


def test_reading_goes_on_after_the_first_page(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.client, "search_runs", partial(store.client.search_runs, max_results=10))
    for index in range(23):
        tags = {"aepretrain.key": f"k{index}", "aepretrain.done": "true", "aepretrain.schema": str(SCHEMA)}
        tags |= {"aepretrain.attempt": "1", "aepretrain.spec": json.dumps(SPEC.identity())}
        run = store.client.create_run(store.experiment_id, tags=tags)
        Run(store, run.info.run_id).log_metrics(FIGURES)
        store.client.set_terminated(run.info.run_id)
    assert len(store.records()) == 23


def test_an_error_ends_the_run_as_failed_with_the_error(store: Store) -> None:
    run = begin(store)
    with pytest.raises(ValueError, match="two"), ending(run):
        raise ValueError("line one\nline two")
    found = stored(store, run.run_id)
    assert found.info.status == "FAILED"
    assert found.data.tags["aepretrain.error"] == "line one line two"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_being_stopped_ends_the_run_as_killed(store: Store, stop: type[BaseException]) -> None:
    run = begin(store)
    with pytest.raises(stop), ending(run):
        raise stop
    assert stored(store, run.run_id).info.status == "KILLED"


@pytest.fixture(params=["SQLite", "server"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kind of the store. Beside a database are the locks of all hosts, for a server only those of this one."""
    monkeypatch.setattr(Store, "is_of_one_host", request.param == "SQLite")
    return str(request.param)


def test_a_run_that_lost_its_process_is_ended_by_the_next_attempt(store: Store, kind: str) -> None:
    orphan, elsewhere = begin(store), begin(store)
    store.client.set_tag(elsewhere.run_id, "aepretrain.host", "another host")
    store.client.update_run(orphan.run_id, "RUNNING")
    run = begin(store)
    assert stored(store, orphan.run_id).info.status == "KILLED"
    expected = {"SQLite": "KILLED", "server": "RUNNING"}[kind]
    assert stored(store, elsewhere.run_id).info.status == expected, "of a server's other hosts nobody here knows"
    assert stored(store, run.run_id).data.tags["aepretrain.attempt"] == "3"


def test_runs_that_no_process_is_at_are_ended(store: Store, kind: str) -> None:
    """A training's process holds the lock of its key, a grid's that of the grid, as long as they live."""
    grid = open_grid(store, "grid", "g", run_id=None, again=False)
    training, elsewhere = begin(store), begin(store)
    for run in (training, elsewhere):
        store.client.update_run(run.run_id, "RUNNING")
    store.client.set_tag(elsewhere.run_id, "aepretrain.host", "another host")
    with store.lock(KEY, lambda: None), store.lock("grid-g", lambda: None):
        tracking.recover(store)
        assert {stored(store, run.run_id).info.status for run in (grid, training, elsewhere)} == {"RUNNING"}
    tracking.recover(store)
    assert {stored(store, run.run_id).info.status for run in (grid, training)} == {"KILLED"}
    assert "without ending" in stored(store, training.run_id).data.tags["aepretrain.error"]
    expected = {"SQLite": "KILLED", "server": "RUNNING"}[kind]
    assert stored(store, elsewhere.run_id).info.status == expected, "of a server's other hosts nobody here knows"


def test_a_lock_has_one_holder_and_leaves_no_file(store: Store, tmp_path: Path) -> None:
    """Several processes add to one number; its file is read and written while the lock is held."""
    number, num_processes, num_steps = tmp_path / "number", 4, 60
    number.write_text("0")

    def add() -> None:
        steps_left = num_steps
        while steps_left:
            with store.try_lock("key") as free:
                if free:
                    number.write_text(str(int(number.read_text()) + 1))
                    steps_left -= 1

    processes = [start(add, tmp_path) for _ in range(num_processes)]
    assert [process.finish().err for process in processes] == [""] * num_processes
    assert number.read_text() == str(num_processes * num_steps)
    with store.lock("key", lambda: None):
        assert list(store.folder.glob("key*"))
    assert not list(store.folder.glob("key*"))


def test_a_run_that_mlflow_opened_is_taken_over(store: Store) -> None:
    opened = store.client.create_run(store.experiment_id).info.run_id
    store.client.log_param(opened, "lr", "1e-3")
    assert begin(store, run_id=opened).run_id == opened
    found = stored(store, opened)
    assert found.data.params["lr"] == "1e-3", "MLflow's own text stays"
    assert json.loads(found.data.tags["aepretrain.spec"])["lr"] == 0.001
    assert found.info.run_name == SPEC.name


def as_mlflow_run(store: Store) -> str:
    """A run that ``mlflow run`` has opened."""
    return str(store.client.create_run(store.experiment_id, tags={"mlflow.project.entryPoint": "main"}).info.run_id)


def by_hand(store: Store) -> str:
    return str(store.client.create_run(store.experiment_id).info.run_id)


def ended(store: Store) -> str:
    run_id = as_mlflow_run(store)
    store.client.set_terminated(run_id, "FAILED")
    return run_id


def deleted(store: Store) -> str:
    run_id = as_mlflow_run(store)
    store.client.delete_run(run_id)
    return run_id


OTHERS = {
    "is a training": (finish, lambda store: begin(store, run_id=as_mlflow_run(store)).run_id),
    "has ended as FAILED": (ended,),
    "is deleted": (deleted,),
    "was not opened by `mlflow run`": (
        by_hand,
        lambda store: open_grid(store, "grid", "g", run_id=None, again=False).run_id,
    ),
    "is not in the store": (lambda _: "0" * 32, lambda _: "../nonsense"),
}


@pytest.mark.parametrize(("problem", "make"), [(problem, make) for problem, some in OTHERS.items() for make in some])
def test_a_run_of_somebody_else_is_not_taken_over(store: Store, problem: str, make: Callable[[Store], str]) -> None:
    opened = as_mlflow_run(store)
    assert tracking.open_store(store.uri, run_id=opened).experiment_id == store.experiment_id
    run_id = make(store)
    before = [run.to_dictionary() for run in store.search({})]
    with pytest.raises(UsageError, match=f"this run {problem}") as error:
        tracking.open_store(store.uri, run_id=run_id)
    assert "unset MLFLOW_RUN_ID" in str(error.value)
    assert [run.to_dictionary() for run in store.search({})] == before


def test_a_pointer_is_not_a_training(store: Store) -> None:
    done = finish(store)
    opened = store.client.create_run(store.experiment_id).info.run_id
    tracking.point_to(store, opened, done, {"test_accuracy": 0.5})
    found = stored(store, opened)
    assert found.info.status == "FINISHED"
    assert found.data.tags["aepretrain.reused"] == done
    assert found.data.metrics == {"accuracy/test": 0.5}
    assert [record.run_id for record in store.records().values()] == [done]


def test_a_grid_enters_its_own_run_again(store: Store) -> None:
    first = open_grid(store, "grid", "g", run_id=None, again=False)
    first.end("KILLED")
    again = open_grid(store, "grid", "g", run_id=None, again=False)
    assert again.run_id == first.run_id
    assert stored(store, first.run_id).info.status == "RUNNING"
    assert open_grid(store, "grid", "other", run_id=None, again=False).run_id != first.run_id
    assert open_grid(store, "grid", "g", run_id=None, again=True).run_id != first.run_id


def test_weights_are_checked_against_their_digest(store: Store) -> None:
    run = begin(store)
    run.log_metrics(FIGURES)
    run.log_weights(b"weights")
    run.finish()
    record = store.done(KEY)
    assert record is not None
    assert store.weights(record) == b"weights"
    run.log_bytes("weights.pt", b"Weights")
    with pytest.raises(StoreError, match="SHA-256 differs"):
        store.weights(record)
    with pytest.raises(StoreError, match="no readable artifact"):
        store.artifact(record, "evidence/none.npz")


def test_a_deleted_experiment_is_refused_with_the_way_out(store: Store) -> None:
    store.client.delete_experiment(store.experiment_id)
    with pytest.raises(StoreError, match=f"mlflow experiments restore --experiment-id {store.experiment_id}"):
        tracking.open_store(store.uri, "own")


def test_all_pages_of_runs_are_read_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aepretrain.tracking.store.RUNS_IN_PAGE", 2)
    run_ids = [begin(store).run_id for _ in range(5)]
    assert [run.info.run_id for run in store.search({"kind": "training"})] == run_ids


@pytest.mark.parametrize("is_on", [True, False])
def test_garbage_is_collected_as_before_when_runs_have_been_read(is_on: bool) -> None:
    def search(page_token: str | None) -> NoReturn:
        assert not gc.isenabled()
        raise MlflowException(f"no page {page_token}")

    try:
        (gc.enable if is_on else gc.disable)()
        with pytest.raises(MlflowException, match="no page None"):
            list(pages(search))
        assert gc.isenabled() == is_on
    finally:
        gc.enable()


def test_an_experiment_is_chosen_by_its_id(store: Store) -> None:
    assert tracking.open_store(store.uri, experiment_id="0").experiment_id == "0"
    assert tracking.open_store(store.uri, "Default", experiment_id="0").experiment_id == "0"
    for given in ("99", "nonsense", "-1"):
        with pytest.raises(UsageError, match=f"MLFLOW_EXPERIMENT_ID='{given}' is not allowed: there is no such"):
            tracking.open_store(store.uri, experiment_id=given)
    with pytest.raises(UsageError, match="this experiment is named 'Default', and MLFLOW_EXPERIMENT_NAME='own'"):
        tracking.open_store(store.uri, "own", experiment_id="0")
    store.client.delete_experiment(store.experiment_id)
    with pytest.raises(StoreError, match="mlflow experiments restore"):
        tracking.open_store(store.uri, experiment_id=store.experiment_id)


def test_a_server_that_fails_is_not_taken_for_a_missing_experiment(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> NoReturn:
        raise MlflowException("out of order", error_code=INTERNAL_ERROR)

    monkeypatch.setattr(MlflowClient, "get_experiment", fail)
    with pytest.raises(StoreError, match="out of order"):
        tracking.open_store(store.uri, experiment_id="0")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("sqlite:////nowhere/folder/mlflow.db", "no folder /nowhere/folder"),
        ("sqlite:///{folder}", "unable to open"),
        ("sqlite:///{file}", "file is not a database"),
        ("http://127.0.0.1:9", "cannot be opened"),
        ("gopher://host", "cannot be opened"),
    ],
)
def test_stores_that_cannot_be_opened(tmp_path: Path, uri: str, message: str) -> None:
    file = tmp_path / "file"
    file.write_text("This is a text of more than 16 characters.")
    uri = uri.format(folder=tmp_path, file=file)
    with pytest.raises(StoreError, match=message) as error:
        tracking.open_store(uri)
    assert uri in str(error.value)
    assert "\n" not in str(error.value)


def test_where_runs_are_kept(tmp_path: Path) -> None:
    inner = tmp_path / "project" / "a" / "b"
    inner.mkdir(parents=True)
    assert tracking.default_uri(inner) == f"sqlite:///{inner}/mlflow.db"
    (tmp_path / "project" / "MLproject").touch()
    assert tracking.default_uri(inner) == f"sqlite:///{tmp_path}/project/mlflow.db"


def test_a_new_store_keeps_its_artifacts_beside_it(tmp_path: Path) -> None:
    opened = tracking.open_store(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = opened.client.get_experiment(opened.experiment_id)
    assert experiment.name == "aepretrain"
    assert experiment.artifact_location == (tmp_path / "mlartifacts").as_uri()


def test_a_temporary_file_that_cannot_be_removed_stops_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "unlink", fail)
    run = begin(store)
    run.log_bytes("folder/file", b"content")
    run.log_weights(b"weights")
    run.log_metrics(FIGURES)
    run.finish()
    assert store.artifact(store.record(run.run_id), "folder/file") == b"content"


def test_artifacts_lie_at_any_depth(store: Store) -> None:
    run = begin(store)
    run.log_files({"report.md": b"text", "report/grid.png": b"picture"})
    own = Path(urlsplit(store.client.get_run(run.run_id).info.artifact_uri).path)
    assert (own / "results/report.md").read_bytes() == b"text"
    assert (own / "results/report/grid.png").read_bytes() == b"picture"


def test_damaged_predictions_name_their_run(store: Store) -> None:
    run = begin(store)
    run.log_metrics(FIGURES)
    run.log_bytes(PREDICTIONS, b"damaged")
    run.finish()
    with pytest.raises(Failure, match=f"^run {run.run_id}: "):
        store.outcomes(store.record(run.run_id))


def test_a_user_without_a_name_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    assert provenance.user() == "unknown"


def test_without_git_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.git_state.__wrapped__() == ("unknown", "unknown")


def test_an_error_of_the_server_is_not_taken_for_a_wrong_id(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> NoReturn:
        raise MlflowException("out of order", error_code=INTERNAL_ERROR)

    monkeypatch.setattr(MlflowClient, "get_run", fail)
    with pytest.raises(StoreError, match=r"cannot be opened: .*out of order"):
        tracking.open_store(store.uri, run_id="0" * 32)


def test_an_address_with_a_malformed_port_is_told_without_its_password() -> None:
    with pytest.raises(StoreError, match="cannot be opened") as error:
        tracking.open_store("postgresql://me:g3heim/x@db:5432/mlflow")
    assert "g3heim" not in str(error.value)


def test_only_what_is_forbidden_or_gone_is_skipped() -> None:
    with tracking.where_possible():
        raise MlflowException("gone", error_code=RESOURCE_DOES_NOT_EXIST)
    with pytest.raises(MlflowException, match="out of order"), tracking.where_possible():
        raise MlflowException("out of order", error_code=INTERNAL_ERROR)


def test_a_full_database_is_told_as_a_full_disk() -> None:
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("PRAGMA max_page_count = 2")
        database.execute("CREATE TABLE one (content)")
        with pytest.raises(Unavailable, match=r"nothing can be written .*full"), tracking.full_disk_in_a_line():
            database.execute("INSERT INTO one VALUES (?)", (b"." * 100_000,))


def test_a_state_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(StoreError, match=r"nothing can be written to .* \(it is not yours\).*set XDG_STATE_HOME"):
        own_folder("http://server")


def test_a_description_that_a_person_wrote_stays(store: Store) -> None:
    run = begin(store)
    store.client.set_experiment_tag(store.experiment_id, "mlflow.note.content", "mine")
    run.describe_experiment("ours")
    assert store.client.get_experiment(store.experiment_id).tags["mlflow.note.content"] == "mine"
