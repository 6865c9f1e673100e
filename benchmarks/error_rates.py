"""How often the verdicts are right, by simulation. Shapes: S seeds."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aepretrain import stats
from aepretrain.config import SMALLEST_EFFECT
from aepretrain.stats import Kind, Verdict

NUM_IMAGES = 10_000

Differences = Mapping[int, NDArray[np.float64]]
"""Of each member of a family the differences of its seeds, [S]."""


@dataclass(frozen=True)
class Share:
    """How often something happened in so many simulations."""

    times: int
    num: int

    @property
    def value(self) -> float:
        """The share."""
        return self.times / self.num

    @property
    def error(self) -> float:
        """Its Monte-Carlo standard error."""
        return math.sqrt(max(self.value * (1 - self.value), 1 / self.num) / self.num)

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % ± {100 * self.error:.1f}"


def differences_of(num_seeds: Sequence[int], effect: float, std: float, draw: np.random.Generator) -> Differences:
    """Normal differences of a family, in whole test images, with the number of seeds of each member."""
    return {
        place: np.round(draw.normal(effect, std, num) * NUM_IMAGES) / NUM_IMAGES for place, num in enumerate(num_seeds)
    }


def verdicts_of(differences: Differences, draw: np.random.Generator, num_tests: int | None = None) -> list[Verdict]:
    """The verdicts of a family; missing tests count with p = 1."""
    return list(stats.family_verdicts(differences, lambda _: draw, SMALLEST_EFFECT, num_tests=num_tests).values())


def any_found(differences: Differences, draw: np.random.Generator) -> bool:
    """Whether a difference is found in any member: better, worse, or different but negligibly."""
    return any(one.direction for one in verdicts_of(differences, draw))


def false_difference(num_seeds: Sequence[int], std: float, num: int) -> Share:
    """How often a difference is found in any member of a family although there is none."""
    draw = np.random.default_rng([1, *num_seeds])
    return Share(sum(any_found(differences_of(num_seeds, 0.0, std, draw), draw) for _ in range(num)), num)


def false_difference_at_any_look(looks: Sequence[int], num: int) -> Share:
    """The same for a growing store of four experiments that is judged at each of these numbers of seeds."""
    draw = np.random.default_rng([2, *looks])
    found = 0
    for _ in range(num):
        whole = differences_of([looks[-1]] * 4, 0.0, 0.004, draw)
        found += any(any_found({place: all_S[:look] for place, all_S in whole.items()}, draw) for look in looks)
    return Share(found, num)


def false_equivalence(num_seeds: int, num: int) -> Share:
    """How often a true difference of ± the smallest effect is called equivalent, or different but negligibly."""
    draw = np.random.default_rng([3, num_seeds])
    return Share(sum(one.within(SMALLEST_EFFECT) for one in _at_the_margin(num_seeds, num, draw)), num)


def false_size(num_seeds: int, num: int) -> Share:
    """How often the interval of a true difference of ± the smallest effect lies beyond the smallest effect."""
    draw = np.random.default_rng([4, num_seeds])
    return Share(sum(one.beyond(SMALLEST_EFFECT) for one in _at_the_margin(num_seeds, num, draw)), num)


def _at_the_margin(num_seeds: int, num: int, draw: np.random.Generator) -> Iterator[stats.Estimate]:
    """The 90 % intervals of differences whose mean is the smallest effect, up and down by turns."""
    for place in range(num):
        effect = SMALLEST_EFFECT if place % 2 else -SMALLEST_EFFECT
        yield stats.mean_interval(differences_of([num_seeds], effect, 0.002, draw)[0], 0.9)


def power(num_seeds: int, num_tests: int, effect: float, std: float, num: int) -> tuple[Share, Share]:
    """How often a true effect of one member is called better, and how often with a settled size.

    No other member of the family has p < 1, the hardest case for Holm's method.
    """
    draw = np.random.default_rng([5, num_seeds, num_tests])
    found = [verdicts_of(differences_of([num_seeds], effect, std, draw), draw, num_tests)[0] for _ in range(num)]
    better = [one for one in found if one.kind is Kind.BETTER]
    return Share(len(better), num), Share(sum(one.size_settled for one in better), num)
