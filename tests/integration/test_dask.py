"""A grid on a Dask cluster whose results go to MLflow's server with PostgreSQL and users, as deploy/ has it."""

import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, Worker
from mlflow.entities import Run

from aepretrain import tracking
from tests.chaos.conftest import wait_for
from tests.commands import aepretrain
from tests.integration.cluster import LONG_S, Cluster, Command
from tests.integration.conftest import GRID, credentials, everything, log_in
from tests.integration.services import free_port

pytestmark = pytest.mark.integration


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
