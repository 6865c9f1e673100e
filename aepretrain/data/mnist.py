"""MNIST, Fashion-MNIST and KMNIST: four IDX files each, checked by digest. Missing files are downloaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from aepretrain.config import MNIST_SHAPE, DataRequest
from aepretrain.data.dataset import Dataset, with_digest
from aepretrain.data.idx import idx_file
from aepretrain.data.published import Published, gather

FILES: Mapping[str, tuple[int, ...]] = {
    "train-images-idx3-ubyte": (60_000, *MNIST_SHAPE.image[1:]),
    "train-labels-idx1-ubyte": (60_000,),
    "t10k-images-idx3-ubyte": (10_000, *MNIST_SHAPE.image[1:]),
    "t10k-labels-idx1-ubyte": (10_000,),
}
"""Names of a dataset's files and the shapes of their values."""

LAYOUT = "with or without .gz, in {folder}/raw or in the folder itself"


@dataclass
class Kind:
    """A published dataset. Its folder has the name of torchvision's class; the mirrors are torchvision's too."""

    folder: str
    mirrors: Sequence[str]
    digests: Mapping[str, str]
    """For each of `FILES`: SHA-256 of its values (after the IDX header), or MD5 of the published gzipped file."""
    classes: Sequence[str] | None = None
    """Names of the classes; None for digits."""

    def parts(self) -> list[Published[Tensor]]:
        """Its files, in the order of `FILES`."""
        owners = {digest: f", which is {kind.folder}'s" for kind in KINDS.values() for digest in kind.digests.values()}
        return [
            idx_file(
                name,
                self.folder,
                [f"{mirror}{name}.gz" for mirror in self.mirrors],
                size,
                self.digests[name],
                owners=owners,
            )
            for name, size in FILES.items()
        ]

    def lies_in(self, root: str) -> bool:
        """Whether a folder holds a file for each of `FILES`; their content is not looked at."""
        return all(any(part.found(root)) for part in self.parts())


MNIST = Kind(
    "MNIST",
    ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
    {
        "train-images-idx3-ubyte": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
        "train-labels-idx1-ubyte": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
        "t10k-images-idx3-ubyte": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
        "t10k-labels-idx1-ubyte": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
    },
)
"""MNIST (LeCun et al. 1998)."""

FASHION_MNIST = Kind(
    "FashionMNIST",
    ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    {
        "train-images-idx3-ubyte": "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
        "train-labels-idx1-ubyte": "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
        "t10k-images-idx3-ubyte": "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
        "t10k-labels-idx1-ubyte": "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
    },
    ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
"""Fashion-MNIST (Xiao et al. 2017)."""

KMNIST = Kind(
    "KMNIST",
    ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
    {  # MD5s of the gzipped files, from torchvision: the files were not at hand
        "train-images-idx3-ubyte": "bdb82020997e1d708af4cf47b453dcf7",
        "train-labels-idx1-ubyte": "e144d726b3acfaa3e44228e80efcd344",
        "t10k-images-idx3-ubyte": "5c965bf0a639b31b8f53240b1b52f4d7",
        "t10k-labels-idx1-ubyte": "7320c461ea6c1c855c0b718fb2a4b134",
    },
    ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
)
"""Kuzushiji-MNIST (Clanuwat et al. 2018). Its files must be gzipped as published, because only their MD5s are known."""

KINDS: Mapping[str, Kind] = {"mnist": MNIST, "fashion-mnist": FASHION_MNIST, "kmnist": KMNIST}


def load(request: DataRequest, data_dir: str | None) -> Dataset:
    """A dataset from `data_dir`, or else from the default folders (see `gather`)."""
    kind = KINDS[request.dataset]
    source, found = gather(kind.folder, kind.parts(), data_dir, LAYOUT.format(folder=kind.folder))
    images, labels, test_images, test_labels = (found[file] for file in FILES)
    parts = images, labels.long(), test_images, test_labels.long()
    return with_digest(request.dataset, source, *parts, kind.classes)
