"""The command in processes of its own, to be killed, starved and cut off; and what it should have stored."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aepretrain import suite, tracking
from aepretrain.records import Predictions
from aepretrain.spec import Execution, Settings, grid_specs
from tests.chaos.damage import copied, original
from tests.conftest import ROOT
from tests.test_suite import inline

__all__ = ["copied", "original"]  # fixtures

EPOCHS = 20
OPTIONS = (
    *("--dataset", "digits", "--network", "fc", "--epochs", str(EPOCHS), "--patience", "0"),
    *("--jobs", "2", "--plugin", "quick"),
)
"""A grid of 8 trainings, some seconds in all."""

QUICK = """
from aepretrain import tracking
from aepretrain.suite import snapshots

snapshots.INTERVAL_S = 0.2  # so that short trainings have snapshots
tracking.log_model = lambda *_: None  # exporting takes longer than training
"""


@dataclass
class Commands:
    """Starts ``aepretrain`` in a folder, each time in a process group of its own; all are dead at the end."""

    folder: Path
    environment: dict[str, str]
    processes: "list[subprocess.Popen[str]]" = field(default_factory=list)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "aepretrain", *arguments],
            cwd=self.folder,
            env=os.environ | self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, output and errors of a command that is left alone."""
        process = self.start(*arguments)
        out, errors = process.communicate(timeout=300)
        return process.returncode, out, errors


@pytest.fixture
def commands(tmp_path: Path, uri: str) -> Iterator[Commands]:
    (tmp_path / "quick.py").write_text(QUICK)
    environment = {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": uri, "XDG_STATE_HOME": str(tmp_path / "state")}
    found = Commands(tmp_path, environment)
    yield found
    for process in found.processes:
        kill_group(process.pid)
        process.communicate(timeout=30)


def kill_group(group: int) -> None:
    """Kill -9 whatever is in the process group."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def members(group: int) -> dict[int, int]:
    """The processes of a group that are alive, and the parent of each."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent, of_group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(of_group) == group and state != "Z":
                found[int(entry.name)] = int(parent)
    return found


def workers(group: int) -> list[int]:
    """Those that train: the leader's grandchildren, for a server between forks them."""
    return [pid for pid, parent in members(group).items() if group not in (pid, parent)]


def wait_for(condition: Callable[[], object], timeout_s: float = 180) -> float:
    """Wait until something is so; gives how long it took."""
    started_s = time.monotonic()
    while not condition():
        assert time.monotonic() - started_s < timeout_s, "it never came"
        time.sleep(0.05)
    return time.monotonic() - started_s


def wait_until_gone(group: int, timeout_s: float = 60) -> float:
    """Wait until no process of the group is left; gives how long it took."""
    return wait_for(lambda: not members(group), timeout_s)


def wait_for_workers_to_end(group: int) -> float:
    """Wait until nothing trains any more; gives how long it took."""
    return wait_for(lambda: not workers(group))


def begun(store: tracking.Store, num: int = 1) -> bool:
    """Whether so many trainings have logged an epoch."""
    return len(list(store.search({"kind": "training"}, "metrics.val_loss > 0"))) >= num


def stored(store: tracking.Store) -> dict[str, Any]:
    """Everything of each finished training that is not a time, an id or a host, by key."""
    found = {}
    for key, record in store.records().items():
        history = [(one.epoch, one.train_loss, one.val_loss, one.val_accuracy) for one in store.history(record)]
        metrics = {name: value for name, value in record.metrics.items() if not name.endswith("_s")}
        weights = store.weights(record)  # compared with its SHA-256 on the way
        predictions: list[Any] = []
        if record.cell[2] != "pretrain":
            content = store.artifact(record.run_id, "evidence/predictions.npz")
            predictions = [array.tobytes() for array in vars(Predictions.from_bytes(content)).values()]
        assert all(np.isfinite(list(record.metrics.values())))
        found[key] = (metrics, history, record.tags["weights_sha256"], len(weights), predictions)
    return found


def check_store(store: tracking.Store, expected: dict[str, Any]) -> None:
    """All cells are there, once, with the bits they should have; nothing is left running, no number is there twice."""
    runs = list(store.search({}))
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED", "FAILED"}
    done = [run for run in runs if "aepretrain.done" in run.data.tags and run.info.status == "FINISHED"]
    keys = [run.data.tags["aepretrain.key"] for run in done]
    assert len(keys) == len(set(keys)), "no cell was trained twice to its end"
    assert stored(store) == expected
    for run in done:
        for name in ("train_loss", "val_loss", "elapsed_s"):
            points = store.bare_client.get_metric_history(run.info.run_id, name)
            steps = [point.step for point in points]
            assert steps == sorted(set(steps)), "no number is there twice"
            assert len(steps) == run.data.metrics["num_epochs"]
    assert not list(store.folder.glob("*.snapshot"))
    assert not list(store.folder.glob("journals/*"))


@pytest.fixture(scope="session")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What an uninterrupted grid of `OPTIONS` stores, trained in this process, one after the other."""
    torch.set_num_threads(1)  # as a worker has it; this is set up before what each test sets up
    folder = tmp_path_factory.mktemp("expected")
    store = tracking.open_store(f"sqlite:///{folder}/mlflow.db")
    settings = Settings(dataset="digits", ae_epochs=EPOCHS, cls_epochs=EPOCHS, patience=0)
    specs = grid_specs(("fc",), ("none", "erasing"), (0,), settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        patch.setattr(tracking, "log_model", lambda *_: None)
        suite.run_grid(specs, store, Execution(device="cpu"), lambda _: None, lambda *_: None, make_pool=inline)
    return stored(store)
