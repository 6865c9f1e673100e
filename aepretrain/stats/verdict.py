"""From paired accuracies to a verdict, by a rule that was fixed beforehand.

Shapes: S seeds that have both sides of the pair.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from aepretrain.stats.paired import (
    Estimate,
    mean_interval,
    pairing_correlation,
    probability_of_improvement,
    relative_error_reduction,
    required_seeds,
    sign_flip_test,
)

Floats = NDArray[np.floating[Any]]
Key = TypeVar("Key")

ALPHA = 0.05
"""The accepted chance of any false gain or loss among the four experiments."""

NUM_EXPERIMENTS = 4
"""The family over which p-values are adjusted; a missing experiment counts with p = 1."""

MIN_SEEDS = 8
"""With seven seeds, even differences of one sign have p = 2/128, which fails the first of Holm's four steps."""

POWER = 0.8


class Verdict(StrEnum):
    """The possible results of the rule."""

    GAIN = "gain"
    LOSS = "loss"
    NEGLIGIBLE = "detectable but negligible"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"
    NONE = "no verdict"


@dataclass(frozen=True)
class Comparison:
    """First minus second, paired by seed: inference for new trainings on these test images."""

    num_seeds: int
    difference: Estimate
    """Mean and 95 % interval, as shares of the test images."""
    narrow: Estimate
    """Mean and 90 % interval, which decides on equivalence."""
    std: float
    """Standard deviation of the differences (n − 1)."""
    p_value: float
    probability_of_improvement: Estimate
    """The probability that the first is better in a seed, with its 95 % interval."""
    relative_error_reduction: float
    correlation: float
    smallest_effect: float
    adjusted_p: float | None = None
    """Set by `judge`; None outside a family."""
    family: int = NUM_EXPERIMENTS
    """The number of tests over which the p-value is adjusted."""

    @property
    def min_seeds(self) -> int:
        """The fewest seeds that can pass Holm's first step, with all differences of one sign; at least eight."""
        return max(MIN_SEEDS, 1 + math.floor(math.log2(2 * self.family / ALPHA)))

    @property
    def num_seeds_needed(self) -> int | None:
        """Seeds to find the smallest effect of interest in the first of Holm's steps with 80 % power.

        None beyond a million, and for a single seed, which has no standard deviation.
        """
        if math.isnan(self.std):
            return None
        num_seeds = required_seeds(self.std, self.smallest_effect, ALPHA / self.family, POWER)
        return None if num_seeds is None else max(num_seeds, self.min_seeds)

    @property
    def verdict(self) -> Verdict:
        """The rule's result; a comparison outside a family has no verdict."""
        if self.num_seeds < self.min_seeds or self.adjusted_p is None:
            return Verdict.NONE
        detected, equivalent = self.adjusted_p < ALPHA, self.narrow.within(self.smallest_effect)
        if detected and equivalent:
            return Verdict.NEGLIGIBLE
        if detected:
            return Verdict.GAIN if self.difference.value > 0 else Verdict.LOSS
        return Verdict.EQUIVALENT if equivalent else Verdict.INCONCLUSIVE


def compare(first_S: Floats, second_S: Floats, generator: np.random.Generator, smallest_effect: float) -> Comparison:
    """The comparison of two accuracies of each seed. Raises `ValueError` where there is no seed."""
    if len(first_S) == 0 or len(first_S) != len(second_S):
        raise ValueError(f"pairs are needed, not {len(first_S)} and {len(second_S)} values")
    differences_S = first_S - second_S
    return Comparison(
        num_seeds=len(differences_S),
        difference=mean_interval(differences_S, 0.95),
        narrow=mean_interval(differences_S, 0.90),
        std=float(np.std(differences_S, ddof=1)) if len(differences_S) > 1 else math.nan,
        p_value=sign_flip_test(differences_S, generator),
        probability_of_improvement=probability_of_improvement(differences_S, 0.95),
        relative_error_reduction=relative_error_reduction(first_S, second_S),
        correlation=pairing_correlation(first_S, second_S),
        smallest_effect=smallest_effect,
    )


def judge(comparisons: Mapping[Key, Comparison], num_tests: int = NUM_EXPERIMENTS) -> dict[Key, Comparison]:
    """The same comparisons with p-values adjusted over a family, so that each has a verdict.

    Raises `ValueError` for more comparisons than the family has.
    """
    if len(comparisons) > num_tests:
        raise ValueError(f"the family has {num_tests} comparisons, not {len(comparisons)}")
    adjusted = holm([one.p_value for one in comparisons.values()], num_tests)
    return {
        key: replace(one, adjusted_p=p_value, family=num_tests)
        for (key, one), p_value in zip(comparisons.items(), adjusted, strict=True)
    }


def holm(p_values: Sequence[float], num_tests: int) -> list[float]:
    """Adjusted p-values (Holm 1979) of a family of `num_tests`; missing tests count as p = 1."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min((num_tests - rank) * p_values[i], 1.0))
        adjusted[i] = largest
    return adjusted
