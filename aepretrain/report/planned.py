"""A plan's comparisons, from a frame of finished trainings: pairs by seed, verdicts by family, pooled differences.

Shapes: S seeds, G groups.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from aepretrain import stats
from aepretrain.config import TrainingSpec, setting_of
from aepretrain.errors import UsageError
from aepretrain.frame import SETTINGS
from aepretrain.plans import Plan, PlannedComparison
from aepretrain.records import Record
from aepretrain.report.answer import draw_for
from aepretrain.report.pairs import BySeed, by_seed, paired, paired_keys
from aepretrain.stats import Comparison, Estimate, Kind, PooledEffect, Verdict
from aepretrain.tuning import NotTunedError, tuner

CHECKPOINTS = {
    "best loss": "test_accuracy",
    "most accurate": "most_accurate_test_accuracy",
    "last": "last_test_accuracy",
    "validation images": "best_val_accuracy",
}
"""Figures of a classifier in which both sides are compared: three checkpoints on test images, and the first of them
on validation images."""

Matched = Mapping[tuple[Hashable, ...], pd.DataFrame]
"""Trainings by all that identifies them but for the seed."""

PoolKey = tuple[str, str, int]
"""Comparison, objective and labels."""


@dataclass(frozen=True, eq=False)
class Result:
    """One planned comparison, on the seeds of the plan that have both sides."""

    planned: PlannedComparison
    first: BySeed
    """The finished trainings of the first side, only those of the plan's seeds."""
    second: BySeed
    verdict: Verdict
    """Adjusted over its family."""
    comparison: Comparison | None
    """Effect sizes; None where no seed has both sides."""
    num_tests: int
    """The number of tests of the family."""
    is_interim: bool
    """Whether a test of the family has fewer seeds than planned: adjusted p-values depend on all of them."""
    num_started: int
    """How many of `keys` were started under the plan."""

    @property
    def keys(self) -> list[str]:
        """The keys of the trainings that count: both sides of each pair."""
        return [key for pair in paired_keys(self.first, self.second) for key in pair]

    @property
    def is_exploratory(self) -> bool:
        """Whether a training that counts was not started under the plan."""
        return self.num_started < len(self.keys)

    def difference(self, figure: str, level: float = 0.95) -> Estimate | None:
        """The mean paired difference in a figure, over the seeds that have it; None where none has."""
        first_S, second_S = paired(self.first, self.second, (figure, figure))
        return stats.mean_interval(first_S - second_S, level) if len(first_S) else None


@dataclass(frozen=True, eq=False)
class PlanResults:
    """All comparisons of a plan, in its order, and what the trainings say of when the plan was fixed."""

    plan: Plan
    results: Sequence[Result]
    records: Mapping[str, Record]
    """The trainings that count in any comparison, by key."""
    trainings: Mapping[str, Record]
    """All finished trainings by key, pretrainings among them."""
    seen: str | None
    """When the plan was first seen, as its trainings say: ISO time. None where no training names it."""
    matched: Matched
    tuned: "PlanResults | None" = None
    """The comparisons with each arm tuned; None where the plan has none, or before all of its arms are tuned."""

    @property
    def parts(self) -> list["PlanResults"]:
        """The comparisons at equal settings, and those with each arm tuned."""
        return [self, *([self.tuned] if self.tuned else [])]

    @property
    def is_tuned(self) -> bool:
        """Whether these are the comparisons with each arm tuned."""
        return any(one.planned.is_tuned for one in self.results)

    @property
    def num_started(self) -> int:
        """How many of the trainings that count were started under the plan."""
        return sum(is_started_under(one, self.plan) for one in self.records.values())

    @property
    def is_exploratory(self) -> bool:
        """Whether a training that counts was not started under the plan."""
        return self.num_started < len(self.records)

    @property
    def families(self) -> dict[str, list[Result]]:
        """The results by the name of their family."""
        families: dict[str, list[Result]] = {}
        for one in self.results:
            families.setdefault(one.planned.family, []).append(one)
        return families

    def of(self, name: str) -> list[Result]:
        """The results of one comparison, such as ``finetune - scratch``."""
        return [one for one in self.results if one.planned.name == name]

    @cached_property
    def groups(self) -> dict[PoolKey, list[Result]]:
        """The results that are pooled: those with seeds enough for a verdict, where there are at least two."""
        groups: dict[PoolKey, list[Result]] = {}
        for one in self.results:
            if one.verdict.kind is not Kind.NONE:
                groups.setdefault((one.planned.name, one.planned.objective, one.planned.labels), []).append(one)
        return {key: group for key, group in groups.items() if len(group) > 1}

    def pooled(self, key: PoolKey, level: float) -> PooledEffect:
        """The mean difference over datasets, networks and augmentations, of one of `groups`."""
        verdicts = [one.verdict for one in self.groups[key]]
        effects_G = np.array([one.difference.value for one in verdicts])
        return stats.pooled_effect(effects_G, np.array([one.std / one.num_seeds**0.5 for one in verdicts]), level)


def judge_plan(plan: Plan, table: pd.DataFrame, records: Mapping[str, Record]) -> PlanResults:
    """The results of a plan, from a frame of finished trainings (`frame.frame`) and their records by key.

    Exactly the trainings with the plan's specifications and seeds are taken, whichever command has trained them. Raises
    `UsageError` where several of one specification and seed are there.
    """
    matched, tuned = match(table), _tuned_comparisons(plan, records)
    of_tuned = _judge(plan, tuned, matched, records) if tuned else None
    return replace(_judge(plan, plan.comparisons, matched, records), tuned=of_tuned)


def _tuned_comparisons(plan: Plan, records: Mapping[str, Record]) -> tuple[PlannedComparison, ...]:
    """The comparisons with each arm at its choice; none before all arms of the plan are tuned as it says."""
    if plan.tuned is None:
        return ()
    arms = [arm for dataset in plan.datasets for arm in plan.arms(dataset)]
    try:
        return plan.tuned_comparisons(tuner(arms, records.values(), plan.tuned.seeds, plan.tuned.trials))
    except NotTunedError:
        return ()


def _judge(
    plan: Plan, comparisons: Sequence[PlannedComparison], matched: Matched, records: Mapping[str, Record]
) -> PlanResults:
    sides = [(one, find(matched, one.first, one.seeds), find(matched, one.second, one.seeds)) for one in comparisons]
    families: dict[str, list[tuple[PlannedComparison, BySeed, BySeed]]] = {}
    for side in sides:
        families.setdefault(side[0].family, []).append(side)
    judged = {id(one.planned): one for family in families.values() for one in _judge_family(plan, family, records)}
    results = [judged[id(one)] for one, _, _ in sides]
    counted = {key: records[key] for one in results for key in one.keys}
    return PlanResults(plan, results, counted, records, _first_seen(plan, records), matched)


def _judge_family(
    plan: Plan, family: Sequence[tuple[PlannedComparison, BySeed, BySeed]], records: Mapping[str, Record]
) -> list[Result]:
    pairs = {number: paired(first, second) for number, (_, first, second) in enumerate(family)}

    def draw(number: int) -> np.random.Generator:
        """The stream of the grid's primary comparison, so that the same seeds have the same p-value there."""
        return draw_for("primary", (family[number][0].network, family[number][0].augmentation))

    verdicts = stats.family_verdicts(
        {number: first_S - second_S for number, (first_S, second_S) in pairs.items()},
        draw,
        plan.smallest_effect,
        alpha=plan.alpha,
        num_tests=len(family),
    )
    is_interim = any(len(pairs[number][0]) < len(one.seeds) for number, (one, _, _) in enumerate(family))
    return [
        Result(
            planned=planned,
            first=first,
            second=second,
            verdict=verdicts[number],
            comparison=stats.compare(*pairs[number], draw(number)) if len(pairs[number][0]) else None,
            num_tests=len(family),
            is_interim=is_interim,
            num_started=sum(
                is_started_under(records[key], plan) for pair in paired_keys(first, second) for key in pair
            ),
        )
        for number, (planned, first, second) in enumerate(family)
    ]


def match(table: pd.DataFrame) -> Matched:
    """The trainings of a frame by network, augmentation, variant and all settings."""
    columns = table[["network", "augmentation", "variant", *SETTINGS]]
    plain = columns.astype("object").where(columns.notna(), None)
    identities = pd.Series(list(plain.itertuples(index=False, name=None)), table.index, "object")
    return dict(list(table.groupby(identities, sort=False))) | {(): table.head(0)}


def find(matched: Matched, spec: TrainingSpec, seeds: Sequence[int]) -> BySeed:
    """The trainings of a specification with these seeds. Raises `UsageError` where a seed has several."""
    identity = spec.identity()
    values: list[Any] = [setting_of(identity, name) for name in SETTINGS]
    found = matched.get((*spec.cell, *values), matched[()])
    found = found[found["seed"].isin(seeds)]
    if found["seed"].duplicated().any():
        raise UsageError(
            f"several trainings of {spec.seedless.name} have the same seed and the same options: they differ in the "
            "dataset's values or in a plugin's source; keep them in stores of their own"
        )
    return by_seed(found)


def is_started_under(record: Record, plan: Plan) -> bool:
    """Whether a run of this plan has started a training."""
    return record.tags.get("plan") == plan.digest


def _first_seen(plan: Plan, records: Mapping[str, Record]) -> str | None:
    times = [
        one.tags["plan_seen"] for one in records.values() if is_started_under(one, plan) and "plan_seen" in one.tags
    ]
    return min(times, default=None)
