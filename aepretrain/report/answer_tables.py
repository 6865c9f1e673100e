"""The tables behind the answer, and those of the grid."""

import numpy as np

from aepretrain import stats
from aepretrain.config import format_seeds
from aepretrain.report.answer import Answer, sides
from aepretrain.report.grid import METRIC_NAMES, Cell, Experiment, Score, title
from aepretrain.report.numbers import ends_text, interval_text, p_text, signed, spread_text
from aepretrain.report.pairs import values_of
from aepretrain.report.table import MISSING, Table
from aepretrain.report.wording import pooled_text, verdict_words
from aepretrain.stats import Comparison, Estimate


def answer_tables(answer: Answer) -> list[Table]:
    """The tables of finetune minus scratch, the primary comparison first. Differences are in percentage points."""
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
        "standard deviation over seeds",
        "p",
        "p, Holm",
        "verdict",
        f"seeds to find ±{100 * answer.plan.smallest_effect:g} points",
    ]
    return (
        [heading]
        + [
            [
                title(experiment),
                _seeds(answer, experiment),
                interval_text(one.difference),
                ends_text(one.narrow),
                spread_text(one.std),
                p_text(one.p_value),
                p_text(one.adjusted_p),
                verdict_words(one, is_interim=answer.is_interim),
                _needed(one),
            ]
            for experiment, one in answer.primary.items()
        ]
        + _pooled_row(answer)
    )


def _pooled_row(answer: Answer) -> list[list[str]]:
    mean, narrow = answer.pooled(0.95), answer.pooled(0.90)
    if mean is None or narrow is None:
        return []
    return [[pooled_text(answer), "", interval_text(mean), ends_text(narrow), "", "", "", "not judged", ""]]


def _needed(comparison: Comparison) -> str:
    if comparison.num_seeds < 2:
        return "unknown"
    return "more than a million" if comparison.num_seeds_needed is None else f"{comparison.num_seeds_needed:,}"


def _seeds(answer: Answer, experiment: Experiment) -> str:
    """``13 of 40 planned (0-12)``."""
    finetune, scratch = sides(answer.grid, experiment)
    seeds = sorted(finetune.index.intersection(scratch.index).tolist())
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
            _images_text(answer, one),
            "undefined"
            if np.isnan(one.relative_error_reduction)
            else f"{signed(100 * one.relative_error_reduction, 1)} %",
            _probability_text(one.probability_of_improvement),
            "undefined" if np.isnan(one.correlation) else signed(one.correlation, 2),
        ]
        for experiment, one in answer.primary.items()
    ]


def _probability_text(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"


def _images_text(answer: Answer, comparison: Comparison) -> str:
    if not answer.num_images:
        return "unknown"
    return f"{signed(comparison.difference.value * answer.num_images, 1)} of {answer.num_images:,}"


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
    """The parts of the mean difference's standard error: from trainings, from test images, from the rest."""
    interval, num_seeds = answer.new_images[experiment].interval, answer.primary[experiment].num_seeds
    stds = interval.seed_std, interval.image_std, interval.rest_std
    numbers = num_seeds, answer.num_images, num_seeds * answer.num_images
    return [spread_text(one / np.sqrt(num)) for one, num in zip(stds, numbers, strict=True)]


def _secondary_rows(answer: Answer) -> list[list[str]]:
    return [["comparison", "experiment", "difference in points (95 % interval)", "p, unadjusted"]] + [
        [name, title(experiment), interval_text(one.difference), p_text(one.p_value)]
        for (name, experiment), one in answer.secondary.items()
    ]


def grid_tables(answer: Answer) -> list[Table]:
    """The grid's accuracies and macro-F1: means with their 95 % intervals, and the source's figures."""
    return [
        (
            f"{name} on {answer.grid.dataset_title}: mean over seeds, its 95 % interval, number of seeds"
            f"{', and the figure of the source' if answer.grid.has_source else ''}",
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
    """``0.9766 (0.9757 to 0.9775), n = 13; source 0.9775``, of the metric in this place of `METRIC_NAMES`."""
    source = "" if cell.source is None else f"; source {cell.source[place]:.4f}"
    values_S = values_of(cell.trainings, list(METRIC_NAMES)[place])
    if not len(values_S):
        return MISSING + source
    mean = stats.mean_interval(values_S, 0.95)
    spread = f" ({mean.low:.4f} to {mean.high:.4f})" if len(values_S) > 1 else ""
    return f"{mean.value:.4f}{spread}, n = {len(values_S)}{source}"


def reproduction_table(answer: Answer) -> Table:
    """Each of the source's numbers with our interval."""
    rows = [
        [
            title((one.cell.network, one.cell.augmentation)),
            one.cell.variant,
            METRIC_NAMES[one.metric],
            f"{one.source:.4f}",
            f"{one.interval.low:.4f} to {one.interval.high:.4f}",
            "yes" if one.inside else "no",
        ]
        for one in answer.reproduced
    ]
    heading = ["experiment", "variant", "metric", "source", "95 % of single runs", "inside"]
    return "The source's numbers and the 95 % prediction interval of one run", [heading, *rows]


def calibration_table(answer: Answer) -> Table:
    """Negative log-likelihood and expected calibration error of each cell."""
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
