"""QMNIST (Yadav and Bottou 2019): MNIST's digits with 60,000 test images, in four gzipped IDX files."""

from torch import Tensor

from aepretrain.config import MNIST_SHAPE, DataRequest
from aepretrain.data.dataset import Dataset, with_digest
from aepretrain.data.idx import idx_file
from aepretrain.data.mnist import LAYOUT
from aepretrain.data.published import Published, gather

FOLDER = "QMNIST"

URL = "https://raw.githubusercontent.com/facebookresearch/qmnist/master/"

NUM = 60_000

MD5S = {
    "qmnist-train-images-idx3-ubyte": "ed72d4157d28c017586c42bc6afe6370",
    "qmnist-train-labels-idx2-int": "0058f8dd561b90ffdd0f734c6a30e5e4",
    "qmnist-test-images-idx3-ubyte": "1394631089c404de565df7b7aeaf9412",
    "qmnist-test-labels-idx2-int": "5b5b05890a5e13444e108efe57b788aa",
}
"""MD5s of the gzipped files, from torchvision. The files must be gzipped as published, as nothing else is known."""


def parts() -> list[Published[Tensor]]:
    """The four files. Labels are rows of eight numbers: the class, and who wrote the digit."""
    return [
        idx_file(name, FOLDER, [f"{URL}{name}.gz"], (NUM, *MNIST_SHAPE.image[1:]), md5)
        if "images" in name
        else idx_file(name, FOLDER, [f"{URL}{name}.gz"], (NUM, 8), md5, ">i4")
        for name, md5 in MD5S.items()
    ]


def load(request: DataRequest, data_dir: str | None) -> Dataset:
    """The dataset from `data_dir`, or else from the default folders (see `gather`)."""
    source, found = gather(FOLDER, parts(), data_dir, LAYOUT.format(folder=FOLDER))
    images, labels, test_images, test_labels = (found[file] for file in MD5S)
    return with_digest(request.dataset, source, images, labels[:, 0], test_images, test_labels[:, 0])
