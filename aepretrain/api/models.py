"""Uses of finished networks: predict, encode, export to ONNX, promote in the model registry.

Shapes: N pictures, K classes, D code features.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aepretrain import runner, serving, tracking
from aepretrain.api.stores import BUNDLE_OR_STORE, log_result, open_store, read_bundle
from aepretrain.config import OF_DIGITS, Execution, dataset_name
from aepretrain.errors import UsageError
from aepretrain.files import check_file
from aepretrain.records import Archive, Record

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Predictions:
    """Class probabilities of pictures."""

    record: Record
    """The training whose network was used."""
    images: tuple[Path, ...]
    probs_NK: Floats
    doubts: tuple[Sequence[str], ...]
    """In what respects each picture differs from the images that a network knows that was trained on MNIST."""
    class_names: tuple[str, ...]
    """The names of the network's classes."""

    @property
    def are_digits(self) -> bool:
        """Whether the network knows digits."""
        return self.record.identity["dataset"] in OF_DIGITS

    @property
    def classes(self) -> list[int]:
        """The most probable class of each picture."""
        return [int(k) for k in self.probs_NK.argmax(1)]

    def most_probable(self, num: int) -> list[list[tuple[int, float]]]:
        """For each picture, the most probable classes with their probabilities, in descending order."""
        return [serving.most_probable(probs_K, num) for probs_K in self.probs_NK]


@dataclass(frozen=True)
class Codes:
    """Codes of pictures."""

    record: Record
    """The training whose encoder was used."""
    images: tuple[Path, ...]
    codes_ND: Floats


@dataclass(frozen=True)
class OnnxExport:
    """A classifier that was written as ONNX."""

    record: Record
    max_difference: float
    """The largest difference between probabilities of ONNX Runtime and PyTorch."""


def predict(
    images: str | Path | Sequence[str | Path],
    *,
    run: str | None = None,
    dataset: str | None = None,
    plugins: Sequence[str] = (),
    bundle: str | Path | None = None,
    tracking_uri: str | None = None,
) -> Predictions:
    """The classes of pictures of any size.

    `images` are a folder or paths. For a network that was trained on MNIST or the like, a picture shows one digit, dark
    on light or light on dark. For others it is scaled and cut as the training images were. The network is that of a
    `run`, else the classifier with the lowest validation loss, of a `dataset` if one is named, in the store, or in the
    `bundle` in a folder. `plugins` are modules to import first.
    """
    paths = _pictures(images)
    serving.check_pictures(paths)
    _, archive = _open(bundle, tracking_uri, plugins)
    record = serving.choose_classifier(archive, run, _named(dataset))
    images_NCHW, doubts = serving.read_pictures(paths, record)
    probs_NK = serving.apply(serving.load_classifier(archive, record), images_NCHW)
    return Predictions(record, paths, probs_NK, tuple(doubts), serving.class_names(archive, record))


def encode(
    images: str | Path | Sequence[str | Path],
    *,
    run: str | None = None,
    dataset: str | None = None,
    plugins: Sequence[str] = (),
    bundle: str | Path | None = None,
    tracking_uri: str | None = None,
    out: str | Path | None = None,
    run_id: str | None = None,
) -> Codes:
    """The codes of pictures, given as a folder or as paths. `out` is a Parquet file: file names and their codes.

    The encoder is that of a `run`, else of the classifier that `predict` uses.
    """
    check_file(out)
    paths = _pictures(images)
    store, archive = _open(bundle, tracking_uri, plugins, run_id)
    record = serving.choose_encoder(archive, run, _named(dataset))
    codes = Codes(record, paths, serving.encode(serving.load_encoder(archive, record), paths, record))
    if out is not None:
        about = {"run_id": record.run_id, "training": record.spec.name, "dataset": record.identity["dataset"]}
        serving.write_codes(codes.codes_ND, paths, Path(out), about)
    note = f"{len(paths)} pictures as codes of {codes.codes_ND.shape[1]} numbers, by run `{record.run_id}`."
    if store is not None:
        log_result(store, run_id, "codes", note, _content(out))
    return codes


def export_onnx(
    out: str | Path,
    *,
    run: str | None = None,
    dataset: str | None = None,
    plugins: Sequence[str] = (),
    bundle: str | Path | None = None,
    tracking_uri: str | None = None,
    run_id: str | None = None,
) -> OnnxExport:
    """Write a classifier as ONNX after ONNX Runtime has given the same probabilities. Needs the extra ``onnx``.

    The classifier is chosen as in `predict`.
    """
    check_file(out)
    store, archive = _open(bundle, tracking_uri, plugins, run_id)
    record = serving.choose_classifier(archive, run, _named(dataset))
    module, classes = serving.load_classifier(archive, record), serving.class_names(archive, record)
    max_difference = serving.export_onnx(module, record.shape, classes, Path(out))
    if store is not None:
        log_result(store, run_id, "onnx", f"Run `{record.run_id}` as ONNX.", _content(out))
    return OnnxExport(record, max_difference)


def promote(
    *,
    name: str | None = None,
    run: str | None = None,
    dataset: str | None = None,
    plugins: Sequence[str] = (),
    tracking_uri: str | None = None,
    run_id: str | None = None,
) -> tracking.Promotion:
    """Register a classifier in MLflow's model registry as the champion; `name` is ``aepretrain-DATASET`` by default.

    The classifier is chosen as in `predict`: by validation loss, never by test images.
    """
    if name is not None and not re.fullmatch(r"[\w.-]+", name):
        raise UsageError(f"name={name!r} is not allowed: use letters, digits, . _ and -")
    runner.load_plugins(Execution(plugins=tuple(plugins)))
    store = open_store(tracking_uri, run_id)
    record = serving.choose_classifier(store, run, _named(dataset))
    reason = "lowest validation loss" if run is None else "named by a person"
    of_dataset = re.sub(r"[^\w.-]+", "-", f"aepretrain-{record.identity['dataset']}")
    promotion = serving.promote(store, record, name or of_dataset, reason)
    note = f"Version {promotion.version} of {promotion.name} is the champion: run `{record.run_id}`."
    log_result(store, run_id, "promotion", note, {})
    return promotion


def _open(
    bundle: str | Path | None, tracking_uri: str | None, plugins: Sequence[str], run_id: str | None = None
) -> tuple[tracking.Store | None, Archive]:
    """The store, where it is needed, and where networks come from: the bundle in a folder, or else the store."""
    runner.load_plugins(Execution(plugins=tuple(plugins)))
    if bundle is None:
        store = open_store(tracking_uri, run_id)
        return store, store
    if tracking_uri is not None and run_id is None:
        raise UsageError(BUNDLE_OR_STORE)
    return None if run_id is None else open_store(tracking_uri, run_id), read_bundle(bundle)


def _named(dataset: str | None) -> str | None:
    """A dataset as trainings name it."""
    return None if dataset is None else dataset_name(dataset)


def _pictures(images: str | Path | Sequence[str | Path]) -> tuple[Path, ...]:
    """Paths of pictures: of one, of several, or of all in a folder."""
    if not isinstance(images, str | Path):
        if not images:
            raise UsageError("images is empty: it must be a folder, or paths of pictures")
        return tuple(map(Path, images))
    if os.path.isfile(images):
        return (Path(images),)
    if not os.path.isdir(images):
        raise UsageError(f"folder={str(images)!r} is not a folder")
    return tuple(serving.pictures_in(Path(images)))


def _content(out: str | Path | None) -> dict[str, bytes]:
    return {} if out is None else {Path(out).name: Path(out).read_bytes()}
