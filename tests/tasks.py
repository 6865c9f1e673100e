"""Small tasks for the engine, on random images."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from aepretrain.config import MNIST_SHAPE, Shape
from aepretrain.engine import Examples, Hyperparameters, Select, Task
from aepretrain.networks import Classifier, Reconstructor, build

CPU = torch.device("cpu")
BATCH = 12
NUM = 10 * BATCH + 5  # 11 steps an epoch, the last of them with 5 items


def examples(inputs_SN: Tensor, targets_SN: Tensor) -> Examples:
    def at_epoch(_epoch: int, members: Sequence[int]) -> Select:
        rows_S1 = torch.tensor(members, device=inputs_SN.device).unsqueeze(1)
        return lambda index_SB: (inputs_SN[rows_S1, index_SB], targets_SN[rows_S1, index_SB])

    return Examples(inputs_SN.shape[1], at_epoch, inputs_SN.device)


def task(
    *models: nn.Module,
    epochs: int = 5,
    lr: float = 1e-3,
    patience: int = 0,
    dtype: torch.dtype = torch.float32,
    seeds: Sequence[int] | None = None,
    device: torch.device = CPU,
    shape: Shape = MNIST_SHAPE,
) -> Task:
    """The trainings of models with seeds 4, 5, …, each on images of its own."""
    seeds = list(range(4, 4 + len(models))) if seeds is None else seeds
    images, labels = zip(*(data_of(seed, dtype, shape) for seed in seeds), strict=True)
    images_SN, labels_SN = torch.stack(images).to(device), torch.stack(labels).to(device)
    classifies = isinstance(models[0], Classifier)
    targets_SN = labels_SN if classifies else images_SN
    return Task(
        models=[model.to(device, dtype) for model in models],
        loss=functional.cross_entropy if classifies else functional.mse_loss,
        train=examples(images_SN[:, :NUM], targets_SN[:, :NUM]),
        validation=examples(images_SN[:, NUM:], targets_SN[:, NUM:]),
        classifies=classifies,
        seeds=seeds,
        order="an order",
        hyperparameters=Hyperparameters(epochs=epochs, batch_size=BATCH, lr=lr, patience=patience),
    )


def data_of(seed: int, dtype: torch.dtype, shape: Shape) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(NUM + 40, *shape.image, generator=generator, dtype=dtype)
    return images, torch.randint(0, shape.num_classes, (NUM + 40,), generator=generator)


def make(name: str, kind: str, seed: int = 0, shape: Shape = MNIST_SHAPE) -> nn.Module:
    network = build(name, seed, shape)
    if kind == "autoencoder":
        return Reconstructor(network)
    network.encoder.requires_grad_(kind != "frozen")
    return Classifier(network, network.trained_head, frozen=kind == "frozen")
