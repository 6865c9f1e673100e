"""Damaged IDX files give the published values or one line, within bounded time and memory."""

import gzip
import hashlib
import random
import struct
import time
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from aepretrain.data import mnist
from aepretrain.data.idx import idx_file
from aepretrain.errors import Failure
from tests.chaos.damage import Mutation, cut, flip, splice
from tests.commands import LONGEST_S, Done, aepretrain, anew, start
from tests.conftest import MNIST_DIR, ROOT, needs_mnist

pytestmark = pytest.mark.chaos

SHAPE = (10, 28, 28)
VALUES = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)
PLAIN = struct.pack(">4I", 0x803, *SHAPE) + VALUES.tobytes()
GZIPPED = gzip.compress(PLAIN, mtime=0)
DIGEST = hashlib.sha256(VALUES.tobytes()).hexdigest()


def noise(draw: random.Random, content: bytes) -> bytes:
    """Random bytes, perhaps after the first bytes of the content."""
    return content[: draw.choice((0, 2, 10, 16))] + draw.randbytes(draw.randrange(5_000))


def redeclare(draw: random.Random, content: bytes) -> bytes:
    """The same values after a header with another magic number or other sizes, up to 2³² − 1."""
    zipped = content[:2] == b"\x1f\x8b"
    try:
        plain = bytearray(gzip.decompress(content) if zipped else content)
    except (OSError, EOFError, zlib.error):  # already damaged
        return content
    place = 4 * draw.randrange(min(4, len(plain) // 4))
    value = draw.choice((0, 1, 9, 11, 28, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 0x801, 0x803, 0xD03))
    plain[place : place + 4] = struct.pack(">I", value)
    return gzip.compress(bytes(plain), mtime=0) if zipped else bytes(plain)


def append(draw: random.Random, content: bytes) -> bytes:
    return content + draw.choice((b"\0", b"\0" * 999, draw.randbytes(9), content, gzip.compress(b"more")))


MUTATIONS: tuple[Mutation, ...] = (flip, flip, cut, splice, noise, redeclare, append)


def damaged(seed: int, contents: tuple[bytes, ...], num: int) -> Iterator[tuple[bytes, bytes]]:
    """Contents before and after one to three mutations, drawn from the seed."""
    draw = random.Random(seed)  # noqa: S311  # nothing secret
    for _ in range(num):
        before = after = draw.choice(contents)
        for _ in range(draw.choice((1, 1, 2, 3))):
            after = draw.choice(MUTATIONS)(draw, after) if after else after
        yield before, after


def read_idx(path: Path, digest: str) -> Tensor:
    return idx_file(path.name, "", [], SHAPE, digest).read(path)


def values_or_line(path: Path, digest: str) -> Tensor | str:
    """The values of a file or the line that refuses it. It takes less than 5 s and leaves the file as it is."""
    content, started = path.read_bytes(), time.monotonic()
    found: Tensor | str
    try:
        found = read_idx(path, digest)
    except Failure as error:
        found = str(error)
    assert time.monotonic() - started < 5
    assert path.read_bytes() == content
    return found


def is_refusal(line: str, path: Path) -> bool:
    return line.startswith(f"{path} is damaged or another file: expected ") and "\n" not in line


def test_damaged_idx_files_give_the_values_or_one_line(tmp_path: Path, full_length: bool) -> None:
    unchanged = refused = 0
    for before, after in damaged(7, (PLAIN, GZIPPED), 10_000 if full_length else 300):
        path = tmp_path / f"images{'.gz' if before is GZIPPED else ''}"
        path.write_bytes(after)
        found = values_or_line(path, DIGEST)
        if isinstance(found, str):
            assert is_refusal(found, path), found
            refused += 1
        else:
            assert np.array_equal(found.numpy(), VALUES)
            unchanged += 1
    print(f"IDX files: {unchanged + refused:,} tried, {refused:,} refused, {unchanged:,} with all values as published")
    assert refused > 10 * unchanged > 0


def test_with_an_md5_only_the_published_file_is_accepted(tmp_path: Path, full_length: bool) -> None:
    path, md5 = tmp_path / "images.gz", hashlib.md5(GZIPPED).hexdigest()  # noqa: S324  # torchvision's choice
    refused = 0
    for _, after in damaged(8, (PLAIN, GZIPPED), 2_000 if full_length else 100):
        path.write_bytes(after)
        found = values_or_line(path, md5)
        if after != GZIPPED:
            assert isinstance(found, str)
            assert is_refusal(found, path), found
            refused += 1
    print(f"IDX files with a published MD5: {refused:,} damaged, all refused")
    assert refused > 50
    path.write_bytes(GZIPPED)
    assert np.array_equal(read_idx(path, md5).numpy(), VALUES)


def bombs() -> dict[str, bytes]:
    """Gzip files: small ones with large content, and large ones with none."""
    header, zeros = struct.pack(">4I", 0x803, 60_000, 28, 28), bytes(2**20)
    packer = zlib.compressobj(1, wbits=31)
    packed = packer.compress(header) + b"".join(packer.compress(zeros) for _ in range(1024)) + packer.flush()
    return {
        "1 GiB of zeros": packed,
        "a bomb in a bomb": gzip.compress(gzip.compress(packed)),
        "2,000,000 empty members": gzip.compress(b"", mtime=0) * 2_000_000,
        "a name of 100 MB": b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * 100_000_000,
    }


@needs_mnist
def test_gzip_bombs_are_refused_soon_and_in_little_memory(tmp_path: Path) -> None:
    for name, content in bombs().items():
        folder = folder_of_mnist(tmp_path / name, "train-images-idx3-ubyte.gz", content)
        line = load(folder).refusal()
        assert "train-images-idx3-ubyte.gz is damaged or another file: expected" in line, name


@pytest.mark.parametrize("dataset", ["fashion-mnist", "kmnist"])
def test_a_file_of_a_terabyte_is_not_read_to_its_end(tmp_path: Path, dataset: str) -> None:
    for name in mnist.FILES:
        with (tmp_path / f"{name}.gz").open("wb") as file:
            file.truncate(2**40)  # a hole: it takes no space on the disk
    line = load(tmp_path, "--dataset", dataset).refusal()
    assert "train-images-idx3-ubyte.gz is damaged or another file: expected the IDX header" in line


@needs_mnist
def test_the_command_warns_once_of_a_damaged_file_with_a_good_copy(tmp_path: Path) -> None:
    folder = folder_of_mnist(tmp_path, "train-labels-idx1-ubyte.gz", b"damaged")
    (folder / "train-labels-idx1-ubyte.gz").symlink_to(MNIST_DIR / "MNIST" / "raw" / "train-labels-idx1-ubyte.gz")
    command = start(partial(anew, *options(folder)), folder, PYTHONPATH=str(ROOT))  # pytest takes what a fork logs
    done = command.wait(LONGEST_S)
    assert done is not None
    warning, failure = done.err.splitlines()
    bad, good = folder / "MNIST" / "raw" / "train-labels-idx1-ubyte.gz", folder / "train-labels-idx1-ubyte.gz"
    assert warning.startswith(f"{bad} is damaged or another file: expected the IDX header [2049, 60000], found ")
    assert warning.endswith(f". {good} is used instead.")
    assert "no folder /nowhere" in failure


def folder_of_mnist(folder: Path, name: str, content: bytes) -> Path:
    """A folder with MNIST's files, of which one has another content."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for real in (MNIST_DIR / "MNIST" / "raw").iterdir():
        if real.name != name:
            (raw / real.name).symlink_to(real)
    (raw / name).write_bytes(content)
    return folder


def options(folder: Path, *further: str) -> tuple[str, ...]:
    """A training that ends after its data are loaded: its store cannot be opened."""
    given = ("scratch", "--network", "fc", "--epochs", "1", "--data-dir", str(folder), *further)
    return (*given, "--tracking-uri", "sqlite:////nowhere/mlflow.db")


def load(folder: Path, *further: str) -> Done:
    return aepretrain(*options(folder, *further), folder=folder)


@needs_mnist
def test_damaged_files_of_real_mnist_by_command_line(tmp_path: Path, full_length: bool) -> None:
    names = sorted(path.name for path in (MNIST_DIR / "MNIST" / "raw").iterdir())
    contents = {name: (MNIST_DIR / "MNIST" / "raw" / name).read_bytes() for name in names}
    lines, peak_mib, longest_s = [], 0.0, 0.0
    for number in range(50 if full_length else 4):
        name = names[number % len(names)]
        ((_, content),) = damaged(number, (contents[name],), 1)
        folder = folder_of_mnist(tmp_path / f"{number}", name, content)
        done = load(folder)
        lines.append(done.refusal())
        assert f"{name} is damaged or another file: expected" in lines[-1] or "no folder /nowhere" in lines[-1]
        assert (folder / "MNIST" / "raw" / name).read_bytes() == content
        peak_mib, longest_s = max(peak_mib, done.grown_mib), max(longest_s, done.cpu_s)
    refused = sum("damaged or another file" in line for line in lines)
    print(f"by command line: {len(lines)} tried, {refused} refused, at most {longest_s:.1f} s and {peak_mib:.0f} MiB")
    assert refused > len(lines) / 2
