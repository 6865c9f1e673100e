"""The options that a whole grid shares, each with its default, its help text and what is allowed."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from aepretrain.config.images import DataRequest, dataset_name, is_source, parse_size
from aepretrain.config.names import DATASETS, MASK_SHARES, MAX_COUNT, MAX_FLOAT32, OBJECTIVES
from aepretrain.errors import UsageError
from aepretrain.variants import CLASSIFICATION, FINETUNING, PRETRAINING


def is_name(value: Any) -> bool:
    """Whether a value has the form of a name. Whether it is registered is checked after plugins are loaded."""
    return isinstance(value, str) and value.replace("-", "_").isidentifier()


def _option(
    default: Any,
    help: str,
    allowed: str,
    check: Callable[[Any], bool] | tuple[str, ...],
    *parts: str,
    silent: bool = False,
    kind: type | None = None,
    shown_default: str | None = None,
    follows: str | None = None,
) -> Any:
    """A dataclass field with its help text, its check, and the trainings that depend on it.

    Each of `parts` is a stage of `variants`, or ``augmentation:NAME`` or ``objective:NAME`` for what uses the option;
    without parts every training depends on it. A `silent` option is part of an identity only where it is not at its
    default: it was added later, and older trainings keep their keys. An option whose default depends on others has the
    default None, a `kind` (the type of its values) and a text for the default. `follows` names the option whose value
    is its default.
    """
    metadata = {
        "help": help,
        "allowed": allowed,
        "check": check,
        "parts": frozenset(parts or ("all",)),
        "silent": silent,
        "kind": kind or type(default),
        "shown_default": shown_default,
        "follows": follows,
    }
    return field(default=default, metadata=metadata)


def _choice(default: str, help: str, choices: tuple[str, ...], *parts: str, silent: bool = False) -> Any:
    return _option(default, help, "one of " + ", ".join(choices), choices, *parts, silent=silent)


def _count(default: int, help: str, least: int, *parts: str, silent: bool = False) -> Any:
    allowed = f"an integer from {least} to {MAX_COUNT}"
    return _option(default, help, allowed, lambda value: least <= value <= MAX_COUNT, *parts, silent=silent)


def _rate(help: str, follows: str, *parts: str) -> Any:
    """A learning rate that follows another one unless it is given."""
    shown, allowed = f"as --{follows.replace('_', '-')}", "a finite number > 0"
    return _option(None, help, allowed, _is_rate, *parts, silent=True, kind=float, shown_default=shown, follows=follows)


def _is_rate(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _users(*names: str) -> tuple[str, ...]:
    """The parts of what uses the corruptions of these names."""
    return tuple(f"{kind}:{name}" for kind in ("augmentation", "objective") for name in names)


def _is_pair(value: Any, upper: float) -> bool:
    return len(value) == 2 and all(map(math.isfinite, value)) and 0 < value[0] <= value[1] <= upper


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options that a whole grid shares. Defaults were fixed before the first result (docs/usage.md).

    Raises `UsageError`, naming the field, the value and what is allowed.
    """

    dataset: str = _option(
        "mnist",
        f"Images to train and test on: {', '.join(DATASETS)}, a registered name, or one's own: folder:PATH, npz:PATH "
        "or parquet:PATH.",
        f"{', '.join(DATASETS)}, a registered name (letters, digits, _ and -), folder:PATH, npz:PATH or parquet:PATH",
        lambda value: is_name(value) or (isinstance(value, str) and is_source(value)),
    )
    image_size: str | None = _option(
        None,
        "Rows and columns of images, like 32 or 48x40: images of another size are scaled, and cut to the same shape.",
        "rows and columns like 32 or 48x40, at most 4096",
        lambda value: isinstance(value, str) and parse_size(value) is not None,
        silent=True,
        kind=str,
        shown_default="as they are",
    )
    grey: bool = _option(
        False, "Turn colours into grey.", "true or false", lambda value: isinstance(value, bool), silent=True
    )
    unlabelled: str | None = _option(
        None,
        "Further images that pretraining alone uses, without their classes: folder:PATH, npz:PATH or parquet:PATH.",
        "folder:PATH, npz:PATH or parquet:PATH",
        lambda value: isinstance(value, str) and is_source(value),
        PRETRAINING,
        silent=True,
        kind=str,
        shown_default="none",
    )
    split: str = _choice(
        "random",
        "How training images are divided into training and validation: at random from the seed, the same with equal "
        "class shares, or the split of seed 0 for every seed.",
        ("random", "stratified", "fixed"),
    )
    normalize: str = _choice(
        "none", "Keep pixels in [0, 1], or shift and scale them by MNIST's mean and deviation.", ("none", "mnist")
    )
    erase_scale: tuple[float, float] = _option(
        (0.1, 0.15),
        "Smallest and largest share of an image's area that is erased.",
        "two numbers with 0 < first <= second <= 1",
        lambda value: _is_pair(value, 1.0),
        "augmentation:erasing",
    )
    erase_ratio: tuple[float, float] = _option(
        (0.3, 3.3),
        "Smallest and largest aspect ratio (height / width) of the erased rectangle.",
        "two numbers with 0 < first <= second",
        lambda value: _is_pair(value, math.inf),
        "augmentation:erasing",
    )
    erase_value: float = _option(
        0.0,
        "Pixel value written into the rectangle, before normalising.",
        f"a number from -{MAX_FLOAT32:g} to {MAX_FLOAT32:g}",
        lambda value: -MAX_FLOAT32 <= value <= MAX_FLOAT32,
        "augmentation:erasing",
    )
    batch_size: int = _count(128, "Images per step.", 1)
    lr: float = _option(0.001, "Learning rate of Adam.", "a finite number > 0", _is_rate)
    ae_lr: float | None = _rate("Learning rate of pretraining.", "lr", PRETRAINING)
    cls_lr: float | None = _rate("Learning rate of classifiers.", "lr", CLASSIFICATION)
    encoder_lr: float | None = _rate(
        "Learning rate of a pretrained encoder while it is fine-tuned.", "cls_lr", FINETUNING
    )
    head_first: int = _count(
        0,
        "Number of epochs (with --updates, of steps) in which the head learns alone, before a pretrained encoder joins "
        "it.",
        0,
        FINETUNING,
        silent=True,
    )
    weight_decay: float = _option(
        0.0,
        "Weight decay, as in AdamW.",
        "a finite number >= 0",
        lambda value: math.isfinite(value) and value >= 0,
        silent=True,
    )
    schedule: str = _choice(
        "constant",
        "Learning rate over time: constant, or falling to zero along half a cosine over the epochs at most.",
        ("constant", "cosine"),
        silent=True,
    )
    patience: int = _count(10, "Stop after this many epochs without a lower validation loss; 0 = never stop early.", 0)
    ae_epochs: int = _count(50, "Maximum number of epochs of pretraining.", 1, PRETRAINING)
    cls_epochs: int = _count(50, "Maximum number of epochs of a classifier.", 1, CLASSIFICATION)
    labels: int = _option(
        0,
        "Number of labelled training images, equally many of each class, drawn from the seed; 0 = all. Validation uses "
        "a fifth as many other images, at least 10. Pretraining always uses all images.",
        f"0 or an integer from 10 to {MAX_COUNT}",
        lambda value: value == 0 or 10 <= value <= MAX_COUNT,
        CLASSIFICATION,
        silent=True,
    )
    updates: int = _count(
        0,
        "Train a classifier for exactly this many steps, for any number of labels, and ignore epochs and patience; "
        "0 = by epochs.",
        0,
        CLASSIFICATION,
        silent=True,
    )
    objective: str = _option(
        "reconstruct",
        f"Objective of pretraining: {', '.join(OBJECTIVES)} or a registered name.",
        f"{', '.join(OBJECTIVES)} or a registered name: letters, digits, _ and -",
        is_name,
        PRETRAINING,
        silent=True,
    )
    mask_share: float | None = _option(
        None,
        "Probability with which a pixel or a patch is hidden by pixel-mask or patch-mask.",
        "a number > 0 and < 1",
        lambda value: 0 < value < 1,
        *_users(*MASK_SHARES),
        silent=True,
        kind=float,
        shown_default=", ".join(f"{share} for {name}" for name, share in MASK_SHARES.items()),
    )
    patch_size: int = _count(4, "Side of a patch of patch-mask, in pixels.", 1, *_users("patch-mask"), silent=True)
    noise: float = _option(
        0.5,
        "Standard deviation of gaussian-noise, for pixels in [0, 1].",
        f"a number > 0 and <= {MAX_FLOAT32:g}",
        lambda value: 0 < value <= MAX_FLOAT32,
        *_users("gaussian-noise"),
        silent=True,
    )
    ae_target: str = _choice(
        "input",
        "What the autoencoder must reproduce: its augmented input, or the clean image.",
        ("input", "clean"),
        PRETRAINING,
    )
    ae_loss: str = _choice(
        "mse", "Loss of the autoencoder: squared error, or cross-entropy on logits.", ("mse", "bce"), PRETRAINING
    )

    @property
    def data(self) -> DataRequest:
        """The images that are loaded."""
        return DataRequest(self.dataset, self.image_size, self.grey, self.unlabelled)

    def stored(self) -> dict[str, Any]:
        """The settings by name as identities hold them: images of one's own by their name, without their place."""
        values = {option.name: getattr(self, option.name) for option in fields(self)}
        names = {name: dataset_name(values[name]) for name in ("dataset", "unlabelled") if values[name] is not None}
        return values | names

    def learning_rate(self, stage: str) -> float:
        """The learning rate of a stage of `variants`."""
        of_stage = self.ae_lr if stage == PRETRAINING else self.cls_lr
        return self.lr if of_stage is None else of_stage

    def __post_init__(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            if value is None and option.default is None:
                continue
            if option.name == "image_size" and isinstance(value, str) and (size := parse_size(value)):
                value = "x".join(map(str, size))  # 32 and 32x32 are one value, too
            if option.metadata["kind"] is float:  # 1 and 1.0 are one value and have one key
                value = float(value)
            elif option.metadata["kind"] is tuple:
                value = tuple(map(float, value))
            object.__setattr__(self, option.name, value)
            require_allowed(option.name, value, option.metadata["check"], option.metadata["allowed"])
        if self.ae_loss == "bce" and not (self.normalize == "none" and 0 <= self.erase_value <= 1):
            raise UsageError(
                "ae_loss='bce' needs targets in [0, 1]: use it with normalize='none' and erase_value from 0 to 1"
            )


def require_allowed(name: str, value: Any, check: Callable[[Any], bool] | tuple[str, ...], allowed: str) -> None:
    """Raise `UsageError`, naming an option, its value and what is allowed, where the value is not."""
    valid = value in check if isinstance(check, tuple) else check(value)
    if not valid:
        raise UsageError(f"{name}={value!r} is not allowed: it must be {allowed}")
