"""The answer in words: the verdict's sentences, and the tables behind it.

No sentence here says more than the rule of `stats.verdict` gives.
"""

import numpy as np

from aepretrain import stats
from aepretrain.report.answer import Answer, Experiment, Reproduced, sides
from aepretrain.report.grid import DATASET_TITLES, EXPERIMENTS, Cell, Score
from aepretrain.report.table import MISSING, Table, signed
from aepretrain.spec import format_seeds
from aepretrain.stats import Comparison, Estimate, Verdict

METRIC_NAMES = {"test_accuracy": "accuracy", "test_macro_f1": "macro-F1"}


def sentences(answer: Answer) -> str:
    """The verdict in two sentences, for those who read no further."""
    dataset = DATASET_TITLES.get(answer.grid.dataset, answer.grid.dataset)
    if not answer.primary:
        return f"There is no verdict on {dataset}: no seed has both finetune and scratch."
    experiments = [*EXPERIMENTS, *(one for one in answer.primary if one not in EXPERIMENTS)]
    found = "; ".join(f"{_in_words(one)}: {_finding(answer, one)}" for one in experiments)
    counts = sorted({one.num_seeds for one in answer.primary.values()})
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    first = (
        f"Fine-tuning a pretrained encoder against training from scratch on {dataset}, mean difference of test "
        f"accuracy over {seeds} {'seed' if counts == [1] else 'seeds'}: {found}."
    )
    if all(one.verdict is Verdict.NONE for one in answer.primary.values()):
        return f"{first} So far there is no verdict."
    return f"{first} {_scope(answer)}"


def _in_words(experiment: Experiment) -> str:
    network, augmentation = experiment
    return f"{network} {'without erasing' if augmentation == 'none' else f'with {augmentation}'}"


def _finding(answer: Answer, experiment: Experiment) -> str:
    """The verdict with the difference it is about."""
    if experiment not in answer.primary:
        return MISSING
    comparison = answer.primary[experiment]
    words = verdict_words(comparison)
    return words if comparison.verdict is Verdict.NONE else f"{words} ({signed(comparison.difference.value)})"


def _scope(answer: Answer) -> str:
    """What the verdicts are about, and how often the rule errs."""
    chance = f"at most {100 * stats.ALPHA:.0f} %"
    effect, num = answer.plan.smallest_effect, answer.num_images
    about = f"these {num:,} test images and new trainings"
    negligible = f"differences within ±{effect:g} ({round(effect * num, 1):g} of {num:,} images) count as negligible"
    if any(map(answer.is_interim, EXPERIMENTS)):
        return (
            f"This is an interim look, at fewer seeds than the planned {planned_text(answer)}; it is about {about}, "
            f"the chance of any false gain or loss among the four experiments is {chance} only for one look at the "
            f"planned seeds, and {negligible}."
        )
    planned = all(map(answer.is_as_planned, EXPERIMENTS))
    provided = "" if planned else ", provided that the number of seeds was fixed before looking"
    return (
        f"The verdicts are about {about}, by a rule that finds any false gain or loss among the four experiments with "
        f"a chance of {chance}{provided}; {negligible}."
    )


def planned_text(answer: Answer) -> str:
    """``40 (fc) and 20 (conv)``; nothing where no number of seeds was planned."""
    return " and ".join(f"{num} ({network})" for network, num in answer.plan.num_seeds.items())


def title(experiment: Experiment) -> str:
    """An experiment for people."""
    return f"{experiment[0]}, {experiment[1]}"


def verdict_words(comparison: Comparison) -> str:
    """The verdict, or why there is none."""
    if comparison.num_seeds < comparison.min_seeds:
        unit = "seed" if comparison.num_seeds == 1 else "seeds"
        return f"no verdict: {comparison.num_seeds} {unit}, at least {comparison.min_seeds} needed"
    return "not judged: not among the four" if comparison.adjusted_p is None else str(comparison.verdict)


def interval_text(estimate: Estimate, of: str = "") -> str:
    """``+0.0012 (+0.0003 to +0.0021)``, or with what it is of ``+0.0012 (+0.0003 to +0.0021, n = 9)``."""
    ends = [f"{signed(estimate.low)} to {signed(estimate.high)}"] if np.isfinite(estimate.low) else []
    inside = ", ".join([*ends, *([of] if of else [])])
    return f"{signed(estimate.value)} ({inside})" if inside else signed(estimate.value)


def p_text(p_value: float | None) -> str:
    """A p-value, of which none is zero; empty where there is none."""
    if p_value is None:
        return ""
    return f"{p_value:.4f}" if p_value >= 0.0001 else "below 0.0001"


def answer_tables(answer: Answer) -> list[Table]:
    """The tables behind the verdict, each with its title and its rows, the first being the heading."""
    return [
        ("Finetune − scratch, test accuracy, these images and new trainings (primary)", _primary_rows(answer)),
        ("What that means", _effect_rows(answer)),
        ("Finetune − scratch, test accuracy, new trainings and new images too", _new_images_rows(answer)),
        ("Secondary comparisons: intervals and unadjusted p-values, no verdicts", _secondary_rows(answer)),
    ]


def _primary_rows(answer: Answer) -> list[list[str]]:
    effect = f"seeds to find ±{answer.plan.smallest_effect:g} with 80 % power"
    return [["experiment", "seeds", "difference (95 % interval)", "deviation", "p", "p, Holm", "verdict", effect]] + [
        [
            title(experiment),
            _seeds(answer, experiment),
            interval_text(one.difference),
            "undefined" if np.isnan(one.deviation) else f"{one.deviation:.4f}",
            p_text(one.p_value),
            p_text(one.adjusted_p),
            f"{'interim: ' if _is_interim_verdict(answer, experiment) else ''}{verdict_words(one)}",
            _needed(one),
        ]
        for experiment, one in answer.primary.items()
    ]


def _is_interim_verdict(answer: Answer, experiment: Experiment) -> bool:
    return answer.primary[experiment].verdict is not Verdict.NONE and answer.is_interim(experiment)


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
        "standard error from trainings",
        "from images",
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
    """How much the drawing of trainings, and that of test images, moves the mean difference."""
    interval, num_seeds = answer.new_images[experiment].interval, answer.primary[experiment].num_seeds
    errors = interval.seed_deviation / np.sqrt(num_seeds), interval.image_deviation / np.sqrt(answer.num_images)
    return ["undefined" if np.isnan(error) else f"{error:.4f}" for error in errors]


def _secondary_rows(answer: Answer) -> list[list[str]]:
    return [["comparison", "experiment", "difference (95 % interval)", "p, unadjusted"]] + [
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
    metric = ("test_accuracy", "test_macro_f1")[place]
    found = stats.mean_interval(np.array([record.metrics[metric] for record in cell.records]), 0.95)
    spread = f" ({found.low:.4f} to {found.high:.4f})" if len(cell.records) > 1 else ""
    return f"{found.value:.4f}{spread}, n = {len(cell.records)}{published}"


def calibration_table(answer: Answer) -> Table:
    """What each cell's classifiers think of their own predictions."""
    return "Calibration on the test images: mean ± standard deviation over seeds", _calibration_rows(answer)


def reproduction_tables(answer: Answer) -> list[Table]:
    """Each published number against ours, where there are any."""
    name = "Published numbers against the 95 % prediction interval of one run"
    return [(name, _reproduction_rows(answer))] if answer.reproduced else []


def reproduction_sentence(answer: Answer) -> str:
    """How many of the published numbers could be of a run of ours, and which could not; nothing where there is none."""
    if not answer.reproduced:
        return ""
    outside = [one for one in answer.reproduced if not one.inside]
    cells = dict.fromkeys(map(_name, outside))
    named = "; ".join(
        f"{_in_words(cell[:2])}, {cell[2]} ({', '.join(_metric_text(one) for one in outside if _name(one) == cell)})"
        for cell in cells
    )
    num = len(answer.reproduced)
    return (
        f"Inside the interval into which one run of ours falls with a probability of 95 %: {num - len(outside)} of "
        f"{num} published numbers{f'; outside: {named}' if named else ''}."
    )


def _name(one: Reproduced) -> tuple[str, str, str]:
    return one.cell.network, one.cell.augmentation, one.cell.variant


def _metric_text(one: Reproduced) -> str:
    return f"{METRIC_NAMES[one.metric]} {'above' if one.published > one.interval.high else 'below'}"


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
            METRIC_NAMES[one.metric],
            f"{one.published:.4f}",
            f"{one.interval.low:.4f} to {one.interval.high:.4f}",
            "yes" if one.inside else "no",
        ]
        for one in answer.reproduced
    ]
