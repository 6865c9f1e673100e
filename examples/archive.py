"""A dataset in a NumPy archive: ``images.npz``, with images and labels, in the folder that --data-dir names.

python -m aepretrain grid --plugin examples.archive --dataset archive --data-dir FOLDER
"""

from pathlib import Path

import numpy as np
import torch

from aepretrain import Dataset, Failure, make_dataset, register_dataset


def load(data_dir: str | None) -> Dataset:
    """The dataset from ``images`` [N, 28, 28], 0 to 255, and ``labels`` [N], from 0 on. One in seven is for testing."""
    path = Path(data_dir or ".", "images.npz")
    if not path.is_file():
        raise Failure(f"{path} is missing: name its folder with --data-dir")
    with np.load(path, allow_pickle=False) as archive:
        images_NHW = torch.from_numpy(archive["images"].astype(np.uint8))
        labels_N = torch.from_numpy(archive["labels"].astype(np.int64))
    is_test_N = torch.arange(len(labels_N)) % 7 == 0
    training, test = ((images_NHW[chosen], labels_N[chosen]) for chosen in (~is_test_N, is_test_N))
    return make_dataset("archive", str(path.absolute()), *training, *test)


register_dataset("archive", load)
