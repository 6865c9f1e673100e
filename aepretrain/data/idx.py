"""IDX files, the format of MNIST (http://yann.lecun.com/exdb/mnist/)."""

import hashlib
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aepretrain.data.published import Published, reject

CODES: Mapping[str, int] = {"u1": 0x08, ">i4": 0x0C}
"""The codes of types of values: unsigned bytes, and whole numbers of four bytes."""

MOST_ITEMS = 1_000_000
"""So many items are read at most of a file that says itself how many it has."""

Size = tuple[int | None, ...]
"""The shape of a file's values. The number of items is None where the file says it."""


def idx_file(
    name: str,
    folder: str,
    urls: Sequence[str],
    size: Size,
    digest: str,
    kind: str = "u1",
    owners: Mapping[str, str] = {},
) -> Published[Tensor]:
    """A published IDX file, gzipped or not, in a folder of torchvision's layout or in the data folder itself.

    See `decode` for the other arguments. The name may have ``.idx`` instead of ``-idx``.
    """
    return Published(
        name=name,
        paths=list(_spellings(name, folder)),
        urls=urls,
        target=f"{folder}/raw/{name}.gz",
        limit=limit_of(size, kind),
        decode=partial(decode, size=size, digest=digest, kind=kind, owners=owners),
    )


def _spellings(name: str, folder: str) -> Iterator[str]:
    for place in (f"{folder}/raw/", ""):
        for spelling in (name, name.replace("-idx", ".idx")):
            yield from (f"{place}{spelling}.gz", f"{place}{spelling}")


def limit_of(size: Size, kind: str = "u1") -> int:
    """How many bytes of a file are read at most. Gzip adds less than a thousandth, and a header, to any content."""
    num_values = math.prod(MOST_ITEMS if one is None else one for one in size)
    return num_values * np.dtype(kind).itemsize * 1001 // 1000 + 1024


def decode(
    source: str,
    packed: bytes,
    size: Size,
    digest: str,
    kind: str = "u1",
    owners: Mapping[str, str] = MappingProxyType({}),
) -> Tensor:
    """The values of an IDX file that is the published one, gzipped or not: uint8, or int64 for ``>i4``.

    `digest` is the SHA-256 of the values or the MD5 of the gzipped file. Raises `Failure` with `source`, what was
    expected and what was found; `owners` tells whose another digest is. Never unpacks more than `size` needs. What
    follows the gzipped values is ignored.
    """
    values = unpack(source, packed, size, kind)
    if len(digest) == 32:
        what, found = "MD5 of the gzip file", hashlib.md5(packed, usedforsecurity=False).hexdigest()
    else:
        what, found = "SHA-256 of the values", hashlib.sha256(values.data).hexdigest()
    if found != digest:
        reject(source, f"{what} {digest[:12]}…", f"{found[:12]}…{owners.get(found, '')}")
    return as_tensor(values)


def as_tensor(values: NDArray[Any]) -> Tensor:
    """The values as a tensor of their own: uint8, or int64."""
    return torch.from_numpy(values.astype(np.uint8 if values.dtype == np.uint8 else np.int64))


def unpack(source: str, packed: bytes, size: Size, kind: str = "u1") -> NDArray[Any]:
    """The values of an IDX file of this size, gzipped or not, whatever they are. Raises `Failure`, see `decode`."""
    num_header = 4 * (1 + len(size))
    found = np.frombuffer(start := _start(source, packed, num_header), ">u4", len(start) // 4).tolist()
    header: list[Any] = [CODES[kind] * 0x100 + len(size), *size]
    if None in header and len(found) == len(header) and found[1] <= MOST_ITEMS:
        header[1] = found[1]
    if found != header:
        expected = f"[{', '.join('any number' if one is None else str(one) for one in header)}]"
        reject(source, f"the IDX header {expected}", found or f"{len(start)} bytes")
    num_bytes = math.prod(header[1:]) * np.dtype(kind).itemsize
    content = _start(source, packed, num_header + num_bytes + 1)
    if len(content) != num_header + num_bytes:
        num_found = (len(content) - num_header) // np.dtype(kind).itemsize
        num_wanted = math.prod(header[1:])
        reject(source, f"{num_wanted:,} values", f"{num_found:,}" if num_found < num_wanted else "more")
    return np.frombuffer(content, kind, offset=num_header).reshape(header[1:])


def _start(source: str, packed: bytes, num: int) -> bytes:
    """The first bytes of a file, unpacked if it is gzipped."""
    if not packed.startswith(b"\x1f\x8b"):
        return packed[:num]
    try:  # zlib in one call: Python's gzip takes seconds for a million empty members or a header without end
        return zlib.decompressobj(zlib.MAX_WBITS + 16).decompress(packed, num)
    except zlib.error as error:
        reject(source, "a gzip file", error)
