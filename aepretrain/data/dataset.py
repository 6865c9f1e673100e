"""What a dataset is, whichever files it came from. Shapes: N images, H rows, W columns."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from aepretrain.errors import Failure

IMAGE_SIZE = (28, 28)
NUM_CLASSES = 10

PIXEL_SCALES: Mapping[str, tuple[float, float]] = {"none": (0.0, 1.0), "mnist": (0.1307, 0.3081)}
"""Mean and deviation that `normalize` subtracts and divides by; MNIST's, as in PyTorch's own MNIST example."""


class DatasetMissing(Failure):
    """The dataset's files are nowhere to be found and cannot be downloaded. Not raised for files that are damaged."""


@dataclass(frozen=True)
class Dataset:
    """Images as uint8 [N, 28, 28] and classes as int64 [N], for training (validation included) and for testing."""

    name: str
    source: str
    digest: str
    images_NHW: Tensor
    labels_N: Tensor
    test_images_NHW: Tensor
    test_labels_N: Tensor

    def in_shared_memory(self) -> "Dataset":
        """The same dataset in memory that worker processes on this machine map instead of copying."""
        for part in (self.images_NHW, self.labels_N, self.test_images_NHW, self.test_labels_N):
            part.share_memory_()
        return self


@dataclass(frozen=True)
class Split:
    """Indices into a dataset's training images, int64 [N]: five sixths to train on, one sixth to validate."""

    train_N: Tensor
    validation_N: Tensor


def with_digest(
    name: str, source: str, images: Tensor, labels: Tensor, test_images: Tensor, test_labels: Tensor
) -> Dataset:
    """The dataset with a digest of all its values, their shapes included; it is part of every key.

    Images are uint8 [N, 28, 28], classes int64 [N], from 0 to 9; `source` is a folder or a name, for people.
    """
    digest = hashlib.sha256()
    for part in (images, labels, test_images, test_labels):
        digest.update(f"{part.dtype}{tuple(part.shape)}".encode())
        digest.update(part.numpy().data)
    return Dataset(name, source, digest.hexdigest(), images, labels, test_images, test_labels)
