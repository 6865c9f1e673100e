"""Records in, the 4×3 grid out, as a value; and which records belong to one. Nothing is read or written here."""

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from aepretrain.config import AUGMENTATIONS, NETWORKS, VARIED_BY_STUDIES, Settings
from aepretrain.errors import Failure, UsageError
from aepretrain.records import Record
from aepretrain.report.pairs import BySeed
from aepretrain.variants import CLASSIFIERS, is_in_table

Experiment = tuple[str, str]
"""Network and augmentation."""

METRIC_NAMES = {"test_accuracy": "accuracy", "test_macro_f1": "macro-F1"}
"""The figures of a cell, in their order."""

PUBLISHED: Mapping[tuple[str, str, str], tuple[float, float]] = {
    ("fc", "none", "frozen"): (0.9173, 0.9160),
    ("fc", "none", "finetune"): (0.9775, 0.9773),
    ("fc", "none", "scratch"): (0.9780, 0.9777),
    ("fc", "erasing", "frozen"): (0.9057, 0.9043),
    ("fc", "erasing", "finetune"): (0.9824, 0.9823),
    ("fc", "erasing", "scratch"): (0.9785, 0.9784),
    ("conv", "none", "frozen"): (0.9364, 0.9355),
    ("conv", "none", "finetune"): (0.9869, 0.9868),
    ("conv", "none", "scratch"): (0.9860, 0.9858),
    ("conv", "erasing", "frozen"): (0.9168, 0.9160),
    ("conv", "erasing", "finetune"): (0.9858, 0.9857),
    ("conv", "erasing", "scratch"): (0.9857, 0.9855),
}
"""Accuracy and macro-F1 of the published table, one run each, on MNIST."""

EXPERIMENTS: list[Experiment] = [(network, augmentation) for network in NETWORKS for augmentation in AUGMENTATIONS]
DATASET_TITLES = {
    "mnist": "MNIST",
    "fashion-mnist": "Fashion-MNIST",
    "kmnist": "KMNIST",
    "digits": "scikit-learn's 1,797 digits, NOT MNIST",
}


def title(experiment: Experiment) -> str:
    """An experiment for people."""
    return ", ".join(experiment)


@dataclass(frozen=True)
class Score:
    """A figure of merit over seeds: its mean, and its standard deviation (n − 1) where there are several seeds."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Score":
        """The score of one value for each seed; infinite ones have no deviation."""
        finite = all(map(math.isfinite, values))
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 and finite else None)

    def __str__(self) -> str:
        return self.text(4)

    def text(self, digits: int) -> str:
        """``0.9775 ± 0.0012``, with so many digits after the point."""
        mean = f"{self.mean:.{digits}f}"
        return mean if self.deviation is None else f"{mean} ± {self.deviation:.{digits}f}"


@dataclass(frozen=True)
class Cell:
    """One cell of the grid: its runs, and their test accuracy and macro-F1; none where no run is finished."""

    network: str
    augmentation: str
    variant: str
    records: tuple[Record, ...]
    published: tuple[float, float] | None

    @property
    def by_seed(self) -> BySeed:
        """Its runs by their seeds."""
        return {record.seed: record for record in self.records}

    def score(self, metric: str) -> Score | None:
        """A metric over the cell's seeds; None where no run is finished."""
        return Score.of([record.metrics[metric] for record in self.records]) if self.records else None

    @property
    def scores(self) -> tuple[Score, Score] | None:
        """Test accuracy and macro-F1."""
        accuracy, macro_f1 = map(self.score, METRIC_NAMES)
        return (accuracy, macro_f1) if accuracy and macro_f1 else None

    @property
    def differences(self) -> tuple[float, float] | None:
        """Ours minus the published accuracy and macro-F1."""
        if self.scores is None or self.published is None:
            return None
        return self.scores[0].mean - self.published[0], self.scores[1].mean - self.published[1]


@dataclass(frozen=True)
class Grid:
    """The grid: rows are experiments (network and augmentation), columns the three classifiers and users' own."""

    dataset: str
    settings: Mapping[str, Any]
    cells: Mapping[tuple[str, str, str], Cell]

    @property
    def title(self) -> str:
        """What the numbers are, the dataset first of all."""
        counts = sorted({len(cell.records) for cell in self.cells.values() if cell.records})
        seeds = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
        unit = "seed" if counts == [1] else "seeds"
        return f"Test accuracy / macro-F1 on {DATASET_TITLES.get(self.dataset, self.dataset)} ({seeds} {unit} per cell)"

    @property
    def experiments(self) -> list[Experiment]:
        """The rows: network and augmentation."""
        return list(dict.fromkeys((network, augmentation) for network, augmentation, _ in self.cells))

    @property
    def variants(self) -> list[str]:
        """The columns."""
        return list(dict.fromkeys(variant for _, _, variant in self.cells))

    @property
    def has_published(self) -> bool:
        """Whether something was published of any cell."""
        return any(cell.published for cell in self.cells.values())

    def row(self, experiment: Experiment) -> list[Cell]:
        """A row's cells, one for each classifier."""
        return [self.cells[*experiment, variant] for variant in self.variants]


def build_grid(records: Iterable[Record]) -> Grid:
    """The grid of finished classifiers, all with the same settings (see `choose`).

    Raises `Failure` where there is none, and `UsageError` where settings differ.
    """
    classifiers = [record for record in records if is_in_table(record.cell[2])]
    if not classifiers:
        raise Failure("there is no finished classifier to compare: train some first, for example with: aepretrain grid")
    found = _values(classifiers)
    several = {name: values for name, values in found.items() if len(values) > 1}
    if several:
        listed = "; ".join(f"{name}: {', '.join(map(str, values))}" for name, values in several.items())
        options = ", ".join("--" + name.replace("_", "-") for name in several)
        raise UsageError(f"runs of different settings do not go into one table ({listed}): choose with {options}")
    settings = {  # in one order, whichever run comes first
        one.name: found[one.name][0]
        for one in fields(Settings)
        if one.name in found and not (one.metadata["silent"] and found[one.name] == [one.default])
    }
    by_cell: dict[tuple[str, str, str], list[Record]] = {}
    for record in classifiers:
        by_cell.setdefault(record.cell, []).append(record)
    for cell, same in by_cell.items():
        if len({record.seed for record in same}) < len(same):
            raise UsageError(
                f"several trainings of {'-'.join(cell)} have the same seed and the same options: they differ in the "
                "dataset's values or in a plugin's source; keep them in stores of their own"
            )
    others = sorted({cell[:2] for cell in by_cell} - set(EXPERIMENTS))
    further = sorted({variant for _, _, variant in by_cell} - set(CLASSIFIERS))
    cells = {
        (*experiment, variant): Cell(
            *experiment,
            variant,
            records=tuple(sorted(by_cell.get((*experiment, variant), []), key=lambda record: record.seed)),
            published=PUBLISHED.get((*experiment, variant)) if settings["dataset"] == "mnist" else None,
        )
        for experiment in [*EXPERIMENTS, *others]
        for variant in [*CLASSIFIERS, *further]
    }
    return Grid(settings["dataset"], settings, cells)


def choose(records: Iterable[Record], wanted: Mapping[str, Any]) -> list[Record]:
    """The records, but those of studies, that have the wanted values, wherever a field applies to them at all."""
    return [record for record in records if record.study is None and fits(record, wanted)]


def fits(record: Record, wanted: Mapping[str, Any]) -> bool:
    """Whether a record has the wanted values of settings, wherever they apply to it."""
    found = {name: record.setting(name) for name in wanted}
    return all(found[name] in (None, value) for name, value in _plain(wanted).items())


def belongs(record: Record, wanted: Mapping[str, Any]) -> bool:
    """Whether a record belongs to a grid of these settings, or to a study about such a grid."""
    varied = VARIED_BY_STUDIES if record.study else ()
    return fits(record, {name: value for name, value in wanted.items() if name not in varied})


def _values(records: Iterable[Record]) -> dict[str, list[Any]]:
    """The different values of each setting among the records to which it applies."""
    found: dict[str, list[Any]] = {}
    for record in records:
        for one in fields(Settings):
            value = record.setting(one.name)
            if value is not None and value not in found.setdefault(one.name, []):
                found[one.name].append(value)
    return {name: values for name, values in found.items() if values}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values as JSON gives them back."""
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain
