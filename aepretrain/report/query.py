"""Trainings of a frame, selected by how they differ from a grid's."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import pandas as pd

from aepretrain import stats
from aepretrain.config import Settings, changed_settings, command_text, dataset_option, format_seeds
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
    place: Mapping[str, Any] = field(default_factory=dict)
    """Options of the commands that the page suggests: plugins, folder of datasets, tracking URI."""

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

    def not_run(self, study: str, missing: Sequence[Experiment]) -> str:
        """Which experiments lack a study, and the command that runs it; empty where none does."""
        if not missing:
            return ""
        seeds = {seed for one in missing for cell in self.grid.row(one) for seed in cell.trainings.index}
        first = self.grid.settings.get("objective", Settings.objective)
        objectives = _names(one[2] if len(one) > 2 else first for one in missing)
        options = {
            "network": _names(one[0] for one in missing),
            "augmentation": _names(one[1] for one in missing),
            "seeds": format_seeds(sorted(seeds or set(self.grid.trainings["seed"]))),
            **self._options(),
            "objective": objectives if objectives != Settings.objective else None,
            **self.place,
        }
        command = command_text(f"aepretrain study {study}", options)
        return f"Not run for {'; '.join(map(', '.join, missing))}. To run it: {command}"

    def _options(self) -> dict[str, Any]:
        """The grid's settings that are not at their default, as options."""
        options = changed_settings(self.grid.settings)
        for name in {"dataset", "unlabelled"} & options.keys():
            of_grid = (self.records[key].tags for key in self.grid.trainings["key"])
            sources = (tags[f"{name}_source"] for tags in of_grid if f"{name}_source" in tags)
            options[name] = dataset_option(options[name], next(sources, None))
        return options

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


def _names(names: Iterable[str]) -> str:
    return ",".join(dict.fromkeys(names))


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


def place_of(records: Iterable[Record], tracking_uri: str | None) -> dict[str, Any]:
    """The options that name what trainings were made with and where they are kept, from their tags."""
    tags = [record.tags for record in records]
    plugins = dict.fromkeys(name for one in tags if "plugins" in one for name in one["plugins"].split(","))
    data_dir = next((one["data_dir"] for one in tags if "data_dir" in one), None)
    return {"plugin": list(plugins), "data_dir": data_dir, "tracking_uri": tracking_uri}


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
