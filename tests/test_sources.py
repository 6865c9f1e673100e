"""Images of one's own as datasets: class folders, NumPy archives and Parquet files, their sizes and colours."""

import errno
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from aepretrain import data
from aepretrain.config import DataRequest, Settings, TrainingSpec, dataset_name
from aepretrain.data import Dataset, collection, with_digest
from aepretrain.errors import Failure, UsageError
from aepretrain.training import training_key
from examples.shapes import CLASSES, draw, write_pictures

pytestmark = pytest.mark.usefixtures("own_registries")


def load(dataset: str, **options: Any) -> Dataset:
    data._loaded.clear()
    return data.load(DataRequest(dataset, **options), None)


def save(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def colours(num: int, size: tuple[int, int] = (8, 6), seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (num, *size, 3), dtype=np.uint8)


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """Class folders of 14 pictures each, 16×20."""
    write_pictures(tmp_path / "shapes", (16, 20), 14)
    return tmp_path / "shapes"


def test_class_folders_are_a_dataset_with_a_seventh_held_out(shapes: Path) -> None:
    found = load(f"folder:{shapes}")
    assert found.classes == CLASSES == ("bar", "disc", "ring")
    assert found.name == "folder:shapes"
    assert found.source == str(shapes)
    assert found.images_NCHW.shape == (36, 3, 16, 20)
    assert found.test_images_NCHW.shape == (6, 3, 16, 20)
    assert torch.bincount(found.test_labels_N).tolist() == [2, 2, 2]
    pictures = {Image.open(path).tobytes() for path in shapes.rglob("*.png")}
    images = torch.cat([found.images_NCHW, found.test_images_NCHW]).permute(0, 2, 3, 1)
    assert {image.numpy().tobytes() for image in images} == pictures
    generator = np.random.default_rng(0)
    first = torch.from_numpy(draw("bar", (16, 20), generator)).permute(2, 0, 1)
    (place,) = (i for i, image in enumerate(found.images_NCHW) if torch.equal(image, first))
    assert found.labels_N[place] == 0


def test_the_held_out_pictures_depend_on_names_alone(shapes: Path) -> None:
    def held_out() -> set[bytes]:
        return {image.numpy().tobytes() for image in load(f"folder:{shapes}").test_images_NCHW}

    before = held_out()
    for kind in CLASSES:
        save(shapes / kind / "another.png", colours(1, (16, 20))[0])
    assert len(held_out() - before) <= 3, "at most one of each class is another"


def test_folders_named_train_and_test_are_kept_apart(tmp_path: Path) -> None:
    for part, num in (("train", 6), ("test", 2)):
        write_pictures(tmp_path / part, (16, 16), num, seed=len(part))
    (tmp_path / "train" / ".cache").mkdir()
    (tmp_path / "train" / "bar" / "notes.txt").touch()
    (tmp_path / "train" / "bar" / "._0001.png").touch()
    found = load(f"folder:{tmp_path}")
    assert (len(found.images_NCHW), len(found.test_images_NCHW)) == (18, 6)
    save(tmp_path / "test" / "star" / "1.png", colours(1)[0])
    with pytest.raises(Failure, match=r"test has classes without training pictures: star$"):
        load(f"folder:{tmp_path}")


def test_broken_pictures_are_counted_and_named(shapes: Path, caplog: pytest.LogCaptureFixture) -> None:
    (shapes / "bar" / "0003.png").write_bytes((shapes / "bar" / "0003.png").read_bytes()[:60])
    (shapes / "disc" / "text.jpg").write_text("no picture")
    Image.fromarray(np.zeros((16, 20), np.uint16)).save(shapes / "ring" / "wide.png")
    found = load(f"folder:{shapes}")
    assert len(found.images_NCHW) + len(found.test_images_NCHW) == 41
    (line,) = caplog.messages
    assert line.startswith(f"3 of 44 pictures in {shapes} cannot be used: bar/0003.png ")
    assert "; disc/text.jpg is no picture that can be read: PNG, JPEG" in line
    assert "; ring/wide.png has 16 bits a channel: convert it to 8 bits" in line
    assert line.endswith(". They are left out.")


def test_pictures_of_several_sizes_need_one_that_is_named(shapes: Path) -> None:
    save(shapes / "bar" / "large.png", colours(1, (40, 50))[0])
    with pytest.raises(Failure, match=r"sizes, like 16×20 \(ring/\d+.png\) and 40×50 \(bar/large.png\)"):
        load(f"folder:{shapes}")
    found = load(f"folder:{shapes}", image_size="12x10")
    assert found.images_NCHW.shape[1:] == (3, 12, 10)


def test_a_picture_is_scaled_and_cut_on_both_sides_alike(tmp_path: Path) -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = (255, 0, 0)
    for number in range(7):
        save(tmp_path / "a" / f"{number}.png", wide)
        save(tmp_path / "b" / f"{number}.png", 255 - wide)
    found = load(f"folder:{tmp_path}", image_size="10")
    inner = found.images_NCHW[0, :, 1:-1, 1:-1]
    assert (inner[0] == 255).all()
    assert (inner[1:] == 0).all()
    grey = load(f"folder:{tmp_path}", image_size="10", grey=True)
    assert grey.images_NCHW.shape[1:] == (1, 10, 10)
    assert grey.images_NCHW[0, 0, 5, 5] == 76, "0.299 × 255"


def test_grey_pictures_have_one_channel_and_transparent_ground_is_white(tmp_path: Path) -> None:
    for number in range(7):
        save(tmp_path / "a" / f"{number}.png", np.full((8, 8), number, np.uint8))
        save(tmp_path / "b" / f"{number}.png", np.full((8, 8), 100 + number, np.uint8))
    assert load(f"folder:{tmp_path}").images_NCHW.shape == (12, 1, 8, 8)
    clear = np.zeros((8, 8, 4), np.uint8)
    clear[2:6, 2:6] = (10, 20, 30, 255)
    save(tmp_path / "b" / "clear.png", clear)
    mixed = load(f"folder:{tmp_path}").images_NCHW
    (found,) = (image for image in mixed if image[0, 3, 3] == 10)
    assert found[:, 3, 3].tolist() == [10, 20, 30]
    assert (found[:, 0] == 255).all()
    assert (mixed[:, 0] == mixed[:, 1]).flatten(1).all(1).sum() == len(mixed) - 1, "grey pictures repeat their channel"


FOLDERS = {
    "nothing": ([], "there is no folder"),
    "no classes": (["1.png"], "there are no class folders in"),
    "an empty class": (["a/1.png", "b/notes.txt"], r"there is no picture in .*b: no file's name ends in \.png, "),
    "one class": ([f"a/{i}.png" for i in range(14)], "it has one class"),
    "too few": (["a/1.png", "a/2.png", "b/1.png", "b/2.png"], "it has 2 training images, at least 10 are needed"),
    "only broken ones": (
        ["a/1.txt.png", "b/1.txt.png"],
        "2 of 2 pictures in .* cannot be used: a/1.txt.png is no p",
    ),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_that_is_no_dataset_is_refused_in_a_line(tmp_path: Path, name: str) -> None:
    files, message = FOLDERS[name]
    for file in files:
        if ".txt" in file:
            (tmp_path / "own" / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "own" / file).touch()
        else:
            save(tmp_path / "own" / file, colours(1)[0])
    with pytest.raises(Failure, match=message) as error:
        load(f"folder:{tmp_path / 'own'}")
    assert "\n" not in str(error.value)


def write_archive(path: Path, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return f"npz:{path}"


@pytest.mark.parametrize(
    ("images", "shape"),
    [
        (np.arange(14 * 5 * 7, dtype=np.uint8).reshape(14, 5, 7), (1, 5, 7)),
        (colours(14), (3, 8, 6)),
        (colours(14).transpose(0, 3, 1, 2), (3, 8, 6)),
        (colours(14)[..., :2] / 255.0, (2, 8, 6)),
        (colours(14).astype(np.int64), (3, 8, 6)),
    ],
    ids=["grey", "channels last", "channels first", "two channels, floats", "wide numbers"],
)
def test_an_archive_in_any_order_of_axes_is_a_dataset(
    tmp_path: Path, images: NDArray[Any], shape: tuple[int, ...]
) -> None:
    names = np.array(["cat", "dog"])[np.arange(14) % 2]
    found = load(write_archive(tmp_path / "own.npz", images=images, labels=names))
    assert found.classes == ("cat", "dog")
    assert found.images_NCHW.shape == (12, *shape)
    assert found.images_NCHW.dtype == torch.uint8
    assert torch.bincount(found.test_labels_N).tolist() == [1, 1]
    in_0_to_255 = images if images.max() > 1 else (images * 255).round()
    assert found.images_NCHW.sum() + found.test_images_NCHW.sum() == in_0_to_255.sum()


def test_medmnists_and_kerass_names_are_known(tmp_path: Path) -> None:
    images, labels = colours(30), np.arange(30).reshape(-1, 1) % 3
    med = {"train": slice(0, 15), "val": slice(15, 24), "test": slice(24, 30)}
    parts: dict[str, NDArray[Any]] = {f"{part}_images": images[rows] for part, rows in med.items()}
    parts |= {f"{part}_labels": labels[rows] for part, rows in med.items()}
    found = load(write_archive(tmp_path / "med.npz", **parts, classes=["a", "b", "c"]))
    assert (len(found.labels_N), len(found.test_labels_N), found.classes) == (24, 6, ("a", "b", "c"))
    assert torch.equal(found.images_NCHW, torch.from_numpy(images[:24]).permute(0, 3, 1, 2))
    keras = {"x_train": images[:24], "y_train": labels[:24, 0], "x_test": images[24:], "y_test": labels[24:, 0]}
    again = load(write_archive(tmp_path / "keras.npz", **keras))
    assert again.digest == found.digest, "names of classes change no result"
    assert again.classes == ("0", "1", "2")


ARCHIVES = {
    "no such file": (None, "there is no file"),
    "text": (b"images", "is no readable NumPy archive"),
    "other names": ({"pictures": colours(14)}, "has the arrays pictures: it needs images and labels, train_images and"),
    "objects": (
        {"images": np.array([{}] * 14), "labels": np.arange(14)},
        "is no readable NumPy archive: Object",
    ),
    "lengths": ({"images": colours(14), "labels": np.arange(13) % 2}, "there are 14 images and 13 labels"),
    "flat": (
        {"images": np.zeros((14, 64), np.uint8), "labels": np.arange(14) % 2},
        r"images is \[14, 64\], expected",
    ),
    "too bright": ({"images": colours(14) / 100.0, "labels": np.arange(14) % 2}, "has values from 0 to 2.55, expected"),
    "not numbers": ({"images": np.full((14, 8, 8), np.nan), "labels": np.arange(14) % 2}, "that are no pixels"),
    "fractions": ({"images": colours(14), "labels": np.arange(14) / 7}, r"labels is float64 \[14\], expected whole"),
    "negative": ({"images": colours(14), "labels": np.arange(14) - 1}, "has the class -1: classes are numbered from 0"),
    "a gap": ({"images": colours(14), "labels": np.arange(14) % 2 * 2}, "there is no training image of class 1"),
    "a huge number": (
        {"images": colours(14), "labels": np.arange(14) * 10**12},
        "there is a class 13000000000000, but",
    ),
    "an unknown name": (
        {"images": colours(14), "labels": np.array(["cat", "cow"] * 7), "classes": ["cat", "dog"]},
        "there is a picture of class cow, which is not among the classes: cat, dog",
    ),
    "five channels": (
        {"images": np.zeros((14, 5, 8, 8), np.uint8), "labels": np.arange(14) % 2},
        r"images is \[14, 5, 8, 8\], expected",
    ),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_bad_archive_is_refused_in_a_line(tmp_path: Path, name: str) -> None:
    content, message = ARCHIVES[name]
    path = tmp_path / "own.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.savez(path, **content)
    with pytest.raises(Failure, match=message) as error:
        load(f"npz:{path}")
    assert "\n" not in str(error.value)


def encoded(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def hub_table(pixels: NDArray[np.uint8], labels: Any, names: list[str] | None = None) -> pa.Table:
    """A table as the Hugging Face hub writes it."""
    images = pa.array([{"bytes": encoded(one), "path": None} for one in pixels])
    table = pa.table({"image": images, "label": pa.array(labels)})
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    about = {"huggingface": json.dumps({"info": {"features": features}})} if names else {}
    return table.replace_schema_metadata(about)


def test_parquet_files_of_the_hub_are_a_dataset(tmp_path: Path) -> None:
    images, labels = colours(30), np.arange(30) % 3
    (tmp_path / "own" / "data").mkdir(parents=True)
    for part, rows in (("train", slice(0, 18)), ("validation", slice(18, 24)), ("test", slice(24, 30))):
        table = hub_table(images[rows], labels[rows], ["cat", "dog", "owl"])
        pq.write_table(table, tmp_path / "own" / "data" / f"{part}-00000-of-00001.parquet")
    found = load(f"parquet:{tmp_path / 'own'}")
    assert (found.name, found.classes) == ("parquet:own", ("cat", "dog", "owl"))
    assert torch.equal(found.images_NCHW, torch.from_numpy(images[:24]).permute(0, 3, 1, 2))
    assert found.test_labels_N.tolist() == labels[24:].tolist()
    pq.write_table(
        pa.table({"picture": [encoded(one) for one in images], "class": [f"class {k}" for k in labels]}),
        tmp_path / "plain.parquet",
    )
    plain = load(f"parquet:{tmp_path / 'plain.parquet'}")
    assert plain.classes == ("class 0", "class 1", "class 2")
    assert (len(plain.labels_N), len(plain.test_labels_N)) == (27, 3)


TABLES = {
    "text": (b"no table", "is no readable Parquet file"),
    "no pictures": (
        pa.table({"label": [0, 1]}),
        r"has the columns label \(int64\): one of them must hold",
    ),
    "no labels": (pa.table({"image": [b"", b""]}), "has the columns image: it needs one named label"),
    "no classes": (pa.table({"image": [b"", b""], "label": [0.5, 1.5]}), "its classes are of type double, expected"),
    "an empty cell": (
        pa.table({"image": [b"", b""], "label": [0, None]}),
        "int64 with 1 empty cells, expected",
    ),
    "a negative class": (
        pa.table({"image": [b"", b""], "label": [0, -1]}),
        "has the class -1: classes are numbered from",
    ),
    "empty pictures": (
        pa.table({"image": pa.array([None, None], pa.binary()), "label": [0, 1]}),
        r"2 of 2 pictures in .* cannot be used: own.parquet\[0\] is an empty cell",
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_bad_table_is_refused_in_a_line(tmp_path: Path, name: str) -> None:
    content, message = TABLES[name]
    path = tmp_path / "own.parquet"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        pq.write_table(content, path)
    with pytest.raises(Failure, match=message) as error:
        load(f"parquet:{path}")
    assert "\n" not in str(error.value)


def test_a_folder_without_tables_for_training_is_refused(tmp_path: Path) -> None:
    for place in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(Failure, match=rf"^there is no (file|Parquet file in) {place}$"):
            load(f"parquet:{place}")
    pq.write_table(hub_table(colours(4), [0, 1, 0, 1]), tmp_path / "test-0.parquet")
    with pytest.raises(Failure, match=rf"^there are only test pictures in {tmp_path}$"):
        load(f"parquet:{tmp_path}")


def test_unlabelled_images_of_an_archive_and_of_tables_need_no_classes(shapes: Path, tmp_path: Path) -> None:
    pixels = colours(3, (16, 20))
    archive = write_archive(tmp_path / "more.npz", images=pixels)
    (tmp_path / "more").mkdir()
    for part in range(3):
        table = pa.table({"image": [encoded(pixels[part])]})
        pq.write_table(table, tmp_path / "more" / f"test-{part}.parquet")
    for more in (archive, f"parquet:{tmp_path / 'more'}"):
        found = load(f"folder:{shapes}", unlabelled=more)
        assert found.unlabelled_NCHW is not None
        assert torch.equal(found.unlabelled_NCHW, torch.from_numpy(pixels).permute(0, 3, 1, 2)), more
    bad = write_archive(tmp_path / "bad.npz", labels=np.arange(3))
    with pytest.raises(Failure, match=r"bad.npz has the arrays labels: it needs images$"):
        load(f"folder:{shapes}", unlabelled=bad)
    two = write_archive(tmp_path / "two.npz", images=pixels[..., :2])
    with pytest.raises(Failure, match=r"two.npz have 2 channels, those of folder:shapes have 3$"):
        load(f"folder:{shapes}", unlabelled=two)


def test_a_folder_that_the_disk_does_not_give_is_named(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "iterdir", fail)
    with pytest.raises(Failure, match=rf"^{shapes} cannot be read: Input/output error$"):
        load(f"folder:{shapes}")


def test_unlabelled_images_are_brought_to_the_shape_of_the_labelled_ones(shapes: Path, tmp_path: Path) -> None:
    save(tmp_path / "more" / "deep" / "a.png", colours(1, (40, 50))[0])
    save(tmp_path / "more" / "b.png", np.full((16, 20), 7, np.uint8))
    request = {"unlabelled": f"folder:{tmp_path / 'more'}"}
    found = load(f"folder:{shapes}", **request)
    assert found.unlabelled_NCHW is not None
    assert found.unlabelled_NCHW.shape == (2, 3, 16, 20)
    assert (found.unlabelled_NCHW[0] == 7).all(), "sorted by their paths"
    plain = load(f"folder:{shapes}")
    assert found.digest == plain.digest
    grey = load(f"folder:{shapes}", grey=True, **request)
    assert grey.unlabelled_NCHW is not None
    assert grey.unlabelled_NCHW.shape == (2, 1, 16, 20)
    settings = Settings(dataset=f"folder:{shapes}", unlabelled=request["unlabelled"])
    specs = [TrainingSpec(variant=variant, network="fc", settings=settings) for variant in ("pretrain", "scratch")]
    assert training_key(specs[0], found.digests) != training_key(specs[0], plain.digests)
    assert training_key(specs[1], found.digests) == training_key(specs[1], plain.digests)
    assert specs[0].identity()["unlabelled"] == "folder:more"
    assert "unlabelled" not in specs[1].identity()
    (tmp_path / "none").mkdir()
    for folder, message in (("none", "there is no picture in "), ("nowhere", "there is no folder ")):
        with pytest.raises(Failure, match=message):
            load(f"folder:{shapes}", unlabelled=f"folder:{tmp_path / folder}")


def test_a_place_is_no_part_of_the_identity() -> None:
    for text, name in {
        "folder:/somewhere/cats": "folder:cats",
        "folder:cats/": "folder:cats",
        "folder:./a/../cats": "folder:cats",
        "npz:~/own.npz": "npz:own.npz",
        "folder:a:b": "folder:a:b",
        "mnist": "mnist",
    }.items():
        assert dataset_name(text) == name
        assert dataset_name(name) == name
        spec = TrainingSpec(variant="scratch", network="fc", settings=Settings(dataset=text))
        assert spec.identity()["dataset"] == name
    for bad in ("folder:", "folder:/", "folder:a\nb", "zip:a", "a b", ""):
        with pytest.raises(UsageError, match="dataset="):
            Settings(dataset=bad)
    for bad in ("0", "-1", "32x", "5000", "3.5", "x32", "32x32x3"):
        with pytest.raises(UsageError, match="image_size="):
            Settings(image_size=bad)
    assert Settings(image_size="32") == Settings(image_size="32x32")
    assert "image_size" not in TrainingSpec(variant="scratch", network="fc").identity()


def test_digits_keep_their_own_pixels_at_their_own_size() -> None:
    found = load("digits", image_size="8")
    assert found.images_NCHW.shape == (1540, 1, 8, 8)
    own = torch.from_numpy(load_digits().images[:1540]) * (255 / 16)
    assert torch.equal(found.images_NCHW[:, 0], own.round().to(torch.uint8))


def test_a_users_dataset_is_scaled_and_turned_grey_too() -> None:
    pixels = torch.from_numpy(colours(20, (12, 12))).permute(0, 3, 1, 2).contiguous()
    data.register(
        "mine", lambda _: with_digest("mine", "made up", pixels, torch.arange(20) % 2, pixels, torch.arange(20) % 2)
    )
    assert load("mine").images_NCHW.shape == (20, 3, 12, 12)
    changed = load("mine", image_size="6x9", grey=True)
    assert changed.images_NCHW.shape == (20, 1, 6, 9)
    assert changed.digest != load("mine").digest


def test_each_class_has_a_picture_for_training_and_one_for_testing() -> None:
    pictures = [collection.Picture(f"{label}/{n}", label, lambda: colours(1)[0]) for label in "ab" for n in range(3)]
    training, test = collection.hold_out(pictures)
    assert {one.label for one in test} == {"a", "b"}
    assert len(test) == 2
    assert len(training) == 4
    assert {one.name for one in training} | {one.name for one in test} == {one.name for one in pictures}
