"""The tables behind the verdict, and those of the grid."""

import numpy as np

from aepretrain import stats
from aepretrain.config import format_seeds
from aepretrain.report.answer import Answer, sides
from aepretrain.report.grid import DATASET_TITLES, METRIC_NAMES, Cell, Experiment, Score, title
from aepretrain.report.numbers import ends_text, interval_text, p_text, signed, spread_text
from aepretrain.report.table import MISSING, Table
from aepretrain.report.wording import verdict_words
from aepretrain.stats import Comparison


def answer_tables(answer: Answer) -> list[Table]:
    """The tables behind the verdict, the primary comparison first. Differences are in percentage points."""
    return [
        ("Finetune − scratch, test accuracy, these images and new trainings (primary)", _primary_rows(answer)),
        ("What that means", _effect_rows(answer)),
        ("Finetune − scratch, test accuracy, new trainings and new images too", _new_images_rows(answer)),
        ("Secondary comparisons: intervals and unadjusted p-values, no verdicts", _secondary_rows(answer)),
    ]


def _primary_rows(answer: Answer) -> list[list[str]]:
    heading = [
        "experiment",
        "seeds",
        "difference in points (95 % interval)",
        "90 % interval",
        "deviation over seeds",
        "p",
        "p, Holm",
        "verdict",
        f"seeds to find ±{100 * answer.plan.smallest_effect:g} points",
    ]
    return [heading] + [
        [
            title(experiment),
            _seeds(answer, experiment),
            interval_text(one.difference),
            ends_text(one.narrow),
            spread_text(one.deviation),
            p_text(one.p_value),
            p_text(one.adjusted_p),
            verdict_words(one, is_interim=answer.is_interim),
            _needed(one),
        ]
        for experiment, one in answer.primary.items()
    ]


def _needed(comparison: Comparison) -> str:
    if comparison.num_seeds < 2:
        return "unknown"
    return "more than a million" if comparison.num_seeds_needed is None else f"{comparison.num_seeds_needed:,}"


def _seeds(answer: Answer, experiment: Experiment) -> str:
    """``13 of 40 planned (0-12)``."""
    seeds = sorted(set.intersection(*(set(side) for side in sides(answer.grid, experiment))))
    planned = answer.plan.num_seeds.get(experiment[0])
    return f"{len(seeds)}{f' of {planned} planned' if planned else ''} ({format_seeds(seeds)})"


def _effect_rows(answer: Answer) -> list[list[str]]:
    heading = [
        "experiment",
        "test images",
        "relative error reduction",
        "P(finetune > scratch), ties half",
        "pairing correlation",
    ]
    return [heading] + [
        [
            title(experiment),
            f"{signed(one.difference.value * answer.num_images, 1)} of {answer.num_images:,}",
            "undefined"
            if np.isnan(one.relative_error_reduction)
            else f"{signed(100 * one.relative_error_reduction, 1)} %",
            f"{one.superiority.value:.2f} ({one.superiority.low:.2f} to {one.superiority.high:.2f})",
            "undefined" if np.isnan(one.correlation) else signed(one.correlation, 2),
        ]
        for experiment, one in answer.primary.items()
    ]


def _new_images_rows(answer: Answer) -> list[list[str]]:
    heading = [
        "experiment",
        "two-way interval, 95 %",
        "crossed bootstrap, 95 %",
        "standard error from trainings",
        "from images",
        "from the rest",
        "runs with McNemar p < 0.05",
    ]
    return [heading] + [
        [
            title(experiment),
            interval_text(one.interval),
            interval_text(one.bootstrap),
            *_standard_errors(answer, experiment),
            f"{one.num_mcnemar} of {answer.primary[experiment].num_seeds}",
        ]
        for experiment, one in answer.new_images.items()
    ]


def _standard_errors(answer: Answer, experiment: Experiment) -> list[str]:
    """How much trainings, test images, and what is particular to both move the mean difference."""
    interval, num_seeds = answer.new_images[experiment].interval, answer.primary[experiment].num_seeds
    deviations = interval.seed_deviation, interval.image_deviation, interval.rest_deviation
    numbers = num_seeds, answer.num_images, num_seeds * answer.num_images
    return [spread_text(one / np.sqrt(num)) for one, num in zip(deviations, numbers, strict=True)]


def _secondary_rows(answer: Answer) -> list[list[str]]:
    return [["comparison", "experiment", "difference in points (95 % interval)", "p, unadjusted"]] + [
        [name, title(experiment), interval_text(one.difference), p_text(one.p_value)]
        for (name, experiment), one in answer.secondary.items()
    ]


def grid_tables(answer: Answer) -> list[Table]:
    """The grid's accuracies and macro-F1: means with their 95 % intervals, and what was published."""
    return [
        (
            f"{name} on {DATASET_TITLES.get(answer.grid.dataset, answer.grid.dataset)}: mean over seeds, its 95 % "
            f"interval, number of seeds{', and the published figure' if answer.grid.has_published else ''}",
            [
                ["experiment", *answer.grid.variants],
                *(
                    [title(experiment), *(_mean_text(cell, place) for cell in answer.grid.row(experiment))]
                    for experiment in answer.grid.experiments
                ),
            ],
        )
        for place, name in enumerate(("Test accuracy", "Macro-F1"))
    ]


def _mean_text(cell: Cell, place: int) -> str:
    """``0.9766 (0.9757 to 0.9775), n = 13; published 0.9775``; of accuracy, or in the second place macro-F1."""
    published = "" if cell.published is None else f"; published {cell.published[place]:.4f}"
    if not cell.records:
        return MISSING + published
    metric = list(METRIC_NAMES)[place]
    found = stats.mean_interval(np.array([record.metrics[metric] for record in cell.records]), 0.95)
    spread = f" ({found.low:.4f} to {found.high:.4f})" if len(cell.records) > 1 else ""
    return f"{found.value:.4f}{spread}, n = {len(cell.records)}{published}"


def reproduction_table(answer: Answer) -> Table:
    """Each published number against ours."""
    rows = [
        [
            title((one.cell.network, one.cell.augmentation)),
            one.cell.variant,
            METRIC_NAMES[one.metric],
            f"{one.published:.4f}",
            f"{one.interval.low:.4f} to {one.interval.high:.4f}",
            "yes" if one.inside else "no",
        ]
        for one in answer.reproduced
    ]
    heading = ["experiment", "variant", "metric", "published", "95 % of single runs", "inside"]
    return "Published numbers against the 95 % prediction interval of one run", [heading, *rows]


def calibration_table(answer: Answer) -> Table:
    """What each cell's classifiers think of their own predictions."""
    rows = [
        [
            title((network, augmentation)),
            variant,
            str(Score.of(one.nll_S.tolist())),
            str(Score.of(one.error_S.tolist())),
        ]
        for (network, augmentation, variant), one in answer.calibration.items()
    ]
    heading = ["experiment", "variant", "negative log-likelihood (nats)", "expected calibration error"]
    return "Calibration on the test images: mean ± standard deviation over seeds", [heading, *rows]
