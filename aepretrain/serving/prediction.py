"""Class probabilities and codes of pictures by a finished training.

Shapes: N images, C channels, H rows, W columns, K classes, D code features.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import nn

from aepretrain.errors import Failure
from aepretrain.files import atomic_write
from aepretrain.records import Record
from aepretrain.serving.pictures import SUFFIXES, examine_picture, read_picture
from aepretrain.tracking import Store
from aepretrain.training import encoding_module, parse_weights, scoring_module

BATCH = 256
"""Pictures in a batch, so that a folder of any size fits into memory."""

Floats = NDArray[np.float32]


def load_classifier(store: Store, record: Record) -> nn.Module:
    """A finished classifier: images [N, 1, 28, 28] in [0, 1] → class probabilities [N, K]. Raises `Failure`."""
    return scoring_module(record.spec, parse_weights(store.weights(record)))


def load_encoder(store: Store, record: Record) -> nn.Module:
    """The encoder of a finished training: images [N, 1, 28, 28] in [0, 1] → codes [N, D]. Raises `Failure`."""
    return encoding_module(record.spec, parse_weights(store.weights(record)))


def read_pictures(paths: Sequence[Path]) -> Floats:
    """The pictures in these files as images [N, H, W] in [0, 1]. Raises `Failure` for a file that is not a picture."""
    return np.stack([read_picture(path) for path in paths])


def examine_pictures(paths: Sequence[Path]) -> tuple[Floats, list[list[str]]]:
    """`read_pictures`, and for each picture in what respects it differs from MNIST's images. Raises `Failure`."""
    images, doubts = zip(*map(examine_picture, paths), strict=True)
    return np.stack(images), list(doubts)


def apply(module: nn.Module, images_NHW: Floats) -> Floats:
    """The outputs of a module for images, [N, K] or [N, D]."""
    with torch.inference_mode():
        outputs: Floats = module(torch.from_numpy(images_NHW).unsqueeze(1)).numpy()
    return outputs


def most_probable(probs_K: Floats, num: int) -> list[tuple[int, float]]:
    """The `num` most probable classes with their probabilities, in descending order."""
    return [(int(k), float(probs_K[k])) for k in np.argsort(-probs_K, kind="stable")[:num]]


def pictures_in(folder: Path) -> list[Path]:
    """The PNG and JPEG files in a folder, sorted by name. Raises `Failure` where there are none."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise Failure(f"there is no picture in {folder}: no file there ends in {', '.join(SUFFIXES)}")
    return paths


def encode(module: nn.Module, paths: Sequence[Path]) -> Floats:
    """The codes of the pictures in these files, [N, D]. Raises `Failure` for a file that is no picture."""
    batches = (paths[start : start + BATCH] for start in range(0, len(paths), BATCH))
    return np.concatenate([apply(module, read_pictures(batch)) for batch in batches])


def write_codes(codes_ND: Floats, paths: Sequence[Path], target: Path, about: dict[str, str]) -> None:
    """Write codes as Parquet. Raises `Failure` where the file cannot be written.

    Columns are ``file`` (the name of the picture) and ``code`` (a list of D numbers); `about` is the file's metadata.
    """
    names = [path.name.encode("utf-8", "backslashreplace").decode() for path in paths]
    codes = pa.FixedSizeListArray.from_arrays(pa.array(codes_ND.ravel()), codes_ND.shape[1])
    table = pa.table({"file": pa.array(names), "code": codes}).replace_schema_metadata(about)
    with atomic_write(target) as partial:
        pq.write_table(table, partial, compression="zstd")
