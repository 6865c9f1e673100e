"""The tables of a plan's results. Differences are in percentage points."""

from collections.abc import Iterator, Sequence

import numpy as np

from aepretrain import stats
from aepretrain.config import OF_DIGITS
from aepretrain.errors import Failure
from aepretrain.plans import Plan
from aepretrain.records import Archive
from aepretrain.report.judged_tables import difference_text, family_title, judged_row, pooled_row
from aepretrain.report.judged_wording import name_text
from aepretrain.report.pairs import paired_keys
from aepretrain.report.planned import CHECKPOINTS, PlanResults, Result
from aepretrain.report.planned_wording import dataset_text, labels_text, started_text
from aepretrain.report.table import Row, Table, table_of
from aepretrain.report.undecidable import Undecidable
from aepretrain.report.undecidable import undecidable_tables as tables_of
from aepretrain.report.wording import plain_words
from aepretrain.stats import CrossedInterval


def family_tables(of: PlanResults) -> list[Table]:
    """A table for each family of tests."""
    return [
        table_of(family_title(name, results), (_family_row(of.plan, one) for one in results))
        for name, results in of.families.items()
    ]


def main_tables(of: PlanResults) -> list[Table]:
    """The tables of the families in which the plan's first comparison is."""
    families = of.families.values()
    is_main = [any(one.planned.name == of.plan.compared[0] for one in results) for results in families]
    return [table for table, is_shown in zip(family_tables(of), is_main, strict=True) if is_shown]


def _cell(plan: Plan, result: Result) -> dict[str, str]:
    """What a comparison is about; the augmentation only where the plan has several."""
    planned = result.planned
    augmentation = {"augmentation": planned.augmentation} if len(plan.augmentations) > 1 else {}
    return {
        "dataset": dataset_text(planned.dataset),
        "network": planned.network,
        **augmentation,
        "objective": planned.objective,
        "labels": labels_text(planned.labels),
    }


def _family_row(plan: Plan, result: Result) -> Row:
    comparison = {"comparison": name_text(result.planned.name)} if "comparison" not in plan.families else {}
    started = {"started under the plan": started_text(result)}
    return {**comparison, **_cell(plan, result), **judged_row(result), **started}


def words_table(of: PlanResults) -> Table:
    """The plan's first comparison in plain words, on the datasets whose number of test images is known."""
    rows = (
        {**_cell(of.plan, one), "in plain words": _plain_words(one, of.num_images[one.planned.dataset])}
        for one in of.of(of.plan.compared[0])
        if one.comparison and one.planned.dataset in of.num_images
    )
    return table_of(f"{name_text(of.plan.compared[0])} in plain words", rows)


def _plain_words(result: Result, num_images: int) -> str:
    assert result.comparison is not None
    noun = "digit" if result.planned.dataset in OF_DIGITS else "image"
    said = plain_words(result.verdict, num_images, result.comparison.second_std, noun)
    return f"interim: {said}" if result.is_interim else said


def undecidable_tables(of: PlanResults, archive: Archive) -> list[Table]:
    """What could decide the results that these data cannot decide."""
    found = [
        Undecidable(
            {"comparison": name_text(one.planned.name), **_cell(of.plan, one)},
            one.verdict,
            of.num_images.get(one.planned.dataset),
            _parts(of, one, archive),
        )
        for one in of.undecidable
    ]
    return tables_of(found)


def _parts(of: PlanResults, result: Result, archive: Archive) -> CrossedInterval | None:
    """The parts of the spread over seeds and images; None where outcomes cannot be read."""
    if not result.keys:
        return None
    try:
        right_S2N = [
            [archive.outcomes(of.records[key]).correct_N.astype(np.int8) for key in pair]
            for pair in paired_keys(result.first, result.second)
        ]
        return stats.two_way_interval(np.stack([first_N - second_N for first_N, second_N in right_S2N]), 0.95)
    except Failure:
        return None


def pooled_tables(of: PlanResults, *names: str) -> list[Table]:
    """The mean difference of each comparison, objective and number of labels over all else; no table for none.

    Only the comparisons of these names, if there are any.
    """
    rows = list(_pooled_rows(of, names or of.plan.compared))
    how = ", each arm tuned" if of.is_tuned else ""
    return [table_of(f"Pooled over datasets, networks and augmentations{how}", rows)] if rows else []


def _pooled_rows(of: PlanResults, names: Sequence[str]) -> Iterator[Row]:
    for (name, objective, labels), group in of.groups.items():
        if name in names:
            cell = {"comparison": name_text(name), "objective": objective, "labels": labels_text(labels)}
            yield {**cell, **pooled_row(group)}


def checkpoint_tables(of: PlanResults) -> list[Table]:
    """A table for each comparison: its differences at three checkpoints, and on validation images."""
    return [
        table_of(
            f"{name_text(name)} by checkpoint, and on validation images: points (95 % interval)",
            (
                {
                    **_cell(of.plan, one),
                    **{title: difference_text(one, figure) for title, figure in CHECKPOINTS.items()},
                }
                for one in of.of(name)
            ),
        )
        for name in of.plan.compared
    ]
