"""A grid on a Dask cluster: a scheduler and two workers that share nothing, as processes; and their deaths."""

import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run

from aepretrain import tracking
from tests.chaos.conftest import wait_for
from tests.integration.conftest import aepretrain, as_user, credentials, everything, log_in
from tests.integration.services import free_port

pytestmark = pytest.mark.integration

GRID = (
    "--dataset",
    "digits",
    "--network",
    "fc",
    "--seeds",
    "0-1",
    "--epochs",
    "30",
    "--patience",
    "0",
    "--device",
    "cpu",
)
"""16 trainings of some seconds; each test trains half of them."""

PRELOADED = """
import os
from aepretrain.data import digits
from aepretrain.suite import cluster

adopt = cluster.adopt


def adopt_and_tell(dataset, data_dir):
    with open("adopted", "a") as file:
        print(os.getpid(), file=file)
    adopt(dataset, data_dir)


def load(*_):
    raise AssertionError("a worker reads no dataset")


cluster.adopt, digits.load = adopt_and_tell, load
"""
"""In a worker before it begins: it says when it is given a dataset, and finds none itself."""


@dataclass
class Cluster:
    """A scheduler and workers; each worker has a folder of its own for what a host has."""

    folder: Path
    environment: dict[str, str]
    port: int = field(default_factory=free_port)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def _start(self, folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
        folder.mkdir(exist_ok=True)
        (folder / "preloaded.py").write_text(PRELOADED)
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments],
                cwd=folder,
                env=as_user(folder, self.environment),
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def start_scheduler(self) -> subprocess.Popen[bytes]:
        where = ("--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard")
        return self._start(self.folder / "scheduler", "scheduler", *where)

    def start_worker(self, name: str) -> subprocess.Popen[bytes]:
        how = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1", "--preload", "preloaded.py")
        return self._start(self.folder / name, "worker", self.address, *how, "--resources", "CELL=1")

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


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


@pytest.fixture(scope="module")
def expected(template: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the same grid stores that is trained in processes of this machine, in SQLite."""
    folder = tmp_path_factory.mktemp("local")
    (folder / "mlflow.db").write_bytes(template.read_bytes())
    uri = f"sqlite:///{folder}/mlflow.db"
    done = aepretrain(folder, {"MLFLOW_TRACKING_URI": uri, "MLFLOW_EXPERIMENT_NAME": "local"}, "grid", *GRID)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return everything(tracking.open_store(uri))


class Command:
    """A grid of this augmentation on the cluster, in a thread."""

    def __init__(self, cluster: Cluster, augmentation: str) -> None:
        where = ("--augmentation", augmentation, "--cluster", cluster.address, "--resources", "CELL=0.5")
        self._thread = threading.Thread(target=lambda: self._run(cluster, where))
        self.done: subprocess.CompletedProcess[str] | None = None
        self._thread.start()

    def _run(self, cluster: Cluster, where: tuple[str, ...]) -> None:
        folder = cluster.folder / "driver"
        folder.mkdir(exist_ok=True)
        self.done = aepretrain(folder, cluster.environment, "grid", *GRID, *where)

    def finish(self) -> subprocess.CompletedProcess[str]:
        self._thread.join()
        assert self.done is not None
        return self.done


def runs(store: tracking.Store) -> list[Run]:
    """The trainings of the test's own experiment."""
    return [run for run in store.search({"kind": "training"}) if run.info.experiment_id == store.experiment_id]


def at_work(store: tracking.Store) -> set[int]:
    """The workers that have logged an epoch of a training that they are still at, by process id."""
    return {
        int(run.data.tags["aepretrain.pid"])
        for run in runs(store)
        if run.info.status == "RUNNING" and "val_loss" in run.data.metrics
    }


def check(store: tracking.Store, expected: dict[str, Any], augmentation: str) -> None:
    """Every cell is there, finished once, with the bits that it has without a cluster; nothing is left running."""
    expected = {key: cell for key, cell in expected.items() if cell[-1]["augmentation"] == augmentation}
    assert len(expected) == 8
    found = everything(store)
    assert {key: found[key] for key in expected} == expected
    finished = [run.data.tags["aepretrain.key"] for run in runs(store) if run.info.status == "FINISHED"]
    assert sorted(finished) == sorted(expected)
    assert {run.info.status for run in runs(store)} == {"FINISHED", "KILLED"}


def test_a_worker_that_is_killed_costs_no_cell(
    cluster: Cluster, store: tracking.Store, expected: dict[str, Any]
) -> None:
    cluster.start_scheduler()
    one, other = cluster.start_worker("one"), cluster.start_worker("other")
    command = Command(cluster, "none")
    wait_for(lambda: one.pid in at_work(store), 180)
    one.kill()
    done = command.finish()
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.count(" finished: ") == 8
    assert done.stdout.count("its worker process died") == 1
    check(store, expected, "none")
    assert [run.info.status for run in runs(store)].count("KILLED") == 1
    by_worker = Counter(int(run.data.tags["aepretrain.pid"]) for run in runs(store))
    assert by_worker.keys() == {one.pid, other.pid}
    assert by_worker[other.pid] >= 5
    for name, process in {"one": one, "other": other}.items():
        told = (cluster.folder / name / "adopted").read_text().split()
        assert told == [str(process.pid)], "the dataset came once"


def test_a_grid_whose_scheduler_is_lost_is_resumed_from_the_store(
    cluster: Cluster, store: tracking.Store, expected: dict[str, Any]
) -> None:
    scheduler, _ = cluster.start_scheduler(), cluster.start_worker("one")
    command = Command(cluster, "erasing")
    wait_for(lambda: any(run.info.status == "FINISHED" for run in runs(store)) and at_work(store), 180)
    scheduler.kill()
    done = command.finish()
    assert done.returncode == 1, done.stdout
    (line,) = done.stderr.splitlines()
    assert re.fullmatch(
        r"aepretrain: the cluster.*; what is finished is kept, (and )?the same command goes on from there", line
    )
    cluster.start_scheduler()
    cluster.start_worker("other")
    done = Command(cluster, "erasing").finish()
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.count(" reused: ") >= 1
    check(store, expected, "erasing")


def test_without_a_scheduler_nothing_begins(tmp_path: Path, uri: str) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    done = aepretrain(tmp_path, {"MLFLOW_TRACKING_URI": uri}, "grid", *GRID, "--cluster", address)
    assert done.returncode == 1, done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"aepretrain: there is no Dask scheduler at {address}: ")
    assert not list(tracking.open_store(uri).search({}))
