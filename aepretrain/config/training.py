"""The specification of one training: what its result depends on, the key made from that, and grids of trainings."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any

from aepretrain.config.names import AUGMENTATIONS, MASK_SHARES, MAX_SEED, SCHEMA
from aepretrain.config.seeds import format_seeds
from aepretrain.config.settings import Settings, is_name, require_allowed
from aepretrain.errors import UsageError
from aepretrain.variants import (
    CLASSIFICATION,
    EVALUATIONS,
    GRID_VARIANTS,
    PRETRAINING,
    VARIANTS,
    Evaluation,
    Variant,
    find,
    find_or_assume,
)


@dataclass(frozen=True, kw_only=True)
class TrainingSpec:
    """One training: a variant on a network with an augmentation, a seed, and the settings.

    An evaluation of finished trainings is specified in the same way, with its name as the variant. Raises `UsageError`,
    naming the field, the value and what is allowed.
    """

    variant: str
    network: str
    augmentation: str = "none"
    seed: int = 0
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        require_allowed("variant", self.variant, (*VARIANTS, *EVALUATIONS), f"one of {', '.join(VARIANTS)}")
        require_allowed("augmentation", self.augmentation, is_name, f"{', '.join(AUGMENTATIONS)} or a registered name")
        require_allowed("seed", self.seed, lambda value: 0 <= value <= MAX_SEED, f"an integer from 0 to {MAX_SEED}")
        needs_pixels = self.settings.ae_loss == "bce" and PRETRAINING in self.kind.stages
        if needs_pixels and self.augmentation == "gaussian-noise" and self.settings.ae_target == "input":
            raise UsageError(
                "ae_loss='bce' needs targets in [0, 1]: with augmentation='gaussian-noise' use ae_target='clean'"
            )

    @property
    def kind(self) -> Variant | Evaluation:
        """The record of the variant or evaluation."""
        return find(self.variant)

    @property
    def name(self) -> str:
        """The name for people, ``fc-erasing-finetune-s0``.

        Before the seed stand, where they apply, the objective, ``clean`` (the autoencoder's target), ``100labels``,
        ``5000updates`` and ``70epochs`` (a fixed number of epochs, without patience).
        """
        settings, identity = self.settings, self.identity()
        classifies = CLASSIFICATION in self.kind.stages
        additions = {
            identity.get("objective"): "objective" in identity,
            "clean": self.augmentation != "none" and identity.get("ae_target") == "clean",
            f"{settings.labels}labels": classifies and settings.labels,
            f"{settings.updates}updates": classifies and settings.updates,
            f"{self.epochs}epochs": identity.get("patience") == 0,
        }
        return "-".join((*self.cell, *(str(text) for text, applies in additions.items() if applies), f"s{self.seed}"))

    @property
    def cell(self) -> tuple[str, str, str]:
        """Network, augmentation and variant."""
        return self.network, self.augmentation, self.variant

    @property
    def seedless(self) -> "TrainingSpec":
        """The same specification with seed 0: what trainings of different seeds have in common."""
        return replace(self, seed=0)

    @property
    def stage(self) -> str:
        """The stage that this training runs itself: ``pretraining`` or ``classification``."""
        return self.kind.stage

    @property
    def epochs(self) -> int:
        """The largest number of epochs that this training runs."""
        return self.settings.ae_epochs if self.stage == PRETRAINING else self.settings.cls_epochs

    @property
    def trains_by_updates(self) -> bool:
        """Whether this training takes a fixed number of steps instead of epochs."""
        return self.stage == CLASSIFICATION and self.settings.updates > 0

    @property
    def sources(self) -> "dict[str, TrainingSpec]":
        """The trainings whose weights this one needs, by the names of `variants.Source`."""
        return {
            source.name: replace(self, variant=source.variant, seed=self.seed + source.seed_offset)
            for source in self.kind.sources
        }

    def identity(self) -> dict[str, Any]:
        """Exactly the fields that the result depends on, flat, by the names of their options."""
        parts = _parts(self.kind, self.augmentation, self.settings.objective)
        cell = {name: getattr(self, name) for name in ("variant", "network", "augmentation", "seed")}
        values = self.settings.stored()
        settings = {
            option.name: values[option.name]
            for option in fields(Settings)
            if option.metadata["parts"] & parts and self._matters(option, parts)
        }
        return cell | settings

    def _matters(self, option: Field[Any], parts: frozenset[str]) -> bool:
        """Whether the result depends on a setting of its parts, given the values of the settings."""
        defaults = (option.default, _default(option, vars(self.settings), parts))
        if option.metadata["silent"] and getattr(self.settings, option.name) in defaults:
            return False
        if not self.trains_by_updates:
            return True
        return option.name != "cls_epochs" and (option.name != "patience" or PRETRAINING in self.kind.stages)

    def key(self, dataset_digest: str, definitions: Mapping[str, str]) -> str:
        """SHA-256, in hexadecimal, of the identity, the dataset's digest and the schema number.

        `definitions` are the digests of what plugins registered under names used here ({} for what is built in).
        """
        return identity_key(self.identity(), dataset_digest, definitions)


def _parts(kind: Variant | Evaluation, augmentation: str, objective: str) -> frozenset[str]:
    """The parts, as `Settings` names them, that a training has."""
    pretrains = PRETRAINING in kind.stages
    return kind.parts | {"all", f"augmentation:{augmentation}"} | ({f"objective:{objective}"} if pretrains else set())


def _default(option: Field[Any], values: Mapping[str, Any], parts: frozenset[str]) -> Any:
    """The value of a setting that is not given, from the values of the others and the parts of the training."""
    if (followed := option.metadata["follows"]) is not None:
        return values["lr"] if values.get(followed) is None else values[followed]
    if option.name == "mask_share":
        shares = {MASK_SHARES[name] for part in parts if (name := part.partition(":")[2]) in MASK_SHARES}
        return shares.pop() if len(shares) == 1 else None  # an objective and an augmentation may each have their own
    return option.default


def setting_of(identity: Mapping[str, Any], name: str) -> Any:
    """The value of a setting in a training of this identity; None where the training does not depend on it."""
    (option,) = (one for one in fields(Settings) if one.name == name)
    if name in identity or not option.metadata["silent"]:
        return identity.get(name)
    kind, objective = find_or_assume(identity["variant"]), identity.get("objective", Settings.objective)
    parts = _parts(kind, identity["augmentation"], objective)
    return _default(option, identity, parts) if option.metadata["parts"] & parts else None


def grid_specs(
    networks: tuple[str, ...],
    augmentations: tuple[str, ...],
    seeds: tuple[int, ...],
    settings: Settings,
    further: tuple[str, ...] = (),
    objectives: tuple[str, ...] | None = None,
) -> tuple[TrainingSpec, ...]:
    """All trainings of a grid, pretrainings included, in the order of the table, each once.

    `further` are variants of plugins. Raises `UsageError` where one is built in. `objectives` are those of pretraining,
    by default that of the settings; trainings without pretraining are shared by all of them.
    """
    for name in further:
        if name in EVALUATIONS or VARIANTS.is_built_in(name):
            raise UsageError(
                f"variant={name!r} is built in, not from a plugin: a grid trains {', '.join(GRID_VARIANTS)}; "
                "studies train the others"
            )
    first, *others = objectives or (settings.objective,)
    variants = (*GRID_VARIANTS, *further)
    pretrained = tuple(variant for variant in variants if PRETRAINING in find(variant).stages)
    columns = [(first, variants), *((objective, pretrained) for objective in others)]
    return tuple(
        TrainingSpec(
            variant=variant,
            network=network,
            augmentation=augmentation,
            seed=seed,
            settings=replace(settings, objective=objective),
        )
        for network in networks
        for augmentation in augmentations
        for seed in seeds
        for objective, of_objective in columns
        for variant in of_objective
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
    """SHA-256, in hexadecimal, of the keys of a grid's trainings, whatever their order.

    A study is identified by its name and the keys of the grid's trainings that it builds on.
    """
    return _sha256({"grid": sorted(keys)} | ({"study": study} if study else {}))


def grid_options(specs: Sequence[TrainingSpec]) -> dict[str, Any]:
    """The options that give these trainings, by name: networks, augmentations and seeds as text, and all settings."""
    cells = {
        "network": ",".join(dict.fromkeys(spec.network for spec in specs)),
        "augmentation": ",".join(dict.fromkeys(spec.augmentation for spec in specs)),
        "seeds": format_seeds(sorted({spec.seed for spec in specs})),
    }
    return cells | {option.name: _shared(specs, option.name) for option in fields(Settings)}


def _shared(specs: Sequence[TrainingSpec], name: str) -> Any:
    """The value of a setting; where it is not the same for all, its values as text."""
    values = list(dict.fromkeys(getattr(spec.settings, name) for spec in specs))
    return values[0] if len(values) == 1 else ",".join(map(str, values))


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces, and floats in their shortest exact form: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _sha256(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
