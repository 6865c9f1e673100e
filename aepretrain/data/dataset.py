"""The datatypes of a dataset and a split. Shapes: N images, C channels, H rows, W columns."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aepretrain.config import DataRequest, Shape, dataset_name
from aepretrain.errors import Failure
from aepretrain.registry import require

PIXEL_SCALES: Mapping[str, tuple[float, float]] = {"none": (0.0, 1.0), "mnist": (0.1307, 0.3081)}
"""Mean and standard deviation for `normalize`. MNIST's are those of PyTorch's MNIST example."""

MAX_CHANNELS = 4

LEAST = {"training": 10, "test": 1}
"""The numbers of images that a dataset needs."""


class DatasetMissing(Failure):
    """The dataset's files are missing and cannot be downloaded. Not raised for damaged files."""


@dataclass(frozen=True)
class Dataset:
    """Images as uint8 [N, C, H, W] and classes as int64 [N]. Validation images are among the training images."""

    request: DataRequest
    """What was asked for."""
    source: str
    """Where it was read, for people."""
    digest: str
    """SHA-256 of all values and shapes but those of unlabelled images."""
    images_NCHW: Tensor
    labels_N: Tensor
    test_images_NCHW: Tensor
    test_labels_N: Tensor
    classes: tuple[str, ...]
    """The names of the classes."""
    unlabelled_NCHW: Tensor | None = None
    """Further images for pretraining."""
    unlabelled_digest: str = ""

    @property
    def name(self) -> str:
        """The name of the dataset, as identities have it."""
        return dataset_name(self.request.dataset)

    @property
    def digests(self) -> tuple[str, str]:
        """The digests of the labelled and of the unlabelled images; the latter is empty where there are none."""
        return self.digest, self.unlabelled_digest

    @property
    def shape(self) -> Shape:
        """What a network must fit."""
        channels, height, width = self.images_NCHW.shape[1:]
        return Shape((channels, height, width), len(self.classes))

    def with_unlabelled(self, images_NCHW: Tensor) -> "Dataset":
        """The same dataset with these images for pretraining beside its own."""
        return replace(self, unlabelled_NCHW=images_NCHW, unlabelled_digest=_digest([_as_digested(images_NCHW)]))

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
    def _parts(self) -> tuple[Tensor, ...]:
        labelled = self.images_NCHW, self.labels_N, self.test_images_NCHW, self.test_labels_N
        return labelled if self.unlabelled_NCHW is None else (*labelled, self.unlabelled_NCHW)


@dataclass(frozen=True)
class Split:
    """Indices into a dataset's training images, int64 [N]: five sixths to train on, one sixth to validate."""

    train_N: Tensor
    validation_N: Tensor


def with_digest(
    name: str,
    source: str,
    images: Tensor,
    labels: Tensor,
    test_images: Tensor,
    test_labels: Tensor,
    classes: Sequence[str] | None = None,
) -> Dataset:
    """A dataset with the digest of all its values and shapes, which is part of every key.

    Images are uint8 [N, C, H, W] with 1 to 4 channels, or [N, H, W] if they are grey. Classes are int64 [N] from 0 on;
    each has training images. `classes` are their names, by default their numbers. `source` is a folder or a name, for
    people to read. Raises `UsageError` for anything else.
    """
    parts = {"training": (images, labels), "test": (test_images, test_labels)}
    for part, (of_part, of_labels) in parts.items():
        _check(part, of_part, of_labels)
    size, test_size = (list(of_part.shape[1:]) for of_part in (images, test_images))
    require(size == test_size, f"its training images are {size} and its test images {test_size}: they must be alike")
    names = tuple(classes) if classes is not None else tuple(map(str, range(int(labels.max()) + 1)))
    _check_classes(labels, test_labels, names)
    images_NCHW, test_images_NCHW = (part if part.dim() == 4 else part.unsqueeze(1) for part in (images, test_images))
    digest = _digest([_as_digested(images_NCHW), labels, _as_digested(test_images_NCHW), test_labels], len(names))
    return Dataset(DataRequest(name), source, digest, images_NCHW, labels, test_images_NCHW, test_labels, names)


def _check(part: str, images: Tensor, labels: Tensor) -> None:
    is_image = isinstance(images, Tensor) and images.dtype == torch.uint8 and images.dim() in (3, 4)
    require(is_image, f"its {part} images are {_kind(images)}, expected torch.uint8 [N, C, H, W] or [N, H, W]")
    channels = 1 if images.dim() == 3 else images.shape[1]
    require(1 <= channels <= MAX_CHANNELS, f"its {part} images have {channels} channels, expected 1 to {MAX_CHANNELS}")
    require(min(images.shape[1:]) > 0, f"its {part} images have no pixels: {list(images.shape)}")
    is_label = isinstance(labels, Tensor) and labels.dtype == torch.int64 and labels.shape == images.shape[:1]
    require(is_label, f"its {part} labels are {_kind(labels)}, expected torch.int64 [{len(images)}]")
    least = LEAST[part]
    require(len(images) >= least, f"it has {len(images)} {part} images, at least {least} are needed")


def _check_classes(labels_N: Tensor, test_labels_N: Tensor, names: Sequence[str]) -> None:
    """Check that labels are those of named classes, and that there are training images of each."""
    require(len(names) > 1, "it has one class: a classifier needs two or more")
    require(len(set(names)) == len(names), "two of its classes have the same name")
    for part, of_part_N in (("training", labels_N), ("test", test_labels_N)):
        low, high = int(of_part_N.min()), int(of_part_N.max())
        require(
            low >= 0 and high < len(names),
            f"its {part} labels go from {low} to {high}, expected 0 to {len(names) - 1}",
        )
    num_K = torch.bincount(labels_N, minlength=len(names))
    without = [name for name, num in zip(names, num_K.tolist(), strict=True) if num == 0]
    require(not without, f"there is no training image of {_listed(without)}")


def _listed(names: Sequence[str]) -> str:
    """At most five names."""
    return ", ".join(f"class {name}" for name in names[:5]) + (", …" if len(names) > 5 else "")


def _kind(values: object) -> str:
    return f"{getattr(values, 'dtype', type(values).__name__)} {list(getattr(values, 'shape', ()))}"


def _as_digested(images_NCHW: Tensor) -> Tensor:
    """Grey images as [N, H, W]: the keys of older trainings have their digests in this form."""
    return images_NCHW.squeeze(1) if images_NCHW.shape[1] == 1 else images_NCHW


def _digest(parts: Iterable[Tensor], num_classes: int = 10) -> str:
    """SHA-256 of values and shapes. Older trainings had ten classes, so only other numbers are part of it."""
    digest = hashlib.sha256(b"" if num_classes == 10 else f"{num_classes} classes".encode())
    for part in parts:
        digest.update(f"{part.dtype}{tuple(part.shape)}".encode())
        digest.update(part.contiguous().numpy().data)
    return digest.hexdigest()
