"""What a study trains."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aepretrain.config import TrainingSpec
from aepretrain.records import Record

if TYPE_CHECKING:  # a report has studies, and needs no PyTorch, which takes a second to import
    from aepretrain.data import Dataset

Finished = Mapping[TrainingSpec, Record]
"""Finished trainings by their specs."""


@dataclass(frozen=True)
class Study:
    """Trainings beyond a grid's that answer one question about it.

    It builds on the grid's variants named in `needs`. `plan` is called when those are finished, as its trainings may
    depend on their results. Where the dataset is None, as before a download, it is taken to have enough images.
    """

    name: str
    needs: Sequence[str]
    plan: Callable[[Finished, "Dataset | None"], Iterable[TrainingSpec]]
    follows_results: bool = False
    """Whether settings of its trainings depend on results, not only on what is finished."""
