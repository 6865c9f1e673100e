"""From the pictures of one's own, whatever file they lie in, to the images of a dataset.

Shapes: N images, C channels, H rows, W columns.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aepretrain import stopping
from aepretrain.config import DataRequest
from aepretrain.data.dataset import Dataset, with_digest
from aepretrain.errors import Failure
from aepretrain.pictures import Pixels, fit, to_grey

TEST_SHARE = 7
"""Where there are no test images, one in so many of each class is one, as 10,000 of MNIST's 70,000."""

NAMED = 5
"""So many broken pictures are named, and all are counted."""

_log = logging.getLogger(__name__)  # Python prints its warnings to stderr, one plain line each


@dataclass(frozen=True)
class Picture:
    """One picture: its name, which class it shows (None if that is unknown), and what reads it."""

    name: str
    label: str | int | None
    read: Callable[[], Pixels]
    """Gives the pixels. Raises `Failure`, which does not name the picture."""


@dataclass(frozen=True)
class Collection:
    """Pictures of one's own."""

    source: str
    """Where they lie, for people."""
    training: Sequence[Picture]
    test: Sequence[Picture]
    """Empty where the training pictures are to be divided."""
    classes: Sequence[str] = field(default=())
    """The names of classes that have numbers; empty where the labels themselves are names."""


def to_dataset(collection: Collection, request: DataRequest, name: str) -> Dataset:
    """The pictures as a dataset. Raises `Failure`.

    Pictures that cannot be read are left out, and a warning counts and names them.
    """
    names = collection.classes or _class_names([*collection.training, *collection.test])
    training, test = collection.training, collection.test
    if not test:
        training, test = hold_out(training)
    images_NCHW, readable = read_all([*training, *test], request, collection.source)
    num_training = sum(readable[: len(training)])
    kept = [picture for picture, is_readable in zip([*training, *test], readable, strict=True) if is_readable]
    places = {class_name: place for place, class_name in enumerate(names)}
    labels_N = torch.tensor([_number(picture.label, places) for picture in kept], dtype=torch.int64)
    parts = images_NCHW[:num_training], labels_N[:num_training], images_NCHW[num_training:], labels_N[num_training:]
    return with_digest(name, collection.source, *parts, names)


def _class_names(pictures: Sequence[Picture]) -> list[str]:
    """The classes of pictures, sorted; numbers from 0 to the largest one, even where one between them is missing."""
    labels = {picture.label for picture in pictures}
    numbers = [label for label in labels if isinstance(label, int)]
    if not numbers:
        return sorted(map(str, labels))
    if max(numbers) >= len(pictures):
        raise Failure(f"there is a class {max(numbers)}, but only {len(pictures):,} pictures: number classes from 0 on")
    return [str(number) for number in range(max(numbers) + 1)]


def _number(label: str | int | None, places: Mapping[str, int]) -> int:
    if isinstance(label, int):
        return label
    if label is None or label not in places:
        raise Failure(f"there is a picture of class {label}, which is not among the classes: {', '.join(places)}")
    return places[label]


def hold_out(pictures: Sequence[Picture]) -> tuple[list[Picture], list[Picture]]:
    """Training and test pictures: of each class the seventh whose names have the smallest SHA-256, at least one.

    The names alone decide. So the division is the same for every seed, and further pictures hardly change it.
    """
    by_class: dict[str | int | None, list[Picture]] = {}
    for picture in pictures:
        by_class.setdefault(picture.label, []).append(picture)
    held_out: set[str] = set()
    for of_class in by_class.values():
        ordered = sorted(of_class, key=lambda one: hashlib.sha256(one.name.encode(errors="surrogateescape")).digest())
        held_out |= {picture.name for picture in ordered[: max(1, round(len(ordered) / TEST_SHARE))]}
    return (
        [picture for picture in pictures if picture.name not in held_out],
        [picture for picture in pictures if picture.name in held_out],
    )


def read_all(
    pictures: Iterable[Picture], request: DataRequest, source: str, shape: Sequence[int] | None = None
) -> tuple[Tensor, list[bool]]:
    """The images that can be read, uint8 [N, C, H, W], and for each picture whether it can.

    All are brought to the size and the colours that the request names, or to a `shape` [C, H, W]. If some are grey and
    others not, all get colours. Raises `Failure` where their sizes differ, and where no picture can be read.
    """
    size = request.size if shape is None else (shape[1], shape[2])
    images: list[Pixels] = []
    names: list[str] = []
    broken: list[str] = []
    readable = []
    for picture in pictures:
        stopping.check()
        try:
            pixels = picture.read()
        except Failure as failure:
            broken.append(f"{picture.name} {failure}")
            readable.append(False)
            continue
        pixels = pixels if size is None else fit(pixels, size)
        images.append(to_grey(pixels) if request.grey or (shape is not None and shape[0] == 1) else pixels)
        names.append(picture.name)
        readable.append(True)
    if broken:
        shown = "; ".join(broken[:NAMED]) + ("; …" if len(broken) > NAMED else "")
        told = f"{len(broken):,} of {len(readable):,} pictures in {source} cannot be used: {shown}"
        if not images:
            raise Failure(told)
        _log.warning("%s. They are left out.", told)
    _check_sizes(images, names, source)
    return torch.from_numpy(_in_same_colours(images, 1 if shape is None else shape[0])), readable


def _check_sizes(images: Sequence[Pixels], names: Sequence[str], source: str) -> None:
    """Raise `Failure` where sizes differ, naming the two most frequent ones with a picture of each."""
    sizes = Counter(pixels.shape[1:] for pixels in images)
    if len(sizes) > 1:
        examples = {pixels.shape[1:]: name for pixels, name in zip(images, names, strict=True)}
        shown = " and ".join(
            f"{height}×{width} ({examples[height, width]})" for (height, width), _ in sizes.most_common(2)
        )
        raise Failure(f"the pictures in {source} have different sizes, like {shown}: give one with --image-size")


def _in_same_colours(images: Sequence[Pixels], least: int) -> NDArray[np.uint8]:
    """Images with as many channels as the one with most has, [N, C, H, W]; the grey ones among them repeat theirs."""
    channels = max(least, *map(len, images)) if images else least
    alike = (np.repeat(pixels, channels, axis=0) if len(pixels) == 1 else pixels for pixels in images)
    return np.stack(list(alike))
