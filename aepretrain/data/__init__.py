"""Datasets: files → checked tensors, and splits. The only package that reads dataset files.

The module of a built-in dataset is imported when the dataset is loaded, because scikit-learn takes seconds to import.

To add a dataset, write a function `load(data_dir)` that returns a `Dataset` (see `with_digest`), and call
`register("name", load)` in a module that the command loads (``--plugin your_module``).
"""

import inspect
import os
from collections.abc import Callable
from functools import partial
from importlib import import_module

import numpy as np
import torch
from torch import Tensor

from aepretrain.config import derive_seed
from aepretrain.data.dataset import (
    IMAGE_SIZE,
    NUM_CLASSES,
    PIXEL_SCALES,
    Dataset,
    DatasetMissing,
    Split,
    with_digest,
)
from aepretrain.errors import Failure, UsageError
from aepretrain.registry import Registry, require

__all__ = [
    "DATASETS",
    "IMAGE_SIZE",
    "NUM_CLASSES",
    "PIXEL_SCALES",
    "Dataset",
    "DatasetMissing",
    "Loader",
    "Split",
    "adopt",
    "labelled",
    "load",
    "register",
    "split",
    "with_digest",
]

Loader = Callable[[str | None], Dataset]
"""Returns a dataset. Its argument is the folder that `--data-dir` names, or None."""

MODULES = dict.fromkeys(("mnist", "fashion-mnist", "kmnist"), "aepretrain.data.mnist") | {
    "digits": "aepretrain.data.digits"
}
"""The module of each built-in dataset. Its function `load(name, data_dir)` returns the dataset."""


def _load_built_in(name: str, data_dir: str | None) -> Dataset:
    dataset: Dataset = import_module(MODULES[name]).load(name, data_dir)
    return dataset


def _check_loader(loader: Loader) -> None:
    """Check that a loader is a function of one argument. Its dataset is checked when it is loaded."""
    require(callable(loader), f"{loader!r} is not a function that loads a dataset")
    try:
        inspect.signature(loader).bind(None)
    except TypeError as error:
        raise UsageError(f"it must take one argument, data_dir ({error})") from None


DATASETS: Registry[Loader] = Registry(
    "dataset", {name: partial(_load_built_in, name) for name in MODULES}, _check_loader
)
register = DATASETS.register
"""Register a loader under the name of its dataset."""


def load(name: str, data_dir: str | None) -> Dataset:
    """The dataset of a name, checked. A process loads it once.

    If `data_dir` is given, files are looked for there only, and missing files are downloaded there. Otherwise they are
    looked for in ``./data`` and ``../shared/data``, and missing files are downloaded into ``./data``.

    Raises `UsageError` if the name is unknown or `data_dir` is not a folder, `DatasetMissing` if there are no files and
    they cannot be downloaded, and `Failure` if a file is damaged or a user's loader does not work.
    """
    loader = DATASETS.look_up(name)
    if (name, data_dir) not in _loaded:
        if data_dir == "" or (data_dir and os.path.lexists(data_dir) and not os.path.isdir(data_dir)):
            raise UsageError(f"data_dir={data_dir!r} is not a folder")
        built_in = name in MODULES
        _loaded[name, data_dir] = loader(data_dir) if built_in else _load_users(name, loader, data_dir)
    return _loaded[name, data_dir]


def _load_users(name: str, loader: Loader, data_dir: str | None) -> Dataset:
    """The dataset of a user's loader, checked."""
    try:
        dataset = loader(data_dir)
        require(isinstance(dataset, Dataset), f"its loader gives {type(dataset).__name__}, expected a Dataset")
        require(dataset.name == name, f"its loader gives a dataset that is named {dataset.name!r}")
        for part, images, labels in (
            ("training", dataset.images_NHW, dataset.labels_N),
            ("test", dataset.test_images_NHW, dataset.test_labels_N),
        ):
            _check_part(part, images, labels)
    except Failure:
        raise
    except UsageError as error:
        raise Failure(f"dataset {name!r}: {error}") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise Failure(f"dataset {name!r} cannot be loaded: {type(error).__name__}: {reason}") from error
    return dataset


def _check_part(part: str, images_NHW: Tensor, labels_N: Tensor) -> None:
    for what, values, dtype, shape in (
        ("images", images_NHW, torch.uint8, (len(images_NHW), *IMAGE_SIZE)),
        ("labels", labels_N, torch.int64, (len(images_NHW),)),
    ):
        require(
            isinstance(values, Tensor) and values.dtype == dtype and values.shape == shape,
            f"its {part} {what} are {getattr(values, 'dtype', type(values).__name__)} "
            f"{list(getattr(values, 'shape', ()))}, expected {dtype} {list(shape)}",
        )
    num = len(images_NHW)
    require(num >= NUM_CLASSES, f"it has {num} {part} images, at least {NUM_CLASSES} are needed")
    low, high = int(labels_N.min()), int(labels_N.max())
    require(
        low >= 0 and high < NUM_CLASSES,
        f"its {part} labels go from {low} to {high}, expected 0 to {NUM_CLASSES - 1}",
    )


_loaded: dict[tuple[str, str | None], Dataset] = {}


def adopt(dataset: Dataset, data_dir: str | None) -> None:
    """Make `load` return this dataset, which another process has loaded and checked."""
    _loaded[dataset.name, data_dir] = dataset


def split(dataset: Dataset, kind: str, seed: int) -> Split:
    """A random split into training and validation; see `Settings.split` for the kinds."""
    num = len(dataset.labels_N)
    num_validation = round(num / 6)
    state = derive_seed(0 if kind == "fixed" else seed, "split")
    if kind == "stratified":
        from sklearn.model_selection import train_test_split

        train_N, validation_N = train_test_split(
            np.arange(num), test_size=num_validation, stratify=dataset.labels_N.numpy(), random_state=state
        )
        return Split(torch.from_numpy(train_N), torch.from_numpy(validation_N))
    order_N = torch.randperm(num, generator=torch.Generator().manual_seed(state))
    return Split(order_N[num_validation:], order_N[:num_validation])


def labelled(dataset: Dataset, whole: Split, num: int, seed: int) -> Split:
    """A class-balanced part of a split: `num` training images, and a fifth as many validation images, at least 10.

    With the same seed, a smaller part lies within a larger one. If `num` is not a multiple of the number of classes,
    the first classes have one image more. Raises `UsageError` if a class has too few images.
    """
    return Split(
        _balanced(dataset, whole.train_N, num, derive_seed(seed, "labels"), num),
        _balanced(dataset, whole.validation_N, max(10, num // 5), derive_seed(seed, "validation labels"), num),
    )


def _balanced(dataset: Dataset, rows_N: Tensor, num: int, state: int, labels: int) -> Tensor:
    rows_N = rows_N[torch.randperm(len(rows_N), generator=torch.Generator().manual_seed(state))]
    chosen = []
    for k in range(NUM_CLASSES):
        wanted = num // NUM_CLASSES + (k < num % NUM_CLASSES)
        of_class_N = rows_N[dataset.labels_N[rows_N] == k]
        if len(of_class_N) < wanted:
            raise UsageError(
                f"labels={labels} is not allowed for {dataset.name}: {wanted} images of class {k} are needed, "
                f"and there are {len(of_class_N)}"
            )
        chosen.append(of_class_N[:wanted])
    return torch.cat(chosen)
