"""A plan's comparisons, from a frame of finished trainings: pairs by seed, verdicts by family, pooled differences."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pandas as pd

from aepretrain.config import TrainingSpec, setting_of
from aepretrain.errors import UsageError
from aepretrain.frame import SETTINGS
from aepretrain.plans import Plan, PlannedComparison
from aepretrain.records import Record
from aepretrain.report.judged import Judged, Pairs, by_family, judge_families, poolable
from aepretrain.report.pairs import BySeed, by_seed, paired_keys
from aepretrain.report.undecidable import cannot_decide
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


@dataclass(frozen=True, eq=False, kw_only=True)
class Result(Judged):
    """One planned comparison, on the seeds of the plan that have both sides."""

    planned: PlannedComparison
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
    num_images: Mapping[str, int]
    """The number of test images of each dataset, as far as it is known."""
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
        return by_family(self.results)

    def of(self, name: str) -> list[Result]:
        """The results of one comparison, such as ``finetune - scratch``."""
        return [one for one in self.results if one.planned.name == name]

    @cached_property
    def groups(self) -> dict[PoolKey, list[Result]]:
        """The results that are pooled over datasets, networks and augmentations."""
        return poolable(self.results, lambda one: (one.planned.name, one.planned.objective, one.planned.labels))

    @property
    def undecidable(self) -> list[Result]:
        """The results that these data cannot decide."""
        return [one for one in self.results if cannot_decide(one.verdict, self.num_images.get(one.planned.dataset))]

    @property
    def effects(self) -> dict[str, float]:
        """The smallest effect on each dataset, as a difference of accuracies; only those that are known."""
        effects = {one.planned.dataset: one.smallest_effect for one in self.results}
        return {dataset: effect for dataset, effect in effects.items() if not math.isnan(effect)}


def judge_plan(
    plan: Plan, table: pd.DataFrame, records: Mapping[str, Record], num_images: Mapping[str, int]
) -> PlanResults:
    """The results of a plan, from a frame of finished trainings (`frame.frame`) and their records by key.

    Exactly the trainings with the plan's specifications and seeds are taken, whichever command has trained them.
    `num_images` has the number of test images of datasets, as far as it is known. Raises `UsageError` where several of
    one specification and seed are there, or where the smallest effect cannot be converted.
    """
    matched, tuned = match(table), _tuned_comparisons(plan, records)
    of_tuned = _judge(plan, tuned, matched, records, num_images) if tuned else None
    return replace(_judge(plan, plan.comparisons, matched, records, num_images), tuned=of_tuned)


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
    plan: Plan,
    comparisons: Sequence[PlannedComparison],
    matched: Matched,
    records: Mapping[str, Record],
    num_images: Mapping[str, int],
) -> PlanResults:
    pairs = [_pairs(plan, one, matched, num_images) for one in comparisons]
    results = [
        Result(**vars(judged), planned=planned, num_started=_num_started(judged, plan, records))
        for planned, judged in zip(comparisons, judge_families(pairs, plan.alpha), strict=True)
    ]
    counted = {key: records[key] for one in results for key in one.keys}
    return PlanResults(plan, results, counted, records, _first_seen(plan, records), matched, num_images)


def _pairs(plan: Plan, planned: PlannedComparison, matched: Matched, num_images: Mapping[str, int]) -> Pairs:
    first, second = (find(matched, side, planned.seeds) for side in (planned.first, planned.second))
    effect, num = plan.smallest_effect, num_images.get(planned.dataset)
    is_unknown = effect.in_images and num is None and not paired_keys(first, second)
    return Pairs(
        first=first,
        second=second,
        seeds=planned.seeds,
        family=planned.family,
        stream=(planned.network, planned.augmentation),
        smallest_effect=math.nan if is_unknown else effect.share(num, planned.dataset),
    )


def _num_started(judged: Judged, plan: Plan, records: Mapping[str, Record]) -> int:
    keys = (key for pair in paired_keys(judged.first, judged.second) for key in pair)
    return sum(is_started_under(records[key], plan) for key in keys)


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
