"""The digits bundled with scikit-learn: real handwriting for machines without MNIST."""

import torch
from sklearn.datasets import load_digits

from aepretrain.data.dataset import IMAGE_SIZE, Dataset, with_digest


def load(_name: str, _data_dir: str | None) -> Dataset:
    """scikit-learn's 1,797 handwritten 8×8 digits (UCI), scaled to 28×28. The last seventh is for testing.

    The file is ordered by writer. Its order is kept, so that test images come from other writers than training images.
    """
    digits = load_digits()
    images_NCHW = torch.from_numpy(digits.images).float().unsqueeze(1) * (255 / 16)
    scaled_NCHW = torch.nn.functional.interpolate(images_NCHW, IMAGE_SIZE, mode="bilinear", align_corners=False)
    images_NHW = scaled_NCHW.squeeze(1).round().to(torch.uint8)
    labels_N = torch.from_numpy(digits.target).long()
    num_train = len(labels_N) - round(len(labels_N) / 7)
    return with_digest(
        "digits",
        "sklearn.datasets.load_digits",
        images_NHW[:num_train],
        labels_N[:num_train],
        images_NHW[num_train:],
        labels_N[num_train:],
    )
