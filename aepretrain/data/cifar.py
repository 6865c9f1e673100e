"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): pickled batches in an archive, checked by MD5 before they are unpickled.

Shapes: N images, C channels, H rows, W columns.
"""

import io
import pickle
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aepretrain.config import DataRequest
from aepretrain.data.dataset import Dataset, with_digest
from aepretrain.data.published import Published, check_md5, gather, read_bytes, reject

LIMIT = 200_000_000
"""The archives have some 170 MB, and the largest batch has 155 MB."""

IMAGE = 3, 32, 32

Values = tuple[Tensor, Tensor, Tensor, Tensor, Sequence[str]]
"""Training images and labels, test images and labels, and the names of the classes."""


@dataclass
class Kind:
    """A dataset as published. Names and MD5s are torchvision's."""

    folder: str
    archive: str
    archive_md5: str
    training: Mapping[str, str]
    """The training batches and their MD5s."""
    test: Mapping[str, str]
    names: tuple[str, str]
    """The file with the names of the classes, and its MD5."""
    names_key: str
    labels_key: str
    url: str = "https://www.cs.toronto.edu/~kriz/"

    def part(self) -> Published[Values]:
        """The archive, or the folder to which it was unpacked."""
        return Published(
            name=self.archive,
            paths=[self.folder, self.archive],
            urls=[f"{self.url}{self.archive}"],
            target=self.archive,
            limit=LIMIT,
            decode=self._decode,
            members=[*self.training, *self.test, self.names[0]],
            unpacked=self._read_folder,
        )

    def _decode(self, source: str, content: bytes) -> Values:
        check_md5(source, content, self.archive_md5)
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:

            def read(name: str) -> tuple[str, bytes]:
                member = archive.extractfile(f"{self.folder}/{name}")
                return f"{source}:{name}", member.read(LIMIT) if member else b""

            return self._values(read)

    def _read_folder(self, folder: Path) -> Values:
        return self._values(lambda name: (str(folder / name), read_bytes(folder / name, LIMIT)))

    def _values(self, read: Callable[[str], tuple[str, bytes]]) -> Values:
        """All values, from a function that gives what a file is called and its content."""
        names_file, md5 = self.names
        classes = _unpickled(*read(names_file), md5, self.names_key)
        return (*self._batches(read, self.training), *self._batches(read, self.test), list(map(str, classes)))

    def _batches(self, read: Callable[[str], tuple[str, bytes]], md5s: Mapping[str, str]) -> tuple[Tensor, Tensor]:
        images, labels = [], []
        for name, md5 in md5s.items():
            source, content = read(name)
            pixels_ND = _unpickled(source, content, md5, "data")
            images.append(torch.from_numpy(np.array(pixels_ND, np.uint8)).reshape(-1, *IMAGE))
            labels.append(torch.tensor(_unpickled(source, content, md5, self.labels_key)))
        return torch.cat(images), torch.cat(labels)


CIFAR10 = Kind(
    "cifar-10-batches-py",
    "cifar-10-python.tar.gz",
    "c58f30108f718f92721af3b95e74349a",
    {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    },
    {"test_batch": "40351d587109b95175f43aff81a1287e"},
    ("batches.meta", "5ff9c542aee3614f3951f8cda6e48888"),
    "label_names",
    "labels",
)

CIFAR100 = Kind(
    "cifar-100-python",
    "cifar-100-python.tar.gz",
    "eb9058c3a382ffc7106e4002c42a8d85",
    {"train": "16019d7e3df5f24257cddd939b257f8d"},
    {"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
    ("meta", "7973b15100ade9c7d40fb424638fde48"),
    "fine_label_names",
    "fine_labels",
)

KINDS: Mapping[str, Kind] = {"cifar10": CIFAR10, "cifar100": CIFAR100}


def load(request: DataRequest, data_dir: str | None) -> Dataset:
    """A dataset from `data_dir`, or else from the default folders (see `gather`)."""
    kind = KINDS[request.dataset]
    layout = f"or the folder {kind.folder} with its files"
    source, found = gather(request.dataset, [kind.part()], data_dir, layout)
    return with_digest(request.dataset, source, *found[kind.archive])


def _unpickled(source: str, content: bytes, md5: str, key: str) -> Any:
    """An entry of a published pickled dictionary. Raises `Failure` where the file is another one."""
    check_md5(source, content, md5)
    try:
        return _Unpickler(io.BytesIO(content), encoding="latin1").load()[key]
    except (pickle.UnpicklingError, KeyError, TypeError, EOFError) as error:
        reject(source, f"a pickled dictionary with {key}", f"{type(error).__name__}: {error}")


class _Unpickler(pickle.Unpickler):
    """Unpickles plain values and NumPy arrays, and calls nothing else."""

    ALLOWED = frozenset({("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")})

    def find_class(self, module: str, name: str) -> Any:
        """A class or function that the file names, if it belongs to arrays."""
        module = module.replace("numpy._core", "numpy.core")
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)
