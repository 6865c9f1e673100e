"""Self-check of an accelerator: small trainings there and on the CPU, from the same state, must agree.

They take the way of every training: the tasks of `make_task` and the engine's loop, with recorded CUDA graphs.

Shapes: N images.
"""

import platform
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import product
from typing import Any

import torch

from aepretrain.config import MNIST_SHAPE, Settings, TrainingSpec
from aepretrain.engine import Trained, train
from aepretrain.errors import Failure
from aepretrain.networks import build
from aepretrain.training.batches import Images
from aepretrain.training.device import describe_machine, prepare_process
from aepretrain.training.tasks import make_task

CPU = torch.device("cpu")

BATCH_SIZE = 8
NUM_TRAINING = 4 * BATCH_SIZE + 4  # five steps an epoch; the last has another shape, so it is not recorded
NUM_VALIDATION = 20
STEPS = 5
EPOCHS = 10
IMAGES_SEED = 1
"""Of the seeds 0 to 2, images of this one depend least on rounding: with 0, `conv` differs by up to 3e-5."""

SETTINGS = Settings(batch_size=BATCH_SIZE, ae_epochs=EPOCHS, cls_epochs=EPOCHS, patience=0)

LOSS_TOLERANCE = 1e-4
"""Largest relative difference of a mean loss over 50 steps.

Weights that begin with other last bits change it by 3e-7 at most. TF32 changes it by 2e-4 to 2e-2, but for a frozen
encoder (5e-6).
"""

WEIGHTS_TOLERANCE = 1e-2
"""Largest norm of the difference of a tensor of weights, relative to its norm.

Larger than that of losses, as Adam makes full steps of the rounding of a gradient near 0. Other last bits change it by
3e-5 at most.
"""


@dataclass(frozen=True)
class Trial:
    """A training that is tried on both devices."""

    network: str
    variant: str
    augmentation: str
    seeds: tuple[int, ...]

    def __str__(self) -> str:
        of_seeds = "one seed" if len(self.seeds) == 1 else f"a stack of {len(self.seeds)} seeds"
        return f"{self.variant} of {self.network} ({self.augmentation}, {of_seeds})"


TRIALS = tuple(
    Trial(network, variant, augmentation, seeds)
    for network, variant, (augmentation, seeds) in product(
        ("fc", "conv"), ("pretrain", "frozen", "finetune"), (("none", (0, 1)), ("erasing", (0,)))
    )
)
"""With and without codes that are computed once; for one model and for stacked ones."""


@dataclass(frozen=True)
class Finding:
    """Why a device is not trusted."""

    trial: Trial
    what: str
    """What was found, in one line."""
    num_steps: int | None = None
    """The number of steps after which the losses or weights differ; None where the training ended with an error."""
    largest_difference: float | None = None
    """The largest relative difference of all losses or weights that were compared."""
    trace: str = ""
    """Where the exception was raised."""

    def __str__(self) -> str:
        return f"{self.trial}: {self.what}"


def check_device(device: torch.device, num_threads: int) -> Finding | None:
    """Why training on a device cannot be trusted; None where it agrees with the CPU.

    Both compute as `prepare_process` sets it. The process has as many threads as before afterwards.
    """
    with _prepared(num_threads):
        for trial in TRIALS:
            expected = train_on(CPU, trial)
            try:
                found = train_on(device, trial)
            except Exception as error:  # noqa: BLE001  # drivers and kernels may raise anything
                return Finding(trial, _in_short(error), trace=traceback.format_exc())
            finding = _compare(trial, found, expected)
            if finding is not None:
                return finding
    return None


@contextmanager
def _prepared(num_threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    prepare_process(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        with suppress(RuntimeError):  # as after an error that no kernel survives
            torch.accelerator.empty_cache()  # workers need the memory


def train_on(device: torch.device, trial: Trial) -> list[Trained | Failure]:
    """What a device makes of a trial, by seed. The last weights are on the CPU."""
    generator = torch.Generator().manual_seed(IMAGES_SEED)
    num = NUM_TRAINING + NUM_VALIDATION
    images_NCHW = torch.randint(0, 256, (num, *MNIST_SHAPE.image), generator=generator, dtype=torch.uint8)
    labels_N = torch.randint(0, MNIST_SHAPE.num_classes, (num,), generator=generator)

    def images(rows_N: torch.Tensor) -> Images:
        return Images.on_device(images_NCHW, labels_N, [rows_N] * len(trial.seeds), SETTINGS, device)

    training, validation = images(torch.arange(NUM_TRAINING)), images(torch.arange(NUM_TRAINING, num))
    one = TrainingSpec(variant=trial.variant, network=trial.network, augmentation=trial.augmentation, settings=SETTINGS)
    specs = [replace(one, seed=seed) for seed in trial.seeds]
    networks = [build(trial.network, seed, MNIST_SHAPE).to(device) for seed in trial.seeds]
    results = train(make_task(specs, networks, training, validation), lambda *_: None)
    return [
        result
        if isinstance(result, Failure)
        else replace(result, last_weights={name: weight.to(CPU) for name, weight in result.last_weights.items()})
        for result in results
    ]


def _compare(trial: Trial, found: Sequence[Trained | Failure], expected: Sequence[Trained | Failure]) -> Finding | None:
    for seed, ours, theirs in zip(trial.seeds, found, expected, strict=True):
        assert isinstance(theirs, Trained), "the CPU trains it"
        if isinstance(ours, Failure):
            return Finding(trial, f"seed {seed}: {ours}")
        finding = _compare_losses(trial, seed, ours, theirs) or _compare_weights(trial, seed, ours, theirs)
        if finding is not None:
            return finding
    return None


def _compare_losses(trial: Trial, seed: int, found: Trained, expected: Trained) -> Finding | None:
    compared = [
        (abs(value - wanted) / wanted, ours.epoch * STEPS, f"{name} loss of seed {seed}", value, wanted)
        for ours, theirs in zip(found.history, expected.history, strict=True)
        for name, value, wanted in (
            ("training", ours.train_loss, theirs.train_loss),
            ("validation", ours.val_loss, theirs.val_loss),
        )
    ]
    first = next((one for one in compared if not one[0] <= LOSS_TOLERANCE), None)
    if first is None:
        return None
    difference, num_steps, name, value, wanted = first
    return Finding(
        trial,
        f"after {num_steps} steps the {name} is {value:.6g}, on the CPU {wanted:.6g} "
        f"(relative difference {difference:.1e}, allowed {LOSS_TOLERANCE:.0e})",
        num_steps,
        max(one[0] for one in compared),
    )


def _compare_weights(trial: Trial, seed: int, found: Trained, expected: Trained) -> Finding | None:
    differences = {
        name: float((found.last_weights[name] - weight).norm() / weight.norm())
        for name, weight in expected.last_weights.items()
    }
    wrong = {name: one for name, one in differences.items() if not one <= WEIGHTS_TOLERANCE}
    if not wrong:
        return None
    name, difference = next(iter(wrong.items()))
    return Finding(
        trial,
        f"after {EPOCHS * STEPS} steps the weights {name} of seed {seed} differ from those of the CPU "
        f"(relative difference {difference:.1e}, allowed {WEIGHTS_TOLERANCE:.0e})",
        EPOCHS * STEPS,
        max(differences.values()),
    )


def _in_short(error: Exception) -> str:
    """An exception's class and the first line of its message, of which CUDA has several."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"


def report_on(device: torch.device, finding: Finding) -> Mapping[str, Any]:
    """What the authors need to know of a device that is not trusted, as values for JSON."""
    return {
        "aepretrain": version("aepretrain"),
        "device": str(device),
        "card": _card(device),
        "system": platform.platform(),
        **describe_machine(CPU),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "training": str(finding.trial),
        "found": finding.what,
        "steps": finding.num_steps,
        "largest_difference": finding.largest_difference,
        "exception": finding.trace,
    }


def _card(device: torch.device) -> str:
    """The card's name and what it can do; empty where the driver does not tell."""
    with suppress(Exception):
        if device.type == "cuda":
            return f"{torch.cuda.get_device_name(device)}, capability {torch.cuda.get_device_capability(device)}"
    return ""
