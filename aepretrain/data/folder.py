"""Pictures in class folders, as torchvision's ImageFolder has them."""

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from aepretrain.data.collection import Collection, Picture
from aepretrain.errors import Failure
from aepretrain.pictures import SUFFIXES, read_pixels


def collect(path: Path) -> Collection:
    """The pictures in ``path/CLASS/``, or in ``path/train/CLASS/`` and ``path/test/CLASS/``. Raises `Failure`.

    Folders within a class's folder belong to the class. Names that begin with a dot are ignored, and files that are not
    named like pictures.
    """
    if not path.is_dir():
        raise Failure(f"there is no folder {path}")
    parts = [path / part for part in ("train", "test")]
    if not all(part.is_dir() for part in parts):
        return Collection(str(path.absolute()), _of_classes(path, path), ())
    training, test = (_of_classes(part, path) for part in parts)
    known = {picture.label for picture in training}
    unknown = sorted({str(picture.label) for picture in test if picture.label not in known})
    if unknown:
        raise Failure(f"{path / 'test'} has classes without training pictures: {', '.join(unknown[:5])}")
    return Collection(str(path.absolute()), training, test)


def collect_unlabelled(path: Path) -> Collection:
    """All pictures in a folder and the folders in it. Raises `Failure`."""
    if not path.is_dir():
        raise Failure(f"there is no folder {path}")
    pictures = [_picture(file, path, None) for file in _files(path)]
    if not pictures:
        raise Failure(f"there is no picture in {path}: no file's name ends in {', '.join(SUFFIXES)}")
    return Collection(str(path.absolute()), pictures, ())


def _of_classes(folder: Path, root: Path) -> Sequence[Picture]:
    """The pictures of each class folder in a folder; their names are their paths from the root."""
    try:
        classes = sorted(one.name for one in folder.iterdir() if one.is_dir() and not one.name.startswith("."))
    except OSError as error:
        raise Failure(f"{folder} cannot be read: {error.strerror}") from None
    if not classes:
        raise Failure(f"there are no class folders in {folder}: pictures must lie in {folder}/CLASS/")
    pictures = []
    for name in classes:
        of_class = [_picture(file, root, name) for file in _files(folder / name)]
        if not of_class:
            raise Failure(
                f"there is no picture in {folder / name}: no file's name ends in {', '.join(SUFFIXES)}; "
                "if it is not a class, move it elsewhere"
            )
        pictures += of_class
    return pictures


def _picture(file: Path, root: Path, label: str | None) -> Picture:
    return Picture(file.relative_to(root).as_posix(), label, partial(read_pixels, file))


def _files(folder: Path) -> Iterator[Path]:
    """The files in a folder that are named like pictures, in the same order on every machine."""
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield Path(parent, name)
