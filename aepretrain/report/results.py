"""Verdicts on a table of other people's runs, which are paired by experiment and seed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from aepretrain import stats
from aepretrain.config import format_seeds
from aepretrain.errors import UsageError
from aepretrain.plans import ResultsPlan
from aepretrain.report.judged import Judged, Pairs, by_family, judge_families
from aepretrain.report.judged_wording import name_text
from aepretrain.report.pairs import BySeed, by_seed
from aepretrain.report.results_table import TEST_IMAGES, Runs
from aepretrain.report.undecidable import Undecidable, cannot_decide

EXPERIMENT = "experiment"


@dataclass(frozen=True, eq=False, kw_only=True)
class TableResult(Judged):
    """One comparison of two variants in one experiment."""

    name: str
    """``pretrained - scratch``."""
    cell: Mapping[str, str]
    """The experiment, and the columns that describe it."""
    num_images: int | None
    """The number of test images; None where the table does not have it."""

    @property
    def unpaired(self) -> tuple[list[int], list[int]]:
        """The seeds that only the first side has, and those that only the second has."""
        first, second = self.first.index, self.second.index
        return first.difference(second).tolist(), second.difference(first).tolist()


@dataclass(frozen=True, eq=False)
class TableResults:
    """All comparisons of a table of runs, by its plan."""

    plan: ResultsPlan
    """With the comparisons that were made."""
    runs: Runs
    results: Sequence[TableResult]

    @property
    def families(self) -> dict[str, list[TableResult]]:
        """The results by the name of their family."""
        return by_family(self.results)

    def of(self, name: str) -> list[TableResult]:
        """The results of one comparison."""
        return [one for one in self.results if one.name == name]

    @property
    def undecidable(self) -> list[Undecidable]:
        """The results that these data cannot decide."""
        return [
            Undecidable({"comparison": name_text(one.name), **one.cell}, one.verdict, one.num_images)
            for one in self.results
            if cannot_decide(one.verdict, one.num_images)
        ]


def judge_runs(plan: ResultsPlan, runs: Runs) -> TableResults:
    """The verdicts on a table's runs. An experiment is compared where it has both variants.

    Raises `UsageError` where the plan names what the table does not have, or no seed has both sides.
    """
    compared = plan.comparisons or _only_comparison(runs)
    _check_names(plan, runs, compared)
    frame = runs.frame if plan.seeds is None else runs.frame[runs.frame["seed"].isin(plan.seeds)]
    _check_families(plan, runs, frame, compared)
    sides = list(_sides(frame.rename(columns={"accuracy": "test_accuracy"}), compared))
    if not any(len(first.index.intersection(second.index)) for _, _, first, second in sides):
        seeds = "" if plan.seeds is None else f" of {format_seeds(plan.seeds)}"
        raise UsageError(f"{runs.path}: no seed{seeds} has both sides of {' or '.join(compared)} in one experiment")
    pairs = [_pairs(plan, runs, *one) for one in sides]
    judged = judge_families(pairs, plan.alpha)
    results = [
        TableResult(**vars(one), name=name, cell=_cell(runs, first), num_images=_num_images(first))
        for (name, _, first, _), one in zip(sides, judged, strict=True)
    ]
    return TableResults(replace(plan, comparisons=tuple(compared)), runs, results)


def _only_comparison(runs: Runs) -> tuple[str, ...]:
    """The first of a table's two variants minus the second. Raises `UsageError` for another number of variants."""
    variants = runs.frame["variant"].unique().tolist()
    if len(variants) != 2:
        raise UsageError(
            f"{runs.path}: there {'is' if len(variants) == 1 else 'are'} {_listed(variants)} in the column variant: "
            'name two to compare, like "first - second"'
        )
    return (" - ".join(variants),)


def _check_names(plan: ResultsPlan, runs: Runs, compared: Sequence[str]) -> None:
    variants = runs.frame["variant"].unique().tolist()
    for side in (side for name in compared for side in name.split(" - ", 1)):
        if side not in variants:
            raise UsageError(f"{runs.path}: there is no variant {side!r} to compare: there is {_listed(variants)}")
    allowed = ("comparison", EXPERIMENT, *runs.further)
    for name in plan.families:
        if name not in allowed:
            raise UsageError(f"families={name!r} is not allowed: it must be one of {', '.join(allowed)}")


def _check_families(plan: ResultsPlan, runs: Runs, frame: pd.DataFrame, compared: Sequence[str]) -> None:
    """Check that no family has more tests than can be judged, before a comparison is made."""
    columns = [name for name in plan.families if name != "comparison"]
    cells = frame.drop_duplicates([EXPERIMENT, "variant"])
    for name in compared:
        first, second = (cells[cells["variant"] == side] for side in name.split(" - ", 1))
        both = first[first[EXPERIMENT].isin(second[EXPERIMENT])]
        num = (both.groupby(columns).size().max() if columns else len(both)) if len(both) else 1
        num *= 1 if "comparison" in plan.families else len(compared)
        try:
            stats.fewest_seeds(int(num), plan.alpha)
        except ValueError as error:
            raise UsageError(f"{runs.path}: {error}; name columns in the plan's families") from None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (f" and {len(names) - 20} others" if len(names) > 20 else "")


def _sides(frame: pd.DataFrame, compared: Sequence[str]) -> Iterator[tuple[str, str, BySeed, BySeed]]:
    """Comparison, experiment and the runs of both sides, where an experiment has both."""
    by_cell = {cell: by_seed(runs) for cell, runs in frame.groupby([EXPERIMENT, "variant"], sort=False)}
    for name in compared:
        first, second = name.split(" - ", 1)
        for experiment in frame[EXPERIMENT].unique():
            if (experiment, first) in by_cell and (experiment, second) in by_cell:
                yield name, experiment, by_cell[experiment, first], by_cell[experiment, second]


def _pairs(plan: ResultsPlan, runs: Runs, name: str, experiment: str, first: BySeed, second: BySeed) -> Pairs:
    values = {"comparison": name, **_cell(runs, first)}
    return Pairs(
        first=first,
        second=second,
        seeds=plan.seeds,
        family=", ".join(values[one] for one in plan.families),
        stream=(experiment,),
        smallest_effect=plan.smallest_effect.share(_num_images(first), f"the experiment {experiment}"),
    )


def _cell(runs: Runs, of_experiment: BySeed) -> dict[str, str]:
    return {name: str(of_experiment[name].iloc[0]) for name in (EXPERIMENT, *runs.further)}


def _num_images(of_experiment: BySeed) -> int | None:
    return int(of_experiment[TEST_IMAGES].iloc[0]) if TEST_IMAGES in of_experiment else None
