"""Trainings of a frame, selected by how they differ from a grid's."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import pandas as pd

from aepretrain import stats
from aepretrain.config import Settings
from aepretrain.errors import Failure
from aepretrain.frame import frame
from aepretrain.records import Archive, Record
from aepretrain.report.grid import Experiment, Grid, Score, fits
from aepretrain.report.numbers import interval_text
from aepretrain.report.pairs import BySeed, by_seed, figure_of, paired, values_of
from aepretrain.report.table import MISSING
from aepretrain.tuning import TUNED, TUNING

PROBE_NAMES = {"random": "random encoder", "pixels": "raw pixels", "pca": "principal components"}


@dataclass(frozen=True, eq=False)
class Query:
    """A grid, and all trainings of the place that it comes from, those of studies among them, by key."""

    grid: Grid
    records: Mapping[str, Record] = field(default_factory=dict)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """All those trainings, a row each, without those on tuning seeds and those with tuned settings."""
        return frame(record for record in self.records.values() if record.study not in (TUNING, TUNED))

    @property
    def experiments(self) -> list[Experiment]:
        """The grid's rows: network and augmentation."""
        return self.grid.experiments

    def of(self, experiment: Experiment, variant: str, **settings: Any) -> BySeed:
        """The trainings of a variant with the grid's settings, except for these."""
        return by_seed(self._select(experiment, variant, **settings))

    def fair_budget(self, experiment: Experiment) -> BySeed:
        """Scratch with as many epochs, in each seed, as pretraining and finetuning took together."""
        longer = self._select(experiment, "scratch", patience=0, cls_epochs=None)
        pretrained, finetuned = (figure_of(self.of(experiment, one), "num_epochs") for one in ("pretrain", "finetune"))
        budget = (pretrained + finetuned).round()
        return by_seed(longer[longer["cls_epochs"] == longer["seed"].map(budget)])

    def labels(self, experiment: Experiment) -> list[int]:
        """The numbers of labels that were tried, all labels (0) last."""
        tried: list[int] = sorted(self._by_updates(experiment)["labels"].dropna().unique().tolist())
        return sorted(tried, key=lambda num: num == 0)

    def updates(self, experiment: Experiment) -> int:
        """The number of steps that most of those trainings have; the larger one of a tie, 0 where there are none."""
        return int(max(self._by_updates(experiment)["updates"].mode(), default=0))

    def _by_updates(self, experiment: Experiment) -> pd.DataFrame:
        """Trainings by a number of steps, otherwise with the grid's settings."""
        found = self._select(experiment, labels=None, updates=None)
        return found[found["updates"].fillna(0) > 0]

    def _select(self, experiment: Experiment, variant: str | None = None, **settings: Any) -> pd.DataFrame:
        """Rows of an experiment with the grid's settings, except for these; None leaves a setting open."""
        network, augmentation, *objective = experiment
        cell = {"network": network, "augmentation": augmentation, "variant": variant}
        own = {"objective": objective[0]} if objective else {}
        wanted = {**_usual(self.grid.settings), **self.grid.settings, **own, **settings} | cell
        return self.frame[fits(self.frame, {name: value for name, value in wanted.items() if value is not None})]


def count_test_images(records: Iterable[Record], archive: Archive) -> dict[str, int]:
    """The number of test images of each dataset, from the first classifier whose outcomes can be read."""
    found: dict[str, int] = {}
    for record in records:
        dataset = record.identity["dataset"]
        if dataset not in found and "test_accuracy" in record.metrics:
            try:
                found[dataset] = len(archive.outcomes(record).correct_N)
            except Failure:
                continue
    return found


def _usual(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of the settings that a grid does not name where they have them."""
    silent = [one for one in fields(Settings) if one.metadata["silent"]]
    usual = {one.name: one.default for one in silent if one.default is not None}
    for one in silent:
        if (followed := one.metadata["follows"]) and (value := {**usual, **settings}.get(followed)) is not None:
            usual[one.name] = value
    return usual


def num_at_limit(trainings: pd.DataFrame, limit: str) -> int:
    """How many trainings took all of `ae_epochs` or `cls_epochs`, the limit of that name."""
    return int((trainings["num_epochs"] >= trainings[limit]).sum())


def score_of(trainings: BySeed, metric: str = "test_accuracy") -> str:
    """A metric's mean and standard deviation over seeds."""
    values_S = values_of(trainings, metric).tolist()
    return f"{Score.of(values_S)} (n = {len(values_S)})" if values_S else MISSING


def difference_of(first: BySeed, second: BySeed, metric_of_second: str = "test_accuracy") -> str:
    """The mean of the paired differences in points with its 95 % interval, and how many seeds both have."""
    first_S, second_S = paired(first, second, ("test_accuracy", metric_of_second))
    if not len(first_S):
        return MISSING
    return interval_text(stats.mean_interval(first_S - second_S, 0.95), f"n = {len(first_S)}")
