"""The program one would write first: per-image transforms, a DataLoader, one training after another.

It trains the same 16 networks on the same work as the suite and serves as the yardstick of `grid.py`.
"""

import copy
import gzip
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import datasets, transforms

from aepretrain.networks import Convolutional, Network, build
from aepretrain.spec import AUGMENTATIONS, NETWORKS, VARIANTS, Settings


def unpack(source: Path, target: Path) -> None:
    """Lay MNIST's files out as torchvision's class wants them: not gzipped, under MNIST/raw."""
    raw = target / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (source / "MNIST" / "raw").iterdir():
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        (raw / file.name.removesuffix(".gz")).write_bytes(content)


def loaders(root: str, augmentation: str, batch_size: int) -> tuple[DataLoader[Tensor], DataLoader[Tensor]]:
    """Batches for training and validation, split 50,000 / 10,000."""
    plain = transforms.ToTensor()
    settings = Settings()
    erasing = transforms.RandomErasing(p=1, scale=settings.erase_scale, ratio=settings.erase_ratio)
    augmented = transforms.Compose([plain, erasing]) if augmentation == "erasing" else plain
    order = torch.randperm(60_000, generator=torch.Generator().manual_seed(0)).tolist()

    def part(transform: object, indices: list[int]) -> Dataset[Tensor]:
        return Subset(datasets.MNIST(root, train=True, transform=transform), indices)

    return (
        DataLoader(part(augmented, order[10_000:]), batch_size, shuffle=True),
        DataLoader(part(plain, order[:10_000]), batch_size),
    )


def forward(network: Network, variant: str, images: Tensor) -> Tensor:
    """The layers as they are listed, one after the other."""
    convolutional = isinstance(network, Convolutional)
    with torch.set_grad_enabled(torch.is_grad_enabled() and variant != "frozen"):
        codes = network.encoder(images if convolutional else images.flatten(1))
    part = network.decoder if variant == "pretrain" else getattr(network, network.head_name(variant))
    outputs: Tensor = part(codes if convolutional and variant == "pretrain" else codes.flatten(1))
    return outputs.view(images.shape) if variant == "pretrain" else outputs


def train(
    network: Network, variant: str, batches: DataLoader[Tensor], validation: DataLoader[Tensor], epochs: int
) -> None:
    """The textbook loop, with the weights of the lowest validation loss at the end."""
    head = getattr(network, network.head_name(variant))
    parts = {"pretrain": [network.encoder, network.decoder], "frozen": [head]}.get(variant, [network.encoder, head])
    optimizer = torch.optim.Adam([weight for part in parts for weight in part.parameters()], lr=0.001)
    best, best_weights = float("inf"), copy.deepcopy(network.state_dict())
    for _ in range(epochs):
        network.train()
        for images, labels in batches:
            outputs = forward(network, variant, images)
            loss = (
                functional.mse_loss(outputs, images)
                if variant == "pretrain"
                else functional.cross_entropy(outputs, labels)
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        network.eval()
        total, correct = 0.0, 0
        with torch.no_grad():
            for images, labels in validation:
                outputs = forward(network, variant, images)
                if variant == "pretrain":
                    total += functional.mse_loss(outputs, images).item() * len(images)
                else:
                    total += functional.cross_entropy(outputs, labels).item() * len(images)
                    correct += (outputs.argmax(1) == labels).sum().item()
        if total < best:
            best, best_weights = total, copy.deepcopy(network.state_dict())
    network.load_state_dict(best_weights)


def run(root: str, epochs: int) -> Iterator[tuple[str, float]]:
    """Train all 16 networks; gives each one's name and seconds as it ends."""
    for name in NETWORKS:
        for augmentation in AUGMENTATIONS:
            batches, validation = loaders(root, augmentation, Settings().batch_size)
            pretrained: dict[str, Tensor] = {}
            for variant in VARIANTS:
                network = build(name, 0)
                if variant in ("frozen", "finetune"):
                    network.encoder.load_state_dict(pretrained)
                started = time.perf_counter()
                train(network, variant, batches, validation, epochs)
                yield f"{name}-{augmentation}-{variant}", time.perf_counter() - started
                if variant == "pretrain":
                    pretrained = copy.deepcopy(network.encoder.state_dict())


if __name__ == "__main__":
    for training, seconds in run(sys.argv[1], int(sys.argv[2])):
        print(training, f"{seconds:.3f}", flush=True)
