"""What remains of a finished training: a flat row and its evidence. Everything after training speaks in these.

Shapes: N test images, E epochs, K classes.
"""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aepretrain.config import Settings, TrainingSpec
from aepretrain.errors import Failure
from aepretrain.metrics import expected_calibration_error
from aepretrain.variants import EVALUATIONS, VARIANTS, find_or_assume


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
        """Everything but the epoch's number, by name; what does not apply is left out."""
        return {name: value for name, value in vars(self).items() if name != "epoch" and value is not None}


EPOCH_METRICS = frozenset(one.name for one in fields(EpochResult) if one.name != "epoch")
"""The names under which an epoch's numbers are logged."""


def curve_of(run_id: str, numbers: Iterable[tuple[int, float]]) -> list[float]:
    """An epoch metric's values from the first epoch on, from what a run has logged: step and value each.

    Raises `Failure` where an epoch is missing.
    """
    values = dict(numbers)
    if values.keys() != set(range(1, len(values) + 1)):
        raise Failure(f"run {run_id} has lost an epoch")
    return [values[epoch] for epoch in sorted(values)]


@dataclass(frozen=True)
class Record:
    """One finished training.

    `identity` holds the fields of its spec, `metrics` the final figures (`test_accuracy`, `test_macro_f1`, …) and
    `tags` how it was carried out (device, threads, host, commit, …). `artifact_uri` is where a store keeps its files.
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
    def has_weights(self) -> bool:
        """Whether its weights are kept; trainings that come from a bundle may be without."""
        return "weights_sha256" in self.tags

    def setting(self, name: str) -> Any:
        """A field of `Settings` as it is in the identity, where one that is silent has its default.

        None where the training does not depend on it.
        """
        (one,) = (one for one in fields(Settings) if one.name == name)
        applies = one.metadata["silent"] and one.metadata["part"] in find_or_assume(self.cell[2]).stages
        return self.identity.get(name, one.default if applies else None)

    @property
    def study(self) -> str | None:
        """The study that it was trained for; None where it belongs to a grid or stands alone."""
        return self.tags.get("study") or None

    @property
    def seed(self) -> int:
        """The seed of everything that was drawn."""
        return int(self.identity["seed"])

    @property
    def spec(self) -> TrainingSpec:
        """What was trained; settings that it does not depend on have their defaults."""
        return self._as_variant(self.cell[2])

    def _as_variant(self, variant: str) -> TrainingSpec:
        network, augmentation, _ = self.cell
        settings = {one.name: self.identity[one.name] for one in fields(Settings) if one.name in self.identity}
        return TrainingSpec(
            network=network, augmentation=augmentation, variant=variant, seed=self.seed, settings=Settings(**settings)
        )

    def checked(self) -> "Record":
        """The record itself. Raises `ValueError` where no finished training leaves such a one."""
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

KINDS = {"labels_N": np.uint8, "predicted_N": np.uint8, "nll_label_N": np.float16, "nll_predicted_N": np.float16}


@dataclass(frozen=True)
class Predictions:
    """What a classifier said of every test image: enough for bootstrap, McNemar, likelihood and calibration.

    `labels_N` and `predicted_N` are classes (uint8); `nll_label_N` and `nll_predicted_N` are the negative natural
    logarithms of the probability given to the true and to the predicted class, as float16: the logarithm keeps
    three significant digits both of a probability near 0 and of the distance from 1.
    """

    labels_N: NDArray[np.uint8]
    predicted_N: NDArray[np.uint8]
    nll_label_N: NDArray[np.float16]
    nll_predicted_N: NDArray[np.float16]

    def to_bytes(self) -> bytes:
        """A compressed NumPy archive of the four arrays; 30 to 50 KB for 10,000 images."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **vars(self))
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Predictions":
        """The predictions that `to_bytes` wrote. Reads arrays only, never pickled objects. Raises `Failure`."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                size = sum(part.file_size for part in archive.zip.infolist())
                if size > MAX_PREDICTIONS_BYTES:
                    raise ValueError(f"they would unpack to {size:,} bytes")
                found = {name: archive[name] for name in cls.__dataclass_fields__}
        except Exception as error:  # noqa: BLE001  # numpy documents no class for what a damaged archive raises
            raise Failure(f"predictions are damaged: {' '.join(str(error).split())[:200]}") from None
        shape = (found["labels_N"].size,)
        if any((one.dtype, one.shape) != (KINDS[name], shape) for name, one in found.items()) or shape == (0,):
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
    """What the statistics need of a classifier's predictions: which test images it got right, and its calibration."""

    correct_N: NDArray[np.bool_]
    nll: float
    """Mean negative log-likelihood of the true class, in nats."""
    ece: float
    """Expected calibration error with 15 bins (`metrics.expected_calibration_error`)."""


@dataclass(frozen=True)
class Reconstructions:
    """A few validation images with what the autoencoder saw and gave back, pixels in [0, 1], [N, 28, 28] each."""

    original_NHW: NDArray[np.float32]
    seen_NHW: NDArray[np.float32]
    reconstructed_NHW: NDArray[np.float32]


@dataclass(frozen=True)
class CodeMaps:
    """Where images lie in the codes of some encoders, in two dimensions: `places_N2` by encoder, `labels_N` classes."""

    places_N2: Mapping[str, NDArray[np.float32]]
    labels_N: NDArray[np.uint8]


@dataclass(frozen=True)
class Evidence:
    """What a training leaves behind beside its row: the epochs, and what its variant can show."""

    history: tuple[EpochResult, ...]
    predictions: Predictions | None = None
    confusion_KK: NDArray[np.int64] | None = None
    reconstructions: Reconstructions | None = None
    class_counts: Mapping[str, NDArray[np.int64]] | None = None
    code_maps: CodeMaps | None = None


PREDICTIONS = "evidence/predictions.npz"
"""Path of the artifact that holds a classifier's `Predictions`."""


class Archive(Protocol):
    """Where what finished trainings have left is read from: a tracking store, or a bundle."""

    def curves(self, records: Sequence[Record], metric: str) -> list[list[float]]:
        """Each training's values of one of `EPOCH_METRICS`, epoch by epoch; empty where it does not apply."""

    def artifact(self, record: Record, path: str) -> bytes:
        """The content of one of a training's files. Raises `Failure` where it cannot be had."""

    def has_artifact(self, record: Record, path: str) -> bool:
        """Whether a training has this file."""

    def outcomes(self, record: Record) -> Outcomes:
        """A classifier's outcomes on the test images. Raises `Failure` where they cannot be had."""

    def link(self, record: Record) -> str:
        """Where a run can be looked at, or its id."""
