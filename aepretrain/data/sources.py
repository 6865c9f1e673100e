"""Images of one's own without code: ``folder:PATH``, ``npz:PATH`` and ``parquet:PATH``; other sizes; grey.

Shapes: N images, C channels, H rows, W columns.
"""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aepretrain.config import DataRequest, dataset_name, source_of
from aepretrain.data import archives, collection, folder, tables
from aepretrain.data.dataset import Dataset, with_digest
from aepretrain.errors import Failure, UsageError
from aepretrain.pictures import fit, to_grey

Collect = Callable[[Path], collection.Collection]

COLLECT: Mapping[str, Collect] = {"folder": folder.collect, "npz": archives.collect, "parquet": tables.collect}
UNLABELLED: Mapping[str, Collect] = {
    "folder": folder.collect_unlabelled,
    "npz": archives.collect_unlabelled,
    "parquet": tables.collect_unlabelled,
}


def load(request: DataRequest) -> Dataset:
    """The dataset that a path holds, in the size and the colours of the request. Raises `Failure`, in one line."""
    try:
        pictures = _collect(COLLECT, request.dataset)
        return collection.to_dataset(pictures, request, dataset_name(request.dataset))
    except UsageError as error:  # of the dataset that comes out
        raise Failure(f"dataset {request.dataset!r}: {error}") from None


def adapted(dataset: Dataset, request: DataRequest) -> Dataset:
    """A dataset in the size and the colours of a request, with unlabelled images if they are asked for."""
    channels, *size = dataset.shape.image
    if request.size in (None, tuple(size)) and not (request.grey and channels > 1):
        return _with_unlabelled(dataset, request)
    parts = (_fitted(part_NCHW, request) for part_NCHW in (dataset.images_NCHW, dataset.test_images_NCHW))
    images_NCHW, test_images_NCHW = parts
    labelled = images_NCHW, dataset.labels_N, test_images_NCHW, dataset.test_labels_N
    return _with_unlabelled(with_digest(dataset.name, dataset.source, *labelled, dataset.classes), request)


def _with_unlabelled(dataset: Dataset, request: DataRequest) -> Dataset:
    """The dataset with further images for pretraining, brought to the shape of its own, if they are asked for.

    Raises `Failure`, also where the numbers of channels differ and neither are grey.
    """
    if request.unlabelled is None:
        return dataset
    pictures, shape = _collect(UNLABELLED, request.unlabelled), dataset.shape.image
    images_NCHW, _ = collection.read_all(pictures.training, request, pictures.source, shape)
    if images_NCHW.shape[1] != shape[0]:
        raise Failure(
            f"the unlabelled images in {pictures.source} have {images_NCHW.shape[1]} channels, those of {dataset.name} "
            f"have {shape[0]}"
        )
    return dataset.with_unlabelled(images_NCHW)


def _collect(kinds: Mapping[str, Collect], dataset: str) -> collection.Collection:
    source = source_of(dataset)
    assert source is not None, "Settings checks it"
    kind, path = source
    return kinds[kind](Path(os.path.expanduser(path)))


def _fitted(images_NCHW: Tensor, request: DataRequest) -> Tensor:
    size = request.size or (images_NCHW.shape[2], images_NCHW.shape[3])
    changes = [to_grey] * request.grey + [partial(fit, size=size)]
    changed = []
    for pixels_CHW in images_NCHW.numpy():
        for change in changes:
            pixels_CHW = change(pixels_CHW)
        changed.append(pixels_CHW)
    return torch.from_numpy(np.stack(changed))
