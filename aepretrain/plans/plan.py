"""A plan: what is trained for it, and what is compared."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from aepretrain.config import (
    CORRUPTIONS,
    Settings,
    SmallestEffect,
    TrainingSpec,
    canonical_json,
    dataset_name,
    format_seeds,
)
from aepretrain.variants import CLASSIFIERS, PRETRAINING, find

SAME_CORRUPTION = "scratch with the same corruption"
"""Scratch whose training images are corrupted as those of the pretraining were: it exists for `CORRUPTIONS` only, and
only where the plan's augmentation is ``none``."""

COMPARED = (*CLASSIFIERS, SAME_CORRUPTION)
"""What may stand on either side of a comparison."""

FAMILIES = ("comparison", "network", "dataset", "augmentation", "objective", "labels")
"""What tests may have to agree in to be of one family."""

FIRST_TUNING_SEED = 1_000_000
"""Seeds from here on are for tuning, and are never judged."""


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """The comparisons are also made with each arm at its best settings, as tuning finds them."""

    networks: tuple[str, ...]
    seeds: tuple[int, ...]
    """Seeds to tune on."""
    trials: int
    """Trials of each arm."""


@dataclass(frozen=True, kw_only=True)
class PlannedComparison:
    """One test of a plan: `first` minus `second` in test accuracy, paired by seed."""

    name: str
    """As in the plan: ``finetune - scratch``."""
    dataset: str
    network: str
    augmentation: str
    objective: str
    """The objective of the pretraining, or whose corruption is meant."""
    labels: int
    """The number of labelled images; 0 = all."""
    first: TrainingSpec
    """The first side, with seed 0; `replace(first, seed=seed)` is the training of a seed."""
    second: TrainingSpec
    seeds: tuple[int, ...]
    families: tuple[str, ...]
    """In which of `FAMILIES` the tests agree that are corrected together with this one."""
    is_tuned: bool = False
    """Whether each side is at its best settings. These tests are corrected apart from those at equal settings."""

    @property
    def family(self) -> str:
        """The name of the tests that are corrected together: ``finetune - scratch, fc``."""
        values = {name: getattr(self, name) for name in FAMILIES if name not in ("comparison", "labels")}
        values |= {"comparison": self.name, "labels": f"{self.labels or 'all'} labels"}
        parts = [values[name] for name in FAMILIES if name in self.families]
        return ", ".join([*parts, *["tuned"] * self.is_tuned])


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What was fixed before the first training. Fields are the keys of the file, checked by `read_plan`."""

    name: str
    """The file's name without its ending."""
    question: str
    smallest_effect: SmallestEffect
    """The smallest difference of accuracies that matters."""
    alpha: float
    """The level of each family of tests."""
    datasets: tuple[str, ...]
    networks: Mapping[str, tuple[int, ...]]
    """The seeds of each network."""
    augmentations: tuple[str, ...]
    objectives: tuple[str, ...]
    labels: tuple[int, ...]
    """Numbers of labelled images; 0 = all."""
    updates: int = 0
    """Steps of a classifier with few labels. With all labels it is trained by epochs and patience."""
    compared: tuple[str, ...]
    """The key ``comparisons``: pairs like ``finetune - scratch``."""
    families: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Other fields of `Settings`, the same for all trainings."""
    tuned: Tuned | None = None
    path: str = field(default="", repr=False, compare=False)
    """The file, as it was named."""
    source: bytes = field(default=b"", repr=False, compare=False)
    """The file as it was read."""

    @property
    def content(self) -> dict[str, Any]:
        """What the file says, by its keys, in one form; optional keys that are not used are left out."""
        tuned = self.tuned and vars(self.tuned) | {"seeds": format_seeds(self.tuned.seeds)}
        optional = {"updates": self.updates, "settings": dict(self.settings), "tuned": tuned}
        return {
            "question": self.question,
            "smallest_effect": str(effect) if (effect := self.smallest_effect).in_images else effect.value,
            "alpha": self.alpha,
            "datasets": self.datasets,
            "networks": {network: format_seeds(seeds) for network, seeds in self.networks.items()},
            "augmentations": self.augmentations,
            "objectives": self.objectives,
            "labels": [num or "all" for num in self.labels],
            "comparisons": self.compared,
            "families": self.families,
        } | {name: value for name, value in optional.items() if value}

    @property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of the content. Comments, formatting and the file's name do not change it."""
        return hashlib.sha256(canonical_json(self.content).encode()).hexdigest()

    def key(self, dataset: str) -> str:
        """SHA-256, in hexadecimal, that identifies the plan's trainings on one dataset, whichever part is trained."""
        return hashlib.sha256(canonical_json({"plan": self.digest, "dataset": dataset}).encode()).hexdigest()

    @property
    def comparisons(self) -> tuple[PlannedComparison, ...]:
        """All tests at equal settings, in the order of the file's lists."""
        return tuple(
            comparison
            for name in self.compared
            for dataset in self.datasets
            for network in self.networks
            for augmentation in self.augmentations
            for objective in self.objectives
            for labels in self.labels
            if (comparison := self._comparison(name, dataset, network, augmentation, objective, labels))
        )

    def arms(self, dataset: str) -> tuple[TrainingSpec, ...]:
        """The sides, with seed 0, that are tuned on one dataset, each once."""
        arms: dict[str, TrainingSpec] = {}
        for comparison in self._to_tune:
            for side in (comparison.first, comparison.second) if comparison.dataset == dataset_name(dataset) else ():
                arms.setdefault(canonical_json(side.identity()), side)
        return tuple(arms.values())

    def tuned_comparisons(self, tune: Callable[[TrainingSpec], TrainingSpec]) -> tuple[PlannedComparison, ...]:
        """All tests of the networks that are tuned; `tune` gives a side of a test its best settings."""
        return tuple(
            replace(one, first=tune(one.first), second=tune(one.second), is_tuned=True) for one in self._to_tune
        )

    @property
    def _to_tune(self) -> tuple[PlannedComparison, ...]:
        networks = self.tuned.networks if self.tuned else ()
        return tuple(one for one in self.comparisons if one.network in networks)

    def specs(self, dataset: str, comparisons: Sequence[PlannedComparison] | None = None) -> tuple[TrainingSpec, ...]:
        """The trainings of comparisons on one dataset, pretrainings included, each once; by default at equal settings.

        Seeds are complete one after the other: network by network, seed by seed, few labels before many, and each
        pretraining before what starts from it.
        """
        return tuple(
            replace(cell, seed=seed)
            for network, seeds in self.networks.items()
            for cells in [_cells(self.comparisons if comparisons is None else comparisons, dataset, network)]
            for seed in seeds
            for cell in cells
        )

    def _comparison(
        self, name: str, dataset: str, network: str, augmentation: str, objective: str, labels: int
    ) -> PlannedComparison | None:
        """One test; None where a side does not exist."""
        cell = {"network": network, "augmentation": augmentation, "objective": objective}
        if SAME_CORRUPTION in name and not (objective in CORRUPTIONS and augmentation == "none"):
            return None
        first, second = (self._side(side, dataset=dataset, labels=labels, **cell) for side in name.split(" - "))
        return PlannedComparison(
            name=name,
            labels=labels,
            first=first,
            second=second,
            seeds=self.networks[network],
            families=self.families,
            is_tuned=False,
            dataset=dataset_name(dataset),
            **cell,
        )

    def _side(
        self, side: str, *, dataset: str, network: str, augmentation: str, objective: str, labels: int
    ) -> TrainingSpec:
        """One side of a comparison, with seed 0. Scratch depends on no objective, and has the default one."""
        variant = "scratch" if side == SAME_CORRUPTION else side
        settings = {"dataset": dataset, "labels": labels, "updates": self.updates if labels else 0}
        if PRETRAINING in find(variant).stages:
            settings["objective"] = objective
        return TrainingSpec(
            variant=variant,
            network=network,
            augmentation=objective if side == SAME_CORRUPTION else augmentation,
            settings=Settings(**{**self.settings, **settings}),
        )


def _cells(comparisons: Sequence[PlannedComparison], dataset: str, network: str) -> list[TrainingSpec]:
    """The trainings of one seed, with seed 0."""
    of_network = [one for one in comparisons if (one.dataset, one.network) == (dataset_name(dataset), network)]
    cells: dict[str, TrainingSpec] = {}
    for comparison in sorted(of_network, key=lambda one: (one.labels == 0, one.labels)):
        for side in (comparison.first, comparison.second):
            for spec in with_sources(side):
                cells.setdefault(canonical_json(spec.identity()), spec)
    return list(cells.values())


def with_sources(spec: TrainingSpec) -> Iterator[TrainingSpec]:
    """The pretraining that a classifier starts from, if any, and the classifier. Pretraining uses no labels."""
    for source in spec.sources.values():
        yield replace(source, settings=replace(source.settings, labels=0, updates=0))
    yield spec
