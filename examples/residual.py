"""A network of one's own: a small residual encoder, its decoder and its two heads.

python -m aepretrain grid --plugin examples.residual --network residual --augmentation none
"""

from torch import Tensor, nn

from aepretrain import Network, register_network


class Block(nn.Module):
    """Maps [N, C, H, W] and what two convolutions add to them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.change = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )
        self.relu = nn.ReLU()

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        """Maps of the same shape."""
        changed_NCHW: Tensor = self.relu(maps_NCHW + self.change(maps_NCHW))
        return changed_NCHW


class Residual(Network):
    """28×28 → 8×7×7 = 392 code features, and back."""

    frozen_head, trained_head = "first", "second"

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 8, 4, stride=4), nn.ReLU(), Block(8), Block(8)
        )  # 28 → 7 at once: it has to be quick on a CPU
        self.decoder = nn.Sequential(nn.Unflatten(1, (8, 7, 7)), Block(8), nn.ConvTranspose2d(8, 1, 4, stride=4))
        self.first, self.second = nn.Linear(392, 10), nn.Linear(392, 10)


register_network("residual", Residual)
