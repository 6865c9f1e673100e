"""A network with a small residual encoder, a decoder and two heads.

python -m aepretrain grid --plugin examples.residual --network residual --augmentation none
"""

import math

from torch import Tensor, nn

from aepretrain import Network, register_network


class Block(nn.Module):
    """Residual block of two convolutions: maps [N, C, H, W] → maps of the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.change = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )
        self.relu = nn.ReLU()

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        """The maps plus the output of the two convolutions, through ReLU."""
        changed_NCHW: Tensor = self.relu(maps_NCHW + self.change(maps_NCHW))
        return changed_NCHW


class Residual(Network):
    """From images to 8 maps of a quarter of their sides, and back. Sides must be multiples of 4."""

    frozen_head, trained_head = "first", "second"

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(image_shape, num_classes)
        channels, height, width = image_shape
        maps = 8, height // 4, width // 4
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, 8, 4, stride=4), nn.ReLU(), Block(8), Block(8)
        )  # to a quarter in the first layer, to be fast on a CPU
        self.decoder = nn.Sequential(nn.Unflatten(1, maps), Block(8), nn.ConvTranspose2d(8, channels, 4, stride=4))
        self.first, self.second = (nn.Linear(math.prod(maps), num_classes) for _ in range(2))


register_network("residual", Residual)
