"""The obvious program: per-image transforms, a DataLoader, one training after another.

    python -m benchmarks.obvious FOLDER EPOCHS

It trains the same 16 networks on the same work as the suite; `grid.py` compares against it. The programs in `peers` use
everything here except the loop.
"""

import copy
import gzip
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import datasets, transforms

from aepretrain.config import AUGMENTATIONS, GRID_NETWORKS, MNIST_SHAPE, Settings
from aepretrain.networks import FullyConnected, Network, build
from aepretrain.variants import GRID_VARIANTS, VARIANTS

Example = tuple[Tensor, int]
"""An image, [1, 28, 28], and its class."""

Images = Dataset[Example]

Train = Callable[[Network, str, Images, Images, int], None]
"""A training: network, variant, images to train and to validate on, epochs. The best weights stay in the network."""


def unpack(source: Path, target: Path) -> None:
    """Put MNIST's files where torchvision's class looks for them: unpacked, under MNIST/raw."""
    raw = target / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (source / "MNIST" / "raw").iterdir():
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        (raw / file.name.removesuffix(".gz")).write_bytes(content)


def datasets_of(root: str, augmentation: str) -> tuple[Images, Images]:
    """Images for training and for validation, split 50,000 / 10,000, each transformed every time it is read."""
    plain = transforms.ToTensor()
    settings = Settings()
    erasing = transforms.RandomErasing(p=1, scale=settings.erase_scale, ratio=settings.erase_ratio)
    augmented = transforms.Compose([plain, erasing]) if augmentation == "erasing" else plain
    order = torch.randperm(60_000, generator=torch.Generator().manual_seed(0)).tolist()

    def part(transform: object, indices: list[int]) -> Images:
        return Subset(datasets.MNIST(root, train=True, transform=transform), indices)

    return part(augmented, order[10_000:]), part(plain, order[:10_000])


def loaders(training: Images, validation: Images) -> tuple[DataLoader[Example], DataLoader[Example]]:
    """Batches for training, shuffled, and for validation."""
    batch_size = Settings().batch_size
    return DataLoader(training, batch_size, shuffle=True), DataLoader(validation, batch_size)


def forward(network: Network, variant: str, images: Tensor) -> Tensor:
    """The layers in their listed order."""
    convolutional = not isinstance(network, FullyConnected)
    with torch.set_grad_enabled(torch.is_grad_enabled() and variant != "frozen"):
        codes = network.encoder(images if convolutional else images.flatten(1))
    part = network.decoder if variant == "pretrain" else getattr(network, network.head_name(VARIANTS.look_up(variant)))
    outputs: Tensor = part(codes if convolutional and variant == "pretrain" else codes.flatten(1))
    return outputs.view(images.shape) if variant == "pretrain" else outputs


def loss_of(variant: str, outputs: Tensor, images: Tensor, labels: Tensor) -> Tensor:
    """The mean loss of a batch: squared error for the autoencoder, else cross-entropy."""
    return functional.mse_loss(outputs, images) if variant == "pretrain" else functional.cross_entropy(outputs, labels)


def learned_weights(network: Network, variant: str) -> list[nn.Parameter]:
    """The weights that a variant trains."""
    head = getattr(network, network.head_name(VARIANTS.look_up(variant)))
    parts = {"pretrain": [network.encoder, network.decoder], "frozen": [head]}.get(variant, [network.encoder, head])
    return [weight for part in parts for weight in part.parameters()]


def train(network: Network, variant: str, training: Images, validation: Images, epochs: int) -> None:
    """The textbook loop, with the weights of the lowest validation loss at the end."""
    batches, validation_batches = loaders(training, validation)
    optimizer = torch.optim.Adam(learned_weights(network, variant), lr=Settings().lr)
    best, best_weights = float("inf"), copy.deepcopy(network.state_dict())
    for _ in range(epochs):
        network.train()
        for images, labels in batches:
            loss = loss_of(variant, forward(network, variant, images), images, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        total, _accuracy = validate(network, variant, validation_batches)
        if total < best:
            best, best_weights = total, copy.deepcopy(network.state_dict())
    network.load_state_dict(best_weights)


@torch.no_grad()
def validate(network: Network, variant: str, batches: DataLoader[Example]) -> tuple[float, float]:
    """The mean loss on validation images, and for a classifier its accuracy."""
    network.eval()
    total, correct, num = 0.0, 0, 0
    for images, labels in batches:
        outputs = forward(network, variant, images)
        total += loss_of(variant, outputs, images, labels).item() * len(images)
        num += len(images)
        if variant != "pretrain":
            correct += int((outputs.argmax(1) == labels).sum().item())
    return total / num, correct / num


def trainings(root: str, epochs: int, train: Train) -> Iterator[tuple[str, float]]:
    """Train all 16 networks with the given loop; yields the name and seconds of each."""
    for name in GRID_NETWORKS:
        for augmentation in AUGMENTATIONS:
            training, validation = datasets_of(root, augmentation)
            pretrained: dict[str, Tensor] = {}
            for variant in GRID_VARIANTS:
                network = build(name, 0, MNIST_SHAPE)
                if variant in ("frozen", "finetune"):
                    network.encoder.load_state_dict(pretrained)
                started = time.perf_counter()
                train(network, variant, training, validation, epochs)
                yield f"{name}-{augmentation}-{variant}", time.perf_counter() - started
                if variant == "pretrain":
                    pretrained = copy.deepcopy(network.encoder.state_dict())


def main(train: Train) -> None:
    """Run a program of this kind: its arguments are MNIST's folder and the number of epochs."""
    for training, seconds in trainings(sys.argv[1], int(sys.argv[2]), train):
        print(training, f"{seconds:.3f}", flush=True)


if __name__ == "__main__":
    main(train)
