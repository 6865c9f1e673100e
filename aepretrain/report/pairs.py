"""Figures of trainings, and pairs of trainings matched by seed. Shapes: S seeds."""

from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

BySeed: TypeAlias = pd.DataFrame
"""Trainings of one variant in one experiment: rows of the frame, with the seed as the index, in its order."""

ACCURACIES = ("test_accuracy", "test_accuracy")


def by_seed(trainings: pd.DataFrame) -> BySeed:
    """The trainings in the order of their seeds; of several of one seed the last."""
    return trainings.drop_duplicates("seed", keep="last").set_index("seed").sort_index()


def figure_of(trainings: BySeed, metric: str) -> pd.Series:
    """A metric by seed; seeds without it are left out."""
    return trainings.get(metric, pd.Series(dtype="float64")).dropna()


def values_of(trainings: BySeed, metric: str = "test_accuracy") -> NDArray[np.float64]:
    """A metric of each seed, in their order, [S]."""
    values_S: NDArray[np.float64] = figure_of(trainings, metric).to_numpy("float64")
    return values_S


def paired(
    first: BySeed, second: BySeed, metrics: tuple[str, str] = ACCURACIES
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A metric of the first and one of the second, for the seeds that both have, [S] each."""
    columns = (figure_of(side, metric) for side, metric in zip((first, second), metrics, strict=True))
    both = pd.concat(columns, axis=1, join="inner").sort_index()
    return both.iloc[:, 0].to_numpy("float64"), both.iloc[:, 1].to_numpy("float64")


def paired_keys(first: BySeed, second: BySeed) -> list[tuple[str, str]]:
    """The keys of both sides for the seeds that both have, in their order."""
    both = pd.concat([first["key"], second["key"]], axis=1, join="inner").sort_index()
    return list(both.itertuples(index=False, name=None))
