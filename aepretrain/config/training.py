"""One training, what its result depends on, the key made from that, and the grids of trainings."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any

from aepretrain.config.names import (
    AUGMENTATIONS,
    BUILT_IN_VARIANTS,
    CLASSIFIERS,
    EVALUATIONS,
    MAX_SEED,
    PHASES,
    SCHEMA,
    VARIANTS,
)
from aepretrain.config.seeds import format_seeds
from aepretrain.config.settings import (
    Settings,
    is_name,
    require_allowed,
)
from aepretrain.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class TrainingSpec:
    """One training: a cell of the grid (or the pretraining before it), a seed, and the settings."""

    variant: str
    network: str
    augmentation: str = "none"
    seed: int = 0
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        require_allowed("variant", self.variant, tuple(PHASES), "one of " + ", ".join(PHASES))
        require_allowed("augmentation", self.augmentation, is_name, f"{', '.join(AUGMENTATIONS)} or a registered name")
        require_allowed("seed", self.seed, lambda value: 0 <= value <= MAX_SEED, f"an integer from 0 to {MAX_SEED}")

    @property
    def name(self) -> str:
        """For people: ``fc-erasing-finetune-s0``, and where it is so ``…-clean`` (target), ``…-100labels``,
        ``…-5000updates`` or ``…-70epochs`` (exactly so many, without patience)."""
        settings, identity = self.settings, self.identity()
        classifies = "cls" in PHASES[self.variant]
        told = {
            "clean": self.augmentation != "none" and identity.get("ae_target") == "clean",
            f"{settings.labels}labels": classifies and settings.labels,
            f"{settings.updates}updates": classifies and settings.updates,
            f"{self.epochs}epochs": identity.get("patience") == 0,
        }
        return "-".join((*self.cell, *(text for text, applies in told.items() if applies), f"s{self.seed}"))

    @property
    def cell(self) -> tuple[str, str, str]:
        """Network, augmentation and variant."""
        return self.network, self.augmentation, self.variant

    @property
    def seedless(self) -> "TrainingSpec":
        """What it has in common with the same training of any other seed: the same with seed 0."""
        return replace(self, seed=0)

    @property
    def phase(self) -> str:
        """The phase that this training itself runs: ``ae`` or ``cls``."""
        return "ae" if self.variant == "pretrain" else "cls"

    @property
    def epochs(self) -> int:
        """The largest number of epochs that this training runs."""
        return self.settings.ae_epochs if self.phase == "ae" else self.settings.cls_epochs

    @property
    def pretraining(self) -> "TrainingSpec | None":
        """The training whose encoder this one starts from; none for what starts from random weights."""
        needs_it = self.variant not in EVALUATIONS and PHASES[self.variant] == {"ae", "cls"}
        return replace(self, variant="pretrain") if needs_it else None

    @property
    def sources(self) -> "dict[str, TrainingSpec]":
        """The trainings whose weights this one needs, by name; ``other`` is the next seed's training from scratch."""
        if self.variant == "robustness":
            return {variant: replace(self, variant=variant) for variant in CLASSIFIERS}
        if self.variant == "similarity":
            own = {variant: replace(self, variant=variant) for variant in ("pretrain", "finetune", "scratch")}
            return own | {"other": replace(self, variant="scratch", seed=self.seed + 1)}
        return {} if self.pretraining is None else {"pretrain": self.pretraining}

    def identity(self) -> dict[str, Any]:
        """Exactly the fields that the result depends on, flat, by the names of their options."""
        parts = {"all"} | PHASES[self.variant] | ({"erasing"} if self.augmentation == "erasing" else set())
        cell = {name: getattr(self, name) for name in ("variant", "network", "augmentation", "seed")}
        shared = {
            one.name: getattr(self.settings, one.name)
            for one in fields(Settings)
            if one.metadata["part"] in parts and not self._says_nothing(one)
        }
        return cell | shared

    def _says_nothing(self, one: Field[Any]) -> bool:
        """Whether the result does not depend on this setting because of what others are."""
        if one.metadata["silent"] and getattr(self.settings, one.name) == one.default:
            return True
        by_updates = self.phase == "cls" and self.settings.updates > 0
        return by_updates and (
            one.name == "cls_epochs" or (one.name == "patience" and "ae" not in PHASES[self.variant])
        )

    def key(self, dataset_digest: str, definitions: Mapping[str, str]) -> str:
        """SHA-256, in hexadecimal, of the identity, the dataset's digest and the schema number.

        `definitions` are digests of what a user registered under a name used here ({} for what is built in).
        """
        return identity_key(self.identity(), dataset_digest, definitions)


def grid_specs(
    networks: tuple[str, ...],
    augmentations: tuple[str, ...],
    seeds: tuple[int, ...],
    settings: Settings,
    further: tuple[str, ...] = (),
) -> tuple[TrainingSpec, ...]:
    """Every training of a grid, pretrainings included, in the order of the table; last those of plugins' variants.

    Raises `UsageError` for a `further` variant that is no plugin's.
    """
    for name in BUILT_IN_VARIANTS.intersection(further):
        raise UsageError(f"variant={name!r} is no plugin's: the grid has {', '.join(VARIANTS)}, studies the others")
    return tuple(
        TrainingSpec(variant=variant, network=network, augmentation=augmentation, seed=seed, settings=settings)
        for network in networks
        for augmentation in augmentations
        for seed in seeds
        for variant in (*VARIANTS, *further)
    )


def identity_key(identity: Mapping[str, Any], dataset_digest: str, definitions: Mapping[str, str]) -> str:
    """The key of a training from its identity (`TrainingSpec.key`)."""
    return _sha256(
        {
            "schema": SCHEMA,
            "dataset_digest": dataset_digest,
            "definitions": dict(definitions),
            "spec": dict(identity),
        }
    )


def grid_key(keys: tuple[str, ...], study: str | None = None) -> str:
    """SHA-256, in hexadecimal, that identifies a grid by the keys of its trainings, whatever their order.

    Or a study, by its name and the keys of the grid's trainings that it builds on.
    """
    return _sha256({"grid": sorted(keys)} | ({"study": study} if study else {}))


def grid_options(specs: Sequence[TrainingSpec]) -> dict[str, Any]:
    """The options that make this grid, by name: networks, augmentations and seeds as one text each, and settings."""
    cells = {
        "network": ",".join(dict.fromkeys(spec.network for spec in specs)),
        "augmentation": ",".join(dict.fromkeys(spec.augmentation for spec in specs)),
        "seeds": format_seeds(sorted({spec.seed for spec in specs})),
    }
    return cells | {one.name: getattr(specs[0].settings, one.name) for one in fields(Settings)}


def canonical_json(value: Any) -> str:
    """One text for one value: keys sorted, no spaces, floats by their shortest exact form."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _sha256(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
