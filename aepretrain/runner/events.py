"""News of trainings."""

from collections.abc import Callable
from dataclasses import dataclass

from aepretrain.config import TrainingSpec
from aepretrain.records import EpochResult, Record


@dataclass(frozen=True)
class Event:
    """News of a training.

    `kind` is ``reused`` (it was finished before), ``needed`` (it was not asked for, but is trained because another
    starts from it), ``planned`` (it is added to what will be trained), ``waiting`` (another process holds its lock),
    ``started``, ``resumed`` (from a snapshot), ``epoch``, ``retried`` (its worker died), ``finished``, ``failed`` or
    ``warning`` (about the worker that trains it).
    """

    kind: str
    spec: TrainingSpec
    epoch: EpochResult | None = None
    record: Record | None = None
    message: str = ""


Listener = Callable[[Event], None]
