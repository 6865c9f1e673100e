"""Comparisons as they are judged: pairs by seed go in, verdicts by family come out.

The comparisons of a plan and those of a table of other people's runs are both judged here. Shapes: S seeds, G groups.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from aepretrain import stats
from aepretrain.report.answer import draw_for
from aepretrain.report.grid import Experiment
from aepretrain.report.pairs import BySeed, paired
from aepretrain.stats import Comparison, Estimate, Kind, PooledEffect, Verdict


@dataclass(frozen=True, eq=False, kw_only=True)
class Pairs:
    """One comparison before it is judged."""

    first: BySeed
    """The runs of the first side."""
    second: BySeed
    seeds: tuple[int, ...] | None
    """The planned seeds; None without a plan for them."""
    family: str
    """The name of the tests that are corrected together."""
    stream: Experiment
    """What its random flips are drawn for."""
    smallest_effect: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Judged(Pairs):
    """One comparison on the seeds that have both sides."""

    verdict: Verdict
    """Adjusted over its family."""
    comparison: Comparison | None
    """Effect sizes; None where no seed has both sides."""
    num_tests: int
    """The number of tests of the family."""
    is_interim: bool
    """Whether a test of the family has fewer seeds than planned: adjusted p-values depend on all of them."""

    def difference(self, figure: str, level: float = 0.95) -> Estimate | None:
        """The mean paired difference in a figure, over the seeds that have it; None where none has."""
        first_S, second_S = paired(self.first, self.second, (figure, figure))
        return stats.mean_interval(first_S - second_S, level) if len(first_S) else None


def judge_families(comparisons: Sequence[Pairs], alpha: float) -> list[Judged]:
    """The verdicts of comparisons, in their order; each family is corrected by itself, at the level `alpha`."""
    judged = {
        id(one): verdict
        for family in by_family(comparisons).values()
        for one, verdict in zip(family, _judge_family(family, alpha), strict=True)
    }
    return [judged[id(one)] for one in comparisons]


AnyPairs = TypeVar("AnyPairs", bound=Pairs)


def by_family(comparisons: Sequence[AnyPairs]) -> dict[str, list[AnyPairs]]:
    """Comparisons by the name of their family."""
    families: dict[str, list[AnyPairs]] = {}
    for one in comparisons:
        families.setdefault(one.family, []).append(one)
    return families


def _judge_family(family: Sequence[Pairs], alpha: float) -> list[Judged]:
    values = {number: paired(one.first, one.second) for number, one in enumerate(family)}

    def draw(number: int) -> np.random.Generator:
        """The stream of the grid's primary comparison, so that the same seeds have the same p-value there."""
        return draw_for("primary", family[number].stream)

    verdicts = stats.family_verdicts(
        {number: first_S - second_S for number, (first_S, second_S) in values.items()},
        draw,
        {number: one.smallest_effect for number, one in enumerate(family)},
        alpha=alpha,
    )
    is_interim = any(
        one.seeds is not None and len(values[number][0]) < len(one.seeds) for number, one in enumerate(family)
    )
    return [
        Judged(
            **vars(one),
            verdict=verdicts[number],
            comparison=stats.compare(*values[number], draw(number)) if len(values[number][0]) else None,
            num_tests=len(family),
            is_interim=is_interim,
        )
        for number, one in enumerate(family)
    ]


AnyJudged = TypeVar("AnyJudged", bound=Judged)
Key = TypeVar("Key", bound=Hashable)


def poolable(results: Sequence[AnyJudged], key: Callable[[AnyJudged], Key]) -> dict[Key, list[AnyJudged]]:
    """The results that are pooled, by a key: those with seeds enough for a verdict, where there are at least two."""
    groups: dict[Key, list[AnyJudged]] = {}
    for one in results:
        if one.verdict.kind is not Kind.NONE:
            groups.setdefault(key(one), []).append(one)
    return {key: group for key, group in groups.items() if len(group) > 1}


def pool(group: Sequence[Judged], level: float) -> PooledEffect:
    """The mean difference over experiments like these."""
    verdicts = [one.verdict for one in group]
    effects_G = np.array([one.difference.value for one in verdicts])
    return stats.pooled_effect(effects_G, np.array([one.std / one.num_seeds**0.5 for one in verdicts]), level)
