"""A small residual network for colour images of about 32×32.

It has no normalisation layers. Running statistics of batch normalisation would be buffers that change while a network
learns, beside the weights of the best epoch, and would differ between pretraining and classification. Normalisation
within an image takes away its brightness and contrast, which the decoder must give back. Instead, each block begins as
its shortcut, which makes three blocks easy to train (Zhang et al. 2019, Fixup).

Shapes: N images, C channels, H rows, W columns, D code features, K classes.
"""

import math

from torch import Tensor, nn

from aepretrain.networks.network import Network, runs_on_cpu
from aepretrain.registry import require

CHANNELS = 16, 32, 64
"""Of the maps in the three stages, as in the residual networks for CIFAR-10 (He et al. 2016, section 4.2)."""

CODE_CHANNELS = 8
"""For 32×32 colour, 512 code features: a sixth of the pixels, as for fc on MNIST."""

LEAST_SIDE = 8


class Block(nn.Module):
    """Residual block, maps [N, C, H, W] → maps: the sum of a shortcut and of two convolutions, through ReLU."""

    def __init__(self, change: nn.Sequential, shortcut: nn.Module) -> None:
        super().__init__()
        self.change = change
        self.shortcut = shortcut
        self.relu = nn.ReLU()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights (He et al. 2015), but begin with a last convolution that gives 0."""
        convolutions = [one for one in self.modules() if isinstance(one, (nn.Conv2d, nn.ConvTranspose2d))]
        for layer in convolutions:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        last = self.change[-1]
        assert isinstance(last, nn.Conv2d)
        nn.init.zeros_(last.weight)

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        """Maps, [N, C', H', W']."""
        out_NCHW: Tensor = self.relu(self.change(maps_NCHW) + self.shortcut(maps_NCHW))
        return out_NCHW


class Residual(Network):
    """ResNet-8: from images to 8 maps of a quarter of their sides, rounded up, and back.

    The literature's ResNet-8 averages its 64 maps over their area. An image cannot be made from averages, so a
    convolution of 1×1 makes 8 maps of them here.
    """

    frozen_head = "classifier1"
    trained_head = "classifier2"

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(image_shape, num_classes)
        channels, *size = image_shape
        require(
            min(size) >= LEAST_SIDE,
            f"it needs images of {LEAST_SIDE}×{LEAST_SIDE} pixels or more, not {size[0]}×{size[1]}",
        )
        half, quarter = ([math.ceil(side / step) for side in size] for step in (2, 4))
        few, more, most = CHANNELS
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, few, 3, padding=1),
            nn.ReLU(),
            _same(few),
            _halved(few, more),
            _halved(more, most),
            nn.Conv2d(most, CODE_CHANNELS, 1),
            nn.ReLU(),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(CODE_CHANNELS, most, 1),
            nn.ReLU(),
            _doubled(most, more, half),
            _doubled(more, few, size),
            _same(few),
            nn.Conv2d(few, channels, 3, padding=1),
        )
        self.code_shape = CODE_CHANNELS, *quarter
        self.classifier1 = nn.Linear(math.prod(self.code_shape), num_classes)
        self.classifier2 = nn.Linear(math.prod(self.code_shape), num_classes)

    def encode(self, images_NCHW: Tensor) -> Tensor:
        """Codes, [N, 8·H/4·W/4]."""
        return self.encode_by_layers(_channels_last(images_NCHW))

    def decode(self, codes_ND: Tensor) -> Tensor:
        """Images, [N, C, H, W]."""
        return super().decode(_channels_last(codes_ND.unflatten(1, self.code_shape)))


def _same(channels: int) -> Block:
    """A block that keeps the number of maps and their size."""
    change = nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)
    )
    return Block(change, nn.Identity())


def _halved(channels: int, out_channels: int) -> Block:
    """A block whose maps have half the side, rounded up."""
    change = nn.Sequential(
        nn.Conv2d(channels, out_channels, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, 3, padding=1),
    )
    return Block(change, nn.Conv2d(channels, out_channels, 1, stride=2))


def _doubled(channels: int, out_channels: int, size: list[int]) -> Block:
    """A block whose maps have this size, which is twice that of its input, or one less."""
    height, width = size
    change = nn.Sequential(
        nn.ConvTranspose2d(
            channels, out_channels, 3, stride=2, padding=1, output_padding=(1 - height % 2, 1 - width % 2)
        ),
        nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, 3, padding=1),
    )
    return Block(change, nn.Sequential(nn.Conv2d(channels, out_channels, 1), nn.Upsample(size=(height, width))))


def _channels_last(maps_NCHW: Tensor) -> Tensor:
    """On a CPU, the same maps with the channels as innermost axis in memory: PyTorch's convolutions are faster so.

    Two permutations, because `torch.vmap` knows no memory formats.
    """
    if not runs_on_cpu(maps_NCHW):
        return maps_NCHW
    return maps_NCHW.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
