"""Finished trainings as flat records, and where they are kept."""

import logging
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Protocol

from aepretrain.config import MNIST_SHAPE, OF_MNIST, Settings, Shape, TrainingSpec, setting_of, source_of
from aepretrain.errors import UsageError
from aepretrain.records.evidence import Outcomes
from aepretrain.variants import EVALUATIONS, VARIANTS

_log = logging.getLogger(__name__)  # Python prints its warnings to stderr, one plain line each


NO_FILTER: Mapping[str, Any] = MappingProxyType({})
"""No settings are wanted in particular."""

WEIGHTS = "weights.pt"
"""The path of a training's checkpoint among its files."""

DIGITS = 16
"""How many digits of an artifact's SHA-256 a record has."""


@dataclass(frozen=True)
class Record:
    """One finished training.

    `identity` holds the fields of its specification, `metrics` the final figures (`test_accuracy`, `test_macro_f1`, …)
    and `tags` how it was carried out (device, threads, host, commit, …). `artifact_uri` is the folder of its files, and
    `end_ms` the time of its end in milliseconds since 1970 (UTC), where it is known.
    """

    run_id: str
    parent_run_id: str | None
    key: str
    attempt: int
    identity: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    artifact_uri: str = field(default="", compare=False)
    end_ms: int | None = field(default=None, compare=False)

    @property
    def cell(self) -> tuple[str, str, str]:
        """Network, augmentation and variant."""
        return self.identity["network"], self.identity["augmentation"], self.identity["variant"]

    @property
    def shape(self) -> Shape:
        """The shape of its images, and the number of classes. Older trainings do not name it: theirs was MNIST's."""
        named = self.tags.get("image_shape")
        if named is None:
            return MNIST_SHAPE
        channels, height, width = map(int, named.split("x"))
        return Shape((channels, height, width), int(self.tags["num_classes"]))

    @property
    def is_like_mnist(self) -> bool:
        """Whether its images have MNIST's form; a plugin's grey images of 28×28 pixels are taken for such."""
        dataset = self.identity["dataset"]
        return dataset in OF_MNIST or (source_of(dataset) is None and self.shape.image == MNIST_SHAPE.image)

    @property
    def has_weights(self) -> bool:
        """Whether its weights are stored. A training imported from a bundle may have none."""
        return "weights_sha256" in self.tags

    @property
    def artifacts(self) -> dict[str, str]:
        """The SHA-256, or its first digits, of the artifacts that it was stored with, by path; older ones list none."""
        listed = filter(None, self.tags.get("artifacts", "").split(","))
        weights = {WEIGHTS: self.tags["weights_sha256"]} if self.has_weights else {}
        return {path: digest for path, _, digest in (one.partition("=") for one in listed)} | weights

    def setting(self, name: str) -> Any:
        """The value of a field of `Settings`; None where the training does not depend on it."""
        return setting_of(self.identity, name)

    @property
    def study(self) -> str | None:
        """The study that it was trained for; None for a grid's or a single training."""
        return self.tags.get("study") or None

    @property
    def seed(self) -> int:
        """The seed of all random numbers."""
        return int(self.identity["seed"])

    @property
    def spec(self) -> TrainingSpec:
        """Its specification. Settings that it does not depend on have their defaults."""
        return self._as_variant(self.cell[2])

    def _as_variant(self, variant: str) -> TrainingSpec:
        network, augmentation, _ = self.cell
        settings = {one.name: self.identity[one.name] for one in fields(Settings) if one.name in self.identity}
        return TrainingSpec(
            network=network, augmentation=augmentation, variant=variant, seed=self.seed, settings=Settings(**settings)
        )

    def checked(self) -> "Record":
        """The record itself. Raises `ValueError` where it cannot be that of a finished training."""
        network, _, variant = self.cell
        if not network.isidentifier():
            raise ValueError(f"network={network!r} is no name of a network")
        if not variant.isidentifier():
            raise ValueError(f"variant={variant!r} is no name of a variant")
        self._as_variant(variant if variant in (*VARIANTS, *EVALUATIONS) else "scratch")  # its plugin may not be loaded
        of_training = () if variant in EVALUATIONS else ("best_val_loss", "best_epoch", "num_epochs")
        shares = () if variant in ("pretrain", *EVALUATIONS) else ("test_accuracy", "test_macro_f1")
        for name in ("training_s", *of_training, *shares):
            value = self.metrics.get(name, math.nan)
            if not math.isfinite(value) or (name in shares and not 0 <= value <= 1):
                raise ValueError(f"its {name} is {value}")
        return self


def of_newest_images(records: Mapping[str, Record]) -> dict[str, Record]:
    """The trainings, in their order, without those on other images than the last training on a dataset of that name.

    The pictures of a folder may change, and two folders may have the same name. A warning counts what is left out.
    """
    newest = {_images_of(record): record.tags.get("dataset_digest") for record in records.values()}
    kept = {
        key: record
        for key, record in records.items()
        if record.tags.get("dataset_digest") == newest[_images_of(record)]
    }
    left_out = Counter(record.identity["dataset"] for key, record in records.items() if key not in kept)
    for dataset, num in left_out.items():
        _log.warning("%d trainings on other images named %s are left out: the newest ones count.", num, dataset)
    return kept


def _images_of(record: Record) -> tuple[Any, ...]:
    """The settings that name images."""
    return tuple(record.identity.get(name) for name in ("dataset", "image_size", "grey"))


def check_run_id(run_id: str) -> None:
    """Raise `UsageError` where this is no run's id."""
    if not re.fullmatch("[0-9a-f]{32}", run_id):
        raise UsageError(f"run={run_id!r} is not a run id: it must be 32 digits and letters from a to f")


class Archive(Protocol):
    """The source of finished trainings with their files and curves: a tracking store or a bundle."""

    @property
    def place(self) -> str:
        """What a message calls it."""

    def records(self, wanted: Mapping[str, Any] = NO_FILTER) -> dict[str, Record]:
        """All finished trainings with these settings by key."""

    def record(self, run_id: str) -> Record:
        """The finished training of a run. Raises `UsageError` for a malformed id, `Failure` where there is none."""

    def curves(self, records: Sequence[Record], metric: str) -> list[list[float]]:
        """Each training's values of one of `EPOCH_METRICS`, epoch by epoch; empty where it does not apply."""

    def artifact(self, record: Record, path: str) -> bytes:
        """The content of a training's file. Raises `Failure` where it cannot be read."""

    def has_artifact(self, record: Record, path: str) -> bool:
        """Whether a training has this file."""

    def weights(self, record: Record) -> bytes:
        """The checkpoint of a training. Raises `Failure` where it cannot be read."""

    def outcomes(self, record: Record) -> Outcomes:
        """A classifier's outcomes on the test images. Raises `Failure` where they cannot be read."""

    def link(self, record: Record) -> str:
        """The address of a run, or its id."""
