"""The answer: all comparisons of a grid, with their verdicts.

Shapes: S seeds, N test images.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aepretrain import stats
from aepretrain.config import derive_seed
from aepretrain.records import Outcomes
from aepretrain.report.grid import CELL, METRIC_NAMES, Cell, Experiment, Grid, title
from aepretrain.report.pairs import BySeed, paired, paired_keys, values_of
from aepretrain.report.undecidable import Undecidable, cannot_decide
from aepretrain.stats import Comparison, CrossedInterval, Estimate, Kind, PooledEffect, Verdict

RANDOM_STATE = 20_240_229
"""The state of all random flips and resamples of a report; fixed, so that a report can be made again."""

ReadOutcomes = Callable[[str], Outcomes]
"""Reads a classifier's outcomes on the test images, by the key of its training."""


@dataclass(frozen=True)
class Terms:
    """What a grid is judged by, and what a plan says of it."""

    smallest_effect: float
    """The smallest difference of accuracies that matters."""
    num_seeds: Mapping[str, int] = field(default_factory=dict)
    """The planned number of seeds of each network; empty without a plan."""
    plan: str = ""
    """The name of the plan; empty without one."""
    standing: str = ""
    """A sentence on how many trainings were started under the plan; empty without one."""
    is_exploratory: bool = True
    """Whether there is no plan, or a training that counts was not started under it."""


@dataclass(frozen=True)
class NewImages:
    """Finetune minus scratch for new trainings and new test images, and within single runs."""

    interval: CrossedInterval
    bootstrap: Estimate
    num_mcnemar: int
    """The number of seeds in which McNemar's test finds a difference at 5 %, unadjusted: a diagnostic."""


@dataclass(frozen=True)
class Reproduced:
    """One of the source's numbers, and the interval into which one run of ours falls with 95 % probability."""

    metric: str
    cell: Cell
    source: float
    interval: Estimate

    @property
    def inside(self) -> bool:
        """Whether the source's number lies in the interval."""
        return self.interval.low <= self.source <= self.interval.high


@dataclass(frozen=True)
class Calibration:
    """Calibration of a cell's classifiers on the test images, one value a seed."""

    nll_S: NDArray[np.float64]
    """Mean negative log-likelihood of the true class, in nats."""
    error_S: NDArray[np.float64]
    """Expected calibration error."""


@dataclass(frozen=True)
class Answer:
    """All comparisons of a grid. Only the primary ones have verdicts."""

    grid: Grid
    primary: Mapping[Experiment, Comparison]
    """Finetune minus scratch, test accuracy."""
    verdicts: Mapping[Experiment, Verdict]
    """Those of the primary comparisons."""
    secondary: Mapping[tuple[str, Experiment], Comparison]
    """The comparisons of `SECONDARY`, by their name and the experiment."""
    new_images: Mapping[Experiment, NewImages]
    reproduced: Sequence[Reproduced]
    calibration: Mapping[tuple[str, ...], Calibration]
    num_images: int
    """The number of test images; 0 where outcomes were not read."""
    terms: Terms

    @property
    def family(self) -> list[Experiment]:
        """The experiments that are judged together: those with pairs, and those that the grid was asked for."""
        return _family(self.grid, self.primary)

    @property
    def judged_experiments(self) -> list[Experiment]:
        """The experiments that have seeds enough for a verdict."""
        return [one for one in self.family if one in self.verdicts and self.verdicts[one].kind is not Kind.NONE]

    @property
    def pooled_experiments(self) -> list[Experiment]:
        """Those with the first objective of the grid: the rows of other objectives share their scratch."""
        return [one for one in self.judged_experiments if len(one) == len(CELL) - 1]

    def pooled(self, level: float) -> PooledEffect | None:
        """Finetune minus scratch over experiments, in test accuracy; None for fewer than two experiments."""
        judged = [self.verdicts[one] for one in self.pooled_experiments]
        if len(judged) < 2:
            return None
        errors_K = np.array([one.std / np.sqrt(one.num_seeds) for one in judged])
        return stats.pooled_effect(np.array([one.difference.value for one in judged]), errors_K, level)

    @property
    def undecidable(self) -> list[Undecidable]:
        """The experiments that these data cannot decide."""
        num_images = self.num_images or None
        return [
            Undecidable({"experiment": title(one)}, verdict, num_images, self._parts(one))
            for one, verdict in self.verdicts.items()
            if cannot_decide(verdict, num_images)
        ]

    def _parts(self, experiment: Experiment) -> CrossedInterval | None:
        return self.new_images[experiment].interval if experiment in self.new_images else None

    @property
    def unreached(self) -> dict[str, int]:
        """The planned seeds of the networks that have fewer in one of the experiments."""
        short = {one[0] for one in self.family if self._num_seeds(one) < self.terms.num_seeds.get(one[0], 0)}
        return {network: num for network, num in self.terms.num_seeds.items() if network in short}

    @property
    def is_interim(self) -> bool:
        """Whether a network has fewer seeds than planned.

        Then all verdicts are interim, because adjusted p-values depend on all experiments.
        """
        return bool(self.unreached)

    @property
    def is_as_planned(self) -> bool:
        """Whether each experiment has exactly the planned number of seeds."""
        return all(self._num_seeds(one) == self.terms.num_seeds.get(one[0]) for one in self.family)

    def _num_seeds(self, experiment: Experiment) -> int:
        return self.primary[experiment].num_seeds if experiment in self.primary else 0


SECONDARY = {
    "frozen − scratch, accuracy": ("frozen", "scratch", "test_accuracy"),
    "finetune − scratch, macro-F1": ("finetune", "scratch", "test_macro_f1"),
}


def build_answer(grid: Grid, outcomes: ReadOutcomes | None, terms: Terms) -> Answer:
    """Compare the variants of each experiment, paired by seed; experiments without pairs are left out.

    Each experiment gets a verdict. They are one family of tests, with those that were asked for and have no pairs.
    Without `outcomes`, as for a frame from a CSV file, there is nothing about new images and calibration.
    """
    primary = dict(_comparisons(grid, "primary", ("finetune", "scratch", "test_accuracy")))
    of_keys = {key: outcomes(key) for key in grid.trainings["key"]} if outcomes else {}
    right = {experiment: _right(grid, experiment, of_keys) for experiment in primary if of_keys}
    return Answer(
        grid=grid,
        primary=primary,
        verdicts=stats.judge(primary, terms.smallest_effect, num_tests=len(_family(grid, primary))),
        secondary={
            (name, experiment): comparison
            for name, compared in SECONDARY.items()
            for experiment, comparison in _comparisons(grid, name, compared)
        },
        new_images={
            experiment: _new_images(*both, draw_for("images", experiment)) for experiment, both in right.items()
        },
        reproduced=list(_reproduced(grid)),
        calibration={
            name: _calibration([of_keys[key] for key in cell.trainings["key"]])
            for name, cell in grid.cells.items()
            if of_keys and len(cell.trainings)
        },
        num_images=next((both[0].shape[1] for both in right.values()), 0),
        terms=terms,
    )


def _family(grid: Grid, primary: Mapping[Experiment, Comparison]) -> list[Experiment]:
    return [one for one in grid.experiments if one in primary or one in grid.asked]


def _comparisons(grid: Grid, purpose: str, compared: tuple[str, str, str]) -> Iterator[tuple[Experiment, Comparison]]:
    """By experiment, two variants in a metric, where some seeds have both."""
    first, second, metric = compared
    for experiment in grid.experiments:
        first_S, second_S = paired(*sides(grid, experiment, first, second), (metric, metric))
        if len(first_S):
            yield experiment, stats.compare(first_S, second_S, draw_for(purpose, experiment))


def draw_for(purpose: str, experiment: Experiment) -> np.random.Generator:
    """A random stream of its own for each purpose and experiment, so that none depends on which others there are."""
    return np.random.default_rng(derive_seed(RANDOM_STATE, f"{purpose}/{'/'.join(experiment)}"))


def sides(
    grid: Grid, experiment: Experiment, first: str = "finetune", second: str = "scratch"
) -> tuple[BySeed, BySeed]:
    """The trainings of two variants in an experiment."""
    return grid.cells[*experiment, first].trainings, grid.cells[*experiment, second].trainings


def _right(
    grid: Grid, experiment: Experiment, of_keys: Mapping[str, Outcomes]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which test images finetune and scratch classify correctly, [S, N] each."""
    keys = paired_keys(*sides(grid, experiment))
    first_SN, second_SN = (np.stack([of_keys[key].correct_N for key in side]) for side in zip(*keys, strict=True))
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


def _reproduced(grid: Grid) -> Iterator[Reproduced]:
    for cell in grid.cells.values():
        for metric, source in zip(METRIC_NAMES, cell.source or (), strict=False):
            values_S = values_of(cell.trainings, metric)
            if len(values_S) > 1:
                yield Reproduced(metric, cell, source, stats.prediction_interval(values_S, 0.95))
