"""Finished trainings as values: a flat record each, and its evidence.

Shapes: N test images, E epochs, K classes.
"""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aepretrain.config import MNIST_SHAPE, OF_MNIST, Settings, Shape, TrainingSpec, setting_of, source_of
from aepretrain.errors import Failure
from aepretrain.metrics import expected_calibration_error
from aepretrain.variants import EVALUATIONS, VARIANTS


@dataclass(frozen=True)
class EpochResult:
    """The numbers of one epoch. Epochs count from 1; losses are means over images (and, for images, over pixels)."""

    epoch: int
    train_loss: float
    val_loss: float
    val_accuracy: float | None
    elapsed_s: float
    images_per_s: float

    def metrics(self) -> dict[str, float]:
        """The numbers by name, without those that do not apply."""
        return {name: value for name, value in vars(self).items() if name != "epoch" and value is not None}


EPOCH_METRICS = frozenset(one.name for one in fields(EpochResult) if one.name != "epoch")
"""The names under which an epoch's numbers are logged."""


def curve_of(run_id: str, numbers: Iterable[tuple[int, float]]) -> list[float]:
    """The values of an epoch metric from the first epoch on, from pairs of step and value that a run has logged.

    Raises `Failure` where an epoch is missing.
    """
    values = dict(numbers)
    if values.keys() != set(range(1, len(values) + 1)):
        raise Failure(f"run {run_id} is damaged: an epoch is missing")
    return [values[epoch] for epoch in sorted(values)]


DIGITS = 16
"""How many digits of an artifact's SHA-256 a record has."""


@dataclass(frozen=True)
class Record:
    """One finished training.

    `identity` holds the fields of its specification, `metrics` the final figures (`test_accuracy`, `test_macro_f1`, …)
    and `tags` how it was carried out (device, threads, host, commit, …). `artifact_uri` is the folder of its files.
    """

    run_id: str
    parent_run_id: str | None
    key: str
    attempt: int
    identity: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    artifact_uri: str = field(default="", compare=False)

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
        weights = {"weights.pt": self.tags["weights_sha256"]} if self.has_weights else {}
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


MAX_PREDICTIONS_BYTES = 2**26
"""More than ten million test images' predictions."""

CLASS_KINDS, NLL_KINDS = (np.dtype(np.uint8), np.dtype(np.uint16)), (np.dtype(np.float16),)
KINDS = {"labels_N": CLASS_KINDS, "predicted_N": CLASS_KINDS, "nll_label_N": NLL_KINDS, "nll_predicted_N": NLL_KINDS}
"""The types of the arrays of `Predictions`."""


@dataclass(frozen=True)
class Predictions:
    """A classifier's predictions for all test images: enough for bootstrap, McNemar, likelihood and calibration.

    `labels_N` and `predicted_N` are classes: uint8, or uint16 for more than 256. `nll_label_N` and `nll_predicted_N`
    are the negative natural logarithms of the probabilities of the true and of the predicted class, as float16. The
    logarithm keeps three significant digits of a probability near 0, and of the distance from 1.
    """

    labels_N: NDArray[np.unsignedinteger]
    predicted_N: NDArray[np.unsignedinteger]
    nll_label_N: NDArray[np.float16]
    nll_predicted_N: NDArray[np.float16]

    def to_bytes(self) -> bytes:
        """A compressed NumPy archive of the four arrays; 30 to 50 KB for 10,000 images."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **vars(self))
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Predictions":
        """The predictions that `to_bytes` wrote. Reads no pickled objects. Raises `Failure` for damaged data."""
        found = _arrays(data, cls.__dataclass_fields__, "predictions")
        shape = (found["labels_N"].size,)
        is_sound = shape != (0,) and all(
            array.dtype in KINDS[name] and array.shape == shape for name, array in found.items()
        )
        if not is_sound:
            raise Failure("predictions are damaged: they are not one class and one probability for each image")
        if not all((found[name] >= 0).all() for name in ("nll_label_N", "nll_predicted_N")):
            raise Failure("predictions are damaged: there are probabilities above 1 or unknown ones")
        return cls(**found)

    def outcomes(self) -> "Outcomes":
        """Which images are classified correctly, with likelihood and calibration error."""
        correct_N = self.predicted_N == self.labels_N
        confidence_N = np.exp(-self.nll_predicted_N.astype(np.float64))
        return Outcomes(
            correct_N=correct_N,
            nll=float(np.mean(self.nll_label_N, dtype=np.float64)),
            ece=expected_calibration_error(confidence_N, correct_N),
        )


@dataclass(frozen=True)
class Outcomes:
    """A classifier's test result for the statistics: which images are correct, likelihood and calibration."""

    correct_N: NDArray[np.bool_]
    nll: float
    """Mean negative log-likelihood of the true class, in nats."""
    ece: float
    """Expected calibration error with 15 bins (`metrics.expected_calibration_error`)."""

    def to_bytes(self) -> bytes:
        """A NumPy archive with one bit for each image; about 2 KB for 10,000 images."""
        buffer = io.BytesIO()
        num = len(self.correct_N)
        np.savez(buffer, correct=np.packbits(self.correct_N), num_images=num, nll=self.nll, ece=self.ece)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Outcomes":
        """The outcomes that `to_bytes` wrote. Never reads pickled objects. Raises `Failure`."""
        arrays = _arrays(data, ("correct", "num_images", "nll", "ece"), "outcomes")
        types = {name: (array.dtype.name, array.ndim) for name, array in arrays.items()}
        number = ("float64", 0)
        if types != {"correct": ("uint8", 1), "num_images": ("int64", 0), "nll": number, "ece": number}:
            raise Failure("outcomes are damaged: they are not bits and three numbers")
        num, nll, ece = int(arrays["num_images"]), float(arrays["nll"]), float(arrays["ece"])
        if num < 1 or len(arrays["correct"]) != (num + 7) // 8 or not (nll >= 0 and 0 <= ece <= 1):
            raise Failure(f"outcomes are damaged: {num} images, nll {nll}, ece {ece}")
        return cls(np.unpackbits(arrays["correct"], count=num).astype(np.bool_), nll, ece)


def _arrays(data: bytes, names: Iterable[str], what: str) -> dict[str, NDArray[Any]]:
    """Arrays of a NumPy archive by name, never pickled objects. Raises `Failure`, which says `what` is damaged."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            size = sum(part.file_size for part in archive.zip.infolist())
            if size > MAX_PREDICTIONS_BYTES:
                raise ValueError(f"they would unpack to {size:,} bytes")
            return {name: archive[name] for name in names}
    except Exception as error:  # noqa: BLE001  # numpy documents no class for what a damaged archive raises
        raise Failure(f"{what} are damaged: {' '.join(str(error).split())[:200]}") from None


@dataclass(frozen=True)
class Reconstructions:
    """Some validation images, the autoencoder's inputs and its outputs, pixels in [0, 1], [N, C, H, W] each."""

    original_NCHW: NDArray[np.float32]
    seen_NCHW: NDArray[np.float32]
    reconstructed_NCHW: NDArray[np.float32]


@dataclass(frozen=True)
class CodeMaps:
    """Codes of images in two dimensions: `places_N2` by encoder, and the images' classes."""

    places_N2: Mapping[str, NDArray[np.float32]]
    labels_N: NDArray[np.int64]


@dataclass(frozen=True)
class Evidence:
    """What a training gives besides its figures: the epochs, and what applies to its variant."""

    history: tuple[EpochResult, ...]
    predictions: Predictions | None = None
    confusion_KK: NDArray[np.int64] | None = None
    reconstructions: Reconstructions | None = None
    class_counts: Mapping[str, NDArray[np.int64]] | None = None
    """Numbers of images by part of the split, [K] each."""
    code_maps: CodeMaps | None = None
    filters_CHW: NDArray[np.float16] | None = None
    """Weights of the first layer, as images: those of the units with the largest norm, largest first."""


def filters_to_bytes(filters_CHW: NDArray[np.float16]) -> bytes:
    """A compressed NumPy archive of an encoder's filters."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, filters_CHW=filters_CHW)
    return buffer.getvalue()


def filters_from_bytes(data: bytes) -> NDArray[np.float16]:
    """The filters [C, H, W] that `filters_to_bytes` wrote. Reads no pickled objects. Raises `Failure`."""
    filters_CHW: NDArray[np.float16] = _arrays(data, ["filters_CHW"], "filters")["filters_CHW"]
    if filters_CHW.dtype != np.float16 or filters_CHW.ndim != 3 or not np.isfinite(filters_CHW).all():
        raise Failure("filters are damaged: they are not finite weights of a first layer")
    return filters_CHW


FILTERS = "filters/first_layer.npz"
"""Path of the artifact that holds some filters of an encoder's first layer."""

PREDICTIONS = "evidence/predictions.npz"
"""Path of the artifact that holds a classifier's `Predictions`."""

OUTCOMES = "evidence/outcomes.npz"
"""Path of the artifact that holds a classifier's `Outcomes`, where its predictions were not kept."""

CLASSES = "evidence/classes.json"
"""Path of the artifact that holds the names of a classifier's classes, a list; older classifiers have none."""

PER_CLASS = "evidence/per_class.json"
"""Path of the artifact that holds a classifier's precision and recall on the test images of each class."""


class Archive(Protocol):
    """The source of finished trainings with their files and curves: a tracking store or a bundle."""

    def records(self) -> dict[str, Record]:
        """All finished trainings by key."""

    def curves(self, records: Sequence[Record], metric: str) -> list[list[float]]:
        """Each training's values of one of `EPOCH_METRICS`, epoch by epoch; empty where it does not apply."""

    def artifact(self, record: Record, path: str) -> bytes:
        """The content of a training's file. Raises `Failure` where it cannot be read."""

    def has_artifact(self, record: Record, path: str) -> bool:
        """Whether a training has this file."""

    def outcomes(self, record: Record) -> Outcomes:
        """A classifier's outcomes on the test images. Raises `Failure` where they cannot be read."""

    def link(self, record: Record) -> str:
        """The address of a run, or its id."""
