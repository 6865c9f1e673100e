"""Datasets: files → checked tensors, and splits. The only package that reads dataset files.

The module of a dataset is imported when the dataset is loaded, because scikit-learn takes seconds to import.

To add a dataset, write a function `load(data_dir)` that returns a `Dataset` (see `with_digest`), and call
`register("name", load)` in a module that the command loads (``--plugin your_module``). Images in files of common form
need no code: see `sources`.

Shapes: N images, C channels, H rows, W columns.
"""

import inspect
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aepretrain.config import EMNIST, DataRequest, derive_seed, source_of
from aepretrain.data.dataset import (
    PIXEL_SCALES,
    Dataset,
    DatasetMissing,
    Split,
    with_digest,
)
from aepretrain.data.published import offline
from aepretrain.errors import Failure, UsageError
from aepretrain.registry import Registry, require

__all__ = [
    "DATASETS",
    "PIXEL_SCALES",
    "Dataset",
    "DatasetMissing",
    "Loader",
    "Split",
    "adopt",
    "check_name",
    "find",
    "labelled",
    "load",
    "register",
    "split",
    "with_digest",
]

Loader = Callable[[str | None], Dataset]
"""Returns a dataset. Its argument is the folder that `--data-dir` names, or None."""

MODULES = {
    **dict.fromkeys(("mnist", "fashion-mnist", "kmnist"), "aepretrain.data.mnist"),
    "digits": "aepretrain.data.digits",
    "qmnist": "aepretrain.data.qmnist",
    **dict.fromkeys(EMNIST, "aepretrain.data.emnist"),
    **dict.fromkeys(("cifar10", "cifar100"), "aepretrain.data.cifar"),
    "svhn": "aepretrain.data.svhn",
}
"""The module of each built-in dataset. Its function `load(request, data_dir)` returns the dataset."""


def _load_built_in(request: DataRequest, data_dir: str | None) -> Dataset:
    dataset: Dataset = import_module(MODULES[request.dataset]).load(request, data_dir)
    return dataset


def _check_loader(loader: Loader) -> None:
    """Check that a loader is a function of one argument. Its dataset is checked when it is loaded."""
    require(callable(loader), f"{loader!r} is not a function that loads a dataset")
    try:
        inspect.signature(loader).bind(None)
    except TypeError as error:
        raise UsageError(f"it must take one argument, data_dir ({error})") from None


DATASETS: Registry[Loader] = Registry(
    "dataset", {name: partial(_load_built_in, DataRequest(name)) for name in MODULES}, _check_loader
)
register = DATASETS.register
"""Register a loader under the name of its dataset."""


def check_name(request: DataRequest) -> None:
    """Raise `UsageError` for a dataset that is not known."""
    if source_of(request.dataset) is None:
        DATASETS.look_up(request.dataset)


def load(request: DataRequest, data_dir: str | None) -> Dataset:
    """The dataset of a request, checked, in the size and the colours that it names. A process loads it once.

    If `data_dir` is given, files of a built-in dataset are looked for there only, and missing files are downloaded
    there. Otherwise they are looked for in ``./data`` and ``../shared/data``, and missing files are downloaded into
    ``./data``.

    Raises `UsageError` if the name is unknown or `data_dir` is not a folder, `DatasetMissing` if there are no files and
    they cannot be downloaded, and `Failure` if a file is damaged or a user's loader does not work.
    """
    check_name(request)
    if (request, data_dir) not in _loaded:
        if data_dir == "" or (data_dir and os.path.lexists(data_dir) and not os.path.isdir(data_dir)):
            raise UsageError(f"data_dir={data_dir!r} is not a folder")
        _loaded[request, data_dir] = replace(_load(request, data_dir), request=request)
    return _loaded[request, data_dir]


def find(request: DataRequest, data_dir: str | None) -> Dataset | None:
    """The dataset of a request as `load` gives it, if it is on this machine; nothing is downloaded.

    A plugin's dataset is not looked for, as its loader may download it.
    """
    if source_of(request.dataset) is None and not DATASETS.is_built_in(request.dataset):
        return None
    with offline(), suppress(DatasetMissing):
        return load(request, data_dir)
    return None


def _load(request: DataRequest, data_dir: str | None) -> Dataset:
    if source_of(request.dataset) is not None:
        dataset: Dataset = _sources().load(request)
    elif DATASETS.is_built_in(request.dataset):
        dataset = _load_built_in(request, data_dir)
    else:
        dataset = _load_users(request.dataset, data_dir)
    if request != DataRequest(request.dataset):
        dataset = _sources().adapted(dataset, request)
    return dataset


def _sources() -> Any:
    """The module of pictures of one's own; it imports Pillow and Arrow, which MNIST does not need."""
    return import_module("aepretrain.data.sources")


def _load_users(name: str, data_dir: str | None) -> Dataset:
    """The dataset of a user's loader, checked."""
    try:
        dataset = DATASETS.look_up(name)(data_dir)
        require(isinstance(dataset, Dataset), f"its loader gives {type(dataset).__name__}, expected a Dataset")
        require(dataset.name == name, f"its loader gives a dataset that is named {dataset.name!r}")
    except Failure:
        raise
    except UsageError as error:
        raise Failure(f"dataset {name!r}: {error}") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise Failure(f"dataset {name!r} cannot be loaded: {type(error).__name__}: {reason}") from error
    return dataset


_loaded: dict[tuple[DataRequest, str | None], Dataset] = {}


def adopt(dataset: Dataset, data_dir: str | None) -> None:
    """Make `load` return this dataset, which another process has loaded and checked."""
    _loaded[dataset.request, data_dir] = dataset


def split(dataset: Dataset, kind: str, seed: int) -> Split:
    """A random split into training and validation; see `Settings.split` for the kinds.

    Raises `UsageError` where a class has too few images for equal shares.
    """
    num = len(dataset.labels_N)
    num_validation = round(num / 6)
    state = derive_seed(0 if kind == "fixed" else seed, "split")
    if kind == "stratified":
        from sklearn.model_selection import train_test_split

        try:
            train_N, validation_N = train_test_split(
                np.arange(num), test_size=num_validation, stratify=dataset.labels_N.numpy(), random_state=state
            )
        except ValueError as error:
            raise UsageError(f"split='stratified' is not allowed for {dataset.name}: {error}") from None
        return Split(torch.from_numpy(train_N), torch.from_numpy(validation_N))
    order_N = torch.randperm(num, generator=torch.Generator().manual_seed(state))
    return Split(order_N[num_validation:], order_N[:num_validation])


def labelled(dataset: Dataset, whole: Split, num: int, seed: int) -> Split:
    """A class-balanced part of a split: `num` training images, and a fifth as many validation images.

    The latter are at least 10, and at least one of each class. With the same seed, a smaller part lies within a larger
    one. If `num` is not a multiple of the number of classes, the first classes have one image more. Raises `UsageError`
    if a class has too few images, or `num` is smaller than the number of classes.
    """
    num_classes = dataset.shape.num_classes
    if num < num_classes:
        raise UsageError(f"labels={num} is not allowed for {dataset.name}: it has {num_classes} classes")
    num_validation = max(10, num_classes, num // 5)
    try:
        return Split(
            _balanced(dataset, whole.train_N, num, derive_seed(seed, "labels")),
            _balanced(dataset, whole.validation_N, num_validation, derive_seed(seed, "validation labels")),
        )
    except UsageError as error:
        raise UsageError(
            f"labels={num} is not allowed for {dataset.name} with seed {seed}: {error}; take fewer labels, or try "
            "split='stratified'"
        ) from None


def _balanced(dataset: Dataset, rows_N: Tensor, num: int, state: int) -> Tensor:
    rows_N = rows_N[torch.randperm(len(rows_N), generator=torch.Generator().manual_seed(state))]
    chosen, num_classes = [], dataset.shape.num_classes
    for k in range(num_classes):
        wanted = num // num_classes + (k < num % num_classes)
        of_class_N = rows_N[dataset.labels_N[rows_N] == k]
        if len(of_class_N) < wanted:
            raise UsageError(
                f"of {len(rows_N):,} images, {wanted} of class {dataset.classes[k]} are needed, and there are "
                f"{len(of_class_N)}"
            )
        chosen.append(of_class_N[:wanted])
    return torch.cat(chosen)
