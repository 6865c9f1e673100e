"""What a training gives besides its figures, and the files that hold it.

Shapes: N images, C channels, H rows, W columns, K classes.
"""

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aepretrain.errors import Failure
from aepretrain.metrics import expected_calibration_error
from aepretrain.records.epochs import EpochResult

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
