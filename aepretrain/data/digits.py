"""The digits bundled with scikit-learn: real handwriting for machines without MNIST.

Shapes: N images, C channels, H rows, W columns.
"""

import torch
from sklearn.datasets import load_digits

from aepretrain.config import MNIST_SHAPE, DataRequest
from aepretrain.data.dataset import Dataset, with_digest


def load(request: DataRequest, _data_dir: str | None) -> Dataset:
    """scikit-learn's 1,797 handwritten 8×8 digits (UCI), scaled to 28×28, or to the size that was asked for.

    The last seventh is for testing.

    The file is ordered by writer. Its order is kept, so that test images come from other writers than training images.
    """
    digits = load_digits()
    images_NCHW = torch.from_numpy(digits.images).float().unsqueeze(1) * (255 / 16)
    size = request.size or MNIST_SHAPE.image[1:]
    scaled_NCHW = torch.nn.functional.interpolate(images_NCHW, size, mode="bilinear", align_corners=False)
    images_NCHW = scaled_NCHW.round().to(torch.uint8)
    labels_N = torch.from_numpy(digits.target).long()
    num_train = len(labels_N) - round(len(labels_N) / 7)
    return with_digest(
        "digits",
        "sklearn.datasets.load_digits",
        images_NCHW[:num_train],
        labels_N[:num_train],
        images_NCHW[num_train:],
        labels_N[num_train:],
    )
