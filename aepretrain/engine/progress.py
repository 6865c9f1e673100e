"""Progress of one seed of a stack."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from aepretrain.engine.task import Hyperparameters
from aepretrain.errors import Failure
from aepretrain.records import EpochResult


@dataclass
class Progress:
    """History, best epoch and failure of one seed."""

    history: list[EpochResult] = field(default_factory=list)
    best_epoch: int = 0
    most_accurate_epoch: int = 0
    last_weights: Mapping[str, Tensor] = field(default_factory=dict)
    most_accurate_weights: Mapping[str, Tensor] = field(default_factory=dict)
    failure: Failure | None = None

    @property
    def best_loss(self) -> float:
        """The lowest validation loss so far."""
        return self.history[self.best_epoch - 1].val_loss if self.best_epoch else math.inf

    @property
    def best_accuracy(self) -> float:
        """The highest validation accuracy so far."""
        return (self.history[self.most_accurate_epoch - 1].val_accuracy or 0.0) if self.most_accurate_epoch else -1.0

    def ends(self, epoch: int, hyperparameters: Hyperparameters) -> bool:
        """Whether the seed's training ends after this epoch."""
        limits = hyperparameters
        out_of_patience = limits.patience > 0 and epoch - self.best_epoch >= limits.patience
        return self.failure is not None or epoch == limits.epochs or out_of_patience

    def state(self) -> dict[str, Any]:
        """The progress as plain values, for a snapshot."""
        return {
            "history": [dict(vars(result)) for result in self.history],
            "best_epoch": self.best_epoch,
            "most_accurate_epoch": self.most_accurate_epoch,
            "last_weights": dict(self.last_weights),
            "most_accurate_weights": dict(self.most_accurate_weights),
            "failure": None if self.failure is None else str(self.failure),
        }

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "Progress":
        """The progress from the values that `state` gave."""
        return cls(
            history=[EpochResult(**result) for result in state["history"]],
            best_epoch=state["best_epoch"],
            most_accurate_epoch=state["most_accurate_epoch"],
            last_weights=state["last_weights"],
            most_accurate_weights=state["most_accurate_weights"],
            failure=None if state["failure"] is None else Failure(state["failure"]),
        )
