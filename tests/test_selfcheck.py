"""The self-check of an accelerator, on the CPU: with a device that agrees, and with devices that are made to fail."""

import json
import math
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional

from aepretrain import Execution, Failure, runner, tracking, training
from aepretrain.cli import program
from aepretrain.config import TrainingSpec
from aepretrain.data import Dataset
from aepretrain.display import Display
from aepretrain.engine import Trained, loop
from aepretrain.networks import Network, build
from aepretrain.runner import dask
from aepretrain.runner.events import Event
from aepretrain.runner.work import Job, make_job
from aepretrain.training import selfcheck
from aepretrain.training.selfcheck import EPOCHS, STEPS, TRIALS, Finding, Trial, check_device, train_on
from tests.grids import inline

CPU, CUDA = torch.device("cpu"), torch.device("cuda")

Results = list[Trained | Failure]
Device = Callable[[Trial], Results]
"""What a device that is called ``cuda`` here makes of a trial."""

Run = Callable[..., tuple[int, str, str]]

PLAN = """\
question: Does it help?
smallest_effect: 0.001
alpha: 0.05
datasets: [digits]
networks: {fc: 0}
augmentations: [none]
objectives: [reconstruct]
labels: [all]
comparisons: [frozen - scratch]
families: [comparison]
settings: {ae_epochs: 1, cls_epochs: 1}
"""

Install = Callable[[Device], list[Trial]]
"""Makes that device the only accelerator; gives the list of the trials that it is asked for from then on."""

_results: dict[Trial, Results] = {}


def good(trial: Trial) -> Results:
    """What the CPU makes of a trial, trained once."""
    if trial not in _results:
        _results[trial] = train_on(CPU, trial)
    return list(_results[trial])


def out_of_memory(_: Trial) -> Results:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.\nSee the documentation")


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    def begin(device: Device) -> list[Trial]:
        asked: list[Trial] = []

        def train_there(where: torch.device, trial: Trial) -> Results:
            if where == CPU:
                return good(trial)
            asked.append(trial)
            return device(trial)

        monkeypatch.setattr(selfcheck, "train_on", train_there)
        monkeypatch.setattr(training, "resolve_device", lambda name: CPU if name == "cpu" else CUDA)
        return asked

    return begin


def test_a_device_that_agrees_passes_with_each_network_task_and_size_of_a_stack() -> None:
    assert check_device(torch.device("cpu", 0), 1) is None
    assert {(one.network, one.variant) for one in TRIALS} == {
        (network, variant) for network in ("fc", "conv") for variant in ("pretrain", "frozen", "finetune")
    }
    assert {len(one.seeds) for one in TRIALS} == {1, 2}
    assert {one.augmentation for one in TRIALS} == {"none", "erasing"}
    assert EPOCHS * STEPS == 50


def found(device: Device, install: Install) -> tuple[Finding, list[Trial]]:
    asked = install(device)
    finding = check_device(CUDA, 1)
    assert finding is not None
    return finding, asked


def with_loss(trial: Trial, factor: float) -> Results:
    """The results with another validation loss of the last seed in the third epoch, and twice as wrong afterwards."""
    *others, last = good(trial)
    assert isinstance(last, Trained)
    factors = [1.0, 1.0, factor, *[2 * factor - 1] * (EPOCHS - 3)]
    history = [replace(one, val_loss=one.val_loss * factor) for one, factor in zip(last.history, factors, strict=True)]
    return [*others, replace(last, history=tuple(history))]


@pytest.mark.parametrize("wrong", TRIALS, ids=str)
def test_a_device_that_disagrees_in_one_trial_is_found_there(wrong: Trial, install: Install) -> None:
    finding, asked = found(lambda trial: with_loss(trial, 1.0004 if trial == wrong else 1.00004), install)
    assert asked == list(TRIALS[: TRIALS.index(wrong) + 1]), "and nothing is tried after it"
    assert finding.trial == wrong
    assert finding.num_steps == 15
    assert finding.largest_difference == pytest.approx(0.0008, rel=1e-3)
    assert f"after 15 steps the validation loss of seed {wrong.seeds[-1]} is " in finding.what
    assert "(relative difference 4.0e-04, allowed 1e-04)" in finding.what


@pytest.mark.parametrize(("factor", "is_found"), [(1.05, True), (math.nan, True), (1.001, False)])
def test_weights_that_come_back_wrong_are_found(factor: float, is_found: bool, install: Install) -> None:
    def device(trial: Trial) -> Results:
        *others, last = good(trial)
        assert isinstance(last, Trained)
        name = list(last.last_weights)[-1]
        weights = {**last.last_weights, name: last.last_weights[name] * factor}
        return [*others, replace(last, last_weights=weights)]

    install(device)
    finding = check_device(CUDA, 1)
    assert (finding is not None) == is_found
    assert finding is None or "after 50 steps the weights network." in finding.what


def in_tf32(values: Tensor) -> Tensor:
    """The values with 11 significant bits (Dekker 1971), with gradients as if nothing was rounded."""
    exact = values.detach()
    product = exact * (2**13 + 1)
    return values + (product - (product - exact) - exact)


def test_a_device_that_multiplies_in_tf32_is_found(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    def device(trial: Trial) -> Results:
        def forward(layer: nn.Linear, inputs: Tensor) -> Tensor:
            return functional.linear(in_tf32(inputs), in_tf32(layer.weight), layer.bias)

        with monkeypatch.context() as context:
            context.setattr(nn.Linear, "forward", forward)
            return train_on(CPU, trial)

    finding, _ = found(device, install)
    assert "loss of seed 0" in finding.what


def test_a_device_that_computes_in_mixed_precision_is_found(install: Install) -> None:
    def device(trial: Trial) -> Results:
        with torch.autocast("cpu", torch.bfloat16):
            return train_on(CPU, trial)

    finding, asked = found(device, install)
    assert asked == [TRIALS[0]]
    assert finding.num_steps == STEPS


def test_an_exception_is_told_by_its_first_line(install: Install) -> None:
    def device(_: Trial) -> Results:
        raise RuntimeError("CUDA error: no kernel image is available\nCompile with TORCH_USE_CUDA_DSA")

    finding, _ = found(device, install)
    assert str(finding) == f"{TRIALS[0]}: RuntimeError: CUDA error: no kernel image is available"
    assert finding.num_steps is None
    assert "Traceback" in finding.trace
    assert "TORCH_USE_CUDA_DSA" in finding.trace


def test_a_device_without_memory_is_found(install: Install) -> None:
    finding, _ = found(out_of_memory, install)
    assert finding.what == "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 MiB."


def test_a_loss_that_is_not_finite_is_found(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> Network:
        network = build(*arguments)
        nn.init.constant_(next(network.encoder.parameters()), math.inf)
        return network

    def device(trial: Trial) -> Results:
        with monkeypatch.context() as context:
            context.setattr("aepretrain.training.selfcheck.build", broken)
            return train_on(CPU, trial)

    finding, _ = found(device, install)
    assert "seed 0: the loss is not finite in epoch 1" in finding.what


def test_ctrl_c_is_no_finding(install: Install) -> None:
    def device(_: Trial) -> Results:
        raise KeyboardInterrupt

    install(device)
    before = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        check_device(CUDA, before + 1)
    assert torch.get_num_threads() == before


class RecordedStep:
    """A recorded step as the engine uses it, without a graph. A stale one always gets the first batch."""

    num_replays = 0
    is_stale = False

    def __init__(self, step: Callable[[Tensor], Tensor], index_SB: Tensor) -> None:
        self.index_SB = index_SB.clone()
        self._step = step

    def __call__(self, index_SB: Tensor) -> Tensor:
        RecordedStep.num_replays += 1
        return self._step(self.index_SB if self.is_stale else index_SB)


@pytest.mark.parametrize("is_stale", [False, True])
def test_recorded_steps_are_checked(is_stale: bool, install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each trial replays recorded steps: one in the first epoch, after three to warm up, and then four an epoch."""

    def can_graph(run: Any, _: Tensor, batches: Any) -> bool:
        return run.num_steps >= loop.WARM_UP_STEPS and len(batches) > 1

    def device(trial: Trial) -> Results:
        with monkeypatch.context() as context:
            context.setattr(loop, "GraphedStep", RecordedStep)
            context.setattr(loop._Run, "_can_graph", can_graph)
            return train_on(CPU, trial)

    monkeypatch.setattr(RecordedStep, "num_replays", 0)
    monkeypatch.setattr(RecordedStep, "is_stale", is_stale)
    asked = install(device)
    finding = check_device(CUDA, 1)
    assert RecordedStep.num_replays == len(asked) * (1 + 4 * (EPOCHS - 1))
    assert (finding is not None) == is_stale


def test_trainings_compute_in_full_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where TF32 is on, as in containers with TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1; and mixed precision is off."""
    flags: list[Any] = [torch.backends.cudnn, torch.backends.cuda.matmul]
    before = [flag.allow_tf32 for flag in flags]
    try:
        for flag in flags:
            flag.allow_tf32 = True
        training.prepare_process(1)
        assert [flag.allow_tf32 for flag in flags] == [False, False]
    finally:
        for flag, value in zip(flags, before, strict=True):
            flag.allow_tf32 = value
    seen: set[tuple[bool, bool, torch.dtype]] = set()

    def watched(outputs: Tensor, targets: Tensor) -> Tensor:
        seen.add((torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda"), outputs.dtype))
        return functional.mse_loss(outputs, targets)

    monkeypatch.setattr("aepretrain.objectives.Reconstruct.LOSSES", {"mse": watched})
    train_on(CPU, TRIALS[0])
    assert seen == {(False, False, torch.float32)}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_passes() -> None:
    assert check_device(CUDA, 1) is None


@pytest.fixture
def command(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command that trains in this process; gives its exit code and what it prints."""
    monkeypatch.setattr("aepretrain.runner.grid.log_model", lambda *_: None)
    monkeypatch.setattr(runner, "local_pool", inline)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan.yaml").write_text(PLAN)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["aepretrain", *arguments, "--tracking-uri", uri])
        code = program._run()
        return code, *capsys.readouterr()

    return run


CELL = ("--network", "fc", "--augmentation", "none", "--dataset", "digits", "--epochs", "1")
COMMANDS = {
    "grid": ("grid", *CELL),
    "scratch": ("scratch", *CELL),
    "tune": ("tune", *CELL, "--trials", "1"),
    "study": ("study", "robustness", *CELL),
    "run": ("run", "plan.yaml"),
}


def devices(uri: str) -> list[str]:
    """The devices that the finished trainings of a store name."""
    return [record.tags["device"] for record in tracking.open_store(uri).records().values()]


def report_of(line: str) -> dict[str, Any]:
    match = re.search(r"Please send the report (\S+/mlflow\.db\.locks/device-check-cuda\.json)$", line)
    assert match is not None, line
    report: dict[str, Any] = json.loads(Path(match[1]).read_text())
    return report


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_in_one_line_that_it_takes_the_cpu(name: str, uri: str, install: Install, command: Run) -> None:
    asked = install(lambda trial: with_loss(trial, 1.0004))
    code, _, err = command(*COMMANDS[name])
    assert code == 0
    (line,) = err.splitlines()
    assert line.startswith(
        "the device cuda failed its self-check: pretrain of fc (none, a stack of 2 seeds): after 15 steps the "
        "validation loss of seed 1 is "
    )
    assert "; the CPU is used instead. Please send the report " in line
    assert asked == [TRIALS[0]], "it is checked once"
    assert set(devices(uri)) == {"cpu"}
    report = report_of(line)
    assert report["training"] == "pretrain of fc (none, a stack of 2 seeds)"
    assert (report["device"], report["steps"], report["exception"]) == ("cuda", 15, "")
    assert report["largest_difference"] == pytest.approx(0.0008, rel=1e-3)
    assert report["torch"] == torch.__version__


@pytest.mark.parametrize("name", COMMANDS)
def test_a_device_that_was_asked_for_ends_the_command(name: str, uri: str, install: Install, command: Run) -> None:
    asked = install(out_of_memory)
    code, _, err = command(*COMMANDS[name], "--device", "cuda")
    assert code == 1
    (line,) = err.splitlines()
    assert line.startswith(
        "aepretrain: the device cuda failed its self-check: pretrain of fc (none, a stack of 2 seeds): "
        "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 MiB.; nothing is trained. Use --device cpu. "
    )
    assert asked == [TRIALS[0]]
    assert list(tracking.open_store(uri).search({})) == [], "no run was begun"
    assert "torch.OutOfMemoryError" in report_of(line)["exception"]


@pytest.mark.parametrize("name", ["grid", "scratch", "run"])
def test_nothing_is_checked_where_nothing_is_to_be_trained(name: str, install: Install, command: Run) -> None:
    assert command(*COMMANDS[name], "--device", "cpu")[0] == 0
    asked = install(out_of_memory)
    assert command(*COMMANDS[name], "--device", "cuda")[::2] == (0, "")
    assert asked == []
    assert command(*COMMANDS[name], "--device", "cuda", "--force")[0] == 1
    assert len(asked) == 1


def test_a_cpu_and_a_preview_are_not_checked(install: Install, command: Run) -> None:
    asked = install(out_of_memory)
    assert command(*COMMANDS["grid"], "--device", "cpu")[0] == 0
    assert command(*COMMANDS["run"], "--dry-run")[0] == 0
    assert asked == []


def test_a_device_that_passes_stays(store: tracking.Store, install: Install) -> None:
    asked = install(good)
    lines: list[str] = []
    for execution in (Execution(), Execution(device="cuda", stack=3)):
        assert runner.with_checked_device(execution, store, lines.append) == execution
    assert lines == []
    assert asked == [*TRIALS, *TRIALS]
    assert not list(store.folder.glob("device-check*"))


def test_a_report_that_cannot_be_written_stops_nothing(store: tracking.Store, install: Install) -> None:
    (store.folder / "device-check-cuda.json").mkdir()  # where no file can be
    install(out_of_memory)
    lines: list[str] = []
    assert runner.with_checked_device(Execution(), store, lines.append) == Execution(device="cpu")
    (line,) = lines
    assert line.endswith(f"The report cannot be written to {store.folder}/device-check-cuda.json")


def jobs_for(device: str, store: tracking.Store, digits: Dataset) -> list[Job]:
    specs = [TrainingSpec(variant="scratch", network="fc", seed=seed) for seed in (0, 1)]
    return [make_job(one, digits.digests, store, Execution(device=device)) for one in specs]


def test_a_clusters_worker_checks_its_own_device_once(
    store: tracking.Store, digits: Dataset, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask, "_checked", {})
    asked = install(out_of_memory)
    events: list[Event] = []
    jobs = jobs_for("auto", store, digits)
    for _ in range(2):
        found = dask._on_checked_device(jobs, events.append)
        assert found == [replace(job, execution=Execution(device="cpu")) for job in jobs]
    assert asked == [TRIALS[0]]
    (event,) = events
    assert (event.kind, event.spec) == ("warning", jobs[0].spec)
    assert re.match(r"on \S+, the device cuda failed its self-check: ", event.message)
    with pytest.raises(Failure, match="nothing is trained"):
        dask._on_checked_device(jobs_for("cuda", store, digits), events.append)


def test_a_workers_warning_is_shown_and_settles_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    spec = TrainingSpec(variant="scratch", network="fc")
    with Display(Console(width=200), [spec]) as display:
        display.handle(Event("warning", spec, message="on far, the device cuda failed"))
    assert capsys.readouterr().out == "fc-none-scratch-s0: on far, the device cuda failed\n"
