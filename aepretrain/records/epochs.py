"""The numbers of the epochs of a training."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

from aepretrain.errors import Failure


@dataclass(frozen=True)
class EpochResult:
    """The numbers of one epoch. Epochs count from 1; losses are means over images (and, for images, over pixels)."""

    epoch: int
    train_loss: float
    val_loss: float
    val_accuracy: float | None
    elapsed_s: float
    images_per_s: float

    def metrics(self) -> dict[str, float]:
        """The numbers by name, without those that do not apply."""
        return {name: value for name, value in vars(self).items() if name != "epoch" and value is not None}


EPOCH_METRICS = frozenset(one.name for one in fields(EpochResult) if one.name != "epoch")
"""The names under which an epoch's numbers are logged."""


def curve_of(run_id: str, numbers: Iterable[tuple[int, float]]) -> list[float]:
    """The values of an epoch metric from the first epoch on, from pairs of step and value that a run has logged.

    Raises `Failure` where an epoch is missing.
    """
    values = dict(numbers)
    if values.keys() != set(range(1, len(values) + 1)):
        raise Failure(f"run {run_id} is damaged: an epoch is missing")
    return [values[epoch] for epoch in sorted(values)]
