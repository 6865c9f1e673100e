"""Where MNIST is found, what is checked of its files, and how images are split."""

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from aepretrain import data
from aepretrain.data import Dataset, mnist
from aepretrain.errors import Failure, UsageError
from tests.conftest import MNIST_DIR, needs_mnist

VALUES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
CONTENT = struct.pack(">IIII", 0x803, 2, 3, 4) + VALUES.tobytes()
DIGEST = hashlib.sha256(VALUES.tobytes()).hexdigest()


def read(path: Path) -> torch.Tensor:
    return mnist.read_idx(path, 0x803, (2, 3, 4), DIGEST)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_are_read_plain_and_gzipped(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"file{suffix}"
    path.write_bytes(gzip.compress(CONTENT) if suffix else CONTENT)
    assert np.array_equal(read(path).numpy(), VALUES)
    assert read(path).dtype == torch.uint8


FLIPPED = bytearray(CONTENT)
FLIPPED[20] ^= 4


@pytest.mark.parametrize(
    ("content", "expected", "found"),
    [
        (b"", "0x0803", "empty"),
        (CONTENT[:2], "0x0803", "empty"),
        (CONTENT[:10], r"\(2, 3, 4\)", r"\(2,\)"),
        (CONTENT[:-1], "24 values", "23"),
        (CONTENT + b"x", "24 values", "more"),
        (bytes(FLIPPED), "SHA-256", "…"),
        (struct.pack(">II", 0x801, 2) + b"ab", "0x0803", "0x0801"),
        (struct.pack(">IIII", 0x803, 2**32 - 1, 2**32 - 1, 4), r"\(2, 3, 4\)", "4294967295"),
    ],
    ids=["empty", "no magic", "header cut", "cut", "too long", "bit flipped", "labels", "absurd size"],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_damaged_idx_files_are_told_in_one_line(
    tmp_path: Path, content: bytes, expected: str, found: str, suffix: str
) -> None:
    path = tmp_path / f"file{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    with pytest.raises(Failure, match=rf"expected.*{expected}.*found.*{found}") as error:
        read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert path.exists(), "nothing is deleted"


@pytest.mark.parametrize(
    "content",
    [gzip.compress(CONTENT)[:-9], b"no gzip at all", gzip.compress(CONTENT)[:20] + b"\0" * 20],
    ids=["cut", "plain", "overwritten"],  # a gzip file holds the time: workers of the tests would not agree on names
)
def test_damaged_gzip_is_told_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(content)
    with pytest.raises(Failure, match="readable IDX file"):
        read(path)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder two levels down, so that ../shared/data is the test's own, and no network."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(mnist.MNIST, "mirrors", ["file:///nowhere/"])
    data._loaded.clear()
    return folder


def link(folder: Path) -> None:
    (folder / "MNIST").mkdir(parents=True)
    (folder / "MNIST" / "raw").symlink_to(MNIST_DIR / "MNIST" / "raw")


@needs_mnist
def test_real_mnist_is_looked_for_in_order(here: Path) -> None:
    link(here.parent / "shared" / "data")
    assert data.load("mnist", None).source == str(here.parent / "shared" / "data")
    link(here / "data")
    data._loaded.clear()
    assert data.load("mnist", None).source == str(here / "data")
    link(here / "mine")
    found = data.load("mnist", str(here / "mine"))
    assert found.source == str(here / "mine")
    assert found.images_NHW.shape == (60_000, 28, 28)
    assert found.test_images_NHW.shape == (10_000, 28, 28)
    assert found.images_NHW.dtype == torch.uint8
    assert torch.bincount(found.labels_N).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert torch.bincount(found.test_labels_N).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@needs_mnist
def test_swapped_files_are_found_out(here: Path) -> None:
    raw = here / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in mnist.MNIST_DIGESTS:
        (raw / f"{name}.gz").symlink_to(MNIST_DIR / "MNIST" / "raw" / f"{name.replace('t10k', 'train')}.gz")
    with pytest.raises(Failure, match=r"t10k-images.*10000.*60000"):
        data.load("mnist", None)


@pytest.mark.usefixtures("here")
def test_mnist_that_cannot_be_had_is_missing() -> None:
    with pytest.raises(data.DatasetMissing, match=r"MNIST is not in data, \.\./shared/data and cannot be downloaded"):
        data.load("mnist", None)


def write_idx(path: Path, values: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> str:
    """A gzipped IDX file; gives its MD5."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">{1 + values.ndim}I", 0x800 + values.ndim, *values.shape)
    path.write_bytes(gzip.compress(header + values.tobytes(), 1))
    return hashlib.md5(path.read_bytes()).hexdigest()  # noqa: S324  # torchvision's choice


@pytest.mark.parametrize(("name", "kind"), [("fashion-mnist", mnist.FashionMNIST), ("kmnist", mnist.KMNIST)])
def test_relatives_of_mnist_are_checked_by_torchvisions_md5s(
    here: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: type[mnist.FashionMNIST]
) -> None:
    raw, draw, resources = here / "data" / kind.__name__ / "raw", np.random.default_rng(0), []
    for file, shape in {
        "train-images-idx3-ubyte": (60_000, 28, 28),
        "train-labels-idx1-ubyte": (60_000,),
        "t10k-images-idx3-ubyte": (10_000, 28, 28),
        "t10k-labels-idx1-ubyte": (10_000,),
    }.items():
        values = draw.integers(0, 10, shape, dtype=np.uint8)
        resources.append((f"{file}.gz", write_idx(raw / f"{file}.gz", values)))
    published = list(kind.resources)
    assert [file for file, _ in published] == [file for file, _ in resources]
    with pytest.raises(Failure, match=r"train-images-idx3-ubyte\.gz .* expected MD5 .*, found"):
        data.load(name, None)
    monkeypatch.setattr(kind, "resources", resources)
    found = data.load(name, None)
    assert (found.name, found.source) == (name, str(here / "data"))
    assert found.images_NHW.shape == (60_000, 28, 28)
    assert found.test_labels_N.tolist() == values.tolist()
    (raw / "t10k-labels-idx1-ubyte.gz").unlink()
    (raw / "t10k-labels-idx1-ubyte").touch()  # unpacked alone, it could not be checked
    data._loaded.clear()
    monkeypatch.setattr(kind, "mirrors", ["file:///nowhere/"])
    with pytest.raises(data.DatasetMissing, match=f"{kind.__name__} is not in data"):
        data.load(name, None)


def test_bad_names_and_folders_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UsageError, match="not a folder"):
        data.load("mnist", str(file))
    with pytest.raises(UsageError, match="not a folder"):
        data.load("mnist", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="mnist, fashion-mnist, kmnist, digits"):
        data.load("cifar", None)


def test_digits_are_real_handwriting_of_mnists_size(digits: Dataset) -> None:
    assert digits.images_NHW.shape == (1540, 28, 28)
    assert digits.test_images_NHW.shape == (257, 28, 28)
    assert set(digits.test_labels_N.tolist()) == set(range(10))
    assert digits.images_NHW.max() > 200
    assert digits.digest == "2c5b0b7c38c551dfe99701f1cf73a96ec33c709a0321cb2f8112a2393d8c1179"


@pytest.mark.parametrize("kind", ["random", "stratified", "fixed"])
def test_splits_divide_all_images_five_to_one(digits: Dataset, kind: str) -> None:
    drawn = data.split(digits, kind, 3)
    assert len(drawn.validation_N) == 257
    assert sorted(torch.cat([drawn.train_N, drawn.validation_N]).tolist()) == list(range(1540))


def test_splits_follow_the_seed_except_fixed_ones(digits: Dataset) -> None:
    def validation(kind: str, seed: int) -> list[int]:
        return data.split(digits, kind, seed).validation_N.tolist()

    for kind in ("random", "stratified"):
        assert validation(kind, 1) == validation(kind, 1) != validation(kind, 2)
    assert validation("fixed", 1) == validation("fixed", 2) == validation("random", 0)


def test_stratified_splits_keep_class_shares(digits: Dataset) -> None:
    drawn = data.split(digits, "stratified", 1)
    share = torch.bincount(digits.labels_N[drawn.validation_N]) / torch.bincount(digits.labels_N)
    assert share.min() > 0.16
    assert share.max() < 0.175


def test_few_labels_are_balanced_nested_and_apart_from_validation(digits: Dataset) -> None:
    whole = data.split(digits, "random", 3)
    earlier: set[int] = set()
    for num in (10, 30, 100, 800):
        few = data.labelled(digits, whole, num, 3)
        chosen, validation = set(few.train_N.tolist()), set(few.validation_N.tolist())
        assert (len(chosen), len(validation)) == (num, max(10, num // 5))
        assert digits.labels_N[few.train_N].bincount().tolist() == [num // 10] * 10
        assert digits.labels_N[few.validation_N].bincount().tolist() == [len(validation) // 10] * 10
        assert earlier < chosen <= set(whole.train_N.tolist())
        assert validation <= set(whole.validation_N.tolist())
        earlier = chosen
    assert earlier != set(data.labelled(digits, data.split(digits, "random", 4), 800, 4).train_N.tolist())
    assert digits.labels_N[data.labelled(digits, whole, 13, 3).train_N].bincount().tolist() == [2, 2, 2] + [1] * 7


def test_more_labels_than_there_are_is_told(digits: Dataset) -> None:
    with pytest.raises(UsageError, match="labels=3000 is not allowed for digits: 300 images of class 0 are needed"):
        data.labelled(digits, data.split(digits, "random", 0), 3_000, 0)
