"""The input and the output of the training loop.

Shapes: S seeds of the stack, B batch, K classes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from aepretrain.records import EpochResult

Select = Callable[[Tensor], tuple[Tensor, Tensor]]
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Examples:
    """The source of batches; each seed of the stack has `num` items.

    `at_epoch(epoch, members)` draws what an epoch needs for the seeds at these places of the original stack, and gives
    the function that selects a batch by index: int64 [S, B] → inputs [S, B, …] and targets [S, B, …].
    """

    num: int
    at_epoch: Callable[[int, Sequence[int]], Select]
    device: torch.device


@dataclass(frozen=True)
class Rate:
    """How fast a weight learns: its learning rate, and the number of steps before it begins to learn."""

    lr: float
    starts_after: int = 0


@dataclass(frozen=True)
class Hyperparameters:
    """How long and how fast to learn.

    An epoch is `passes` passes over the training items, followed by validation. Training ends early when `updates`
    steps are taken.
    """

    epochs: int
    batch_size: int
    lr: float
    patience: int
    passes: int = 1
    updates: int | None = None
    rates: Mapping[str, Rate] = field(default_factory=dict)
    """Rates of weights whose names begin with these texts; all others learn at `lr` from the start."""
    weight_decay: float = 0.0
    """Of AdamW (Loshchilov and Hutter 2019)."""
    schedule: str = "constant"
    """``constant``, or ``cosine``: over `epochs`, the rates fall to zero along half a cosine, a step an epoch."""

    def rate_of(self, name: str) -> Rate:
        """The rate of a weight of this name."""
        given = (rate for prefix, rate in self.rates.items() if name.startswith(prefix))
        return next(given, Rate(self.lr))

    def factor(self, epoch: int) -> float:
        """What the schedule multiplies all rates with in an epoch, which count from 1."""
        return (1 + math.cos(math.pi * (epoch - 1) / self.epochs)) / 2 if self.schedule == "cosine" else 1.0


@dataclass(frozen=True)
class Task:
    """The trainings of a stack, which differ only in their seeds. Weights that require gradients are learned.

    `loss` gives the mean over the batch, a scalar, from one seed's outputs and targets. With `classifies`, outputs are
    logits [B, K] and targets are classes [B], and validation accuracy is computed.
    """

    models: Sequence[nn.Module]
    seeds: Sequence[int]
    loss: Loss
    train: Examples
    validation: Examples
    classifies: bool
    order: str
    """The purpose that names the random stream of the order of training items."""
    hyperparameters: Hyperparameters


@dataclass(frozen=True)
class Trained:
    """A finished training. Its model holds the weights of `best_epoch`, which has the lowest validation loss."""

    history: tuple[EpochResult, ...]
    best_epoch: int
    last_weights: Mapping[str, Tensor]
    """The weights after the last epoch, as `set_weights` takes them."""
    most_accurate_epoch: int = 0
    """The epoch with the highest validation accuracy, the first of several; 0 if the task does not classify."""
    most_accurate_weights: Mapping[str, Tensor] = field(default_factory=dict)
    """The weights of that epoch."""


class Snapshots(Protocol):
    """The storage of a training's state, from which another process resumes with the same bits.

    A state holds tensors, numbers, text, lists and dictionaries only.
    """

    @property
    def interval_s(self) -> float:
        """Minimum time between two snapshots."""

    def load(self) -> Mapping[str, Any] | None:
        """The latest state of the same task, if there is one."""

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the saved state."""
