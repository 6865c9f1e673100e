"""The command in processes of its own, to be killed, starved and cut off; and what it should have stored."""

import pickle
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aepretrain import data, runner, tracking
from aepretrain.config import Execution, Settings, grid_specs
from aepretrain.data import mnist
from aepretrain.records import Predictions
from tests.chaos.damage import copied, original
from tests.commands import Command, Done, anew, forked, start
from tests.conftest import HAS_MNIST, MNIST_DIR, Once
from tests.grids import inline

__all__ = ["copied", "original"]  # fixtures

EPOCHS = 20

QUICK = """
from aepretrain import tracking
from aepretrain.data import mnist
from aepretrain.data.dataset import with_digest
from aepretrain.runner import snapshots

load_whole = mnist.load


def load_slice(name, data_dir):
    whole = load_whole(name, data_dir)
    parts = whole.images_NCHW[:600], whole.labels_N[:600], whole.test_images_NCHW[:200], whole.test_labels_N[:200]
    return with_digest(name, whole.source, *parts)


mnist.load = load_slice
snapshots.INTERVAL_S = 0.2  # so that short trainings have snapshots
tracking.log_model = lambda *_: None  # exporting takes longer than training
"""
"""A plugin with which a grid takes seconds: a slice of MNIST, and no models."""


@pytest.fixture(scope="package", autouse=True)
def undrawn(full_length: bool) -> Iterator[None]:
    """In short no training draws its figures, which takes as long as all else; other artifacts go the same way."""
    with pytest.MonkeyPatch.context() as patch:
        if not full_length:
            patch.setattr(tracking.Run, "log_figure", lambda *_: None)
        yield


@pytest.fixture(scope="session")
def options(full_length: bool) -> tuple[str, ...]:
    """Of a grid of 4 trainings, or of all 16, on a slice of real MNIST (where it is, else on the digits)."""
    networks, augmentations = ("fc,conv", "none,erasing") if full_length else ("fc", "erasing")
    return (
        *("--dataset", "mnist" if HAS_MNIST else "digits", "--network", networks),
        *("--augmentation", augmentations, "--epochs", str(EPOCHS), "--patience", "0"),
        *("--jobs", "2", "--plugin", "quick"),
    )


@dataclass
class Commands:
    """Starts ``aepretrain`` in a folder, each time in a process group of its own; all are dead at the end.

    Either `anew`, as a user does, or forked from the process that tests, which takes a second instead of ten.
    """

    folder: Path
    environment: dict[str, str]
    anew: bool
    started: list[Command] = field(default_factory=list)

    def start(self, *arguments: str) -> Command:
        self.started.append(start(partial(anew if self.anew else forked, *arguments), self.folder, **self.environment))
        return self.started[-1]

    def run(self, *arguments: str) -> Done:
        """What a command leaves that is left alone."""
        return self.start(*arguments).finish()

    def kill(self) -> None:
        """Kill what has not ended."""
        for command in self.started:
            command.kill()


@pytest.fixture
def commands(tmp_path: Path, uri: str, full_length: bool) -> Iterator[Commands]:
    (tmp_path / "quick.py").write_text(QUICK)
    environment = {"MLFLOW_TRACKING_URI": uri, "XDG_STATE_HOME": str(tmp_path / "state")}
    if HAS_MNIST:
        environment["AEPRETRAIN_DATA_DIR"] = str(MNIST_DIR)
    found = Commands(tmp_path, environment, anew=full_length or torch.accelerator.is_available())
    yield found
    found.kill()


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
    """Those that train: the leader's children and grandchildren, but not the servers of Python's multiprocessing."""
    return [
        pid
        for pid, parent in members(group).items()
        if pid != group and (parent != group or "multiprocessing" not in command_line(pid))
    ]


def command_line(pid: int) -> str:
    """A process's command line; nothing where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def wait_for(condition: Callable[[], object], timeout_s: float = 180) -> float:
    """Wait until something is so; gives how long it took."""
    started_s = time.monotonic()
    while not condition():
        assert time.monotonic() - started_s < timeout_s, "it never came"
        time.sleep(0.1)
    return time.monotonic() - started_s


def wait_until_gone(group: int, timeout_s: float = 60) -> float:
    """Wait until no process of the group is left; gives how long it took."""
    return wait_for(lambda: not members(group), timeout_s)


def wait_for_workers_to_end(group: int) -> float:
    """Wait until nothing trains any more; gives how long it took."""
    return wait_for(lambda: not workers(group))


def begun(store: tracking.Store, num: int = 1) -> bool:
    """Whether so many trainings have logged an epoch."""
    return len(list(store.search({"kind": "training"}, "metrics.`loss/validation` > 0"))) >= num


def stored(store: tracking.Store) -> dict[str, Any]:
    """Everything of each finished training that is not a time, an id or a host, by key."""
    found = {}
    for key, record in store.records().items():
        history = [store.curves([record], metric)[0] for metric in ("train_loss", "val_loss", "val_accuracy")]
        metrics = {name: value for name, value in record.metrics.items() if not name.endswith("_s")}
        weights = store.weights(record)  # compared with its SHA-256 on the way
        predictions: list[Any] = []
        if record.cell[2] != "pretrain":
            content = store.artifact(record, "evidence/predictions.npz")
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
        for name in ("loss/train", "loss/validation", "training/seconds_per_epoch"):
            points = store.bare_client.get_metric_history(run.info.run_id, name)
            steps = [point.step for point in points]
            assert steps == sorted(set(steps)), "no number is there twice"
            assert len(steps) == run.data.metrics["training/num_epochs"]
    left = [one for name in ("*.snapshot", "*.partial", "journals/*") for one in store.folder.glob(name)]
    assert not left


@pytest.fixture(scope="package")
def expected(options: tuple[str, ...], template: Path, once: Once) -> dict[str, Any]:
    """What an uninterrupted grid of these options stores, trained in this process, one after the other."""
    torch.set_num_threads(1)  # as a worker has it; this is set up before what each test sets up

    def train(path: Path) -> None:
        database = path.with_suffix(".db")
        shutil.copyfile(template, database)
        store = tracking.open_store(f"sqlite:///{database}")
        given = dict(zip(options[::2], options[1::2], strict=True))
        settings = Settings(dataset=given["--dataset"], ae_epochs=EPOCHS, cls_epochs=EPOCHS, patience=0)
        networks, augmentations = (tuple(given[name].split(",")) for name in ("--network", "--augmentation"))
        specs = grid_specs(networks, augmentations, (0,), settings)
        execution = Execution(device="cpu", data_dir=str(MNIST_DIR) if HAS_MNIST else None)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
            patch.setattr(mnist, "load", mnist.load)  # so that what the plugin changes is undone
            patch.setattr(runner.snapshots, "INTERVAL_S", runner.snapshots.INTERVAL_S)
            patch.setattr(tracking, "log_model", tracking.log_model)
            patch.setattr(data, "_loaded", {})
            exec(QUICK, {})  # noqa: S102  # ours
            runner.run_grid(specs, store, execution, lambda _: None, lambda *_: None, make_pool=inline)
        path.write_bytes(pickle.dumps(stored(store)))

    found: dict[str, Any] = pickle.loads(once("expected.pickle", train).read_bytes())  # noqa: S301  # ours
    return found
