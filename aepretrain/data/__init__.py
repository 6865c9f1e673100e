"""Dataset files → checked tensors, and how they are split. The only package that reads dataset files.

A dataset's own module is imported when it is asked for: torchvision and scikit-learn take seconds to import.
"""

import os
from importlib import import_module

import numpy as np
import torch
from torch import Tensor

from aepretrain.data.dataset import (
    IMAGE_SIZE,
    NUM_CLASSES,
    PIXEL_SCALES,
    Dataset,
    DatasetMissing,
    Split,
)
from aepretrain.spec import UsageError, derive_seed

__all__ = [
    "IMAGE_SIZE",
    "NUM_CLASSES",
    "PIXEL_SCALES",
    "Dataset",
    "DatasetMissing",
    "Split",
    "adopt",
    "labelled",
    "load",
    "split",
]

DATASETS = dict.fromkeys(("mnist", "fashion-mnist", "kmnist"), "aepretrain.data.mnist") | {
    "digits": "aepretrain.data.digits"
}
"""Each name's module, whose function `load(name, data_dir)` gives the dataset."""


def load(name: str, data_dir: str | None) -> Dataset:
    """The dataset of a name, decoded once in a process and checked.

    Files are looked for in `data_dir`, ``./data`` and ``../shared/data``, and else downloaded into ``./data``. Raises
    `UsageError` for an unknown name or a `data_dir` that is no folder, `DatasetMissing` where there are no files, and
    `Failure` for damaged ones.
    """
    if name not in DATASETS:
        raise UsageError(f"dataset={name!r} is not known: it must be one of {', '.join(DATASETS)}")
    if data_dir is not None and not os.path.isdir(data_dir):
        raise UsageError(f"data_dir={data_dir!r} is not a folder")
    if (name, data_dir) not in _loaded:
        _loaded[name, data_dir] = import_module(DATASETS[name]).load(name, data_dir)
    return _loaded[name, data_dir]


_loaded: dict[tuple[str, str | None], Dataset] = {}


def adopt(dataset: Dataset, data_dir: str | None) -> None:
    """Let `load` give this dataset, which another process has decoded and checked."""
    _loaded[dataset.name, data_dir] = dataset


def split(dataset: Dataset, kind: str, seed: int) -> Split:
    """One draw for training and validation; see `Settings.split` for the kinds."""
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
    """Of a split, `num` images to train on and a fifth as many, at least 10, to validate on, class-balanced.

    Each class has an order drawn from the seed, of which more labels take more: smaller sets lie within larger ones.
    Where `num` is no multiple of the number of classes, the first ones have one image more. Raises `UsageError` where a
    class has too few images.
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
