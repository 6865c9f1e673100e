"""Two accuracies of each seed, compared. Shapes: S seeds that have both."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aepretrain.stats.improvement import paired_probability_of_improvement, probability_of_improvement
from aepretrain.stats.paired import Estimate, pairing_correlation, relative_error_reduction
from aepretrain.stats.verdict import PairedDifference, paired_difference

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Comparison(PairedDifference):
    """First minus second, with effect sizes."""

    probability_of_improvement: Estimate
    """Of a run of the first over a run of the second, with its 95 % interval."""
    paired_probability_of_improvement: Estimate
    """Of the first over the second in the same seed, with its 95 % interval."""
    relative_error_reduction: float
    correlation: float
    second_std: float
    """Standard deviation of the second side over seeds: how far chance moves a single run. NaN for a single seed."""


def compare(first_S: Floats, second_S: Floats, generator: np.random.Generator) -> Comparison:
    """The comparison of two accuracies of each seed. Raises `ValueError` where there is no seed."""
    if len(first_S) == 0 or len(first_S) != len(second_S):
        raise ValueError(f"pairs are needed, not {len(first_S)} and {len(second_S)} values")
    differences_S = first_S - second_S
    return Comparison(
        **vars(paired_difference(differences_S, generator)),
        probability_of_improvement=probability_of_improvement(first_S, second_S, 0.95),
        paired_probability_of_improvement=paired_probability_of_improvement(differences_S, 0.95),
        relative_error_reduction=relative_error_reduction(first_S, second_S),
        correlation=pairing_correlation(first_S, second_S),
        second_std=float(np.std(second_S, ddof=1)) if len(second_S) > 1 else math.nan,
    )
