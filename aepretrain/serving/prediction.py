"""Class probabilities and codes of pictures by a finished training.

Shapes: N images, C channels, H rows, W columns, K classes, D code features.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import nn

from aepretrain.errors import Failure
from aepretrain.files import atomic_write
from aepretrain.pictures import SUFFIXES, Pixels, fit, open_picture, read_pixels, to_grey
from aepretrain.records import CLASSES, Archive, Record
from aepretrain.serving.pictures import examine_picture
from aepretrain.training import encoding_module, parse_weights, scoring_module

BATCH = 256
"""Pictures in a batch, so that a folder of any size fits into memory."""

Floats = NDArray[np.float32]


def load_classifier(archive: Archive, record: Record) -> nn.Module:
    """A finished classifier: images [N, C, H, W] in [0, 1] → class probabilities [N, K]. Raises `Failure`."""
    return scoring_module(record.spec, record.shape, parse_weights(archive.weights(record)))


def load_encoder(archive: Archive, record: Record) -> nn.Module:
    """The encoder of a finished training: images [N, C, H, W] in [0, 1] → codes [N, D]. Raises `Failure`."""
    return encoding_module(record.spec, record.shape, parse_weights(archive.weights(record)))


def class_names(archive: Archive, record: Record) -> tuple[str, ...]:
    """The names of a classifier's classes; their numbers where it has none. Raises `Failure`."""
    numbers = tuple(map(str, range(record.shape.num_classes)))
    if not archive.has_artifact(record, CLASSES):
        return numbers
    try:
        names = tuple(map(str, json.loads(archive.artifact(record, CLASSES))))
    except (ValueError, TypeError):
        names = ()
    if len(names) != len(numbers):
        raise Failure(f"run {record.run_id} is damaged: {CLASSES} does not name its {len(numbers)} classes")
    return names


def check_pictures(paths: Sequence[Path]) -> None:
    """Raise `Failure`, naming the file, where one of these files is no picture."""
    for path in paths:
        with _naming(path):
            open_picture(path, lambda _image: None)


def read_pictures(paths: Sequence[Path], record: Record) -> tuple[Floats, list[list[str]]]:
    """Pictures as images for a network, [N, C, H, W] in [0, 1], and in what respects each is unlike MNIST's images.

    The doubts are about networks for MNIST alone. Pictures for other networks are scaled and cut as their training
    images were. Raises `Failure`, naming the file, for a file that is no picture.
    """
    images, doubts = zip(*(_read(path, record) for path in paths), strict=True)
    return np.stack(images), list(doubts)


def _read(path: Path, record: Record) -> tuple[Floats, list[str]]:
    channels, *size = record.shape.image
    if not record.is_like_mnist:
        with _naming(path):
            return _in_unit_interval(_in_channels(fit(read_pixels(path), (size[0], size[1])), channels)), []
    digit_HW, doubts = examine_picture(path)
    if digit_HW.shape != tuple(size):
        pixels_CHW = fit((digit_HW[None] * 255).round().astype(np.uint8), (size[0], size[1]))
        return _in_unit_interval(pixels_CHW), []
    return digit_HW[None], doubts if record.identity["dataset"] == "mnist" else []


def _in_unit_interval(pixels_CHW: Pixels) -> Floats:
    return pixels_CHW.astype(np.float32) / np.float32(255)


def _in_channels(pixels_CHW: Pixels, channels: int) -> Pixels:
    """Grey or coloured pixels with as many channels as a network takes."""
    if channels == 1:
        return to_grey(pixels_CHW)
    if len(pixels_CHW) not in (1, channels):
        raise Failure(f"has {len(pixels_CHW)} channels, and the network takes {channels}")
    return np.repeat(pixels_CHW, channels // len(pixels_CHW), axis=0)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except Failure as failure:
        raise Failure(f"{path}: {failure}") from None


def apply(module: nn.Module, images_NCHW: Floats) -> Floats:
    """The outputs of a module for images, [N, K] or [N, D]."""
    with torch.inference_mode():
        outputs: Floats = module(torch.from_numpy(images_NCHW)).numpy()
    return outputs


def most_probable(probs_K: Floats, num: int) -> list[tuple[int, float]]:
    """The `num` most probable classes with their probabilities, in descending order."""
    return [(int(k), float(probs_K[k])) for k in np.argsort(-probs_K, kind="stable")[:num]]


def pictures_in(folder: Path) -> list[Path]:
    """The picture files in a folder, sorted by name. Raises `Failure` where there are none."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise Failure(f"there is no picture in {folder}: no file there ends in {', '.join(SUFFIXES)}")
    return paths


def encode(module: nn.Module, paths: Sequence[Path], record: Record) -> Floats:
    """The codes of the pictures in these files, [N, D], by the encoder of a training. Raises `Failure`."""
    batches = (paths[start : start + BATCH] for start in range(0, len(paths), BATCH))
    return np.concatenate([apply(module, read_pictures(batch, record)[0]) for batch in batches])


def write_codes(codes_ND: Floats, paths: Sequence[Path], target: Path, about: dict[str, str]) -> None:
    """Write codes as Parquet. Raises `Failure` where the file cannot be written.

    Columns are ``file`` (the name of the picture) and ``code`` (a list of D numbers); `about` is the file's metadata.
    """
    names = [path.name.encode("utf-8", "backslashreplace").decode() for path in paths]
    codes = pa.FixedSizeListArray.from_arrays(pa.array(codes_ND.ravel()), codes_ND.shape[1])
    table = pa.table({"file": pa.array(names), "code": codes}).replace_schema_metadata(about)
    with atomic_write(target) as partial:
        pq.write_table(table, partial, compression="zstd")
