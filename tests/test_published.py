"""Datasets of torchvision by name: what their files hold, against torchvision's own loaders on the same files."""

import gzip
import hashlib
import io
import os
import pickle
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from scipy.io import savemat
from torch import Tensor

from aepretrain import data
from aepretrain.config import DATASETS, EMNIST, DataRequest
from aepretrain.data import Dataset, cifar, emnist, published, qmnist, svhn
from aepretrain.errors import Failure

NUM, NUM_TEST = 30, 20
"""Images in the small files of these tests."""

CIFARS: Mapping[str, Any] = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}


def md5_of(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()  # noqa: S324  # the algorithm that torchvision publishes


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder without data. Nothing can be downloaded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(data, "_loaded", {})
    for kind in cifar.KINDS.values():
        monkeypatch.setattr(kind, "url", "file:///nowhere/")
    for module in (emnist, qmnist, svhn):
        monkeypatch.setattr(module, "URL", "file:///nowhere/")
    return tmp_path


def load_again(name: str, data_dir: Path) -> Dataset:
    data._loaded.clear()
    return data.load(DataRequest(name), str(data_dir))


def pixels(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def labels(num: int, num_classes: int) -> list[int]:
    return [(7 * i) % num_classes for i in range(num)]


def test_every_built_in_dataset_has_a_module() -> None:
    assert tuple(data.MODULES) == DATASETS


def test_addresses_names_md5s_and_classes_are_torchvisions() -> None:
    for ours, theirs in (
        (cifar.CIFAR10, torchvision.datasets.CIFAR10),
        (cifar.CIFAR100, torchvision.datasets.CIFAR100),
    ):
        assert (ours.folder, ours.archive, ours.archive_md5) == (theirs.base_folder, theirs.filename, theirs.tgz_md5)
        assert ours.part().urls == [theirs.url]
        assert (list(ours.training.items()), list(ours.test.items())) == (
            list(map(tuple, theirs.train_list)),
            list(map(tuple, theirs.test_list)),
        )
        assert (*ours.names, ours.names_key) == tuple(theirs.meta[key] for key in ("filename", "md5", "key"))
    of_svhn = [torchvision.datasets.SVHN.split_list[half] for half in ("train", "test")]
    assert [[*part.urls, part.name, svhn.MD5S[part.name]] for part in svhn.parts()] == of_svhn
    of_qmnist = [pair for half in ("train", "test") for pair in torchvision.datasets.QMNIST.resources[half]]
    assert [(*part.urls, qmnist.MD5S[part.name]) for part in qmnist.parts()] == of_qmnist
    assert (torchvision.datasets.EMNIST.url, torchvision.datasets.EMNIST.md5) == (emnist.URL, emnist.MD5)
    assert tuple(emnist.CLASSES) == torchvision.datasets.EMNIST.splits
    for split, names in emnist.CLASSES.items():
        theirs_of_split = torchvision.datasets.EMNIST.classes_split_dict[split]
        assert list(names) == [name for name in theirs_of_split if name != "N/A"]


# CIFAR


def pickled(value: object) -> bytes:
    """A pickle with texts and bytes as Python 2 wrote them, which made CIFAR's files."""
    file = io.BytesIO()
    pickler: Any = pickle._Pickler(file, protocol=2)

    def save_string(_: object, value: str | bytes) -> None:
        content = value.encode() if isinstance(value, str) else value
        pickler.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        pickler.memoize(value)

    pickler.dispatch = {**pickler.dispatch, str: save_string, bytes: save_string}
    pickler.dump(value)
    return file.getvalue().replace(b"numpy._core.", b"numpy.core.")


def batch(kind: cifar.Kind, seed: int, num: int) -> bytes:
    num_classes = 10 if kind is cifar.CIFAR10 else 100
    numbers = [(7 * i + seed) % num_classes for i in range(num)]
    return pickled({"data": pixels(seed, num, 3072), kind.labels_key: numbers})


@pytest.fixture(params=["cifar10", "cifar100"])
def small_cifar(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Mapping[str, bytes]]:
    """A small CIFAR's name and its files, whose digests are taken for the published ones."""
    kind = cifar.KINDS[request.param]
    contents = {name: batch(kind, seed, 100) for seed, name in enumerate([*kind.training, *kind.test])}
    names = [f"class {k}" for k in range(10 if kind is cifar.CIFAR10 else 100)]
    contents[kind.names[0]] = pickled({kind.names_key: names})
    md5s = {name: md5_of(content) for name, content in contents.items()}
    monkeypatch.setattr(kind, "training", {name: md5s[name] for name in kind.training})
    monkeypatch.setattr(kind, "test", {name: md5s[name] for name in kind.test})
    monkeypatch.setattr(kind, "names", (kind.names[0], md5s[kind.names[0]]))
    theirs = CIFARS[request.param]
    monkeypatch.setattr(theirs, "train_list", list(map(list, kind.training.items())))
    monkeypatch.setattr(theirs, "test_list", list(map(list, kind.test.items())))
    monkeypatch.setattr(theirs, "meta", theirs.meta | {"md5": kind.names[1]})
    return request.param, contents


def packed(kind: cifar.Kind, contents: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"{kind.folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def unpack_cifar(kind: cifar.Kind, contents: Mapping[str, bytes], root: Path) -> None:
    (root / kind.folder).mkdir()
    for name, content in contents.items():
        (root / kind.folder / name).write_bytes(content)


def test_cifar_gives_what_torchvision_gives(here: Path, small_cifar: tuple[str, Mapping[str, bytes]]) -> None:
    name, contents = small_cifar
    unpack_cifar(cifar.KINDS[name], contents, here)
    found = load_again(name, here)
    assert found.source == str(here)
    for is_training in (True, False):
        theirs = CIFARS[name](str(here), train=is_training)
        images_NCHW = found.images_NCHW if is_training else found.test_images_NCHW
        labels_N = found.labels_N if is_training else found.test_labels_N
        assert np.array_equal(images_NCHW.permute(0, 2, 3, 1).numpy(), theirs.data)
        assert labels_N.tolist() == theirs.targets
        assert list(found.classes) == theirs.classes


def test_cifar_is_read_from_its_archive_and_downloaded(
    here: Path,
    small_cifar: tuple[str, Mapping[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    name, contents = small_cifar
    kind = cifar.KINDS[name]
    content = packed(kind, contents)
    monkeypatch.setattr(kind, "archive_md5", md5_of(content))
    (here / "mirror").mkdir()
    (here / "mirror" / kind.archive).write_bytes(content)
    with pytest.raises(data.DatasetMissing) as error:
        load_again(name, here / "new")
    assert str(error.value).startswith(
        f"{name} is not in {here}/new: there is no {kind.archive} (or the folder {kind.folder} with its files), and "
        f"the download failed: file:///nowhere/{kind.archive}: "
    )
    assert not (here / "new").exists()
    monkeypatch.setattr(kind, "url", f"file://{here}/mirror/")
    downloaded = load_again(name, here / "new")
    assert [path.name for path in (here / "new").iterdir()] == [kind.archive]
    assert caplog.messages == [f"downloading file://{here}/mirror/{kind.archive}"]
    (here / "unpacked").mkdir()
    unpack_cifar(kind, contents, here / "unpacked")
    assert load_again(name, here / "new").digest == load_again(name, here / "unpacked").digest == downloaded.digest


class Harmful:
    """What a pickle may hold, and must not be called."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, ("harm",)


def test_batches_are_checked_before_they_are_unpickled_and_call_nothing(
    here: Path, small_cifar: tuple[str, Mapping[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, contents = small_cifar
    kind = cifar.KINDS[name]
    bad = pickle.dumps(Harmful(), protocol=2)
    (test_file,) = kind.test
    unpack_cifar(kind, {**contents, test_file: bad}, here)
    with pytest.raises(Failure, match=f"{test_file} is damaged or another file: expected MD5 .*, found .*; remove it"):
        load_again(name, here)
    monkeypatch.setattr(kind, "test", {test_file: md5_of(bad)})
    with pytest.raises(Failure, match=r"expected a pickled dictionary with data, found .*posix\.mkdir is not allowed"):
        load_again(name, here)
    assert not (here / "harm").exists()


# SVHN


@pytest.fixture
def small_svhn(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with a small SVHN, in which the digit 0 is called 10."""
    for seed, (name, num) in enumerate((("train_32x32.mat", NUM), ("test_32x32.mat", NUM_TEST))):
        numbers = np.array([[k or 10] for k in labels(num, 10)], np.uint8)
        savemat(here / name, {"X": pixels(seed, 32, 32, 3, num), "y": numbers}, do_compression=True)
    md5s = {name: md5_of((here / name).read_bytes()) for name in svhn.MD5S}
    monkeypatch.setattr(svhn, "MD5S", md5s)
    theirs = torchvision.datasets.SVHN
    split_list = {half: [*theirs.split_list[half][:2], md5s[theirs.split_list[half][1]]] for half in ("train", "test")}
    monkeypatch.setattr(theirs, "split_list", split_list)
    return here


def test_svhn_gives_what_torchvision_gives(small_svhn: Path) -> None:
    found = load_again("svhn", small_svhn)
    for half, images_NCHW, labels_N in (
        ("train", found.images_NCHW, found.labels_N),
        ("test", found.test_images_NCHW, found.test_labels_N),
    ):
        theirs = torchvision.datasets.SVHN(str(small_svhn), split=half)
        assert np.array_equal(images_NCHW.numpy(), theirs.data)
        assert labels_N.tolist() == theirs.labels.tolist()
    assert found.classes == tuple("0123456789")


def test_another_svhn_is_refused(small_svhn: Path) -> None:
    (small_svhn / "test_32x32.mat").write_bytes(b"damaged")
    with pytest.raises(Failure, match=r"test_32x32.mat is damaged or another file: expected MD5 "):
        load_again("svhn", small_svhn)


# QMNIST and EMNIST


def idx_bytes(values: Any, kind: str = "u1") -> bytes:
    code = {"u1": 0x08, ">i4": 0x0C}[kind]
    header = struct.pack(f">{1 + values.ndim}I", code * 0x100 + values.ndim, *values.shape)
    return header + bytes(values.astype(kind).tobytes())


@pytest.fixture
def small_qmnist(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with a small QMNIST, gzipped and plain, as torchvision leaves it."""
    monkeypatch.setattr(qmnist, "NUM", NUM)
    raw = here / "QMNIST" / "raw"
    raw.mkdir(parents=True)
    md5s = {}
    for seed, name in enumerate(qmnist.MD5S):
        rows = np.random.default_rng(seed).integers(0, 2**31, (NUM, 8))
        rows[:, 0] = labels(NUM, 10)
        content = idx_bytes(pixels(seed, NUM, 28, 28)) if "images" in name else idx_bytes(rows, ">i4")
        (raw / name).write_bytes(content)
        (raw / f"{name}.gz").write_bytes(zipped := gzip.compress(content, mtime=0))
        md5s[name] = md5_of(zipped)
    monkeypatch.setattr(qmnist, "MD5S", md5s)
    return here


def test_qmnist_gives_what_torchvision_gives(small_qmnist: Path) -> None:
    found = load_again("qmnist", small_qmnist)
    for what, images_NCHW, labels_N in (
        ("train", found.images_NCHW, found.labels_N),
        ("test", found.test_images_NCHW, found.test_labels_N),
    ):
        theirs = torchvision.datasets.QMNIST(str(small_qmnist), what=what)
        assert torch.equal(images_NCHW[:, 0], theirs.data)
        assert labels_N.tolist() == [theirs[i][1] for i in range(NUM)]


def test_qmnist_is_known_by_its_gzipped_files_alone(small_qmnist: Path) -> None:
    (small_qmnist / "QMNIST/raw/qmnist-test-labels-idx2-int.gz").unlink()
    with pytest.raises(
        Failure, match="qmnist-test-labels-idx2-int is damaged or another file: expected MD5 of the gzip"
    ):
        load_again("qmnist", small_qmnist)


def emnist_files(split: str) -> dict[str, bytes]:
    """The unpacked files of a small split."""
    files = {}
    num_classes, first = len(emnist.CLASSES[split]), 1 if split == "letters" else 0
    for seed, (half, num) in enumerate((("train", 2 * num_classes), ("test", num_classes))):
        numbers = np.array(labels(num, num_classes)) + first
        if half == "train":
            numbers[:num_classes] = np.arange(num_classes) + first
        files[f"emnist-{split}-{half}-images-idx3-ubyte"] = idx_bytes(pixels(seed, num, 28, 28))
        files[f"emnist-{split}-{half}-labels-idx1-ubyte"] = idx_bytes(numbers)
    return files


@pytest.mark.parametrize("name", EMNIST)
def test_emnist_gives_what_torchvision_gives_but_upright(here: Path, name: str) -> None:
    split = name.removeprefix("emnist-")
    raw = here / "EMNIST" / "raw"
    raw.mkdir(parents=True)
    for file, content in emnist_files(split).items():
        (raw / file).write_bytes(content)
    found = load_again(name, here)
    for is_training, images_NCHW, labels_N in (
        (True, found.images_NCHW, found.labels_N),
        (False, found.test_images_NCHW, found.test_labels_N),
    ):
        theirs = torchvision.datasets.EMNIST(str(here), split=split, train=is_training)
        assert torch.equal(images_NCHW[:, 0], theirs.data.transpose(1, 2))
        assert [found.classes[k] for k in labels_N.tolist()] == [theirs.classes[k] for k in theirs.targets.tolist()]


def test_emnist_is_read_from_its_archive_and_downloaded(
    here: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in emnist_files("letters").items():
            archive.writestr(f"gzip/{name}.gz", gzip.compress(content))
    (here / "mirror.zip").write_bytes(file.getvalue())
    monkeypatch.setattr(emnist, "URL", f"file://{here}/mirror.zip")
    with pytest.raises(data.DatasetMissing, match=r"EMNIST is not in .*: there is no gzip.zip .*: expected MD5 "):
        load_again("emnist-letters", here / "new")
    assert not (here / "new").exists()
    monkeypatch.setattr(emnist, "MD5", md5_of(file.getvalue()))
    caplog.clear()
    downloaded = load_again("emnist-letters", here / "new")
    assert caplog.messages == [f"downloading file://{here}/mirror.zip"]
    assert (here / "new/EMNIST/raw/gzip.zip").read_bytes() == file.getvalue()
    assert load_again("emnist-letters", here / "new").digest == downloaded.digest
    assert downloaded.classes == tuple("abcdefghijklmnopqrstuvwxyz")


@pytest.mark.parametrize(
    ("header", "found"),
    [((0x803, 5_000_000, 28, 28), "5000000, 28, 28"), ((0x803, 52, 28, 29), "28, 29"), ((0x803, 51, 28, 28), "more")],
)
def test_unpacked_emnist_of_another_form_is_refused(here: Path, header: tuple[int, ...], found: str) -> None:
    raw = here / "EMNIST" / "raw"
    raw.mkdir(parents=True)
    files = emnist_files("letters")
    name = "emnist-letters-train-images-idx3-ubyte"
    files[name] = struct.pack(">4I", *header) + files[name][16:]
    for file, content in files.items():
        (raw / file).write_bytes(content)
    with pytest.raises(Failure, match=f"{name} is damaged or another file: expected .*, found .*{found}"):
        load_again("emnist-letters", here)


def test_a_file_that_cannot_be_read_is_named(here: Path) -> None:
    for path, reason in ((here, "Is a directory"), (here / "missing", "No such file or directory")):
        with pytest.raises(Failure, match=rf"^{re.escape(str(path))} cannot be read: {reason}$"):
            published.read_bytes(path, 10)


def test_no_more_than_the_limit_is_read(here: Path) -> None:
    (here / "file").write_bytes(b"x" * 1_000)
    assert published.read_bytes(here / "file", 10) == b"x" * 10


def test_labels_of_all_datasets_are_int64(small_svhn: Path) -> None:
    labels_N: Tensor = load_again("svhn", small_svhn).labels_N
    assert labels_N.dtype == torch.int64
