"""Does pretraining help? The grid's records and predictions in, comparisons with their verdicts out, and their text.

No sentence here says more than the rule of `stats.verdict` gives. Shapes: S seeds, N test images.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aepretrain import stats
from aepretrain.metrics import calibration_error
from aepretrain.records import Predictions, Record
from aepretrain.report.grid import DATASET_TITLES, EXPERIMENTS, MISSING, Cell, Grid, Score, Table, signed
from aepretrain.spec import derive_seed, format_seeds
from aepretrain.stats import Comparison, CrossedInterval, Estimate, Verdict

RANDOM_STATE = 20_240_229
"""Of all that is drawn for a report: random flips and resamples. Fixed, so that a report can be made again."""

Experiment = tuple[str, str]
"""Network and augmentation."""

ReadPredictions = Callable[[Record], Predictions]


@dataclass(frozen=True)
class NewImages:
    """Finetune minus scratch for new trainings and new test images, and within single runs."""

    interval: CrossedInterval
    bootstrap: Estimate
    num_mcnemar: int
    """In how many seeds the two classifiers' errors differ by McNemar's test at 5 %, unadjusted: a diagnostic."""


@dataclass(frozen=True)
class Reproduced:
    """One published number against the interval into which one run of ours falls with 95 % probability."""

    metric: str
    cell: Cell
    published: float
    interval: Estimate

    @property
    def inside(self) -> bool:
        """Whether it could be a run of ours."""
        return self.interval.low <= self.published <= self.interval.high


@dataclass(frozen=True)
class Calibration:
    """What a cell's classifiers think of their own predictions on the test images, one number for each seed."""

    nll_S: NDArray[np.float64]
    """Mean negative logarithm of the probability of the true class, in nats."""
    error_S: NDArray[np.float64]
    """Expected calibration error."""


@dataclass(frozen=True)
class Answer:
    """All comparisons of a grid. The primary ones alone have verdicts."""

    grid: Grid
    primary: Mapping[Experiment, Comparison]
    """Finetune minus scratch, test accuracy."""
    secondary: Mapping[tuple[str, Experiment], Comparison]
    """Finetune minus scratch in macro-F1, frozen minus scratch in accuracy; by what is compared and experiment."""
    new_images: Mapping[Experiment, NewImages]
    reproduced: Sequence[Reproduced]
    calibration: Mapping[tuple[str, str, str], Calibration]
    num_images: int
    smallest_effect: float


SECONDARY = {
    "frozen − scratch, accuracy": ("frozen", "scratch", "test_accuracy"),
    "finetune − scratch, macro-F1": ("finetune", "scratch", "test_macro_f1"),
}


def build_answer(grid: Grid, predictions: ReadPredictions, smallest_effect: float) -> Answer:
    """Compare what is paired by seed in each experiment of the grid; what is missing is left out.

    The four published experiments are judged; those of other networks are compared without a verdict.
    """
    primary = {}
    for experiment in grid.experiments:
        first_S, second_S = paired(grid, experiment, "finetune", "scratch", "test_accuracy")
        if len(first_S):
            primary[experiment] = stats.compare(first_S, second_S, draw_for("primary", experiment), smallest_effect)
    secondary = {}
    for name, (first, second, metric) in SECONDARY.items():
        for experiment in grid.experiments:
            first_S, second_S = paired(grid, experiment, first, second, metric)
            if len(first_S):
                draw = draw_for(name, experiment)
                secondary[name, experiment] = stats.compare(first_S, second_S, draw, smallest_effect)
    of_runs = {record.run_id: predictions(record) for cell in grid.cells.values() for record in cell.records}
    right = {experiment: _right(grid, experiment, of_runs) for experiment in primary}
    return Answer(
        grid=grid,
        primary=primary | stats.judge({name: one for name, one in primary.items() if name in EXPERIMENTS}),
        secondary=secondary,
        new_images={
            experiment: _new_images(*found, draw_for("images", experiment)) for experiment, found in right.items()
        },
        reproduced=list(_reproduced(grid)),
        calibration={
            name: _calibration([of_runs[record.run_id] for record in cell.records])
            for name, cell in grid.cells.items()
            if cell.records
        },
        num_images=next((found[0].shape[1] for found in right.values()), 0),
        smallest_effect=smallest_effect,
    )


def draw_for(purpose: str, experiment: Experiment) -> np.random.Generator:
    """A stream of random numbers of its own, so that no experiment's figures depend on which others there are."""
    return np.random.default_rng(derive_seed(RANDOM_STATE, f"{purpose}/{'/'.join(experiment)}"))


def paired(
    grid: Grid, experiment: Experiment, first: str, second: str, metric: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A metric of two variants, for the seeds that have both, in their order."""
    values = [[record.metrics[metric] for record in side] for side in _pairs(grid, experiment, first, second)]
    return np.array(values[0]), np.array(values[1])


def _pairs(grid: Grid, experiment: Experiment, first: str, second: str) -> tuple[list[Record], list[Record]]:
    sides = [
        {record.seed: record for record in grid.cells[(*experiment, variant)].records} for variant in (first, second)
    ]
    seeds = sorted(sides[0].keys() & sides[1].keys())
    return [sides[0][seed] for seed in seeds], [sides[1][seed] for seed in seeds]


def _right(
    grid: Grid, experiment: Experiment, of_runs: Mapping[str, Predictions]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which test images finetune and scratch classify rightly, [S, N] each."""
    sides = []
    for records in _pairs(grid, experiment, "finetune", "scratch"):
        found = [of_runs[record.run_id] for record in records]
        sides.append(np.stack([one.predicted_N == one.labels_N for one in found]))
    return sides[0], sides[1]


def _new_images(finetune_SN: NDArray[np.bool_], scratch_SN: NDArray[np.bool_], draw: np.random.Generator) -> NewImages:
    differences_SN = finetune_SN.astype(np.int8) - scratch_SN.astype(np.int8)
    p_values = [stats.mcnemar(*pair) for pair in zip(finetune_SN, scratch_SN, strict=True)]
    return NewImages(
        interval=stats.two_way_interval(differences_SN, 0.95),
        bootstrap=stats.crossed_bootstrap(differences_SN, 0.95, draw),
        num_mcnemar=sum(p_value < stats.ALPHA for p_value in p_values),
    )


def _calibration(of_seeds: Sequence[Predictions]) -> Calibration:
    """Probabilities are kept as half-precision logarithms: three significant digits."""
    errors = [
        calibration_error(np.exp(-one.nll_predicted_N.astype(np.float64)), one.predicted_N == one.labels_N)
        for one in of_seeds
    ]
    nll = [float(np.mean(one.nll_label_N, dtype=np.float64)) for one in of_seeds]
    return Calibration(np.array(nll), np.array(errors))


def _reproduced(grid: Grid) -> Iterable[Reproduced]:
    for cell in grid.cells.values():
        if cell.published is None or len(cell.records) < 2:
            continue
        for metric, published in zip(("test_accuracy", "test_macro_f1"), cell.published, strict=True):
            values_S = np.array([record.metrics[metric] for record in cell.records])
            yield Reproduced(metric, cell, published, stats.prediction_interval(values_S, 0.95))


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
    records, _ = _pairs(answer.grid, experiment, "finetune", "scratch")
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
