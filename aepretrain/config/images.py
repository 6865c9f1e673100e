"""Which images a training uses: names of datasets, sizes, and the shape that a network must fit."""

import os
import re
from dataclasses import dataclass
from typing import NamedTuple

from aepretrain.config.names import SOURCES

MAX_SIDE = 4096
"""A longer side of images is taken for a typing error."""


@dataclass(frozen=True)
class Shape:
    """What a network must fit."""

    image: tuple[int, int, int]
    """Channels, rows and columns of an image."""
    num_classes: int


MNIST_SHAPE = Shape((1, 28, 28), 10)


class DataRequest(NamedTuple):
    """The settings that say which images are loaded (see `Settings` for each)."""

    dataset: str
    image_size: str | None = None
    grey: bool = False
    unlabelled: str | None = None

    @property
    def size(self) -> tuple[int, int] | None:
        """Rows and columns that images are brought to; None where they keep their own."""
        return None if self.image_size is None else parse_size(self.image_size)


def source_of(dataset: str) -> tuple[str, str] | None:
    """Kind and path of ``folder:PATH`` and the like; None for a name."""
    kind, _, path = dataset.partition(":")
    return (kind, path) if kind in SOURCES and path else None


def dataset_name(dataset: str) -> str:
    """A dataset as identities name it: for ``folder:PATH``, ``folder:`` and the last part of the path.

    The same pictures in another place are the same dataset. The digest of their values tells apart what is different.
    """
    source = source_of(dataset)
    if source is None:
        return dataset
    kind, path = source
    return f"{kind}:{os.path.basename(os.path.abspath(os.path.expanduser(path)))}"


def is_source(value: str) -> bool:
    """Whether this is ``folder:PATH`` or the like, with a path that can be stored and shown."""
    return source_of(value) is not None and value.isprintable() and not dataset_name(value).endswith(":")


def parse_size(text: str) -> tuple[int, int] | None:
    """Rows and columns from ``32`` or ``48x40``; None for another text."""
    match = re.fullmatch(r"([1-9]\d{0,3})(?:x([1-9]\d{0,3}))?", text, re.ASCII)
    size = (int(match[1]), int(match[2] or match[1])) if match else None
    return size if size and max(size) <= MAX_SIDE else None
