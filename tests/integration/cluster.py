"""A Dask cluster as processes: a scheduler and workers that share nothing, and a grid's command on it."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.conftest import wait_for
from tests.integration.conftest import GRID, as_user
from tests.integration.services import free_port

LONG_S = 300
"""On a busy machine, importing alone takes a minute."""

PRELOADED = """
import os
import time
from aepretrain.data import digits
from aepretrain.runner import dask as cluster
from aepretrain.tracking import journal

adopt, perform = cluster.adopt, cluster.perform
num_begun = 0


def adopt_and_tell(dataset, data_dir):
    with open("adopted", "a") as file:
        print(os.getpid(), file=file)
    adopt(dataset, data_dir)


def load(*_):
    raise AssertionError("a worker reads no dataset")


def hold(jobs, listen, *rest):
    global num_begun
    num_begun += 1

    def report(event):
        listen(event)
        if event.kind == "epoch" and event.epoch.epoch == 3 and str(num_begun) == os.environ.get("HOLD_AT"):
            open("held", "w").close()
            while os.path.exists("held"):
                time.sleep(0.1)

    return perform(jobs, report, *rest)


def dask_setup(_):  # once a worker; the file itself is loaded twice
    cluster.adopt, cluster.perform, digits.load = adopt_and_tell, hold, load
    journal.LAST_WORDS_S = 60
"""
"""In a worker before it begins: it says when it is given a dataset, and finds none itself,
and it does not give up telling a busy server how its runs have ended.

In the third epoch of its training number HOLD_AT it waits, to be killed there, or until its file "held" is gone.
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


class Command:
    """The half of the grid that has this augmentation, of one seed, on the cluster, under way."""

    def __init__(self, cluster: Cluster, augmentation: str, seed: int) -> None:
        self._folder = cluster.folder / "driver"
        self._folder.mkdir(exist_ok=True)
        where = ("--augmentation", augmentation, "--cluster", cluster.address, "--resources", "CELL=0.5")
        with (self._folder / "out").open("wb") as out, (self._folder / "err").open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "aepretrain", "grid", *GRID, "--seeds", str(seed), *where],
                cwd=self._folder,
                env=as_user(self._folder, cluster.environment),
                stdout=out,
                stderr=err,
            )
        cluster.processes.append(self.process)

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Wait until something is so while the command is under way."""
        wait_for(lambda: self.process.poll() is not None or condition(), LONG_S)
        assert self.process.poll() is None, (self._folder / "err").read_text()

    def finish(self) -> subprocess.CompletedProcess[str]:
        code = self.process.wait(LONG_S)
        told = ((self._folder / name).read_text() for name in ("out", "err"))
        return subprocess.CompletedProcess(self.process.args, code, *told)
