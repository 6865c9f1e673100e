"""Kill −9 at random moments, signals that stop, and workers that die: nothing is lost, no bit is changed."""

import os
import random
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from aepretrain import tracking
from tests.chaos.conftest import (
    Commands,
    begun,
    check_store,
    wait_for,
    wait_for_workers_to_end,
    wait_until_gone,
    workers,
)
from tests.commands import Command, Done, start_mlflow_run
from tests.conftest import AT_FULL_LENGTH, ROOT

pytestmark = pytest.mark.chaos

RUNNING = "attributes.status = 'RUNNING'"


def kill(kind: str, command: Command, draw: random.Random) -> None:
    """Kill the command, one of its workers (where there is none, the command), or all its processes."""
    if kind == "group":
        command.kill()
    else:
        os.kill(draw.choice((kind == "worker" and workers(command.pid)) or [command.pid]), signal.SIGKILL)


def start_and_kill(
    commands: Commands, options: tuple[str, ...], journals: Path, kind: str, draw: random.Random
) -> tuple[Done, bool]:
    """Start the grid and kill it, or let it end where it ends before; what it left, and whether it was killed.

    Three of four kills come after a training has begun.
    """
    before = set(journals.glob("*"))
    command = commands.start("grid", *options)
    wait_for(command.has_printed)
    if draw.random() < 0.75:
        wait_for(lambda: command.poll() or set(journals.glob("*")) - before)
    killed = command.wait(draw.uniform(0, 6 if commands.anew else 2)) is None
    if killed:
        kill(kind, command, draw)
    done = command.finish()
    wait_until_gone(command.pid)
    assert "Traceback" not in done.err, done.err
    assert done.code in (0, 1, -signal.SIGKILL), done
    return done, killed


def test_kill_9_at_random_moments_changes_no_bit(
    commands: Commands,
    options: tuple[str, ...],
    expected: dict[str, Any],
    full_length: bool,
    tmp_path: Path,
    template: Path,
) -> None:
    draw = random.Random(5)  # noqa: S311  # no secret
    kills: list[str] = []
    num_grids = 0
    while len(kills) < (50 if full_length else 3):
        num_grids += 1
        database = tmp_path / f"grid{num_grids}.db"
        shutil.copyfile(template, database)
        commands.environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{database}"
        code = 1
        while code != 0:
            kind = ("parent", "worker", "group")[len(kills) % 3]
            done, killed = start_and_kill(commands, options, Path(f"{database}.locks", "journals"), kind, draw)
            kills += [kind] * killed
            code = done.code
        store = tracking.open_store(f"sqlite:///{database}")
        check_store(store, expected)
        assert [run.info.status for run in store.search({"kind": "grid"})] == ["FINISHED"], "it was entered again"
        print(f"kills: {len(kills)}, grids: {num_grids}, starts: {len(commands.started)}, lost: 0")


COUNTING = """
from aepretrain.engine import loop

train_epoch = loop._Run.epoch


def counted(run, epoch):
    with open("epochs", "a") as file:
        print(epoch, file=file)
    return train_epoch(run, epoch)


loop._Run.epoch = counted
"""


def test_a_killed_training_goes_on_from_its_snapshot(
    commands: Commands, options: tuple[str, ...], uri: str, full_length: bool, tmp_path: Path
) -> None:
    """Seen by the epochs that are really trained: a run's own history has those before the crash too."""
    (tmp_path / "counting.py").write_text(COUNTING)
    store, num_epochs = tracking.open_store(uri), 300 if full_length else 150
    training = ("scratch", *options[:2], "--network", "fc", "--epochs", str(num_epochs), "--patience", "0")
    plugins = ("--plugin", "quick", "--plugin", "counting")
    command = commands.start(*training, *plugins)
    wait_for(lambda: command.poll() or list(store.folder.glob("*.snapshot")))
    time.sleep(0.5)  # so that there are epochs after it, which have to be repeated
    command.kill()
    before = [int(epoch) for epoch in (tmp_path / "epochs").read_text().split()]
    done = commands.run(*training, *plugins)
    assert (done.code, done.err) == (0, ""), done.out
    after = [int(epoch) for epoch in (tmp_path / "epochs").read_text().split()][len(before) :]
    assert after == list(range(after[0], num_epochs + 1))
    assert 1 < after[0] <= before[-1] + 1, "it went on where the snapshot was, and left nothing out"
    print(f"killed in epoch {before[-1]} of {num_epochs}, went on with {after[0]}")


def test_a_busy_worker_that_is_terminated_alone_costs_no_cell(
    commands: Commands, options: tuple[str, ...], uri: str, expected: dict[str, Any]
) -> None:
    store = tracking.open_store(uri)
    command = commands.start("grid", *options)
    wait_for(lambda: begun(store, 2))
    os.kill(workers(command.pid)[0], signal.SIGTERM)
    done = command.finish()
    assert (done.code, done.err) == (0, ""), done.out
    assert "it is tried once more" in done.out
    check_store(store, expected)


def test_an_idle_worker_that_is_killed_costs_no_cell(
    commands: Commands, options: tuple[str, ...], uri: str, full_length: bool
) -> None:
    """Idle, because what is left waits for the pretraining; it dies with the lock of the pool's queue in its hand."""
    if not full_length:
        pytest.skip(AT_FULL_LENGTH)
    store = tracking.open_store(uri)
    one_row = ("--network", "fc", "--augmentation", "none", "--ae-epochs", "500")
    command = commands.start("grid", *options, *one_row)
    wait_for(lambda: [record.cell[2] for record in store.records().values()] == ["scratch"])
    (busy,) = (int(run.data.tags["aepretrain.pid"]) for run in store.search({"kind": "training"}, RUNNING))
    (idle,) = set(workers(command.pid)) - {busy}
    os.kill(idle, signal.SIGKILL)
    done = command.finish()
    assert (done.code, done.err) == (0, ""), done.out
    assert len(store.records()) == 4
    assert not list(store.search({}, RUNNING))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_told_to_stop_workers_stop_within_5_s(
    number: signal.Signals, code: int, commands: Commands, options: tuple[str, ...], uri: str, full_length: bool
) -> None:
    store = tracking.open_store(uri)
    draw = random.Random(2)  # noqa: S311  # no secret
    times_s = []
    for number_of_try in range(10 if full_length else 1):
        command = commands.start("grid", *options, "--epochs", "5000")
        wait_for(lambda: len(list(store.search({"kind": "training"}, RUNNING))) == 2)
        time.sleep(draw.uniform(0, 1))
        if number_of_try % 2 == 0:
            os.killpg(command.pid, number)  # as a terminal and a service manager send them to all
        else:
            os.kill(command.pid, number)
        times_s.append(wait_for_workers_to_end(command.pid))
        wait_until_gone(command.pid)
        assert "the same command goes on from there" in command.finish().complaint()
        assert command.finish().code == code
        assert {run.info.status for run in store.search({})} == {"KILLED"}
    assert max(times_s) < 5, times_s
    print(f"{number.name}: {len(times_s)} stops, the longest took {max(times_s):.1f} s")


def test_the_same_signal_once_more_ends_the_command_and_its_workers_at_once(
    commands: Commands, options: tuple[str, ...], uri: str
) -> None:
    """Its workers hang, so that at the first signal alone it would wait for them, and end its runs."""
    store = tracking.open_store(uri)
    command = commands.start("grid", *options, "--epochs", "5000")
    wait_for(lambda: command.poll() or begun(store, 2))
    assert command.poll() is None, command.poll()
    for worker in workers(command.pid):
        os.kill(worker, signal.SIGSTOP)
    os.kill(command.pid, signal.SIGTERM)
    time.sleep(0.5)
    os.kill(command.pid, signal.SIGTERM)
    assert "the same command goes on from there" in command.finish().complaint()
    assert command.finish().code == 143
    wait_until_gone(command.pid)
    assert {run.info.status for run in store.search({})} == {"RUNNING"}
    assert commands.run("sync").code == 0
    assert {run.info.status for run in store.search({})} == {"KILLED"}


SLOW_TO_END = """
import os, pathlib, time
from aepretrain.tracking.run_writer import Run

end = Run.end


def end_late(run, status, *time_ms):
    begun, ended = (pathlib.Path(name, f"{run.run_id}-{os.getpid()}") for name in ("begun", "ended"))
    begun.touch()
    try:
        pathlib.Path("first").touch(exist_ok=False)
    except FileExistsError:
        time.sleep(1)
    end(run, status, *time_ms)
    ended.touch()


Run.end = end_late
"""


@pytest.mark.parametrize("to_all", [False, True])
def test_a_worker_that_ends_later_than_the_other_ends_its_runs(
    to_all: bool, commands: Commands, options: tuple[str, ...], uri: str, tmp_path: Path
) -> None:
    """When one worker has ended, its executor terminates the others once more."""
    (tmp_path / "slow_to_end.py").write_text(SLOW_TO_END)
    begun_ones, ended_ones = tmp_path / "begun", tmp_path / "ended"
    begun_ones.mkdir()
    ended_ones.mkdir()
    store = tracking.open_store(uri)
    command = commands.start("grid", *options, "--epochs", "5000", "--plugin", "slow_to_end")
    wait_for(lambda: command.poll() or begun(store, 2))
    (os.killpg if to_all else os.kill)(command.pid, signal.SIGTERM)
    assert command.finish().code == 143
    wait_until_gone(command.pid)
    assert len(list(begun_ones.iterdir())) == 3, "the grid and two trainings, each ended once, by its own process"
    assert {path.name for path in begun_ones.iterdir()} == {path.name for path in ended_ones.iterdir()}
    assert {run.info.status for run in store.search({})} == {"KILLED"}


@pytest.mark.project
def test_one_ctrl_c_under_mlflow_run_lets_the_command_end_its_runs(uri: str, tmp_path: Path) -> None:
    """After the terminal's SIGINT, which all processes get, ``mlflow run`` sends SIGTERM to its command."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "mlflow.db*", "mlartifacts", "mlruns", "docs"))
    begun_ones, ended_ones = folder / "begun", folder / "ended"
    begun_ones.mkdir()
    ended_ones.mkdir()
    (folder / "slow_to_end.py").write_text(SLOW_TO_END)
    values = "network=fc", "dataset=digits", "epochs=5000", "patience=0", "jobs=2", "plugin=slow_to_end"
    given = [text for value in values for text in ("-P", value)]
    store = tracking.open_store(uri)
    command = start_mlflow_run(*given, folder=folder, MLFLOW_TRACKING_URI=uri)
    try:
        wait_for(lambda: command.poll() or begun(store, 2))
        os.killpg(command.pid, signal.SIGINT)
        done = command.finish()
        wait_until_gone(command.pid)
    finally:
        command.kill()
    assert "the same command goes on from there" in done.err, done
    assert len(list(begun_ones.iterdir())) == 3, "the grid and two trainings, each ended once, by its own process"
    assert {path.name for path in begun_ones.iterdir()} == {path.name for path in ended_ones.iterdir()}
    assert not list(store.search({}, RUNNING))


MORTAL = """
import multiprocessing, os, pathlib, signal
import torch
from torch import nn
from aepretrain.networks import Network, register


class Death(nn.Module):
    def forward(self, x):
        if multiprocessing.parent_process() is not None and self.comes():
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    def comes(self):
        return True


class FirstTimeOnly(Death):
    def comes(self):
        try:
            pathlib.Path("was-here").touch(exist_ok=False)
            return True
        except FileExistsError:
            return False


class Mortal(Network):
    frozen_head, trained_head = "first", "second"

    def __init__(self, image_shape, num_classes):
        super().__init__(image_shape, num_classes)
        self.encoder = nn.Sequential(nn.Flatten(), self.death(), nn.Linear(784, 8))
        self.decoder = nn.Sequential(nn.Linear(8, 784), nn.Unflatten(1, (1, 28, 28)))
        self.first, self.second = nn.Linear(8, 10), nn.Linear(8, 10)

    death = Death


class Unlucky(Mortal):
    death = FirstTimeOnly


register("mortal", Mortal)
register("unlucky", Unlucky)
"""


def test_a_worker_that_dies_costs_only_what_kills_it_twice(
    commands: Commands, options: tuple[str, ...], uri: str, tmp_path: Path
) -> None:
    (tmp_path / "networks_that_die.py").write_text(MORTAL)
    done = commands.run(
        *("grid", *options, "--plugin", "networks_that_die", "--network", "mortal,unlucky"),
        *("--augmentation", "none", "--epochs", "3"),
        *("--jobs", "1"),  # so that no one dies in company
    )
    complaint = done.complaint()
    assert done.code == 1, done
    assert "4 of 8 trainings are missing" in complaint
    for variant in ("pretrain", "scratch"):
        assert f"mortal-none-{variant}-3epochs-s0: its worker process died twice" in complaint
    for variant in ("frozen", "finetune"):
        assert f"mortal-none-{variant}-3epochs-s0: not tried, because mortal-none-pretrain-3epochs-s0" in complaint
    assert re.search("unlucky-none-[^ ]*: its worker process died, .*; it is tried once more", done.out), done.out
    store = tracking.open_store(uri)
    assert [record.cell[0] for record in store.records().values()] == ["unlucky"] * 4
    assert {run.info.status for run in store.search({})} == {"FINISHED", "KILLED", "FAILED"}
    assert not list(store.folder.glob("journals/*"))
