"""A grid on MLflow's server with PostgreSQL, users and proxied artifacts, as deploy/ has it, and on a Dask cluster."""

import json
import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, Worker
from mlflow.entities import Run

from aepretrain import runner, tracking
from aepretrain.tracking import StoreError
from tests.chaos.conftest import wait_for
from tests.commands import aepretrain
from tests.integration.cluster import LONG_S, Cluster, Command
from tests.integration.conftest import GRID, PASSWORDS, aepretrain_anew, credentials, everything, log_in
from tests.integration.services import free_port

pytestmark = pytest.mark.integration

OWN = ("grid", *GRID, "--augmentation", "none", "--seeds", "0,1")


@pytest.mark.parametrize("password", [None, "wrong"])
def test_without_the_password_nothing_is_opened(
    password: str | None, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    if password:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "trainer")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    with pytest.raises(StoreError) as error:
        tracking.open_store(server)
    assert str(error.value).startswith(f"the tracking store {server} cannot be opened: ")
    assert "You are not authenticated" in str(error.value)
    assert "wrong" not in str(error.value)


def test_four_workers_store_on_the_server_what_they_store_in_sqlite(
    server: str, served: Path, expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_server = {"MLFLOW_TRACKING_URI": server, "MLFLOW_EXPERIMENT_NAME": "served", **credentials("trainer")}
    remote = aepretrain_anew(tmp_path, on_server, *OWN, "--jobs", "4")
    assert (remote.returncode, remote.stderr) == (0, ""), remote.stdout
    log_in(monkeypatch, "trainer")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    store = tracking.open_store(server, "served")
    found = everything(store)
    own = {key: cell for key, cell in expected.items() if cell[-1]["seed"] < 2}
    assert len(own) == 8
    assert {key: found[key] for key in own} == own
    runs = [run for run in store.search({}) if run.info.experiment_id == store.experiment_id]
    assert [run.info.status for run in runs] == ["FINISHED"] * 9

    kept = {path.relative_to(served) for path in served.rglob("*") if path.is_file()}
    for run in runs:
        assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
        assert any(run.info.run_id in path.parts for path in kept), "its artifacts are the server's"
    left = {path.name for path in tmp_path.rglob("*") if path.is_file() and path.parent != tmp_path / "results"}
    assert all(name.endswith(".lock") for name in left), "nothing is left where the workers were"

    on_server["XDG_STATE_HOME"] = str(tmp_path / "state")
    compared = aepretrain("compare", "--out", "compared", folder=tmp_path, **on_server)
    assert (compared.code, compared.err) == (0, "")
    tables = [json.loads((tmp_path / name / "grid.json").read_text()) for name in ("results", "compared")]
    assert tables[0] == tables[1]
    assert PASSWORDS["trainer"] not in remote.stdout + compared.out

    log_in(monkeypatch, "reader")
    shown = {record.seed for record in runner.select(store.records().values()) if record.cell[2] == "scratch"}
    (other,) = {0, 1} - shown  # whose model nobody has exported, and the reader may not
    as_reader = on_server | credentials("reader") | {"MLFLOW_EXPERIMENT_NAME": "reading"}
    read = aepretrain(*OWN[:-1], str(other), "--out", "read", folder=tmp_path, **as_reader)
    assert (read.code, read.err) == (0, ""), read.out
    assert read.out.count(" reused: ") == 4
    reported = aepretrain("report", "--out", "read", folder=tmp_path, **as_reader)
    assert (reported.code, reported.err) == (0, ""), reported.out
    (parent,) = (run for run in runs if run.data.tags["aepretrain.kind"] == "grid")
    assert not store.client.list_artifacts(parent.info.run_id, "results/report"), "it is the trainer's"


@pytest.fixture
def cluster(tmp_path: Path, server: str) -> Iterator[Cluster]:
    found = Cluster(
        tmp_path, {"MLFLOW_TRACKING_URI": server, "MLFLOW_EXPERIMENT_NAME": tmp_path.name, **credentials("trainer")}
    )
    yield found
    found.kill()


@pytest.fixture
def store(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> tracking.Store:
    """The server's store, as the grid's user sees it."""
    log_in(monkeypatch, "trainer")
    monkeypatch.setenv("XDG_STATE_HOME", str(cluster.folder / "driver" / "state"))
    return tracking.open_store(
        cluster.environment["MLFLOW_TRACKING_URI"], cluster.environment["MLFLOW_EXPERIMENT_NAME"]
    )


def runs(store: tracking.Store) -> list[Run]:
    """The trainings of the test's own experiment."""
    return [run for run in store.search({"kind": "training"}) if run.info.experiment_id == store.experiment_id]


def check(store: tracking.Store, expected: dict[str, Any], augmentation: str, seed: int) -> None:
    """Every cell is there, finished once, with the bits that it has without a cluster; nothing is left running."""
    expected = {
        key: cell
        for key, cell in expected.items()
        if (cell[-1]["seed"], cell[-1]["augmentation"]) == (seed, augmentation)
    }
    assert len(expected) == 4
    found = everything(store)
    assert {key: found[key] for key in expected} == expected
    finished = [run.data.tags["aepretrain.key"] for run in runs(store) if run.info.status == "FINISHED"]
    assert sorted(finished) == sorted(expected)
    assert {run.info.status for run in runs(store)} == {"FINISHED", "KILLED"}


def test_a_worker_that_is_killed_costs_no_cell(
    cluster: Cluster, store: tracking.Store, expected: dict[str, Any]
) -> None:
    cluster.start_scheduler()
    one, other = cluster.start_worker("one", hold_at=1), cluster.start_worker("other")
    command = Command(cluster, "none", 2)
    command.wait_until((cluster.folder / "one" / "held").exists)
    one.kill()
    done = command.finish()
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.count(" finished: ") == 4
    assert done.stdout.count("its worker process died") == 1
    check(store, expected, "none", 2)
    made = [(int(run.data.tags["aepretrain.pid"]), run.info.status) for run in runs(store)]
    assert Counter(made) == {(one.pid, "KILLED"): 1, (other.pid, "FINISHED"): 4}
    for name, process in {"one": one, "other": other}.items():
        told = (cluster.folder / name / "adopted").read_text().split()
        assert told == [str(process.pid)], "the dataset came once"


def test_a_grid_whose_scheduler_is_lost_is_resumed_from_the_store(
    cluster: Cluster, store: tracking.Store, expected: dict[str, Any]
) -> None:
    scheduler, worker = cluster.start_scheduler(), cluster.start_worker("one", hold_at=2)
    command = Command(cluster, "erasing", 2)
    command.wait_until((cluster.folder / "one" / "held").exists)
    scheduler.kill()
    done = command.finish()
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert re.fullmatch(r"aepretrain: the (cluster|Dask scheduler).*, (and )?the same command goes on from there", line)
    worker.kill()
    cluster.start_scheduler()
    cluster.start_worker("other")
    done = Command(cluster, "erasing", 2).finish()
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.count(" reused: ") == 1
    check(store, expected, "erasing", 2)


@pytest.mark.parametrize(
    ("told", "code", "augmentation"), [(signal.SIGINT, 130, "none"), (signal.SIGKILL, -signal.SIGKILL, "erasing")]
)
def test_when_a_command_is_gone_its_cells_are_stopped(
    cluster: Cluster,
    store: tracking.Store,
    expected: dict[str, Any],
    told: signal.Signals,
    code: int,
    augmentation: str,
) -> None:
    cluster.start_scheduler()
    worker = cluster.start_worker("one", hold_at=1)
    command = Command(cluster, augmentation, 3)
    held = cluster.folder / "one" / "held"
    command.wait_until(held.exists)
    command.process.send_signal(told)
    assert command.finish().returncode == code
    with Client(cluster.address, set_as_default=False) as client:

        def states(dask_worker: Worker) -> list[str]:
            return [task.state for task in dask_worker.state.tasks.values()]

        wait_for(lambda: list(client.run(states).values()) == [["cancelled"]], LONG_S)
    assert [run.info.status for run in runs(store)] == ["RUNNING"]
    held.unlink()
    wait_for(lambda: [run.info.status for run in runs(store)] == ["KILLED"], LONG_S)
    done = Command(cluster, augmentation, 3).finish()
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.count(" finished: ") == 4
    assert {int(run.data.tags["aepretrain.pid"]) for run in runs(store)} == {worker.pid}
    check(store, expected, augmentation, 3)


def test_without_a_scheduler_nothing_begins(tmp_path: Path, uri: str) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    done = aepretrain("grid", *GRID, "--cluster", address, folder=tmp_path, MLFLOW_TRACKING_URI=uri)
    assert done.code == 1
    assert done.complaint().startswith(f"aepretrain: there is no Dask scheduler at {address}: ")
    assert not list(tracking.open_store(uri).search({}))
