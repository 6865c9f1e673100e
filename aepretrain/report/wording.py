"""The answer in words: the verdict's sentences, and the tables behind it.

No sentence here says more than the rule of `stats.verdict` gives.
"""

import numpy as np

from aepretrain import stats
from aepretrain.report.answer import Answer, Experiment, paired_records
from aepretrain.report.grid import DATASET_TITLES, EXPERIMENTS, MISSING, Cell, Score, Table, signed
from aepretrain.spec import format_seeds
from aepretrain.stats import Comparison, Estimate, Verdict


def sentences(answer: Answer) -> str:
    """The verdict in two sentences, for those who read no further."""
    dataset = DATASET_TITLES.get(answer.grid.dataset, answer.grid.dataset)
    if not answer.primary:
        return f"There is no verdict on {dataset}: no seed has both finetune and scratch."
    experiments = [*EXPERIMENTS, *(one for one in answer.primary if one not in EXPERIMENTS)]
    found = "; ".join(
        f"{title(one)}: {verdict(answer.primary[one]) if one in answer.primary else 'missing'}" for one in experiments
    )
    counts = sorted({one.num_seeds for one in answer.primary.values()})
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    first = (
        f"Fine-tuning a pretrained encoder against training from scratch on {dataset}, {seeds} "
        f"{'seed' if counts == [1] else 'seeds'}: {found}."
    )
    if all(one.verdict is Verdict.NONE for one in answer.primary.values()):
        return f"{first} So far there is no verdict."
    return (
        f"{first} This holds for these {answer.num_images:,} test images and new trainings, with a chance of at most "
        f"{100 * stats.ALPHA:.0f} % of any false gain or loss among the four experiments, and takes differences within "
        f"±{answer.smallest_effect:g} ({round(answer.smallest_effect * answer.num_images, 1):g} of "
        f"{answer.num_images:,} images) for negligible."
    )


def title(experiment: Experiment) -> str:
    """An experiment for people."""
    return f"{experiment[0]}, {experiment[1]}"


def verdict(comparison: Comparison) -> str:
    """The verdict with the difference it is about."""
    words = verdict_words(comparison)
    return words if comparison.verdict is Verdict.NONE else f"{words} ({signed(comparison.difference.value)})"


def verdict_words(comparison: Comparison) -> str:
    """The verdict, or why there is none."""
    if comparison.num_seeds < comparison.min_seeds:
        unit = "seed" if comparison.num_seeds == 1 else "seeds"
        return f"no verdict: {comparison.num_seeds} {unit}, at least {comparison.min_seeds} needed"
    return "not judged: not among the four" if comparison.adjusted_p is None else str(comparison.verdict)


def interval_text(estimate: Estimate) -> str:
    """``+0.0012 (+0.0003 to +0.0021)``."""
    if not np.isfinite(estimate.low):
        return signed(estimate.value)
    return f"{signed(estimate.value)} ({signed(estimate.low)} to {signed(estimate.high)})"


def answer_tables(answer: Answer) -> list[Table]:
    """The tables behind the verdict, each with its title and its rows, the first being the heading."""
    tables = [
        ("Finetune − scratch, test accuracy, these images and new trainings (primary)", _primary_rows(answer)),
        ("What that means", _effect_rows(answer)),
        ("Finetune − scratch, test accuracy, new trainings and new images too", _new_images_rows(answer)),
        ("Secondary comparisons: intervals and unadjusted p-values, no verdicts", _secondary_rows(answer)),
        ("Calibration on the test images: mean ± standard deviation over seeds", _calibration_rows(answer)),
    ]
    if answer.reproduced:
        tables.append(("Published numbers against the 95 % prediction interval of one run", _reproduction_rows(answer)))
    return tables


def _primary_rows(answer: Answer) -> list[list[str]]:
    effect = f"seeds to find ±{answer.smallest_effect:g}"
    return [["experiment", "seeds", "difference (95 % interval)", "p", "p, Holm", "verdict", effect]] + [
        [
            title(experiment),
            _seeds(answer, experiment),
            interval_text(one.difference),
            f"{one.p_value:.4f}",
            "" if one.adjusted_p is None else f"{one.adjusted_p:.4f}",
            verdict_words(one),
            _needed(one),
        ]
        for experiment, one in answer.primary.items()
    ]


def _needed(comparison: Comparison) -> str:
    if comparison.num_seeds < 2:
        return "unknown"
    return "more than a million" if comparison.num_seeds_needed is None else f"{comparison.num_seeds_needed:,}"


def _seeds(answer: Answer, experiment: Experiment) -> str:
    records, _ = paired_records(answer.grid, experiment, "finetune", "scratch")
    return f"{len(records)} ({format_seeds([record.seed for record in records])})"


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
            f"{one.difference.value * answer.num_images:+.1f} of {answer.num_images:,}".replace("-", "−"),
            _percent(one.relative_error_reduction),
            f"{one.superiority.value:.2f} ({one.superiority.low:.2f} to {one.superiority.high:.2f})",
            "undefined" if np.isnan(one.correlation) else f"{one.correlation:+.2f}".replace("-", "−"),
        ]
        for experiment, one in answer.primary.items()
    ]


def _percent(share: float) -> str:
    return "undefined" if np.isnan(share) else f"{100 * share:+.1f} %".replace("-", "−")


def _new_images_rows(answer: Answer) -> list[list[str]]:
    heading = [
        "experiment",
        "two-way interval, 95 %",
        "crossed bootstrap, 95 %",
        "deviation between trainings",
        "runs with McNemar p < 0.05",
    ]
    return [heading] + [
        [
            title(experiment),
            interval_text(one.interval),
            interval_text(one.bootstrap),
            "undefined" if np.isnan(one.interval.seed_deviation) else f"{one.interval.seed_deviation:.4f}",
            f"{one.num_mcnemar} of {answer.primary[experiment].num_seeds}",
        ]
        for experiment, one in answer.new_images.items()
    ]


def _secondary_rows(answer: Answer) -> list[list[str]]:
    return [["comparison", "experiment", "difference (95 % interval)", "p, unadjusted"]] + [
        [name, title(experiment), interval_text(one.difference), f"{one.p_value:.4f}"]
        for (name, experiment), one in answer.secondary.items()
    ]


def interval_table(answer: Answer) -> Table:
    """The grid's accuracies with the 95 % intervals of their means, and how many seeds they are from."""
    rows = [
        [title((cell.network, cell.augmentation)), cell.variant, str(len(cell.records)), _mean_text(cell)]
        for cell in answer.grid.cells.values()
    ]
    return "Test accuracy, mean and its 95 % interval", [["experiment", "variant", "seeds", "accuracy"], *rows]


def _mean_text(cell: Cell) -> str:
    if not cell.records:
        return MISSING
    found = stats.mean_interval(np.array([record.metrics["test_accuracy"] for record in cell.records]), 0.95)
    spread = f" ({found.low:.4f} to {found.high:.4f})" if len(cell.records) > 1 else ""
    return f"{found.value:.4f}{spread}"


def _calibration_rows(answer: Answer) -> list[list[str]]:
    heading = ["experiment", "variant", "negative log-likelihood (nats)", "expected calibration error (15 bins)"]
    return [heading] + [
        [
            title((network, augmentation)),
            variant,
            str(Score.of(one.nll_S.tolist())),
            str(Score.of(one.error_S.tolist())),
        ]
        for (network, augmentation, variant), one in answer.calibration.items()
    ]


def _reproduction_rows(answer: Answer) -> list[list[str]]:
    return [["experiment", "variant", "metric", "published", "95 % of single runs", "inside"]] + [
        [
            title((one.cell.network, one.cell.augmentation)),
            one.cell.variant,
            one.metric.removeprefix("test_").replace("_", " ").replace("macro f1", "macro-F1"),
            f"{one.published:.4f}",
            f"{one.interval.low:.4f} to {one.interval.high:.4f}",
            "yes" if one.inside else "no",
        ]
        for one in answer.reproduced
    ]
