"""Datasets: which files are accepted, where they are looked for, downloads, and splits."""

import gzip
import hashlib
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch
import torchvision

from aepretrain import data
from aepretrain.config import DataRequest
from aepretrain.data import Dataset, idx, mnist
from aepretrain.errors import Failure, UsageError
from tests.conftest import MNIST_DIR, needs_mnist

VALUES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
CONTENT = struct.pack(">IIII", 0x803, 2, 3, 4) + VALUES.tobytes()
DIGEST = hashlib.sha256(VALUES.tobytes()).hexdigest()


def decode(content: bytes, digest: str = DIGEST) -> torch.Tensor:
    return idx.decode("file", content, (2, 3, 4), digest)


@pytest.mark.parametrize(
    "content",
    [
        CONTENT,
        gzip.compress(CONTENT, 1, mtime=0),
        gzip.compress(CONTENT, 9, mtime=1),
        gzip.compress(CONTENT, mtime=0) + b"garbage",
        gzip.compress(CONTENT, mtime=0)[:-8],
    ],
    ids=["plain", "packed fast", "packed small", "packed, then garbage", "packed, without checksum"],
)
def test_files_with_the_right_values_are_accepted(content: bytes) -> None:
    assert np.array_equal(decode(content).numpy(), VALUES)
    assert decode(content).dtype == torch.uint8


FLIPPED = bytearray(CONTENT)
FLIPPED[20] ^= 4
FLIPPED_DIGEST = hashlib.sha256(FLIPPED[16:]).hexdigest()
HEADER = "the IDX header [2051, 2, 3, 4]"


@pytest.mark.parametrize(
    ("content", "expected", "found"),
    [
        (b"", HEADER, "0 bytes"),
        (CONTENT[:2], HEADER, "2 bytes"),
        (CONTENT[:10], HEADER, "[2051, 2]"),
        (CONTENT[:16], "24 values", "0"),
        (CONTENT[:-1], "24 values", "23"),
        (CONTENT + b"x", "24 values", "more"),
        (bytes(FLIPPED), f"SHA-256 of the values {DIGEST[:12]}…", f"{FLIPPED_DIGEST[:12]}…"),
        (struct.pack(">II", 0x801, 2) + b"ab", HEADER, "[2049, 2]"),
        (struct.pack(">IIII", 0x803, 2**32 - 1, 2**32 - 1, 4), HEADER, "[2051, 4294967295, 4294967295, 4]"),
    ],
    ids=["empty", "2 bytes", "header cut", "no values", "cut", "too long", "bit flipped", "labels", "absurd size"],
)
@pytest.mark.parametrize("is_packed", [False, True])
def test_files_with_other_values_are_refused(content: bytes, expected: str, found: str, is_packed: bool) -> None:
    with pytest.raises(Failure) as error:
        decode(gzip.compress(content) if is_packed else content)
    assert str(error.value) == f"file is damaged or another file: expected {expected}, found {found}"


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(CONTENT, mtime=0)[:20],
        gzip.compress(CONTENT, mtime=0)[:-20],
        gzip.compress(gzip.compress(CONTENT)),
        b"<html>",
    ],
    ids=["gzip cut early", "gzip cut", "packed twice", "a web page"],
)
def test_other_content_is_refused_in_one_line(content: bytes) -> None:
    with pytest.raises(Failure, match=r"^file is damaged or another file: expected .*, found .*$"):
        decode(content)


def test_damaged_gzip_is_refused() -> None:
    packed = bytearray(gzip.compress(CONTENT, mtime=0))
    packed[10:14] = b"\xff" * 4
    with pytest.raises(Failure, match="expected a gzip file, found Error -3"):
        decode(bytes(packed))


def test_a_published_md5_accepts_only_the_published_gzip_file() -> None:
    packed = gzip.compress(CONTENT, mtime=0)
    md5 = hashlib.md5(packed).hexdigest()  # noqa: S324  # the algorithm that torchvision publishes
    assert np.array_equal(decode(packed, md5).numpy(), VALUES)
    for other in (CONTENT, gzip.compress(CONTENT, mtime=1), packed + b"garbage"):
        with pytest.raises(Failure, match=f"expected MD5 of the gzip file {md5[:12]}…, found"):
            decode(other, md5)


def test_mirrors_and_md5s_are_torchvisions() -> None:
    for kind in mnist.KINDS.values():
        published = getattr(torchvision.datasets, kind.folder)
        assert list(kind.mirrors) == published.mirrors
        assert [f"{name}.gz" for name in mnist.FILES] == [name for name, _ in published.resources]
    assert {f"{name}.gz": digest for name, digest in mnist.KMNIST.digests.items()} == dict(
        torchvision.datasets.KMNIST.resources
    )


SHAPES = {name: (20 if "train" in name else 10, *shape[1:]) for name, shape in mnist.FILES.items()}
IMAGES, LABELS, TEST_IMAGES, TEST_LABELS = SHAPES


def idx_content(name: str, seed: int) -> bytes:
    """An unpacked IDX file of random values, each of 0 to 9 equally often."""
    shape = SHAPES[name]
    header = struct.pack(f">{1 + len(shape)}I", 0x800 + len(shape), *shape)
    values = np.arange(math.prod(shape), dtype=np.uint8) % 10
    return header + np.random.default_rng(seed).permutation(values).tobytes()


def values_digest(name: str, content: bytes) -> str:
    return hashlib.sha256(content[4 + 4 * len(SHAPES[name]) :]).hexdigest()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder whose ../shared/data is the test's own too. Downloads fail."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(data, "_loaded", {})
    for kind in mnist.KINDS.values():
        monkeypatch.setattr(kind, "mirrors", ["file:///nowhere/"])
    return folder


@pytest.fixture
def files(here: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, bytes]:
    """The unpacked files of an MNIST of 30 random images; Fashion-MNIST is another such dataset."""
    assert here
    monkeypatch.setattr(mnist, "FILES", SHAPES)
    for kind, seed in ((mnist.FASHION_MNIST, 1), (mnist.MNIST, 0)):
        contents = {name: idx_content(name, seed) for name in SHAPES}
        monkeypatch.setattr(kind, "digests", {name: values_digest(name, contents[name]) for name in SHAPES})
    return contents


def write(folder: Path, contents: Mapping[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def packed(contents: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files as somebody else packs them."""
    return {f"{name}.gz": gzip.compress(content, 1) for name, content in contents.items()}


def load_again(data_dir: Path | str | None = None, name: str = "mnist") -> Dataset:
    data._loaded.clear()
    return data.load(DataRequest(name), None if data_dir is None else str(data_dir))


@pytest.mark.parametrize("dotted", [False, True])
@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("folder", ["MNIST/raw", "."])
def test_every_spelling_packing_and_folder_is_accepted(
    here: Path, files: Mapping[str, bytes], folder: str, is_packed: bool, suffix: str, dotted: bool
) -> None:
    contents = {
        (name.replace("-idx", ".idx") if dotted else name) + suffix: gzip.compress(content, 1) if is_packed else content
        for name, content in files.items()
    }
    write(here / "mine" / folder, contents)
    found = load_again("mine")
    assert found.source == str(here / "mine")
    assert found.images_NCHW.numpy().tobytes() == files[IMAGES][16:]
    assert found.labels_N.tolist() == list(files[LABELS][8:])
    assert found.test_images_NCHW.shape == (10, 1, 28, 28)
    assert found.test_labels_N.dtype == torch.int64
    assert sorted(path.name for path in (here / "mine" / folder).iterdir()) == sorted(contents)


def test_default_folders_are_searched_in_order(
    here: Path, files: Mapping[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    write(here.parent / "shared/data/MNIST/raw", packed(files))
    digest = load_again().digest
    assert load_again().source == str(here.parent / "shared/data")
    write(here / "data", {LABELS: files[LABELS]})
    found = load_again()
    assert found.source == f"{here.parent / 'shared/data'}, {here / 'data'}"
    write(here / "data/MNIST/raw", packed(files))
    assert load_again().source == str(here / "data")
    assert load_again().digest == found.digest == digest
    assert caplog.messages == []


def test_only_the_named_folder_is_looked_at(here: Path, files: Mapping[str, bytes]) -> None:
    write(here / "data", files)
    write(here / "mine", {name: content for name, content in files.items() if name != TEST_LABELS})
    with pytest.raises(data.DatasetMissing, match=f"^MNIST is not in mine: there is no {TEST_LABELS} "):
        load_again("mine")
    write(here / "mine", {TEST_LABELS: b"damaged"})
    with pytest.raises(Failure, match=f"^mine/{TEST_LABELS} is damaged or another file: .*; remove it or name another"):
        load_again("mine")


def test_the_home_folder_may_be_named(here: Path, files: Mapping[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    write(here / "mine", files)
    monkeypatch.setenv("HOME", str(here))
    assert load_again("~/mine").source == str(here / "mine")


@pytest.mark.usefixtures("files")
def test_missing_files_are_listed_with_the_layout_and_the_whole_address(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrors = [f"file:///nowhere/{'long/' * 50}{number}/" for number in (1, 2)]
    monkeypatch.setattr(mnist.MNIST, "mirrors", mirrors)
    for name, where in ((None, "data or ../shared/data"), ("new/folder", "new/folder")):
        with pytest.raises(data.DatasetMissing) as error:
            load_again(name)
        line = str(error.value)
        assert line.startswith(
            f"MNIST is not in {where}: there is no {IMAGES}, {LABELS}, {TEST_IMAGES}, {TEST_LABELS} (with or without "
            ".gz, in MNIST/raw or in the folder itself), and the download failed: "
        )
        assert all(f"{mirror}{IMAGES}.gz: " in line for mirror in mirrors)
        assert "\n" not in line
    assert list(here.iterdir()) == [], "nothing is left behind"


BAD = b"damaged"


@pytest.mark.parametrize(
    ("bad", "good", "data_dir"),
    [
        (f"data/MNIST/raw/{IMAGES}.gz", f"data/MNIST/raw/{IMAGES}", None),
        (f"mine/{IMAGES}", f"mine/{IMAGES.replace('-idx', '.idx')}.gz", "mine"),
        (f"mine/MNIST/raw/{IMAGES}.gz", f"mine/{IMAGES}", "mine"),
        (f"data/{IMAGES}", f"../shared/data/MNIST/raw/{IMAGES}.gz", None),
    ],
    ids=["plain beside gzip", "other spelling", "flat beside raw", "next default folder"],
)
def test_a_good_copy_is_used_instead_of_a_damaged_file(
    here: Path, files: Mapping[str, bytes], caplog: pytest.LogCaptureFixture, bad: str, good: str, data_dir: str | None
) -> None:
    folder = here / (data_dir or "data")
    write(folder, {name: content for name, content in files.items() if name != IMAGES})
    for path, content in ((bad, BAD), (good, files[IMAGES])):
        (here / path).parent.mkdir(parents=True, exist_ok=True)
        (here / path).write_bytes(content)
    found = load_again(data_dir)
    assert found.images_NCHW.numpy().tobytes() == files[IMAGES][16:]
    assert data.load(DataRequest("mnist"), data_dir) is found
    (line,) = caplog.messages
    assert line.startswith(f"{bad} is damaged or another file: expected the IDX header [2051, 20, 28, 28], found ")
    assert line.endswith(f". {good} is used instead.")
    assert (here / bad).read_bytes() == BAD


def test_a_damaged_file_without_a_good_copy_is_not_replaced_by_a_download(
    here: Path, files: Mapping[str, bytes], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(here / "mirror", packed(files))
    monkeypatch.setattr(mnist.MNIST, "mirrors", [f"file://{here}/mirror/"])
    write(here / "data", {f"{IMAGES}.gz": BAD, IMAGES: files[IMAGES], TEST_LABELS: BAD})
    with pytest.raises(Failure, match=f"^data/{TEST_LABELS} is damaged") as error:
        load_again()
    assert not isinstance(error.value, data.DatasetMissing)
    assert caplog.messages == [], "the error is the only line"


@pytest.mark.parametrize("obstacle", ["folder", "dangling link", "fifo"])
def test_what_is_not_a_file_is_ignored(here: Path, files: Mapping[str, bytes], obstacle: str) -> None:
    write(here / "mine", {name: content for name, content in files.items() if name != IMAGES})
    path = here / "mine" / f"{IMAGES}.gz"
    if obstacle == "folder":
        path.mkdir()
    elif obstacle == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("nowhere")
    with pytest.raises(data.DatasetMissing, match=f"there is no {IMAGES} "):
        load_again("mine")
    write(here / "mine", {IMAGES: files[IMAGES]})
    assert load_again("mine").images_NCHW.numpy().tobytes() == files[IMAGES][16:]


def test_swapped_files_are_refused(here: Path, files: Mapping[str, bytes]) -> None:
    write(here / "data", {**files, IMAGES: files[LABELS], LABELS: files[IMAGES]})
    with pytest.raises(Failure, match=rf"{IMAGES} .* expected the IDX header \[2051, 20, 28, 28\], found \[2049, 20, "):
        load_again()
    write(here / "data", {**files, TEST_IMAGES: files[IMAGES]})
    with pytest.raises(Failure, match=rf"{TEST_IMAGES} .*\[2051, 10, 28, 28\], found \[2051, 20, 28, 28\]"):
        load_again()


def test_files_of_another_known_dataset_are_named(here: Path, files: Mapping[str, bytes]) -> None:
    write(here / "data", packed(files))
    with pytest.raises(Failure, match=f"^data/{IMAGES}.gz .* expected SHA-256 .*, found .*, which is MNIST's"):
        load_again(name="fashion-mnist")
    assert load_again().source == str(here / "data")


@pytest.mark.parametrize("data_dir", [None, "new/folder"])
def test_downloads_go_to_the_folder_in_torchvisions_layout(
    here: Path,
    files: Mapping[str, bytes],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    data_dir: str | None,
) -> None:
    write(here / "bad", dict.fromkeys(packed(files), BAD))
    write(here / "mirror", packed(files))
    monkeypatch.setattr(mnist.MNIST, "mirrors", [f"file://{here}/{name}/" for name in ("none", "bad", "mirror")])
    found = load_again(data_dir)
    folder = here / (data_dir or "data")
    assert found.source == str(folder)
    assert {path.name: path.read_bytes() for path in (folder / "MNIST/raw").iterdir()} == {
        name: (here / "mirror" / name).read_bytes() for name in packed(files)
    }
    assert f"downloading file://{here}/mirror/{TEST_LABELS}.gz" in caplog.messages
    monkeypatch.setattr(mnist.MNIST, "mirrors", [])
    assert load_again(data_dir).digest == found.digest


def test_only_missing_files_are_downloaded_and_all_or_none_is_written(
    here: Path, files: Mapping[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnist.MNIST, "mirrors", [f"file://{here}/mirror/"])
    write(here / "data", {IMAGES: files[IMAGES], LABELS: files[LABELS]})
    write(here / "mirror", packed({TEST_IMAGES: files[TEST_IMAGES]}))
    with pytest.raises(data.DatasetMissing, match=rf"there is no {TEST_IMAGES}, {TEST_LABELS} .* failed: file://"):
        load_again()
    assert sorted(path.name for path in (here / "data").iterdir()) == sorted([IMAGES, LABELS])
    write(here / "mirror", packed({TEST_LABELS: files[TEST_LABELS]}))
    assert load_again().test_labels_N.tolist() == list(files[TEST_LABELS][8:])
    raw = here / "data/MNIST/raw"
    assert sorted(path.name for path in raw.iterdir()) == [f"{TEST_IMAGES}.gz", f"{TEST_LABELS}.gz"]


def test_a_folder_that_cannot_be_written_is_named(
    here: Path, files: Mapping[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(here / "mirror", packed(files))
    monkeypatch.setattr(mnist.MNIST, "mirrors", [f"file://{here}/mirror/"])
    (here / "file").touch()
    with pytest.raises(data.DatasetMissing, match=f"nothing can be written to file/folder/MNIST/raw/{IMAGES}.gz: "):
        load_again("file/folder")


def test_kmnist_is_checked_by_the_published_md5s(
    here: Path, files: Mapping[str, bytes], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    zipped = packed(files)
    md5s = {name: hashlib.md5(zipped[f"{name}.gz"]).hexdigest() for name in files}  # noqa: S324  # torchvision's choice
    monkeypatch.setattr(mnist.KMNIST, "digests", md5s)
    write(here / "data/KMNIST/raw", {**files, **zipped})  # torchvision leaves both
    assert load_again(name="kmnist").labels_N.tolist() == list(files[LABELS][8:])
    assert caplog.messages == []
    (here / "data/KMNIST/raw" / f"{LABELS}.gz").unlink()
    with pytest.raises(Failure, match=f"{LABELS} is damaged or another file: expected MD5 of the gzip file"):
        load_again(name="kmnist")


@needs_mnist
def test_real_mnist_is_accepted() -> None:
    found = data.load(DataRequest("mnist"), str(MNIST_DIR))
    assert found.digest == "fe6e7e7cdeb4d5d54a6c575fba84d27cde9d050fcc1794807ceaad3c268c7c42"
    assert found.images_NCHW.shape == (60_000, 1, 28, 28)
    assert found.test_images_NCHW.shape == (10_000, 1, 28, 28)
    assert torch.bincount(found.labels_N).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert torch.bincount(found.test_labels_N).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.skipif(not mnist.FASHION_MNIST.lies_in(str(MNIST_DIR)), reason="Fashion-MNIST's files are not at hand")
def test_the_published_files_of_fashion_mnist_are_accepted() -> None:
    for name, md5 in torchvision.datasets.FashionMNIST.resources:
        content = (MNIST_DIR / "FashionMNIST/raw" / name).read_bytes()
        assert hashlib.md5(content).hexdigest() == md5  # noqa: S324  # torchvision's choice
    found = data.load(DataRequest("fashion-mnist"), str(MNIST_DIR))
    assert found.digest == "33eef921b3a6518844aa8bd3892de3cc020ec5af9ea99701b6ce314889461c8b"
    assert torch.bincount(found.labels_N).tolist() == [6_000] * 10


def test_bad_names_and_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    for data_dir in (str(tmp_path / "file"), str(tmp_path / "link"), ""):
        with pytest.raises(UsageError, match="not a folder"):
            data.load(DataRequest("mnist"), data_dir)
    with pytest.raises(UsageError, match="mnist, fashion-mnist, kmnist, digits, qmnist, emnist-byclass, "):
        data.load(DataRequest("cifar"), None)


def test_shared_memory_that_is_full_is_a_line(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: torch.Tensor) -> NoReturn:
        raise RuntimeError("unable to write to file </torch_1>: No space left on device (28)\nand where, in many lines")

    monkeypatch.setattr(torch.Tensor, "share_memory_", fail)
    with pytest.raises(
        Failure, match=r"shared memory: .*: No space left on device \(28\); is there room in /dev/shm\?$"
    ):
        digits.in_shared_memory()


def test_digits_are_real_handwriting_of_mnists_size(digits: Dataset) -> None:
    assert digits.images_NCHW.shape == (1540, 1, 28, 28)
    assert digits.test_images_NCHW.shape == (257, 1, 28, 28)
    assert set(digits.test_labels_N.tolist()) == set(range(10))
    assert digits.images_NCHW.max() > 200
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


def test_a_class_with_one_image_allows_no_stratified_split(digits: Dataset) -> None:
    labels_N = torch.where(torch.arange(len(digits.labels_N)) == 5, 9, digits.labels_N % 9)
    lonely = replace(digits, labels_N=labels_N)
    with pytest.raises(UsageError, match=r"^split='stratified' is not allowed for digits: The least populated class"):
        data.split(lonely, "stratified", 0)


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
    with pytest.raises(UsageError, match="labels=3000 is not allowed for digits with seed 0: of 1,283 images, 300 of"):
        data.labelled(digits, data.split(digits, "random", 0), 3_000, 0)
