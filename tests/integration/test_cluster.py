"""A grid on a Dask cluster: a scheduler and two workers that share nothing, as processes; and their deaths."""

import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run

from aepretrain import tracking
from tests.chaos.conftest import wait_for
from tests.integration.conftest import GRID, aepretrain, as_user, credentials, everything, log_in
from tests.integration.services import free_port

pytestmark = pytest.mark.integration

LONG_S = 300
"""On a busy machine, importing alone takes a minute."""

PRELOADED = """
import os
import time
from aepretrain.data import digits
from aepretrain.suite import cluster

adopt, perform = cluster.adopt, cluster.perform
num_begun = 0


def adopt_and_tell(dataset, data_dir):
    with open("adopted", "a") as file:
        print(os.getpid(), file=file)
    adopt(dataset, data_dir)


def load(*_):
    raise AssertionError("a worker reads no dataset")


def hold(works, listen):
    global num_begun
    num_begun += 1

    def report(event):
        listen(event)
        if event.kind == "epoch" and event.epoch.epoch == 3 and str(num_begun) == os.environ.get("HOLD_AT"):
            open("held", "w").close()
            time.sleep(1000)

    return perform(works, report)


def dask_setup(_):  # once a worker; the file itself is loaded twice
    cluster.adopt, cluster.perform, digits.load = adopt_and_tell, hold, load
"""
"""In a worker before it begins: it says when it is given a dataset, and finds none itself.

In the third epoch of its training number HOLD_AT it waits, to be killed there.
"""


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

    def _start(self, folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        folder.mkdir(exist_ok=True)
        (folder / "preloaded.py").write_text(PRELOADED)
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments],
                cwd=folder,
                env=as_user(folder, self.environment | environment),
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def start_scheduler(self) -> subprocess.Popen[bytes]:
        where = ("--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard")
        return self._start(self.folder / "scheduler", "scheduler", *where)

    def start_worker(self, name: str, hold_at: int = 0) -> subprocess.Popen[bytes]:
        """A worker that the scheduler knows when this returns."""
        how = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1", "--preload", "preloaded.py")
        process = self._start(
            self.folder / name, "worker", self.address, *how, "--resources", "CELL=1", HOLD_AT=str(hold_at)
        )
        wait_for(lambda: "Registered to" in (self.folder / name / "log").read_text(), LONG_S)
        return process

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


class Command:
    """The half of the grid that has this augmentation, on the cluster, in a thread."""

    def __init__(self, cluster: Cluster, augmentation: str) -> None:
        where = ("--augmentation", augmentation, "--cluster", cluster.address, "--resources", "CELL=0.5")
        self._thread = threading.Thread(target=lambda: self._run(cluster, where))
        self.done: subprocess.CompletedProcess[str] | None = None
        self._thread.start()

    def _run(self, cluster: Cluster, where: tuple[str, ...]) -> None:
        folder = cluster.folder / "driver"
        folder.mkdir(exist_ok=True)
        self.done = aepretrain(folder, cluster.environment, "grid", *GRID, "--seeds", "2", *where)

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Wait until something is so while the command is under way."""
        wait_for(lambda: self.done or condition(), LONG_S)
        assert self.done is None, self.done.stderr

    def finish(self) -> subprocess.CompletedProcess[str]:
        self._thread.join()
        assert self.done is not None
        return self.done


def runs(store: tracking.Store) -> list[Run]:
    """The trainings of the test's own experiment."""
    return [run for run in store.search({"kind": "training"}) if run.info.experiment_id == store.experiment_id]


def check(store: tracking.Store, expected: dict[str, Any], augmentation: str) -> None:
    """Every cell is there, finished once, with the bits that it has without a cluster; nothing is left running."""
    expected = {
        key: cell for key, cell in expected.items() if (cell[-1]["seed"], cell[-1]["augmentation"]) == (2, augmentation)
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
    command = Command(cluster, "none")
    command.wait_until((cluster.folder / "one" / "held").exists)
    one.kill()
    done = command.finish()
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.count(" finished: ") == 4
    assert done.stdout.count("its worker process died") == 1
    check(store, expected, "none")
    made = [(int(run.data.tags["aepretrain.pid"]), run.info.status) for run in runs(store)]
    assert Counter(made) == {(one.pid, "KILLED"): 1, (other.pid, "FINISHED"): 4}
    for name, process in {"one": one, "other": other}.items():
        told = (cluster.folder / name / "adopted").read_text().split()
        assert told == [str(process.pid)], "the dataset came once"


def test_a_grid_whose_scheduler_is_lost_is_resumed_from_the_store(
    cluster: Cluster, store: tracking.Store, expected: dict[str, Any]
) -> None:
    scheduler, worker = cluster.start_scheduler(), cluster.start_worker("one", hold_at=2)
    command = Command(cluster, "erasing")
    command.wait_until((cluster.folder / "one" / "held").exists)
    scheduler.kill()
    done = command.finish()
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert re.fullmatch(
        r"aepretrain: the cluster.*; what is finished is kept, (and )?the same command goes on from there", line
    )
    worker.kill()
    cluster.start_scheduler()
    cluster.start_worker("other")
    done = Command(cluster, "erasing").finish()
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.count(" reused: ") == 1
    check(store, expected, "erasing")


def test_without_a_scheduler_nothing_begins(tmp_path: Path, uri: str) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    done = aepretrain(tmp_path, {"MLFLOW_TRACKING_URI": uri}, "grid", *GRID, "--cluster", address)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"aepretrain: there is no Dask scheduler at {address}: ")
    assert not list(tracking.open_store(uri).search({}))
