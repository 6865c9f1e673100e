"""Does pretraining help? The grid's records and predictions in, comparisons with their verdicts out.

Shapes: S seeds, N test images.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aepretrain import stats
from aepretrain.config import derive_seed
from aepretrain.records import Outcomes, Record
from aepretrain.report.grid import EXPERIMENTS, METRIC_NAMES, Cell, Experiment, Grid
from aepretrain.report.pairs import BySeed, paired, pairs
from aepretrain.stats import Comparison, CrossedInterval, Estimate

RANDOM_STATE = 20_240_229
"""Of all that is drawn for a report: random flips and resamples. Fixed, so that a report can be made again."""

ReadOutcomes = Callable[[Record], Outcomes]


@dataclass(frozen=True)
class Plan:
    """What was fixed before any result was seen."""

    smallest_effect: float
    """The smallest difference of accuracies that matters."""
    num_seeds: Mapping[str, int] = field(default_factory=dict)
    """With how many seeds each network's experiments are judged; empty where nobody said."""
    num_label_seeds: Mapping[str, int] = field(default_factory=dict)
    """Likewise with few labels."""


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
    plan: Plan

    @property
    def unreached(self) -> dict[str, int]:
        """The planned seeds of those networks of which one of the four experiments has fewer, a missing one none."""
        short = {one[0] for one in EXPERIMENTS if self._num_seeds(one) < self.plan.num_seeds.get(one[0], 0)}
        return {network: num for network, num in self.plan.num_seeds.items() if network in short}

    @property
    def is_interim(self) -> bool:
        """Whether a network's plan is unreached.

        The verdicts of the others are interim too: their adjusted p-values may still change with its own.
        """
        return bool(self.unreached)

    @property
    def is_as_planned(self) -> bool:
        """Whether each of the four experiments has just as many seeds as were planned."""
        return all(self._num_seeds(one) == self.plan.num_seeds.get(one[0]) for one in EXPERIMENTS)

    def _num_seeds(self, experiment: Experiment) -> int:
        return self.primary[experiment].num_seeds if experiment in self.primary else 0


SECONDARY = {
    "frozen − scratch, accuracy": ("frozen", "scratch", "test_accuracy"),
    "finetune − scratch, macro-F1": ("finetune", "scratch", "test_macro_f1"),
}


def build_answer(grid: Grid, outcomes: ReadOutcomes, plan: Plan) -> Answer:
    """Compare what is paired by seed in each experiment of the grid; what is missing is left out.

    The four published experiments are judged; those of other networks are compared without a verdict.
    """
    primary = {}
    for experiment in grid.experiments:
        first_S, second_S = paired(*sides(grid, experiment))
        if len(first_S):
            draw = draw_for("primary", experiment)
            primary[experiment] = stats.compare(first_S, second_S, draw, plan.smallest_effect)
    secondary = {}
    for name, (first, second, metric) in SECONDARY.items():
        for experiment in grid.experiments:
            first_S, second_S = paired(*sides(grid, experiment, first, second), (metric, metric))
            if len(first_S):
                draw = draw_for(name, experiment)
                secondary[name, experiment] = stats.compare(first_S, second_S, draw, plan.smallest_effect)
    of_runs = {record.run_id: outcomes(record) for cell in grid.cells.values() for record in cell.records}
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
        plan=plan,
    )


def draw_for(purpose: str, experiment: Experiment) -> np.random.Generator:
    """A stream of random numbers of its own, so that no experiment's figures depend on which others there are."""
    return np.random.default_rng(derive_seed(RANDOM_STATE, f"{purpose}/{'/'.join(experiment)}"))


def sides(
    grid: Grid, experiment: Experiment, first: str = "finetune", second: str = "scratch"
) -> tuple[BySeed, BySeed]:
    """The trainings of two variants in an experiment, by seed."""
    return grid.cells[*experiment, first].by_seed, grid.cells[*experiment, second].by_seed


def _right(
    grid: Grid, experiment: Experiment, of_runs: Mapping[str, Outcomes]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which test images finetune and scratch classify rightly, [S, N] each."""
    first_SN, second_SN = (
        np.stack([of_runs[record.run_id].correct_N for record in records])
        for records in pairs(*sides(grid, experiment))
    )
    return first_SN, second_SN


def _new_images(finetune_SN: NDArray[np.bool_], scratch_SN: NDArray[np.bool_], draw: np.random.Generator) -> NewImages:
    differences_SN = finetune_SN.astype(np.int8) - scratch_SN.astype(np.int8)
    p_values = [stats.mcnemar(*pair) for pair in zip(finetune_SN, scratch_SN, strict=True)]
    return NewImages(
        interval=stats.two_way_interval(differences_SN, 0.95),
        bootstrap=stats.crossed_bootstrap(differences_SN, 0.95, draw),
        num_mcnemar=sum(p_value < stats.ALPHA for p_value in p_values),
    )


def _calibration(of_seeds: Sequence[Outcomes]) -> Calibration:
    return Calibration(np.array([one.nll for one in of_seeds]), np.array([one.ece for one in of_seeds]))


def _reproduced(grid: Grid) -> Iterable[Reproduced]:
    for cell in grid.cells.values():
        if cell.published is None or len(cell.records) < 2:
            continue
        for metric, published in zip(METRIC_NAMES, cell.published, strict=True):
            values_S = np.array([record.metrics[metric] for record in cell.records])
            yield Reproduced(metric, cell, published, stats.prediction_interval(values_S, 0.95))
