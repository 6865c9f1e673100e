"""The source's two networks, fully connected and convolutional.

Shapes: N images, C channels, H rows, W columns, D code features, K classes.
"""

import math

from torch import Tensor, nn

from aepretrain.networks.network import Network, runs_on_cpu
from aepretrain.registry import require


class FullyConnected(Network):
    """From pixels to 256 and 128 units, and back."""

    frozen_head = "classifier"
    trained_head = "classifier2"

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(image_shape, num_classes)
        num_pixels = math.prod(image_shape)
        self.encoder = nn.Sequential(nn.Linear(num_pixels, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU())
        self.decoder = nn.Sequential(nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, num_pixels))
        self.classifier = nn.Linear(128, num_classes)
        self.classifier2 = nn.Linear(128, num_classes)

    def encode_by_layers(self, images_NCHW: Tensor) -> Tensor:
        """Codes, [N, 128]."""
        codes_ND: Tensor = self.encoder(images_NCHW.flatten(1))
        return codes_ND

    def decode(self, codes_ND: Tensor) -> Tensor:
        """Images, [N, C, H, W]."""
        images_NCHW: Tensor = self.decoder(codes_ND).unflatten(1, self.image_shape)
        return images_NCHW


class Convolutional(Network):
    """From images to 4 maps of a quarter of their sides, and back: for MNIST 28×28 → 4×7×7 → 7 → 13 → 28."""

    frozen_head = "classifier1"
    trained_head = "classifier2"

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__(image_shape, num_classes)
        channels, *size = image_shape
        require(min(size) >= 4, f"it needs images of 4×4 pixels or more, not {size[0]}×{size[1]}")
        self.encoder: nn.Sequential = nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 4, 3, padding=1),
            nn.ReLU(),
        )
        # Pooling leaves out up to three rows and columns. The decoder gives them back: two, and then one.
        twos, ones = ((size[0] % 4 // step % 2, size[1] % 4 // step % 2) for step in (2, 1))
        self.decoder: nn.Sequential = nn.Sequential(
            nn.ConvTranspose2d(4, 16, 3, stride=1, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 8, 3, stride=2, padding=1, output_padding=twos),
            nn.ReLU(),
            nn.ConvTranspose2d(8, channels, 4, stride=2, padding=0, output_padding=ones),
        )
        self.code_shape = 4, size[0] // 4, size[1] // 4
        self.classifier1 = nn.Linear(math.prod(self.code_shape), num_classes)
        self.classifier2 = nn.Linear(math.prod(self.code_shape), num_classes)

    def encode(self, images_NCHW: Tensor) -> Tensor:
        """Codes, [N, 4·H/4·W/4]."""
        if not runs_on_cpu(images_NCHW):
            return self.encode_by_layers(images_NCHW)
        from aepretrain.convolution import run_layers

        return run_layers(self.encoder, images_NCHW).flatten(1)

    def decode(self, codes_ND: Tensor) -> Tensor:
        """Images, [N, C, H, W]."""
        maps_NCHW = codes_ND.unflatten(1, self.code_shape)
        if not runs_on_cpu(codes_ND):
            return super().decode(maps_NCHW)
        from aepretrain.convolution import run_layers

        return run_layers(self.decoder, maps_NCHW)
