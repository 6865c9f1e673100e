"""Images of one's own in a NumPy archive. Shapes: N images, C channels, H rows, W columns."""

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aepretrain.data.collection import Collection, Picture
from aepretrain.data.dataset import MAX_CHANNELS
from aepretrain.errors import Failure
from aepretrain.pictures import Pixels

SPELLINGS: Sequence[tuple[str, str]] = (("images", "labels"), ("train_images", "train_labels"), ("x_train", "y_train"))
"""Names of the arrays of training images and their classes: ours, MedMNIST's, and those of Keras's mnist.npz."""

FURTHER: Sequence[tuple[str, str]] = (("val_images", "val_labels"),)
"""Arrays whose images are joined to the training images, as validation images are drawn from all of them."""

TEST: Sequence[tuple[str, str]] = (("test_images", "test_labels"), ("x_test", "y_test"))


def collect(path: Path) -> Collection:
    """The images of an archive, with the classes that it holds. Raises `Failure`."""
    arrays = _read(path)
    training = _first(arrays, SPELLINGS)
    if training is None:
        listed = ", ".join(" and ".join(names) for names in SPELLINGS)
        raise Failure(f"{path} has the arrays {', '.join(sorted(arrays)) or 'none'}: it needs {listed}")
    pictures = [*_pictures(path, training, arrays)]
    for names in FURTHER:
        if all(name in arrays for name in names):
            pictures += _pictures(path, names, arrays)
    test = _first(arrays, TEST)
    classes = [str(name) for name in np.atleast_1d(arrays["classes"])] if "classes" in arrays else []
    return Collection(str(path.absolute()), pictures, [*_pictures(path, test, arrays)] if test else (), classes)


def collect_unlabelled(path: Path) -> Collection:
    """The training images of an archive, which needs no classes. Raises `Failure`."""
    arrays = _read(path)
    name = next((images for images, _ in SPELLINGS if images in arrays), None)
    if name is None:
        raise Failure(f"{path} has the arrays {', '.join(sorted(arrays)) or 'none'}: it needs images")
    images_NCHW = _as_pixels(path, name, arrays[name])
    return Collection(
        str(path.absolute()), [_picture(name, row, image, None) for row, image in enumerate(images_NCHW)], ()
    )


def _read(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays by name. Reads no pickled objects."""
    if not path.is_file():
        raise Failure(f"there is no file {path}")
    if not zipfile.is_zipfile(path):
        raise Failure(f"{path} is no readable NumPy archive: numpy.savez writes one")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, MemoryError) as error:
        raise Failure(f"{path} is no readable NumPy archive: {' '.join(str(error).split())[:200]}") from None


def _first(arrays: Mapping[str, Any], spellings: Sequence[tuple[str, str]]) -> tuple[str, str] | None:
    return next((names for names in spellings if all(name in arrays for name in names)), None)


def _pictures(path: Path, names: tuple[str, str], arrays: Mapping[str, NDArray[Any]]) -> Iterator[Picture]:
    """The pictures of two arrays."""
    images_NCHW = _as_pixels(path, names[0], arrays[names[0]])
    labels = _as_labels(path, names[1], arrays[names[1]])
    if len(labels) != len(images_NCHW):
        raise Failure(f"{path}: there are {len(images_NCHW):,} {names[0]} and {len(labels):,} {names[1]}")
    for row, (image_CHW, label) in enumerate(zip(images_NCHW, labels, strict=True)):
        yield _picture(names[0], row, image_CHW, label)


def _picture(array: str, row: int, image_CHW: Pixels, label: str | int | None) -> Picture:
    return Picture(f"{array}[{row}]", label, partial(np.asarray, image_CHW))


def _as_pixels(path: Path, name: str, values: NDArray[Any]) -> Pixels:
    """Images as uint8 [N, C, H, W], from [N, H, W], [N, C, H, W] or [N, H, W, C], 0 to 255 or, as floats, 0 to 1."""
    if values.ndim == 3:
        values = values[:, None]
    elif values.ndim == 4 and values.shape[1] > MAX_CHANNELS >= values.shape[3]:
        values = np.moveaxis(values, 3, 1)
    if values.ndim != 4 or not 1 <= values.shape[1] <= MAX_CHANNELS or 0 in values.shape:
        raise Failure(f"{path}: {name} is {list(values.shape)}, expected [N, H, W], [N, C, H, W] or [N, H, W, C]")
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise Failure(f"{path}: {name} has values of type {values.dtype} that are no pixels")
    most = 1 if values.dtype.kind == "f" else 255
    low, high = values.min(), values.max()
    if low < 0 or high > most:
        raise Failure(f"{path}: {name} has values from {low:g} to {high:g}, expected {values.dtype} from 0 to {most}")
    return np.asarray((values * (255 // most)).round().astype(np.uint8))


def _as_labels(path: Path, name: str, values: NDArray[Any]) -> list[Any]:
    """Classes from whole numbers, or from texts, [N] or [N, 1]."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or values.dtype.kind not in "iuU":
        raise Failure(f"{path}: {name} is {values.dtype} {list(values.shape)}, expected whole numbers or texts, [N]")
    if values.dtype.kind in "iu" and len(values) and values.min() < 0:
        raise Failure(f"{path}: {name} has the class {values.min()}: classes are numbered from 0")
    return list(values.tolist())
