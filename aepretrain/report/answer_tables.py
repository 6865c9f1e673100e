"""The tables behind the answer, and those of the grid."""

from collections.abc import Iterator

import numpy as np

from aepretrain import stats
from aepretrain.config import OF_DIGITS, format_seeds
from aepretrain.report.answer import Answer, sides
from aepretrain.report.grid import METRIC_NAMES, Cell, Experiment, Score, title
from aepretrain.report.numbers import ends_text, interval_text, p_text, signed, spread_text
from aepretrain.report.pairs import values_of
from aepretrain.report.table import MISSING, Row, Table, table_of
from aepretrain.report.undecidable import MANY_SEEDS, needs_many_seeds, seeds_text, undecidable_tables
from aepretrain.report.wording import plain_words, pooled_text, verdict_words
from aepretrain.stats import Comparison, Estimate, Verdict

"""Datasets whose images are digits."""


def answer_tables(answer: Answer) -> list[Table]:
    """The tables of finetune minus scratch, the primary comparison first. Differences are in percentage points."""
    secondary = (
        {
            "comparison": name,
            "experiment": title(experiment),
            "difference in points (95 % interval)": interval_text(one.difference),
            "p, unadjusted": p_text(one.p_value),
        }
        for (name, experiment), one in answer.secondary.items()
    )
    return [
        table_of("Finetune − scratch, test accuracy, these images and new trainings (primary)", _primary_rows(answer)),
        table_of("What that means", (_effect_row(answer, *item) for item in answer.primary.items())),
        table_of(
            "Finetune − scratch, test accuracy, new trainings and new images too",
            (_new_images_row(answer, experiment) for experiment in answer.new_images),
        ),
        table_of("Secondary comparisons: intervals and unadjusted p-values, no verdicts", secondary),
        *undecidable_tables(answer.undecidable),
    ]


def _primary_rows(answer: Answer) -> Iterator[Row]:
    for experiment, one in answer.primary.items():
        verdict = answer.verdicts[experiment]
        yield {
            "experiment": title(experiment),
            "verdict": verdict_words(verdict, is_interim=answer.is_interim),
            "seeds": _seeds(answer, experiment),
            "difference in points (95 % interval)": interval_text(one.difference),
            "90 % interval": ends_text(one.narrow),
            "standard deviation over seeds": spread_text(one.std),
            "p": p_text(one.p_value),
            "p, Holm": p_text(verdict.adjusted_p),
            f"seeds to find ±{100 * answer.terms.smallest_effect:.3g} points": _seeds_needed(verdict),
        }
    mean, narrow = answer.pooled(0.95), answer.pooled(0.90)
    if mean and narrow:
        yield {
            "experiment": pooled_text(answer),
            "verdict": "not judged",
            "difference in points (95 % interval)": interval_text(mean),
            "90 % interval": ends_text(narrow),
        }


def _seeds_needed(verdict: Verdict) -> str:
    return f"more than {MANY_SEEDS:,}" if needs_many_seeds(verdict) else seeds_text(verdict)


def _seeds(answer: Answer, experiment: Experiment) -> str:
    """``13 of 40 planned (0-12)``."""
    finetune, scratch = sides(answer.grid, experiment)
    seeds = sorted(finetune.index.intersection(scratch.index).tolist())
    planned = answer.terms.num_seeds.get(experiment[0])
    return f"{len(seeds)}{f' of {planned} planned' if planned else ''} ({format_seeds(seeds)})"


def _effect_row(answer: Answer, experiment: Experiment, comparison: Comparison) -> Row:
    images, verdict = answer.num_images, answer.verdicts[experiment]
    reduction, correlation = comparison.relative_error_reduction, comparison.correlation
    return {
        "experiment": title(experiment),
        "test images": f"{signed(comparison.difference.value * images, 1)} of {images:,}" if images else "unknown",
        "relative error reduction": "undefined" if np.isnan(reduction) else f"{signed(100 * reduction, 1)} %",
        "probability of improvement": probability_text(comparison.probability_of_improvement),
        "the same within a seed": probability_text(comparison.paired_probability_of_improvement),
        "pairing correlation": "undefined" if np.isnan(correlation) else signed(correlation, 2),
        "in plain words": _plain_words(answer, verdict, comparison) if images else "",
    }


def _plain_words(answer: Answer, verdict: Verdict, comparison: Comparison) -> str:
    noun = "digit" if answer.grid.dataset in OF_DIGITS else "image"
    said = plain_words(verdict, answer.num_images, comparison.second_std, noun)
    return f"interim: {said}" if answer.is_interim else said


def probability_text(probability: Estimate) -> str:
    """``0.62 (0.49 to 0.73)``."""
    return f"{probability.value:.2f} ({probability.low:.2f} to {probability.high:.2f})"


def _new_images_row(answer: Answer, experiment: Experiment) -> Row:
    one, num_seeds, num_images = answer.new_images[experiment], answer.primary[experiment].num_seeds, answer.num_images
    return {
        "experiment": title(experiment),
        "two-way interval, 95 %": interval_text(one.interval),
        "crossed bootstrap, 95 %": interval_text(one.bootstrap),
        "standard error from trainings": spread_text(one.interval.seed_std / np.sqrt(num_seeds)),
        "from images": spread_text(one.interval.image_std / np.sqrt(num_images)),
        "from the rest": spread_text(one.interval.rest_std / np.sqrt(num_seeds * num_images)),
        "runs with McNemar p < 0.05": f"{one.num_mcnemar} of {num_seeds}",
    }


def grid_tables(answer: Answer) -> list[Table]:
    """The grid's accuracies and macro-F1: means with their 95 % intervals, and the source's figures."""
    grid = answer.grid
    source = ", and the figure of the source" if grid.has_source else ""
    return [
        table_of(
            f"{name} on {grid.dataset_title}: mean over seeds, its 95 % interval, number of seeds{source}",
            (
                {"experiment": title(one)} | {cell.variant: _mean_text(cell, place) for cell in grid.row(one)}
                for one in grid.experiments
            ),
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
    rows = (
        {
            "experiment": title(one.cell.experiment),
            "variant": one.cell.variant,
            "metric": METRIC_NAMES[one.metric],
            "source": f"{one.source:.4f}",
            "95 % of single runs": f"{one.interval.low:.4f} to {one.interval.high:.4f}",
            "inside": "yes" if one.inside else "no",
        }
        for one in answer.reproduced
    )
    return table_of("The source's numbers and the 95 % prediction interval of one run", rows)


def calibration_table(answer: Answer) -> Table:
    """Negative log-likelihood and expected calibration error of each cell."""
    rows = (
        {
            "experiment": title(tuple(experiment)),
            "variant": variant,
            "negative log-likelihood (nats)": str(Score.of(one.nll_S.tolist())),
            "expected calibration error": str(Score.of(one.error_S.tolist())),
        }
        for (*experiment, variant), one in answer.calibration.items()
    )
    return table_of("Calibration on the test images: mean ± standard deviation over seeds", rows)
