"""Killed, and failed, at every write: strace stops a tiny grid at its n-th fsync, rename, unlink and so on.

strace counts the calls of each thread by itself. So it is attached to one thread at a time, and a place is the n-th
call of a name in one of the four threads that write files: the command's, its worker's, and those that upload the
results of the first and of the second training.
"""

import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sklearn.linear_model
import sklearn.model_selection
import sklearn.pipeline  # noqa: F401  # here once, else in each command
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from aepretrain import tracking
from aepretrain.runner import pool
from aepretrain.tracking.journal import Sender
from tests import commands
from tests.chaos.conftest import check_store, stored, wait_for, wait_until_gone
from tests.commands import Command, Done, forked, start
from tests.conftest import Once
from tests.grids import artifacts

pytestmark = pytest.mark.chaos

THREADS = ("command", "worker", "sender 1", "sender 2")
SMALL = ("fsync", "fdatasync", "rename", "renameat", "renameat2", "unlink", "unlinkat", "write")
"""Calls of which every one is a place; of `write`, every one into a file of the grid's folder."""

LARGE = "pwrite64"
"""SQLite's writes, of which there are hundreds."""

NUM_LARGE = 100
"""How many of the large calls are places."""

OPTIONS = (
    *("--dataset", "digits", "--network", "fc", "--augmentation", "none", "--epochs", "2", "--patience", "0"),
    *("--jobs", "1", "--device", "cpu", "--plugin", "tiny"),
)

TINY = """
from aepretrain import figures, report, tracking
from aepretrain.api import training
from aepretrain.runner import snapshots

whole_grid = training.grid_specs
training.grid_specs = lambda *given: [one for one in whole_grid(*given) if one.variant in ("pretrain", "finetune")]
snapshots.INTERVAL_S = 0  # one after each epoch
tracking.log_model = lambda *_: None  # exporting, drawing and the table take longer than all else
tracking.Run.log_figure = lambda *_: None
figures.training_figures = lambda *_: {}
report.build_grid = lambda *_: None
report.tables = lambda *_: []
report.markdown = lambda *_: "a table"
report.files = lambda *_: {"grid.md": b"a table"}
report.listing = lambda *_: "a list"
report.summary_metrics = lambda *_: {"mean_accuracy/fc-none-finetune": 0.5}
"""
"""A plugin with which a grid is two trainings, and takes a second."""

WAYS = {
    "alone": "signal=SIGKILL",
    "all": "signal=SIGKILL",
    "stop": "signal=SIGTERM",
    "ENOSPC": "error=ENOSPC",
    "EIO": "error=EIO",
}
"""What is done at a place: the process is killed, alone or with all others; it is told to stop; or the call fails."""

ERRORS = {"ENOSPC": "No space left on device|disk is full", "EIO": "Input/output error"}
OF_SQLITE = "disk I/O error|unable to open database file"
"""What SQLite says of either."""


@dataclass(frozen=True)
class Place:
    """The n-th call of this name in a thread."""

    thread: str
    call: str
    n: int


@dataclass(frozen=True)
class Grid:
    """A tiny grid in a folder, which is made anew from a ready store for each place."""

    folder: Path
    ready: Path

    @property
    def store(self) -> tracking.Store:
        return tracking.open_store(f"sqlite:///{self.folder}/mlflow.db", "own")

    def renew(self) -> None:
        """Begin with an empty store; connections to the one before are closed."""
        disconnect(close=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.ready, self.folder)

    def start(self, *threads: str) -> Command:
        """Start the command. These threads, when they begin, wait until they are traced."""
        environment = {
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db",
            "MLFLOW_EXPERIMENT_NAME": "own",  # made anew, for its artifacts are to be in this folder
            "TMPDIR": str(self.folder / "temporary"),
        }
        return start(partial(grid, self.folder, threads), self.folder, **environment)

    def resume(self) -> None:
        """The same command, undisturbed, does what is left."""
        done = self.start().finish()
        assert (done.code, done.err) == (0, ""), done

    def files(self) -> dict[str, Any]:
        """What the trainings and the table have stored besides `stored`, without ids of runs."""
        store = self.store
        found: dict[str, Any] = {}
        for key, record in store.records().items():
            for path in artifacts(store, record.run_id):
                found[f"{key}/{path}"] = store.artifact(record, path)
        (parent,) = store.search({"kind": "grid"})
        assert parent.info.status == "FINISHED"
        tables = {
            "logged": Path(parent.info.artifact_uri.removeprefix("file://"), "results"),
            "out": self.folder / "results",
        }
        for name, folder in tables.items():
            found |= {f"{name}/{path.name}": path.read_bytes() for path in folder.iterdir()}
        return {name: content for name, content in found.items() if ".artifact.uploading." not in name}  # MLflow's


def disconnect(*, close: bool = False) -> None:
    """Use new connections to stores from now on; in a child, those of the parent are left to it."""
    for engine in SqlAlchemyStore._engine_map.values():
        engine.dispose(close=close)


def grid(folder: Path, threads: Sequence[str]) -> None:
    """The command, in a child."""

    def offer(thread: str) -> None:
        if thread in threads and not (folder / "temporary" / thread).exists():  # the second worker is left alone
            (folder / "temporary" / thread).write_text(f"{threading.get_native_id()}\n")
            while "TracerPid:\t0\n" in Path("/proc/thread-self/status").read_text():
                time.sleep(0.001)

    begin_worker, send, senders = pool._begin_worker, Sender._work, count(1)

    def begin(*given: Any) -> None:
        offer("worker")
        begin_worker(*given)

    def work(self: Sender) -> None:
        offer(f"sender {next(senders)}")
        send(self)

    tempfile.tempdir = None  # so that TMPDIR is read
    vars(commands)["forget_connections"] = disconnect  # and keep the client, which takes long to make
    vars(pool)["_begin_worker"] = begin
    Sender._work = work  # type: ignore[method-assign]
    offer("command")
    forked("grid", *OPTIONS)


def attach(folder: Path, thread: str, command: Command, *options: str) -> subprocess.Popen[bytes]:
    """Begin to trace a thread of the command."""
    offered = folder / "temporary" / thread
    while not (offered.exists() and offered.read_text().endswith("\n")):
        assert command.poll() is None, command.done
        time.sleep(0.002)
    log = folder / "temporary" / f"{thread}.log"
    return subprocess.Popen(["strace", "-qq", "-o", log, *options, "-p", offered.read_text().strip()])  # noqa: S607


def may_trace() -> bool:
    """Whether strace is there, and may attach to a process that it has not started."""
    with subprocess.Popen(["sleep", "60"]) as sleeper:  # noqa: S607
        try:
            command = ["strace", "-o", os.devnull, "-e", "inject=fsync:error=EIO", "-p", str(sleeper.pid)]
            with subprocess.Popen(command, stderr=subprocess.DEVNULL) as tracer:
                traced = f"TracerPid:\t{tracer.pid}\n"
                wait_for(lambda: tracer.poll() is not None or traced in Path(f"/proc/{sleeper.pid}/status").read_text())
                tracer.terminate()
                return tracer.wait() <= 0
        except FileNotFoundError:
            return False
        finally:
            sleeper.kill()


@dataclass(frozen=True)
class Reference:
    """What an uninterrupted grid has stored, and all calls that it has made."""

    stored: dict[str, Any]
    files: dict[str, Any]
    calls: Sequence[Place]

    def places(self) -> list[Place]:
        """Every one of the small calls, and `NUM_LARGE` of the large one, evenly spread."""
        large = [place for place in self.calls if place.call == LARGE]
        chosen = {large[len(large) * one // NUM_LARGE] for one in range(NUM_LARGE)}
        return [place for place in self.calls if place.call != LARGE or place in chosen]


@pytest.fixture
def tiny(tmp_path: Path, template: Path) -> Grid:
    if not may_trace():
        pytest.skip("strace is missing, or may not trace other processes here")
    ready = tmp_path / "ready"
    (ready / "temporary").mkdir(parents=True)
    (ready / "tiny.py").write_text(TINY)
    shutil.copyfile(template, ready / "mlflow.db")
    return Grid(tmp_path / "grid", ready)


@pytest.fixture
def reference(tiny: Grid, once: Once) -> Reference:
    """Of a grid that is traced, but not disturbed."""

    def run(path: Path) -> None:
        tiny.renew()
        command = tiny.start(*THREADS)
        traced = "-y", "-e", f"trace=?{',?'.join((*SMALL, LARGE))}"  # "?": not every processor's Linux has all of them
        tracers = [attach(tiny.folder, thread, command, *traced) for thread in THREADS]
        assert command.finish().code == 0, command.done
        for tracer in tracers:
            tracer.wait()
        calls = [place for thread in THREADS for place in logged(tiny.folder, thread)]
        path.write_bytes(pickle.dumps((stored(tiny.store), tiny.files(), calls)))

    return Reference(*pickle.loads(once("every_write.pickle", run).read_bytes()))  # noqa: S301  # ours


def logged(folder: Path, thread: str) -> Iterator[Place]:
    """The calls of a thread that strace has logged, but for writes into what is no file in this folder."""
    numbers: Counter[str] = Counter()
    for line in (folder / "temporary" / f"{thread}.log").read_text().splitlines():
        call, found, arguments = line.partition("(")
        if found:
            numbers[call] += 1
            if call != "write" or re.match(rf"\d+<{re.escape(str(folder))}/", arguments):
                yield Place(thread, call, numbers[call])


def disturb(tiny: Grid, place: Place, how: str) -> tuple[Done, bool]:
    """Run the grid with this done to it at a place; what it leaves, and whether it came to that place."""
    tiny.renew()
    command = tiny.start(place.thread)
    injected = f"inject={place.call}:{WAYS[how]}:when={place.n}"
    try:
        attach(tiny.folder, place.thread, command, "-e", f"trace={place.call}", "-e", injected).wait()
        log = (tiny.folder / "temporary" / f"{place.thread}.log").read_text()
        hit = any(sign in log for sign in ("killed by SIGKILL", "--- SIGTERM", "(INJECTED)"))
        if hit and how == "all":
            command.kill()
        done = command.finish()
        wait_until_gone(command.pid)
    finally:
        command.kill()
    return done, hit


def check_end(done: Done, place: Place, how: str) -> None:
    """How the disturbed command has ended."""
    assert "Traceback" not in done.out + done.err, done
    if how in ERRORS:
        assert done.code in (0, 1), done
        if done.code == 1:
            assert re.search(f"{ERRORS[how]}|{OF_SQLITE}", done.complaint()), done
    elif how == "stop" and done.code == -signal.SIGTERM:  # which nothing handles before the work and after it
        assert done.err == "", done
        assert done.out.count("Runs are kept") in (0, 2), "it is printed at the start and at the end"
    elif how == "stop" and done.code != 0:
        assert done.code == 128 + signal.SIGTERM, done
        assert "the same command goes on from there" in done.complaint()
    elif how == "all" or (how == "alone" and place.thread == "command"):
        assert done.code == -signal.SIGKILL, done
    else:
        assert (done.code, done.err) == (0, ""), done


def check_all(tiny: Grid, reference: Reference) -> None:
    """All is there once, as it should be, and nothing else."""
    check_store(tiny.store, reference.stored)
    assert tiny.files() == reference.files
    left = [path for path in tiny.folder.rglob("*.partial") if "temporary" not in path.parts]
    assert not left


def go_through(tiny: Grid, reference: Reference, places: Sequence[tuple[Place, str]]) -> None:
    """Disturb a grid at each of these places, resume it, and look at what is there."""
    numbers: Counter[tuple[str, str, str]] = Counter()
    lost = []
    for place, how in places:
        try:
            done, hit = disturb(tiny, place, how)
            numbers[place.call, how, "not reached" if not hit else "passed over" if done.code == 0 else "ended"] += 1
            if hit:
                check_end(done, place, how)
            tiny.resume()
            check_all(tiny, reference)
        except AssertionError as error:
            lost.append(f"{place} {how}: {error}")
            print(lost[-1], flush=True)
    for (call, how, end), number in sorted(numbers.items()):
        print(f"{call:10} {how:7} {end:12} {number:5}")
    assert not lost, f"{len(lost)} of {len(places)}:\n" + "\n".join(lost)


def chosen(every: list[tuple[Place, str]], full_length: bool) -> list[tuple[Place, str]]:
    """All of these, or in short ten."""
    return every if full_length else random.Random(3).sample(every, 10)  # noqa: S311  # no secret


def test_killed_at_every_write_nothing_is_lost(tiny: Grid, reference: Reference, full_length: bool) -> None:
    every = []
    for number, place in enumerate(reference.places()):
        ways = {"alone", "all"} if place.call != LARGE else {("alone", "all")[number % 2]}
        if place.thread == "command" and place.call != LARGE:
            ways.add("stop")
        every += [(place, how) for how in sorted(ways)]
    go_through(tiny, reference, chosen(every, full_length))


def test_failed_at_every_write_nothing_is_lost(tiny: Grid, reference: Reference, full_length: bool) -> None:
    every = [(place, how) for place in reference.places() for how in ERRORS]
    go_through(tiny, reference, chosen(every, full_length))
