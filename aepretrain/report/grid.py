"""The table of experiments and variants, from a frame of finished trainings; and which trainings belong to it."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd

from aepretrain.config import AUGMENTATIONS, EMNIST, GRID_NETWORKS, MASK_SHARES, VARIED_BY_STUDIES, Settings
from aepretrain.errors import Failure, UsageError
from aepretrain.frame import SETTINGS, tidy
from aepretrain.report.pairs import BySeed, by_seed, values_of
from aepretrain.tuning import VARIED
from aepretrain.variants import CLASSIFIERS, is_in_table

Experiment = tuple[str, ...]
"""Network and augmentation; where a grid has several objectives of pretraining, a further one has its name, too."""

CELL = ["network", "augmentation", "variant"]

METRIC_NAMES = {"test_accuracy": "accuracy", "test_macro_f1": "macro-F1"}
"""The figures of a cell, in their order."""

SOURCE: Mapping[tuple[str, ...], tuple[float, float]] = {
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
"""Accuracy and macro-F1 in the source, one run each, on MNIST.

The source is the experiment report that this project started from, in Russian and unsigned. This is its whole table.
"""

EXPERIMENTS: list[Experiment] = [(network, augmentation) for network in GRID_NETWORKS for augmentation in AUGMENTATIONS]
DATASET_TITLES = {
    "mnist": "MNIST",
    "fashion-mnist": "Fashion-MNIST",
    "kmnist": "KMNIST",
    "qmnist": "QMNIST",
    **{name: f"EMNIST {name.removeprefix('emnist-')}" for name in EMNIST},
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "svhn": "SVHN",
    "digits": "scikit-learn's 1,797 digits, NOT MNIST",
}


def title(experiment: Experiment) -> str:
    """``conv, erasing``."""
    return ", ".join(experiment)


@dataclass(frozen=True)
class Score:
    """A metric's mean over seeds, and its standard deviation (n − 1) where there are several seeds."""

    mean: float
    std: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Score":
        """The score of one value for each seed; without a deviation where a value is infinite."""
        finite = all(map(math.isfinite, values))
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 and finite else None)

    def __str__(self) -> str:
        return self.text(4)

    def text(self, digits: int) -> str:
        """``0.9775 ± 0.0012``, with so many digits after the point."""
        mean = f"{self.mean:.{digits}f}"
        return mean if self.std is None else f"{mean} ± {self.std:.{digits}f}"


@dataclass(frozen=True, eq=False)
class Cell:
    """A variant in an experiment: its finished trainings, and the source's accuracy and macro-F1."""

    network: str
    augmentation: str
    variant: str
    trainings: BySeed
    source: tuple[float, float] | None
    objective: str | None = None
    """The objective of pretraining, where the grid has several and this is not the first."""

    @property
    def experiment(self) -> Experiment:
        """The row of the cell."""
        return self.network, self.augmentation, *([self.objective] if self.objective else [])

    def score(self, metric: str) -> Score | None:
        """A metric over the cell's seeds; None where no training has it."""
        values_S = values_of(self.trainings, metric).tolist()
        return Score.of(values_S) if values_S else None

    @property
    def scores(self) -> tuple[Score | None, Score | None]:
        """Test accuracy and macro-F1."""
        accuracy, macro_f1 = map(self.score, METRIC_NAMES)
        return accuracy, macro_f1

    @property
    def differences(self) -> tuple[float | None, float | None]:
        """Ours minus the source's accuracy and macro-F1."""
        ours, source = self.scores, self.source or (None, None)
        first, second = (
            None if one is None or other is None else one.mean - other for one, other in zip(ours, source, strict=True)
        )
        return first, second


@dataclass(frozen=True, eq=False)
class Grid:
    """Rows are experiments, columns the three classifiers and plugins' variants."""

    dataset: str
    settings: Mapping[str, Any]
    cells: Mapping[tuple[str, ...], Cell]
    """By experiment and variant."""
    asked: Sequence[Experiment] = ()
    """The experiments that were asked for: they are rows even without a training."""

    @property
    def dataset_title(self) -> str:
        """The dataset's name for people."""
        return DATASET_TITLES.get(self.dataset, self.dataset)

    @property
    def title(self) -> str:
        """What the numbers are, with dataset and number of seeds."""
        counts = sorted({len(cell.trainings) for cell in self.cells.values() if len(cell.trainings)})
        seeds = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
        unit = "seed" if counts == [1] else "seeds"
        return f"Test accuracy / macro-F1 on {self.dataset_title} ({seeds} {unit} per cell)"

    @property
    def experiments(self) -> list[Experiment]:
        """The rows."""
        return list(dict.fromkeys(cell.experiment for cell in self.cells.values()))

    @property
    def variants(self) -> list[str]:
        """The columns."""
        return list(dict.fromkeys(cell.variant for cell in self.cells.values()))

    @property
    def has_source(self) -> bool:
        """Whether the source has figures of any cell."""
        return any(cell.source for cell in self.cells.values())

    @property
    def trainings(self) -> pd.DataFrame:
        """The trainings of all cells, each once, cell by cell, in the order of their seeds."""
        of_cells = [cell.trainings.reset_index() for cell in self.cells.values()]
        return pd.concat(of_cells, ignore_index=True).drop_duplicates([*CELL, "objective", "seed"], ignore_index=True)

    def row(self, experiment: Experiment) -> list[Cell]:
        """A row's cells, one for each classifier."""
        return [self.cells[*experiment, variant] for variant in self.variants]


def build_grid(table: pd.DataFrame, asked: Sequence[Experiment] = ()) -> Grid:
    """The grid of the classifiers in a frame (`frame.frame`), all with the same settings but for the objective.

    Its rows are the experiments that have a classifier, and those that were `asked` for. The frame may come from a CSV
    file: it needs network, augmentation, variant, seed, dataset and test_accuracy.
    Raises `Failure` where there is no classifier, and `UsageError` where settings differ.
    """
    table = tidy(table)
    classifiers = in_table(table)
    if classifiers.empty:
        raise Failure("there is no finished classifier to compare: train some first, for example with: aepretrain grid")
    settings = _common_settings(classifiers)
    for cell in classifiers.loc[classifiers.duplicated([*CELL, "objective", "seed"]), CELL].to_numpy().tolist():
        raise UsageError(
            f"several trainings of {'-'.join(cell)} have the same seed and the same options: they differ in the "
            "dataset's values or in a plugin's source; keep them in stores of their own"
        )
    rows = _of_experiments(classifiers)
    there = rows.keys() | set(asked)
    others = sorted(there - set(EXPERIMENTS))
    further = sorted(set(classifiers["variant"]) - set(CLASSIFIERS))
    source = SOURCE if settings["dataset"] == "mnist" else {}
    nothing = classifiers.head(0)
    cells = {}
    for one in [*(one for one in EXPERIMENTS if one in there), *others]:
        network, augmentation, *objective = one
        for name in [*CLASSIFIERS, *further]:
            of_row = rows.get(one, nothing)
            trainings, figures = by_seed(of_row[of_row["variant"] == name]), source.get((*one, name))
            cells[*one, name] = Cell(network, augmentation, name, trainings, figures, *objective)
    return Grid(settings["dataset"], settings, cells, tuple(asked))


def _of_experiments(classifiers: pd.DataFrame) -> dict[Experiment, pd.DataFrame]:
    """The trainings of each row; those without pretraining are in the rows of all objectives."""
    first, *others = _objectives(classifiers) or [Settings.objective]
    rows: dict[Experiment, pd.DataFrame] = {}
    for (network, augmentation), of_pair in classifiers.groupby(["network", "augmentation"]):
        is_shared = of_pair["objective"].isna()
        rows[network, augmentation] = of_pair[is_shared | (of_pair["objective"] == first)]
        for objective in others:
            if (of_pair["objective"] == objective).any():
                rows[network, augmentation, objective] = of_pair[is_shared | (of_pair["objective"] == objective)]
    return rows


def _objectives(classifiers: pd.DataFrame) -> list[str]:
    """The objectives of a table, that of the source first."""
    found: list[str] = classifiers["objective"].dropna().unique().tolist()
    return sorted(found, key=lambda name: (name != Settings.objective, name))


def _common_settings(classifiers: pd.DataFrame) -> dict[str, Any]:
    """The settings that they share, but for silent ones at their default. Raises `UsageError` where some differ."""
    values = {name: _values(classifiers, name) for name in SETTINGS}
    values["objective"] = _objectives(classifiers)[:1]  # others have rows of their own
    several = {name: of_name for name, of_name in values.items() if len(of_name) > 1}
    if several:
        listed = "; ".join(f"{name}: {', '.join(map(setting_text, of_name))}" for name, of_name in several.items())
        options = ", ".join("--" + name.replace("_", "-") for name in several)
        raise UsageError(f"runs of different settings do not go into one table ({listed}): choose with {options}")
    return {
        one.name: values[one.name][0]
        for one in fields(Settings)
        if values[one.name] and not (one.metadata["silent"] and values[one.name] in ([one.default], values["lr"]))
    }


def _values(classifiers: pd.DataFrame, name: str) -> list[Any]:
    """The different values of a setting; of the share of what is hidden only those that are not the default."""
    column = classifiers[name]
    if name == "mask_share":
        usual = [classifiers[kind].map(MASK_SHARES) for kind in ("augmentation", "objective")]
        column = column[(column != usual[0]) & (column != usual[1])]
    return list(column.dropna().unique().tolist())


def setting_text(value: object) -> str:
    """A setting's value as its option takes it: ``0.1,0.15`` for a pair."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def in_table(table: pd.DataFrame) -> pd.DataFrame:
    """The trainings that are in the table of experiments and variants: classifiers."""
    return table[table["variant"].map(is_in_table).astype(bool)]


def choose(table: pd.DataFrame, wanted: Mapping[str, Any]) -> pd.DataFrame:
    """The trainings, but those of studies, that have the wanted settings, wherever these apply."""
    return table[table["study"].isna() & fits(table, wanted)]


def check_match(table: pd.DataFrame, wanted: Mapping[str, Any]) -> None:
    """Raise `UsageError`, with the values that there are, where a table has trainings, but none fits the settings."""
    if table.empty or fits(table, wanted).any():
        return
    alone = [name for name, value in wanted.items() if not fits(table, {name: value}).any()]
    names = alone[:1] or list(wanted)
    given = ", ".join(f"{name}={setting_text(wanted[name])}" for name in names)
    values = {name: sorted(table[name].dropna().unique().tolist()) for name in names}
    there = "; ".join(f"{name}={' or '.join(map(setting_text, found))}" for name, found in values.items())
    raise UsageError(f"{given}: no finished training has this; there is {there}")


USUAL = {"labels": 0, "updates": 0}
"""The values of the source's grid, for the settings in which plans have several."""


def narrow(table: pd.DataFrame) -> pd.DataFrame:
    """The trainings with the value of `USUAL`, wherever classifiers of the table have that and other values."""
    for name, value in USUAL.items():
        classifiers = in_table(table)
        if classifiers[name].nunique() > 1 and (classifiers[name] == value).any():
            table = table[fits(table, {name: value})]
    return table


def without_choices(table: pd.DataFrame) -> pd.DataFrame:
    """Tuned trainings for one table: without the settings that each arm has its own of."""
    return table.assign(**dict.fromkeys(VARIED))


def belongs(table: pd.DataFrame, wanted: Mapping[str, Any]) -> pd.DataFrame:
    """The trainings of a grid of these settings, and those of the studies about such a grid."""
    fixed = {name: value for name, value in wanted.items() if name not in VARIED_BY_STUDIES}
    return table[fits(table, fixed) & (table["study"].notna() | fits(table, wanted))]


def fits(table: pd.DataFrame, wanted: Mapping[str, Any]) -> pd.Series:
    """Whether each training has the wanted settings, wherever these apply to it."""
    mask = pd.Series(True, table.index)
    for name, value in wanted.items():
        mask &= table[name].isna() | table[name].isin([tuple(value) if isinstance(value, list) else value])
    return mask
