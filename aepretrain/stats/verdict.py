"""From paired differences to verdicts, over a family of tests.

Shapes: S seeds that have both sides of a pair.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from aepretrain.stats.crossed import CrossedInterval, required_images
from aepretrain.stats.paired import (
    NUM_FLIPS,
    Estimate,
    detectable_effect,
    mean_interval,
    required_seeds,
    sign_flip_test,
)

Floats = NDArray[np.floating[Any]]
Key = TypeVar("Key")

ALPHA = 0.05
"""The accepted chance of any false "better", "worse" or "different" in a family."""

POWER = 0.8


class Kind(StrEnum):
    """The possible verdicts."""

    BETTER = "better"
    WORSE = "worse"
    NEGLIGIBLE = "different, but negligibly"
    EQUIVALENT = "equivalent"
    UNDECIDED = "undecided"
    NONE = "no verdict"


@dataclass(frozen=True)
class PairedDifference:
    """First minus second, paired by seed: inference for new trainings on the same images."""

    num_seeds: int
    difference: Estimate
    """Mean and 95 % interval, as shares of the images."""
    narrow: Estimate
    """Mean and 90 % interval, which is compared with the smallest effect."""
    std: float
    """Standard deviation of the differences (n − 1); NaN for fewer than two seeds."""
    p_value: float


@dataclass(frozen=True)
class Verdict(PairedDifference):
    """A difference as a member of a family of tests, judged by the rule of `judge`."""

    adjusted_p: float
    """Adjusted over the family by Holm's method."""
    kind: Kind
    direction: int
    """1 or −1 where a difference was found, else 0."""
    size_settled: bool
    """Whether a verdict says on which side of the smallest effect the size of the difference lies."""
    min_seeds: int
    """With fewer seeds there is no verdict."""
    smallest_effect: float
    test_alpha: float
    """The level of Holm's first step."""

    @property
    def words(self) -> str:
        """The verdict in words, like ``worse, size unsettled``."""
        is_unsettled = self.kind in (Kind.BETTER, Kind.WORSE) and not self.size_settled
        return f"{self.kind}, size unsettled" if is_unsettled else str(self.kind)

    @property
    def num_seeds_needed(self) -> int | None:
        """Seeds to find the smallest effect in Holm's first step with 80 % power; at least `min_seeds`.

        Those of a paired t-test. None beyond a million, and for fewer than two seeds, which have no standard deviation.
        """
        if math.isnan(self.std):
            return None
        num_seeds = required_seeds(self.std, self.smallest_effect, self.test_alpha, POWER)
        return None if num_seeds is None else max(num_seeds, self.min_seeds)

    @property
    def detectable_effect(self) -> float:
        """The effect that a paired t-test finds with these seeds, in Holm's first step and with 80 % power.

        With fewer seeds than a verdict needs, it is that of the seeds needed. NaN for fewer than two seeds.
        """
        return detectable_effect(self.std, max(self.num_seeds, self.min_seeds), self.test_alpha, POWER)

    def num_images_needed(self, parts: CrossedInterval) -> float:
        """The number of test images with which these seeds find the smallest effect; infinite where none is enough.

        0 where the differences of all seeds are equal: then their spread hides nothing.
        """
        if self.detectable_effect == 0:
            return 0.0
        return required_images(parts, self.std * self.smallest_effect / self.detectable_effect)


def paired_difference(differences_S: Floats, generator: np.random.Generator) -> PairedDifference:
    """The mean difference with its intervals, and the sign-flip test's p-value; p = 1 where there is no seed."""
    return PairedDifference(
        num_seeds=len(differences_S),
        difference=mean_interval(differences_S, 0.95),
        narrow=mean_interval(differences_S, 0.90),
        std=float(np.std(differences_S, ddof=1)) if len(differences_S) > 1 else math.nan,
        p_value=sign_flip_test(differences_S, generator),
    )


def family_verdicts(
    differences: Mapping[Key, Floats],
    draw: Callable[[Key], np.random.Generator],
    smallest_effect: float | Mapping[Key, float],
    *,
    alpha: float = ALPHA,
    num_tests: int | None = None,
) -> dict[Key, Verdict]:
    """The verdict of each member of a family, from one difference a seed; `draw` gives a member's random flips.

    `num_tests` and errors as in `judge`.
    """
    members = {key: paired_difference(differences_S, draw(key)) for key, differences_S in differences.items()}
    return judge(members, smallest_effect, alpha=alpha, num_tests=num_tests)


def judge(
    members: Mapping[Key, PairedDifference],
    smallest_effect: float | Mapping[Key, float],
    *,
    alpha: float = ALPHA,
    num_tests: int | None = None,
) -> dict[Key, Verdict]:
    """The verdict of each member of a family of `num_tests` tests, by default as many as there are members.

    A difference is found where Holm's adjusted p is below `alpha`. The 90 % interval of the mean says whether the size
    is negligible (within ± the smallest effect), relevant (beyond it on one side), or unsettled. With fewer seeds than
    Holm's first step needs there is no verdict. Missing tests count with p = 1. `smallest_effect` may differ by member.
    Raises `ValueError` for more members than the family has.
    """
    num_tests = len(members) if num_tests is None else num_tests
    if len(members) > num_tests:
        raise ValueError(f"the family has {num_tests} tests, not {len(members)}")
    adjusted = holm([one.p_value for one in members.values()], num_tests)
    effects = smallest_effect if isinstance(smallest_effect, Mapping) else dict.fromkeys(members, smallest_effect)
    return {
        key: _verdict(one, p_value, effects[key], alpha, num_tests)
        for (key, one), p_value in zip(members.items(), adjusted, strict=True)
    }


def _verdict(one: PairedDifference, adjusted_p: float, effect: float, alpha: float, num_tests: int) -> Verdict:
    min_seeds = fewest_seeds(num_tests, alpha)
    kind = _kind(one, effect, is_found=adjusted_p < alpha) if one.num_seeds >= min_seeds else Kind.NONE
    is_found = kind in (Kind.BETTER, Kind.WORSE, Kind.NEGLIGIBLE)
    is_judged = is_found or kind is Kind.EQUIVALENT
    return Verdict(
        num_seeds=one.num_seeds,
        difference=one.difference,
        narrow=one.narrow,
        std=one.std,
        p_value=one.p_value,
        adjusted_p=adjusted_p,
        kind=kind,
        direction=int(np.sign(one.difference.value)) if is_found else 0,
        size_settled=is_judged and (one.narrow.within(effect) or one.narrow.beyond(effect)),
        min_seeds=min_seeds,
        smallest_effect=effect,
        test_alpha=alpha / num_tests,
    )


def _kind(one: PairedDifference, effect: float, *, is_found: bool) -> Kind:
    is_negligible = one.narrow.within(effect)
    if not is_found:
        return Kind.EQUIVALENT if is_negligible else Kind.UNDECIDED
    if is_negligible:
        return Kind.NEGLIGIBLE
    return Kind.BETTER if one.difference.value > 0 else Kind.WORSE


def fewest_seeds(num_tests: int, alpha: float = ALPHA) -> int:
    """The fewest seeds with which the sign-flip test can pass the first of Holm's steps.

    With n seeds its smallest p is 2 / 2^n: all differences have one sign. 6 seeds for one test, 8 for four, 9 for
    eight. Raises `ValueError` for a family too large for `NUM_FLIPS` random flips: with α = 0.05, above 5,000 tests.
    """
    if alpha / num_tests <= 1 / (1 + NUM_FLIPS):
        raise ValueError(f"a family of {num_tests} tests is too large for the level {alpha:g}")
    return 1 + math.floor(math.log2(2 * num_tests / alpha))


def holm(p_values: Sequence[float], num_tests: int) -> list[float]:
    """Adjusted p-values (Holm 1979) of a family of `num_tests`; missing tests count as p = 1."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min((num_tests - rank) * p_values[i], 1.0))
        adjusted[i] = largest
    return adjusted
