"""Number of arithmetic operations of a training, from the shapes of its layers. Shapes: N images, C, H, W.

A multiply-add counts as two operations. The backward pass of a layer that learns costs as much as its forward pass for
the gradient of the weights, and as much again for the gradient of the input, unless no earlier layer learns. Pooling,
activations, losses and the optimizer count as zero. Products with padding, some percent of a convolution, are counted.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from aepretrain.config import AUGMENTATIONS, GRID_NETWORKS, MNIST_SHAPE
from aepretrain.networks import build
from aepretrain.variants import GRID_VARIANTS
from benchmarks import obvious

NUM_TRAINING, NUM_VALIDATION = 50_000, 10_000


@dataclass(frozen=True)
class Layer:
    """Forward operations of one layer for one image, and whether its weights are learned."""

    flop: int
    learned: bool


def layers(network_name: str, variant: str) -> list[Layer]:
    """The layers with weights that a variant uses, in order."""
    network = build(network_name, 0, MNIST_SHAPE)
    learned = {id(weight) for weight in obvious.learned_weights(network, variant)}
    found: list[Layer] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        found.append(Layer(_forward_flop(module, inputs[0], output), id(module.weight) in learned))

    for module in network.modules():
        if any(True for _ in module.parameters(recurse=False)):
            module.register_forward_hook(note)
    with torch.no_grad():
        obvious.forward(network, variant, torch.zeros(1, *MNIST_SHAPE.image))
    return found


def _forward_flop(module: Any, images_NCHW: Tensor, output: Tensor) -> int:
    """Operations forward: each element of the output (transposed convolution: of the input) meets the kernel once."""
    if isinstance(module, nn.Linear):
        return int(2 * output.numel() * module.in_features)
    kernel = module.weight[0].numel()  # convolution: [O, C, K, K]; transposed convolution: [C, O, K, K]
    met = images_NCHW if isinstance(module, nn.ConvTranspose2d) else output
    return int(2 * met.numel() * kernel)


def training_flop(network_name: str, augmentation: str, variant: str, epochs: int) -> int:
    """Operations of a training: each epoch learns from the training images and looks at the validation images.

    The frozen encoder without augmentation sees every image once in all; its codes never change.
    """
    parts = layers(network_name, variant)
    coded_once = variant == "frozen" and augmentation == "none"
    every_epoch = [one for one in parts if one.learned or not coded_once]
    forward = sum(one.flop for one in every_epoch)
    once = 0 if not coded_once else sum(one.flop for one in parts if not one.learned)
    num = NUM_TRAINING + NUM_VALIDATION
    return epochs * (NUM_TRAINING * backward_flop(parts) + num * forward) + num * once


def backward_flop(parts: list[Layer]) -> int:
    """Operations backward for one image."""
    weights = sum(one.flop for one in parts if one.learned)
    first = next(place for place, one in enumerate(parts) if one.learned)
    return weights + sum(one.flop for one in parts[first + 1 :])


def grid_flop(epochs: int) -> dict[str, int]:
    """Operations of each of the grid's 16 trainings, by name."""
    return {
        f"{network}-{augmentation}-{variant}": training_flop(network, augmentation, variant, epochs)
        for network in GRID_NETWORKS
        for augmentation in AUGMENTATIONS
        for variant in GRID_VARIANTS
    }
