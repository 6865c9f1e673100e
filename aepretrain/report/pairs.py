"""Trainings matched by their seeds. Shapes: S seeds that both sides have."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from aepretrain.records import Record

BySeed = Mapping[int, Record]

ACCURACIES = ("test_accuracy", "test_accuracy")


def pairs(first: BySeed, second: BySeed) -> tuple[list[Record], list[Record]]:
    """The trainings of both sides for the seeds that both have, in their order."""
    seeds = sorted(first.keys() & second.keys())
    return [first[seed] for seed in seeds], [second[seed] for seed in seeds]


def paired(
    first: BySeed, second: BySeed, metrics: tuple[str, str] = ACCURACIES
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A metric of the first and one of the second, for the seeds that both have, [S] each."""
    first_S, second_S = (
        np.array([record.metrics[metric] for record in side])
        for side, metric in zip(pairs(first, second), metrics, strict=True)
    )
    return first_S, second_S
