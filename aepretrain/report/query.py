"""Finished trainings of a store, asked for by how they differ from a grid's. Shapes: S seeds."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aepretrain import stats
from aepretrain.records import Record
from aepretrain.report.grid import Experiment, Grid, Score, fits
from aepretrain.report.numbers import interval_text
from aepretrain.report.pairs import BySeed, paired
from aepretrain.report.table import MISSING

PROBE_NAMES = {"random": "random encoder", "pixels": "raw pixels", "pca": "principal components"}


@dataclass(frozen=True)
class Found:
    """The records of a store, to be asked for those that belong to the grid but for one thing."""

    grid: Grid
    records: Sequence[Record]

    @property
    def experiments(self) -> list[Experiment]:
        """The grid's rows: network and augmentation."""
        return self.grid.experiments

    def of(self, experiment: Experiment, variant: str, **settings: object) -> dict[int, Record]:
        """By seed, the trainings of a variant with the grid's settings except for these."""
        wanted = {"labels": 0, "updates": 0, **self.grid.settings, **settings}
        return {
            record.seed: record
            for record in self.records
            if record.cell == (*experiment, variant) and fits(record, wanted)
        }

    def fair_budget(self, experiment: Experiment) -> dict[int, Record]:
        """By seed, scratch with as many epochs as that seed's pretraining and finetuning took."""
        pretrained, finetuned = self.of(experiment, "pretrain"), self.of(experiment, "finetune")
        budgets = {
            seed: round(sum(one[seed].metrics["num_epochs"] for one in (pretrained, finetuned)))
            for seed in pretrained.keys() & finetuned.keys()
        }
        by_epochs = {
            epochs: self.of(experiment, "scratch", patience=0, cls_epochs=epochs) for epochs in set(budgets.values())
        }
        return {seed: by_epochs[epochs][seed] for seed, epochs in budgets.items() if seed in by_epochs[epochs]}

    def labels(self, experiment: Experiment) -> list[int]:
        """The numbers of labels that were tried, all labels (0) last."""
        tried = {record.setting("labels") for record in self._by_updates(experiment)}
        return sorted(tried, key=lambda num: num or np.inf)

    def updates(self, experiment: Experiment) -> int:
        """The number of steps that most of those trainings have."""
        counts = Counter(record.setting("updates") for record in self._by_updates(experiment))
        return max(counts, key=lambda num: (counts[num], num), default=0)

    def _by_updates(self, experiment: Experiment) -> list[Record]:
        """Trainings by a number of steps, otherwise with the grid's settings."""
        wanted = {name: value for name, value in self.grid.settings.items() if name not in ("labels", "updates")}
        return [
            record
            for record in self.records
            if record.cell[:2] == experiment and record.setting("updates") and fits(record, wanted)
        ]


def values_of(by_seed: BySeed, metric: str = "test_accuracy") -> NDArray[np.float64]:
    """A metric of each seed, in their order, [S]."""
    return np.array([by_seed[seed].metrics[metric] for seed in sorted(by_seed)])


def num_at_limit(records: Iterable[Record], limit: str) -> int:
    """How many trainings ended because there were no more epochs: all of `ae_epochs` or `cls_epochs`."""
    return sum(record.metrics["num_epochs"] >= record.setting(limit) for record in records)


def score_of(by_seed: BySeed, metric: str = "test_accuracy") -> str:
    """A metric's mean and standard deviation over seeds."""
    return f"{Score.of(values_of(by_seed, metric).tolist())} (n = {len(by_seed)})" if by_seed else MISSING


def difference_of(first: BySeed, second: BySeed, metric_of_second: str = "test_accuracy") -> str:
    """The mean of the paired differences in points with its 95 % interval, and how many seeds both have."""
    first_S, second_S = paired(first, second, ("test_accuracy", metric_of_second))
    if not len(first_S):
        return MISSING
    return interval_text(stats.mean_interval(first_S - second_S, 0.95), f"n = {len(first_S)}")
