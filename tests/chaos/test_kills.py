"""Kill −9 at random moments, signals that stop, and workers that die: nothing is lost, no bit is changed."""

import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from aepretrain import tracking
from tests.chaos.conftest import (
    OPTIONS,
    Commands,
    check_store,
    kill_group,
    wait_for,
    wait_for_workers_to_end,
    wait_until_gone,
    workers,
)

pytestmark = pytest.mark.chaos

SPAN_S = 6.0
"""Kills come at most so long after a grid has begun, or after its first training has."""


def kill(kind: str, parent: int, draw: random.Random) -> None:
    """Kill the command, one of its workers (where there is none, the command), or all its processes."""
    if kind == "group":
        kill_group(parent)
    else:
        os.kill(draw.choice((kind == "worker" and workers(parent)) or [parent]), signal.SIGKILL)


def start_and_kill(commands: Commands, journals: Path, kind: str, draw: random.Random) -> tuple[int, bool]:
    """Start the grid and kill it, or let it end where it ends before; its exit code, and whether it was killed."""
    before = set(journals.glob("*"))
    process = commands.start("grid", *OPTIONS)
    assert process.stdout is not None
    process.stdout.readline()
    if draw.random() < 0.75:
        wait_for(lambda: process.poll() is not None or set(journals.glob("*")) - before)
    with suppress(subprocess.TimeoutExpired):
        process.wait(draw.uniform(0, SPAN_S))
    killed = process.poll() is None
    if killed:
        kill(kind, process.pid, draw)
    _, errors = process.communicate(timeout=200)
    wait_until_gone(process.pid)
    assert "Traceback" not in errors, errors
    assert process.returncode in (0, 1, -signal.SIGKILL), errors
    return process.returncode, killed


def test_kill_9_at_random_moments_changes_no_bit(
    commands: Commands, expected: dict[str, Any], full_length: bool, tmp_path: Path, template: Path
) -> None:
    draw = random.Random(5)  # noqa: S311  # no secret
    kills: list[str] = []
    num_grids = 0
    while len(kills) < (50 if full_length else 2):
        num_grids += 1
        database = tmp_path / f"grid{num_grids}.db"
        shutil.copyfile(template, database)
        commands.environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{database}"
        code = 1
        while code != 0:
            kind = ("parent", "worker", "group")[len(kills) % 3]
            code, killed = start_and_kill(commands, Path(f"{database}.locks", "journals"), kind, draw)
            kills += [kind] * killed
        store = tracking.open_store(f"sqlite:///{database}")
        check_store(store, expected)
        assert [run.info.status for run in store.search({"kind": "grid"})] == ["FINISHED"], "it was entered again"
        print(f"kills: {len(kills)}, grids: {num_grids}, starts: {len(commands.processes)}, lost: 0")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_told_to_stop_workers_stop_within_5_s(
    number: signal.Signals, code: int, commands: Commands, uri: str, full_length: bool
) -> None:
    store = tracking.open_store(uri)
    draw = random.Random(2)  # noqa: S311  # no secret
    times_s = []
    for _ in range(10 if full_length else 1):
        process = commands.start("grid", *OPTIONS, "--epochs", "5000")
        wait_for(lambda: len(list(store.search({"kind": "training"}, "attributes.status = 'RUNNING'"))) == 2)
        time.sleep(draw.uniform(0, 1))
        os.kill(process.pid, number)
        times_s.append(wait_for_workers_to_end(process.pid))
        wait_until_gone(process.pid)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == code
        assert len(errors.strip().splitlines()) == 1
        assert "the same command goes on from there" in errors
        assert {run.info.status for run in store.search({})} == {"KILLED"}
    assert max(times_s) < 5, times_s
    print(f"{number.name}: {len(times_s)} stops, the longest took {max(times_s):.1f} s")


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

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), self.death(), nn.Linear(784, 8))
        self.decoder = nn.Sequential(nn.Linear(8, 784), nn.Unflatten(1, (1, 28, 28)))
        self.first, self.second = nn.Linear(8, 10), nn.Linear(8, 10)

    death = Death


class Unlucky(Mortal):
    death = FirstTimeOnly


register("mortal", Mortal)
register("unlucky", Unlucky)
"""


def test_a_worker_that_dies_costs_only_what_kills_it_twice(commands: Commands, uri: str, tmp_path: Path) -> None:
    (tmp_path / "networks_that_die.py").write_text(MORTAL)
    code, out, errors = commands.run(
        *("grid", *OPTIONS, "--plugin", "networks_that_die", "--network", "fc,mortal,unlucky"),
        *("--augmentation", "none", "--epochs", "3"),
    )
    assert code == 1, out + errors
    assert len(errors.strip().splitlines()) == 1
    assert "4 of 12 trainings are missing" in errors
    for variant in ("pretrain", "scratch"):
        assert f"mortal-none-{variant}-3epochs-s0: its worker process died twice" in errors
    for variant in ("frozen", "finetune"):
        assert f"mortal-none-{variant}-3epochs-s0: not tried, because mortal-none-pretrain-3epochs-s0" in errors
    assert "it is tried once more" in out
    store = tracking.open_store(uri)
    finished = [record.cell[0] for record in store.records().values()]
    assert {name: finished.count(name) for name in finished} == {"fc": 4, "unlucky": 4}
    assert {run.info.status for run in store.search({})} == {"FINISHED", "KILLED", "FAILED"}
    assert not list(store.folder.glob("journals/*"))
