"""EMNIST (Cohen et al. 2017), letters and digits: six splits in one archive of gzipped IDX files.

Shapes: N images, H rows, W columns.
"""

import io
import string
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from torch import Tensor

from aepretrain.config import MNIST_SHAPE, DataRequest
from aepretrain.data.dataset import Dataset, with_digest
from aepretrain.data.idx import as_tensor, limit_of, unpack
from aepretrain.data.published import Published, check_md5, gather, read_bytes

URL = "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip"

MD5 = "58c8d27c78d21e728a6bc7b3cc06412e"
"""Of the archive, from torchvision. No digests of unpacked files are known: they are accepted for their form alone."""

LIMIT = 600_000_000
"""The archive has 562 MB."""

_ALL = sorted(string.digits + string.ascii_letters)
_MERGED = [name for name in _ALL if name not in "cijklmopsuvwxyz"]

CLASSES: Mapping[str, Sequence[str]] = {
    "byclass": _ALL,
    "bymerge": _MERGED,
    "balanced": _MERGED,
    "letters": string.ascii_lowercase,
    "digits": string.digits,
    "mnist": string.digits,
}
"""The classes of each split. Where letters are merged, a letter that looks alike in both cases is one class."""

Values = tuple[Tensor, Tensor, Tensor, Tensor]


def part(split: str) -> Published[Values]:
    """The archive, or the folder to which torchvision unpacks it, as the values of a split."""
    return Published(
        name="gzip.zip",
        paths=["EMNIST/raw", "EMNIST/raw/gzip.zip", "gzip.zip"],
        urls=[URL],
        target="EMNIST/raw/gzip.zip",
        limit=LIMIT,
        decode=partial(_decode, split=split),
        members=_files(split),
        unpacked=partial(_read_folder, split=split),
    )


def load(request: DataRequest, data_dir: str | None) -> Dataset:
    """A split from `data_dir`, or else from the default folders (see `gather`). Images are upright."""
    split = request.dataset.removeprefix("emnist-")
    layout = f"in EMNIST/raw or in the folder itself, or unpacked in EMNIST/raw: {', '.join(_files(split))}"
    source, found = gather("EMNIST", [part(split)], data_dir, layout)
    return with_digest(request.dataset, source, *found["gzip.zip"], CLASSES[split])


def _files(split: str) -> list[str]:
    return [
        f"emnist-{split}-{half}-{kind}-ubyte" for half in ("train", "test") for kind in ("images-idx3", "labels-idx1")
    ]


def _decode(source: str, content: bytes, split: str) -> Values:
    check_md5(source, content, MD5)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return _values(split, lambda name: (f"{source}:{name}", archive.read(f"gzip/{name}.gz")))


def _read_folder(folder: Path, split: str) -> Values:
    limit = limit_of((None, *MNIST_SHAPE.image[1:]))
    return _values(split, lambda name: (str(folder / name), read_bytes(folder / name, limit)))


def _values(split: str, read: Callable[[str], tuple[str, bytes]]) -> Values:
    """Images and labels, from a function that gives what a file is called and its content.

    The files hold transposed images. The labels of letters begin with 1.
    """
    first = 1 if split == "letters" else 0
    images, labels, test_images, test_labels = (
        as_tensor(unpack(*read(name), (None, *MNIST_SHAPE.image[1:]) if "images" in name else (None,)))
        for name in _files(split)
    )
    upright, test_upright = (one.transpose(1, 2).contiguous() for one in (images, test_images))
    return upright, labels.long() - first, test_upright, test_labels.long() - first
