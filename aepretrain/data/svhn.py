"""SVHN (Netzer et al. 2011), house numbers in the form of single digits: two MATLAB files, checked by MD5.

Shapes: N images, C channels, H rows, W columns.
"""

import io
from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor

from aepretrain.config import DataRequest
from aepretrain.data.dataset import Dataset, with_digest
from aepretrain.data.published import Published, check_md5, gather

URL = "http://ufldl.stanford.edu/housenumbers/"

LIMIT = 200_000_000
"""The larger file has 182 MB."""

MD5S: Mapping[str, str] = {
    "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
    "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
}
"""The files and their MD5s, from torchvision."""


def parts() -> list[Published[tuple[Tensor, Tensor]]]:
    """The two files, with images and labels each."""
    return [
        Published(name, [name], [f"{URL}{name}"], name, LIMIT, partial(_decode, md5=md5)) for name, md5 in MD5S.items()
    ]


def load(request: DataRequest, data_dir: str | None) -> Dataset:
    """The dataset from `data_dir`, or else from the default folders (see `gather`)."""
    source, found = gather("SVHN", parts(), data_dir, "in the folder itself")
    training, test = (found[file] for file in MD5S)
    return with_digest(request.dataset, source, *training, *test)


def _decode(source: str, content: bytes, md5: str) -> tuple[Tensor, Tensor]:
    """Images [N, 3, 32, 32] and labels. The file calls the digit 0 class 10."""
    from scipy.io import loadmat

    check_md5(source, content, md5)
    arrays = loadmat(io.BytesIO(content), variable_names=("X", "y"))
    images_HWCN, labels_N = arrays["X"], arrays["y"].reshape(-1).astype(np.int64)
    images_NCHW = np.ascontiguousarray(images_HWCN.transpose(3, 2, 0, 1))
    return torch.from_numpy(images_NCHW), torch.from_numpy(labels_N % 10)
