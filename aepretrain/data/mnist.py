"""MNIST, Fashion-MNIST and KMNIST: four IDX files each, checked by digest. Missing files are downloaded."""

import hashlib
import http.client
import logging
import math
import os
import urllib.request
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from aepretrain.config import MNIST_SHAPE, DataRequest
from aepretrain.data.dataset import Dataset, DatasetMissing, with_digest
from aepretrain.errors import Failure
from aepretrain.files import atomic_write

FILES: Mapping[str, tuple[int, ...]] = {
    "train-images-idx3-ubyte": (60_000, *MNIST_SHAPE.image[1:]),
    "train-labels-idx1-ubyte": (60_000,),
    "t10k-images-idx3-ubyte": (10_000, *MNIST_SHAPE.image[1:]),
    "t10k-labels-idx1-ubyte": (10_000,),
}
"""Names of a dataset's files and the shapes of their values."""

DEFAULT_FOLDERS = ("data", "../shared/data")
"""Where files are looked for if no folder is named. Downloads go to the first."""

TIMEOUT_S = 30
"""A server that sends nothing for this long is given up."""


@dataclass
class Kind:
    """A published dataset. Its folder has the name of torchvision's class; the mirrors are torchvision's too."""

    folder: str
    mirrors: Sequence[str]
    digests: Mapping[str, str]
    """For each of `FILES`: SHA-256 of its values (after the IDX header), or MD5 of the published gzipped file."""
    classes: Sequence[str] | None = None
    """Names of the classes; None for digits."""

    def paths(self, root: str, name: str) -> Iterator[Path]:
        """The files below a folder that may be the named one, in the order in which they are tried."""
        for folder in (Path(root, self.folder, "raw"), Path(root)):
            for spelling in (name, name.replace("-idx", ".idx")):
                yield from (path for path in (folder / f"{spelling}.gz", folder / spelling) if os.path.isfile(path))

    def lies_in(self, root: str) -> bool:
        """Whether a folder holds a file for each of `FILES`; their content is not looked at."""
        return all(any(self.paths(root, name)) for name in FILES)


MNIST = Kind(
    "MNIST",
    ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
    {
        "train-images-idx3-ubyte": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
        "train-labels-idx1-ubyte": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
        "t10k-images-idx3-ubyte": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
        "t10k-labels-idx1-ubyte": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
    },
)
"""MNIST (LeCun et al. 1998)."""

FASHION_MNIST = Kind(
    "FashionMNIST",
    ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    {
        "train-images-idx3-ubyte": "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
        "train-labels-idx1-ubyte": "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
        "t10k-images-idx3-ubyte": "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
        "t10k-labels-idx1-ubyte": "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
    },
    ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
"""Fashion-MNIST (Xiao et al. 2017)."""

KMNIST = Kind(
    "KMNIST",
    ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
    {  # MD5s of the gzipped files, from torchvision: the files were not at hand
        "train-images-idx3-ubyte": "bdb82020997e1d708af4cf47b453dcf7",
        "train-labels-idx1-ubyte": "e144d726b3acfaa3e44228e80efcd344",
        "t10k-images-idx3-ubyte": "5c965bf0a639b31b8f53240b1b52f4d7",
        "t10k-labels-idx1-ubyte": "7320c461ea6c1c855c0b718fb2a4b134",
    },
    ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
)
"""Kuzushiji-MNIST (Clanuwat et al. 2018). Its files must be gzipped as published, because only their MD5s are known."""

KINDS: Mapping[str, Kind] = {"mnist": MNIST, "fashion-mnist": FASHION_MNIST, "kmnist": KMNIST}

_log = logging.getLogger(__name__)  # Python prints its warnings to stderr, one plain line each


def load(request: DataRequest, data_dir: str | None) -> Dataset:
    """A dataset from `data_dir`, or else from the default folders. Files that are missing are downloaded.

    Where a file is damaged and a good copy lies beside it, the copy is used and a warning is logged.
    """
    kind = KINDS[request.dataset]
    roots = DEFAULT_FOLDERS if data_dir is None else (os.path.expanduser(data_dir),)
    warnings: list[str] = []
    found = {file: values for file in FILES if (values := _find(kind, roots, file, warnings))}
    missing = [file for file in FILES if file not in found]
    if missing:
        try:
            found |= _download(kind, roots[0], missing)
        except Failure as error:
            raise DatasetMissing(
                f"{kind.folder} is not in {' or '.join(roots)}: there is no {', '.join(missing)} (with or without .gz, "
                f"in {kind.folder}/raw or in the folder itself), and the download failed: {error}"
            ) from None
    for warning in warnings:
        _log.warning("%s", warning)
    source = ", ".join(dict.fromkeys(os.path.abspath(root) for root, _ in found.values()))
    images, labels, test_images, test_labels = (found[file][1] for file in FILES)
    parts = images, labels.long(), test_images, test_labels.long()
    return with_digest(request.dataset, source, *parts, kind.classes)


def _find(kind: Kind, roots: Sequence[str], name: str, warnings: list[str]) -> tuple[str, Tensor] | None:
    """The first folder with a good file of a name, and its values; None if no folder has such a file.

    Raises `Failure` where all files of that name are bad.
    """
    problems: list[Failure] = []
    for root in roots:
        for path in kind.paths(root, name):
            try:
                values = read_idx(path, FILES[name], kind.digests[name])
            except Failure as error:
                problems.append(error)
            else:
                warnings += [f"{problem}. {path} is used instead." for problem in problems]
                return root, values
    if problems:
        raise Failure(f"{problems[0]}; remove it or name another folder with --data-dir")
    return None


def _download(kind: Kind, root: str, names: Sequence[str]) -> dict[str, tuple[str, Tensor]]:
    """The values of files from the mirrors. Files are written when all of them are there and good."""
    fetched = {name: _fetch(kind, name) for name in names}
    for name, (packed, _) in fetched.items():
        with atomic_write(Path(root, kind.folder, "raw", f"{name}.gz")) as partial:
            partial.write_bytes(packed)
    return {name: (root, values) for name, (_, values) in fetched.items()}


def _fetch(kind: Kind, name: str) -> tuple[bytes, Tensor]:
    """A gzipped file from the first mirror that has it, and its values."""
    problems = []
    for mirror in kind.mirrors:
        url = f"{mirror}{name}.gz"
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:  # noqa: S310  # the mirrors are ours
                _log.warning("downloading %s", url)
                packed = response.read(_limit(FILES[name]))
            return packed, decode(url, packed, FILES[name], kind.digests[name])
        except (OSError, http.client.HTTPException, Failure) as error:
            problems.append(f"{url}: {' '.join(str(error).split())}")
    raise Failure("; ".join(problems))


def _limit(shape: tuple[int, ...]) -> int:
    """How many bytes of a file are read at most. Gzip adds less than a thousandth, and a header, to any content."""
    return math.prod(shape) * 1001 // 1000 + 1024


def read_idx(path: Path, shape: tuple[int, ...], digest: str) -> Tensor:
    """The values of a file, see `decode`. Never reads much more than `shape` needs."""
    try:
        with path.open("rb") as file:
            packed = file.read(_limit(shape))
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}") from None
    return decode(str(path), packed, shape, digest)


def decode(source: str, packed: bytes, shape: tuple[int, ...], digest: str) -> Tensor:
    """The values of an IDX file of unsigned bytes, gzipped or not, as uint8 of `shape`.

    `digest` is the SHA-256 of the values or the MD5 of the gzipped file. Raises `Failure` with `source`, what was
    expected and what was found. Never unpacks more than `shape` needs. What follows the gzipped values is ignored.
    """

    def reject(expected: str, found: object) -> NoReturn:
        raise Failure(f"{source} is damaged or another file: expected {expected}, found {found}")

    header = [0x800 + len(shape), *shape]  # 8 is the type, unsigned byte
    num_header, num_values = 4 * len(header), math.prod(shape)
    content = packed
    if packed.startswith(b"\x1f\x8b"):
        try:  # zlib in one call: Python's gzip takes seconds for a million empty members or a header without end
            content = zlib.decompressobj(zlib.MAX_WBITS + 16).decompress(packed, num_header + num_values + 1)
        except zlib.error as error:
            reject("a gzip file", error)
    found_header = np.frombuffer(content[: min(num_header, len(content) // 4 * 4)], ">u4").tolist()
    if found_header != header:
        reject(f"the IDX header {header}", found_header or f"{len(content)} bytes")
    if len(content) != num_header + num_values:
        found_values = f"{len(content) - num_header:,}" if len(content) < num_header + num_values else "more"
        reject(f"{num_values:,} values", found_values)
    if len(digest) == 32:
        what, found = "MD5 of the gzip file", hashlib.md5(packed, usedforsecurity=False).hexdigest()
    else:
        what, found = "SHA-256 of the values", hashlib.sha256(memoryview(content)[num_header:]).hexdigest()
    if found != digest:
        owner = next((f", which is {kind.folder}'s" for kind in KINDS.values() if found in kind.digests.values()), "")
        reject(f"{what} {digest[:12]}…", f"{found[:12]}…{owner}")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=num_header).reshape(shape)
