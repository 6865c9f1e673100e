"""A network with a small residual encoder, a decoder and two heads.

python -m aepretrain grid --plugin examples.residual --network residual --augmentation none
"""

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
    """28×28 → 8×7×7 = 392 code features, and back."""

    frozen_head, trained_head = "first", "second"

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 8, 4, stride=4), nn.ReLU(), Block(8), Block(8)
        )  # 28 → 7 in the first layer, to be fast on a CPU
        self.decoder = nn.Sequential(nn.Unflatten(1, (8, 7, 7)), Block(8), nn.ConvTranspose2d(8, 1, 4, stride=4))
        self.first, self.second = nn.Linear(392, 10), nn.Linear(392, 10)


register_network("residual", Residual)
