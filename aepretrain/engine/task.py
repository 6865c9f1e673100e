"""What the training loop is given and what it gives back.

Shapes: S seeds of the stack, B batch, K classes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from aepretrain.records import EpochResult

Select = Callable[[Tensor], tuple[Tensor, Tensor]]
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Examples:
    """Where batches come from; each seed of the stack has `num` items.

    `at_epoch(epoch, members)` gives, for those seeds (by their places in the stack as it began), the function that
    selects by index: int64 [S, B] → inputs [S, B, …] and targets [S, B, …]. What an epoch needs drawn is drawn there.
    """

    num: int
    at_epoch: Callable[[int, Sequence[int]], Select]
    device: torch.device


@dataclass(frozen=True)
class Phase:
    """How long and how fast to learn; the first fields are those of `spec.Settings`.

    An epoch ends with a validation. It is one pass over the training items, or several where they are few; the last
    one is cut short where `updates`, the number of all steps, is reached.
    """

    epochs: int
    batch_size: int
    lr: float
    patience: int
    passes: int = 1
    updates: int | None = None


@dataclass(frozen=True)
class Task:
    """The trainings of a stack, alike but for their seeds: those weights that require gradients are learned.

    `loss` takes one seed's outputs and targets to the mean over the batch, a scalar. `classifies` says that outputs are
    logits [B, K] and targets classes [B], so that validation accuracy can be taken.
    """

    models: Sequence[nn.Module]
    seeds: Sequence[int]
    loss: Loss
    train: Examples
    validation: Examples
    classifies: bool
    order: str
    """The purpose that names the random stream of the order of training items."""
    phase: Phase


@dataclass(frozen=True)
class Trained:
    """What a training gave. Its model holds the weights of `best_epoch`, the one with the lowest validation loss."""

    history: tuple[EpochResult, ...]
    best_epoch: int
    last_weights: Mapping[str, Tensor]
    """The weights after the last epoch, as `set_weights` takes them."""


class Snapshots(Protocol):
    """Where a training's state is kept, so that another process can go on from there with the same bits.

    A state holds tensors, numbers, text, lists and dictionaries only.
    """

    @property
    def interval_s(self) -> float:
        """The least time between two of them."""

    def load(self) -> Mapping[str, Any] | None:
        """The state that was saved last by a training of the same task, if there is one."""

    def save(self, state: Mapping[str, Any]) -> None:
        """Keep this state in place of the one before."""
