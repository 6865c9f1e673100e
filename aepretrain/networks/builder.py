"""Networks by name, with the initial weights of a seed.

Shapes: N images, C channels, H rows, W columns, D code features, K classes.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn

from aepretrain.config import Shape, derive_seed
from aepretrain.networks.network import Network
from aepretrain.networks.residual import Residual
from aepretrain.networks.source import Convolutional, FullyConnected
from aepretrain.registry import Registry, require, require_subclass


class Probe(Network):
    """A head on a fixed linear map of the pixels, or on the pixels themselves: the baseline of an encoder."""

    frozen_head = trained_head = "classifier"

    def __init__(self, shape: Shape, linear_map: nn.Linear | None) -> None:
        super().__init__(shape.image, shape.num_classes)
        self.encoder = nn.Sequential(nn.Flatten(), *([] if linear_map is None else [linear_map]))
        self.decoder = nn.Identity()
        num_features = math.prod(shape.image) if linear_map is None else linear_map.out_features
        self.classifier = nn.Linear(num_features, shape.num_classes)


NETWORKS: Registry[type[Network]] = Registry(
    "network",
    {"fc": FullyConnected, "conv": Convolutional, "resnet8": Residual},
    partial(require_subclass, base=Network),
)
register = NETWORKS.register
"""Add a subclass of `Network` under a name."""


def check(network: type[Network], shape: Shape) -> None:
    """Try a network with two images of a shape. Raises `UsageError` where a part is missing or a shape is wrong."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        tried = network(shape.image, shape.num_classes).eval()
        heads = [getattr(tried, one, None) for one in ("frozen_head", "trained_head")]
        require(
            all(isinstance(one, str) for one in heads),
            "frozen_head and trained_head must be the names of its two heads",
        )
        parts = ["encoder", "decoder", *map(str, heads)]
        for part in parts:
            require(isinstance(getattr(tried, part, None), nn.Module), f"it has no module named {part}")
        codes_ND = tried.encode(torch.zeros(2, *shape.image))
        require(codes_ND.dim() == 2, f"encode gives {list(codes_ND.shape)} for 2 images, expected [2, code size]")
        for what, found, expected in (
            ("encode", codes_ND, (2, codes_ND.shape[1])),
            ("decode", tried.decode(codes_ND), (2, *shape.image)),
            *((f"the head {part}", getattr(tried, part)(codes_ND), (2, shape.num_classes)) for part in parts[2:]),
        ):
            require(
                found.shape == expected and found.dtype == torch.float32,
                f"{what} gives {found.dtype} {list(found.shape)} for 2 images, expected float32 {list(expected)}",
            )


def build(name: str, seed: int, shape: Shape) -> Network:
    """A network for images of this shape, with initial weights drawn on the CPU for this seed.

    Encoder, decoder and heads have separate random streams, so the encoder is the same in every variant. Both heads
    start from the same weights. PyTorch's global generator is not changed. Raises `UsageError` for an unknown name and
    for a shape that the network does not fit.
    """
    with drawing_from(seed, "initial encoder"):
        network = NETWORKS.look_up(name)(shape.image, shape.num_classes)
    with drawing_from(seed, "initial decoder"):
        network.decoder.apply(_reset)
    _draw_heads(network, seed)
    with drawing_from(seed, "initial encoder"):
        network.encoder.apply(_reset)
    return network


def build_probe(linear_map: nn.Linear | None, seed: int, shape: Shape) -> Probe:
    """A probe whose head is drawn for this seed, on a linear map, or on the pixels for None."""
    probe = Probe(shape, linear_map)
    _draw_heads(probe, seed)
    return probe


def _draw_heads(network: Network, seed: int) -> None:
    for head in (network.frozen_head, network.trained_head):
        with drawing_from(seed, "initial head"):
            getattr(network, head).apply(_reset)


@contextmanager
def drawing_from(seed: int, purpose: str) -> Iterator[None]:
    """Seed PyTorch's global generator, which its initialisers use, and restore it afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, purpose))
        yield


def _reset(module: nn.Module) -> None:
    reset = getattr(module, "reset_parameters", None)
    if reset is not None:
        reset()
