"""MNIST and its relatives: found or downloaded, decoded from their IDX files, every value checked."""

import hashlib
import math
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
import torchvision
from torch import Tensor

from aepretrain.data.dataset import IMAGE_SIZE, Dataset, DatasetMissing, with_digest
from aepretrain.errors import Failure

IMAGES_MAGIC, LABELS_MAGIC = 0x0803, 0x0801
"""IDX: two zero bytes, type 8 (unsigned byte), number of axes."""

MNIST_DIGESTS: Mapping[str, str] = {
    "train-images-idx3-ubyte": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    "train-labels-idx1-ubyte": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    "t10k-images-idx3-ubyte": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    "t10k-labels-idx1-ubyte": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
}
"""SHA-256 of each file's values (what follows the header), taken from the files with torchvision's MD5s."""


def load(name: str, data_dir: str | None) -> Dataset:
    """A dataset from the first folder that holds all its files; see `data.load` for where they are looked for."""
    kind = KINDS[name]
    roots = [root for root in (data_dir, "data", "../shared/data") if root]
    root = next((root for root in roots if kind.lies_in(root)), None)
    try:
        train, test = (kind(root or "data", train=is_train, download=root is None) for is_train in (True, False))
    except Failure:
        raise
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        where = ", ".join(roots)
        raise DatasetMissing(f"{kind.__name__} is not in {where} and cannot be downloaded: {reason}") from None
    return with_digest(name, os.path.abspath(root or "data"), train.data, train.targets, test.data, test.targets)


class _ReadInPlace:
    """What our classes do otherwise than torchvision's, after which they are named: files are read in place."""

    root: str
    train: bool
    raw_folder: str
    resources: Sequence[tuple[str, str]]
    """Names and MD5s of the gzipped files, as torchvision publishes them."""

    @classmethod
    def lies_in(cls, root: str) -> bool:
        """Whether a folder holds all files."""
        folder = Path(root, cls.__name__, "raw")
        return all(cls.find(folder, name.removesuffix(".gz")) for name, _ in cls.resources)

    @classmethod
    def find(cls, folder: Path, name: str) -> Path | None:
        """The file of a name. It must be gzipped, for the published MD5 is that of the gzipped file."""
        path = folder / f"{name}.gz"
        return path if path.is_file() else None

    def _check_legacy_exist(self) -> bool:
        return False  # torchvision would take files of its first versions unchecked

    def _check_exists(self) -> bool:
        return self.lies_in(str(self.root))

    def _load_data(self) -> tuple[Tensor, Tensor]:
        prefix, num = ("train", 60_000) if self.train else ("t10k", 10_000)
        images = self._read(f"{prefix}-images-idx3-ubyte", IMAGES_MAGIC, (num, *IMAGE_SIZE))
        labels = self._read(f"{prefix}-labels-idx1-ubyte", LABELS_MAGIC, (num,))
        return images, labels.long()

    def _read(self, name: str, magic: int, shape: tuple[int, ...]) -> Tensor:
        path = self.find(Path(self.raw_folder), name)
        assert path is not None, "torchvision calls _check_exists first"
        return self._read_checked(path, name, magic, shape)

    def _read_checked(self, path: Path, name: str, magic: int, shape: tuple[int, ...]) -> Tensor:
        expected = dict(self.resources)[f"{name}.gz"]
        try:
            with path.open("rb") as file:  # what is longer than its values has another MD5 by its beginning already
                found = hashlib.md5(file.read(2 * math.prod(shape)), usedforsecurity=False).hexdigest()
        except OSError as error:
            raise Failure(f"{path} cannot be read: {error.strerror}") from None
        if found != expected:
            raise Failure(f"{path} is damaged or another file: expected MD5 {expected}, found {found}")
        return read_idx(path, magic, shape, None)


class MNIST(_ReadInPlace, torchvision.datasets.MNIST):  # type: ignore[misc]  # torchvision ships no types
    """MNIST; its files may be unpacked, for the digests of their values are known."""

    @classmethod
    def find(cls, folder: Path, name: str) -> Path | None:
        """The file of a name, plain or else gzipped."""
        return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)

    def _read_checked(self, path: Path, name: str, magic: int, shape: tuple[int, ...]) -> Tensor:
        return read_idx(path, magic, shape, MNIST_DIGESTS[name])


class FashionMNIST(_ReadInPlace, torchvision.datasets.FashionMNIST):  # type: ignore[misc]  # likewise
    """Fashion-MNIST (Xiao et al. 2017)."""


class KMNIST(_ReadInPlace, torchvision.datasets.KMNIST):  # type: ignore[misc]  # likewise
    """Kuzushiji-MNIST (Clanuwat et al. 2018)."""


KINDS: Mapping[str, type[MNIST | FashionMNIST | KMNIST]] = {
    "mnist": MNIST,
    "fashion-mnist": FashionMNIST,
    "kmnist": KMNIST,
}


def _read_content(path: Path, num: int) -> bytes:
    """The bytes of a file, unpacked where it is gzipped: at most `num`, and one more where there are more.

    Done by zlib in one go, for Python's `gzip` takes seconds over headers that never end or a million empty members.
    Raises `EOFError` or `zlib.error` where a gzipped file is not one whole member.
    """
    with path.open("rb") as file:
        if path.suffix != ".gz":
            return file.read(num + 1)
        unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        content = unpacker.decompress(file.read(num + num // 1000 + 1024), num + 1)  # nothing packs worse than that
        if len(content) <= num and (not unpacker.eof or unpacker.unused_data or file.read(1)):
            raise EOFError("the gzipped content does not end where the file ends")
        return content


def read_idx(path: Path, magic: int, shape: tuple[int, ...], digest: str | None) -> Tensor:
    """The values of an IDX file of unsigned bytes, gzipped or not, as uint8 of `shape`.

    `digest` is the SHA-256 that they must have, where it is known.

    Raises `Failure`, naming the file, what was expected and what was found. Never reads more than `shape` needs,
    whatever the file's header or its compression claims.
    """

    def reject(expected: str, found: str) -> NoReturn:
        raise Failure(f"{path} is damaged or another file: expected {expected}, found {found}")

    num_header, num_values = 4 + 4 * len(shape), math.prod(shape)
    try:
        content = _read_content(path, num_header + num_values)
    except (OSError, EOFError, zlib.error) as error:
        reject("a readable IDX file", f"{type(error).__name__}: {error}")
    header = np.frombuffer(content[: min(num_header, len(content)) // 4 * 4], dtype=">u4")
    found_shape = tuple(int(size) for size in header[1:])
    if len(header) == 0 or header[0] != magic:
        reject(f"magic number {magic:#06x}", f"{int(header[0]):#06x}" if len(header) else "an empty file")
    if found_shape != shape:
        reject(f"shape {shape}", f"{found_shape}")
    if len(content) != num_header + num_values:
        more = "more than that" if len(content) > num_header + num_values else f"{len(content) - num_header:,}"
        reject(f"{num_values:,} values", more)
    found_digest = hashlib.sha256(memoryview(content)[num_header:]).hexdigest()
    if digest is not None and found_digest != digest:
        reject(f"values with SHA-256 {digest[:12]}…", f"{found_digest[:12]}…")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=num_header).reshape(shape)
