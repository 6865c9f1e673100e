"""What identifies a training: every option with its default, and the key made from them.

Nothing here trains or stores anything. `Settings` holds the options that a whole grid shares, `TrainingSpec` adds
which cell and seed is meant, and `TrainingSpec.identity` names exactly those fields that the result depends on.
`Execution` is apart: how a training is carried out is never part of what it is.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any

SCHEMA = 3
"""Raised whenever a change of the code changes any result; part of every key."""

CLASSIFIERS = ("frozen", "finetune", "scratch")
VARIANTS = ("pretrain", *CLASSIFIERS)
PROBES = ("random", "pixels", "pca")
"""Controls of the frozen variant: the same head on an encoder that was never trained, on the pixels, and on as many
principal components of the training images as the code has features."""

FROZEN = ("frozen", *PROBES)
"""The variants that train a head alone."""

EVALUATIONS = ("robustness", "similarity")
"""What trains nothing, but looks at what one seed's other variants have learned."""

DATASETS = ("mnist", "fashion-mnist", "kmnist", "digits")
AUGMENTATIONS = ("none", "erasing")
"""Those of the published grid; others are added to the registry in `augment`, and datasets to the one in `data`."""

STUDIES = ("controls", "labels", "robustness", "similarity")
LABELS = (10, 30, 100, 300, 1_000, 3_000, 10_000, 0)
"""Numbers of labelled training images in the study of labels; 0 = all."""

VARIED_BY_STUDIES = ("ae_target", "cls_epochs", "labels", "patience", "updates")
"""The settings in which a study's trainings may differ from those of the grid that it is about."""

NETWORKS = ("fc", "conv")
"""The two networks of the published grid; others are added to the registry in `networks`."""

SMALLEST_EFFECT = 0.001
"""The smallest difference of accuracies that anybody would care about: 10 of 10,000 test images."""

MAX_SEEDS = 100_000
"""More seeds than this in one command are taken for a slip of the pen."""

MAX_COUNT = 1_000_000_000
"""So are more steps, images or epochs of anything; libraries would fail at some larger number each."""

MAX_PROCESSES = 1024
"""And more threads or worker processes: OpenMP crashes where the system gives it no more."""

MAX_SEED = 10**18 - 1
MAX_FLOAT32 = 3.4e38

PHASES: dict[str, frozenset[str]] = {
    "pretrain": frozenset({"ae"}),
    "frozen": frozenset({"ae", "cls"}),
    "finetune": frozenset({"ae", "cls"}),
    "scratch": frozenset({"cls"}),
    **dict.fromkeys(PROBES, frozenset({"cls"})),
    **dict.fromkeys(EVALUATIONS, frozenset({"ae", "cls"})),
}
"""The phases of training that each variant's result depends on. A user's variants are added by `declare_variant`."""

BUILT_IN_VARIANTS = frozenset(PHASES)


class UsageError(ValueError):
    """An option has a value that it cannot have. The command ends with exit code 2."""


class Failure(RuntimeError):
    """Something that a user can cause went wrong, told in one line. The command ends with exit code 1."""


def declare_variant(name: str, *, pretrained: bool) -> None:
    """Let trainings have a variant of a user's own: a classifier, on a pretrained encoder or on one from the seed.

    What it is, the registry in `variants` knows.
    """
    PHASES[name] = PHASES["finetune" if pretrained else "scratch"]


def phases_of(variant: str) -> frozenset[str]:
    """The phases that a variant's result depends on; of one whose plugin is not loaded, those of every classifier."""
    return PHASES.get(variant, PHASES["scratch"])


def is_classifier(variant: str) -> bool:
    """Whether a variant stands in the table: the grid's classifiers, and those of users' own."""
    return variant in CLASSIFIERS or variant not in BUILT_IN_VARIANTS


def _is_name(value: Any) -> bool:
    """Whether this can be a name at all; whether it is known is found out where plugins are loaded."""
    return isinstance(value, str) and value.replace("-", "_").isidentifier()


def _option(
    default: Any,
    help: str,
    allowed: str,
    check: Callable[[Any], bool] | tuple[str, ...],
    part: str = "all",
    *,
    silent: bool = False,
) -> Any:
    """A dataclass field that knows its help text, what is allowed, and the part of the experiment it belongs to.

    An option that came later is `silent`: it is part of an identity only where it is not at its default, at which the
    result is what it was before there was the option.
    """
    known = {"help": help, "allowed": allowed, "check": check, "part": part, "silent": silent}
    return field(default=default, metadata=known)


def _choice(default: str, help: str, choices: tuple[str, ...], part: str = "all") -> Any:
    return _option(default, help, "one of " + ", ".join(choices), choices, part)


def _count(default: int, help: str, least: int = 1, part: str = "all", *, silent: bool = False) -> Any:
    allowed = f"an integer from {least} to {MAX_COUNT}"
    return _option(default, help, allowed, lambda value: least <= value <= MAX_COUNT, part, silent=silent)


def _is_pair(value: Any, upper: float) -> bool:
    return len(value) == 2 and all(map(math.isfinite, value)) and 0 < value[0] <= value[1] <= upper


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options that a whole grid shares. Defaults are those of EXPERIMENT.md, fixed beforehand.

    Raises `UsageError`, naming the field, the value and what is allowed.
    """

    dataset: str = _option(
        "mnist",
        f"Images to train and test on: {', '.join(DATASETS)} or a registered name.",
        f"{', '.join(DATASETS)} or a registered name: letters, digits, _ and -",
        _is_name,
    )
    split: str = _choice(
        "random",
        "How training images are divided into training and validation: drawn from the seed, drawn with equal class "
        "shares, or seed 0's draw for every seed.",
        ("random", "stratified", "fixed"),
    )
    normalize: str = _choice(
        "none", "Pixels as they are in [0, 1], or shifted and scaled by MNIST's mean and deviation.", ("none", "mnist")
    )
    erase_scale: tuple[float, float] = _option(
        (0.1, 0.15),
        "Smallest and largest share of an image's area that is erased.",
        "two numbers with 0 < first <= second <= 1",
        lambda value: _is_pair(value, 1.0),
        "erasing",
    )
    erase_ratio: tuple[float, float] = _option(
        (0.3, 3.3),
        "Smallest and largest aspect ratio (height / width) of the erased rectangle.",
        "two numbers with 0 < first <= second",
        lambda value: _is_pair(value, math.inf),
        "erasing",
    )
    erase_value: float = _option(
        0.0,
        "Pixel value written into the rectangle, before normalising.",
        f"a number from -{MAX_FLOAT32:g} to {MAX_FLOAT32:g}",
        lambda value: -MAX_FLOAT32 <= value <= MAX_FLOAT32,
        "erasing",
    )
    batch_size: int = _count(128, "Images per step.")
    lr: float = _option(
        0.001, "Learning rate of Adam.", "a finite number > 0", lambda value: math.isfinite(value) and value > 0
    )
    patience: int = _count(10, "Stop after this many epochs without a lower validation loss; 0 = never stop early.", 0)
    ae_epochs: int = _count(50, "Epochs of pretraining at most.", 1, "ae")
    cls_epochs: int = _count(50, "Epochs of a classifier at most.", 1, "cls")
    labels: int = _option(
        0,
        "Training images with a label, class-balanced and drawn from the seed; 0 = all. Validated on a fifth as many "
        "further images, at least 10. Pretraining uses all images anyway.",
        f"0 or an integer from 10 to {MAX_COUNT}",
        lambda value: value == 0 or 10 <= value <= MAX_COUNT,
        "cls",
        silent=True,
    )
    updates: int = _count(
        0,
        "Train a classifier for exactly so many steps, whatever the number of labels, instead of for epochs and with "
        "patience; 0 = by epochs.",
        0,
        "cls",
        silent=True,
    )
    ae_target: str = _choice(
        "input",
        "What the autoencoder has to reproduce: its input as augmented, or the clean image.",
        ("input", "clean"),
        "ae",
    )
    ae_loss: str = _choice(
        "mse", "Loss of the autoencoder: squared error, or cross-entropy on logits.", ("mse", "bce"), "ae"
    )

    def __post_init__(self) -> None:
        for one in fields(self):
            if isinstance(one.default, float):  # 1 and 1.0 are one value and have one key
                object.__setattr__(self, one.name, float(getattr(self, one.name)))
            elif isinstance(one.default, tuple):
                object.__setattr__(self, one.name, tuple(map(float, getattr(self, one.name))))
            _check(one.name, getattr(self, one.name), one.metadata["check"], one.metadata["allowed"])
        if self.ae_loss == "bce" and not (self.normalize == "none" and 0 <= self.erase_value <= 1):
            raise UsageError(
                "ae_loss='bce' needs targets in [0, 1]: use it with normalize='none' and erase_value from 0 to 1"
            )


def _check(name: str, value: Any, check: Callable[[Any], bool] | tuple[str, ...], allowed: str) -> None:
    valid = value in check if isinstance(check, tuple) else check(value)
    if not valid:
        raise UsageError(f"{name}={value!r} is not allowed: it must be {allowed}")


@dataclass(frozen=True, kw_only=True)
class TrainingSpec:
    """One training: a cell of the grid (or the pretraining before it), a seed, and the settings."""

    variant: str
    network: str
    augmentation: str = "none"
    seed: int = 0
    settings: Settings = Settings()

    def __post_init__(self) -> None:
        _check("variant", self.variant, tuple(PHASES), "one of " + ", ".join(PHASES))
        _check("augmentation", self.augmentation, _is_name, f"{', '.join(AUGMENTATIONS)} or a registered name")
        _check("seed", self.seed, lambda value: 0 <= value <= MAX_SEED, f"an integer from 0 to {MAX_SEED}")

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


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How trainings are carried out. Never part of an identity; recorded as tags, because it may change rounding."""

    device: str = "auto"
    threads: int = 1
    jobs: int | None = None
    stack: int | None = None
    data_dir: str | None = None
    force: bool = False
    plugins: tuple[str, ...] = ()
    outage_s: float = 120.0

    def __post_init__(self) -> None:
        for name, most in (("threads", MAX_PROCESSES), ("jobs", MAX_PROCESSES), ("stack", MAX_SEEDS)):
            _check_optional(name, getattr(self, name), most)
        _check("outage_s", self.outage_s, lambda value: 0 <= value < math.inf, "a finite number >= 0")


def _check_optional(name: str, value: int | None, most: int) -> None:
    _check(name, value, lambda value: value is None or 1 <= value <= most, f"an integer from 1 to {most}")


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


def derive_seed(seed: int, purpose: str, epoch: int = 0) -> int:
    """The state from which the random stream of one purpose in one epoch starts: 32 bits.

    Streams are independent of each other and of the order in which they are used, so the number of workers or a
    restart change nothing. 32 bits is all that PyTorch's CPU generator takes in.
    """
    digest = hashlib.sha256(f"{seed}/{purpose}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds from ``0-19``, ``0,3,7`` or a mixture, in order, each once. Raises `UsageError`."""
    seeds: dict[int, None] = {}
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (_is_integer(first) and (_is_integer(last) if dash else True)):
            raise UsageError(f"seeds={text!r} is not allowed: it must look like 0-19 or 0,3,7")
        low, high = int(first), int(last) if dash else int(first)
        if high < low:
            raise UsageError(f"seeds={text!r} is not allowed: the range {part.strip()} runs backwards")
        if high - low + len(seeds) >= MAX_SEEDS:
            raise UsageError(f"seeds={text!r} is not allowed: more than {MAX_SEEDS:,} seeds")
        seeds.update(dict.fromkeys(range(low, high + 1)))
    return tuple(seeds)


def format_seeds(seeds: Sequence[int]) -> str:
    """Ascending seeds as `parse_seeds` reads them: ``0-4,7``."""
    ranges: list[list[int]] = []
    for seed in seeds:
        if ranges and seed == ranges[-1][-1] + 1:
            ranges[-1][1:] = [seed]
        else:
            ranges.append([seed])
    return ",".join("-".join(map(str, one)) for one in ranges)


def _is_integer(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18
