"""The datatypes of a dataset and a split. Shapes: N images, H rows, W columns."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from aepretrain.errors import Failure

IMAGE_SIZE = (28, 28)
NUM_CLASSES = 10

PIXEL_SCALES: Mapping[str, tuple[float, float]] = {"none": (0.0, 1.0), "mnist": (0.1307, 0.3081)}
"""Mean and standard deviation for `normalize`. MNIST's are those of PyTorch's MNIST example."""


class DatasetMissing(Failure):
    """The dataset's files are missing and cannot be downloaded. Not raised for damaged files."""


@dataclass(frozen=True)
class Dataset:
    """Images as uint8 [N, 28, 28] and classes as int64 [N]. Validation images are among the training images."""

    name: str
    source: str
    digest: str
    images_NHW: Tensor
    labels_N: Tensor
    test_images_NHW: Tensor
    test_labels_N: Tensor

    def in_shared_memory(self) -> "Dataset":
        """The same dataset in shared memory, which worker processes on this machine do not copy. Raises `Failure`."""
        try:
            for part in self._parts:
                part.share_memory_()
        except RuntimeError as error:  # PyTorch's, whatever the system has answered
            why = str(error).partition("\n")[0]
            raise Failure(f"the dataset cannot be put into shared memory: {why}; is there room in /dev/shm?") from None
        return self

    @property
    def num_bytes(self) -> int:
        """The size of all images and classes."""
        return sum(part.nbytes for part in self._parts)

    @property
    def _parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.images_NHW, self.labels_N, self.test_images_NHW, self.test_labels_N


@dataclass(frozen=True)
class Split:
    """Indices into a dataset's training images, int64 [N]: five sixths to train on, one sixth to validate."""

    train_N: Tensor
    validation_N: Tensor


def with_digest(
    name: str, source: str, images: Tensor, labels: Tensor, test_images: Tensor, test_labels: Tensor
) -> Dataset:
    """A dataset with the digest of all its values and shapes, which is part of every key.

    Images are uint8 [N, 28, 28], classes int64 [N] from 0 to 9. `source` is a folder or a name, for people to read.
    """
    digest = hashlib.sha256()
    for part in (images, labels, test_images, test_labels):
        digest.update(f"{part.dtype}{tuple(part.shape)}".encode())
        digest.update(part.numpy().data)
    return Dataset(name, source, digest.hexdigest(), images, labels, test_images, test_labels)
