"""What is trained of a network: encoder and head, or encoder and decoder.

Shapes: N images, C channels, H rows, W columns, D code features, K classes.
"""

import torch
from torch import Tensor, nn

from aepretrain.networks.network import Network


class Classifier(nn.Module):
    """Encoder and head: images [N, C, H, W] → logits [N, K]. A frozen encoder has no gradients."""

    def __init__(self, network: Network, head_name: str, *, frozen: bool) -> None:
        super().__init__()
        self.network = network
        self.head_name = head_name
        self.frozen = frozen

    def train(self, mode: bool = True) -> "Classifier":
        """Set the training mode. A frozen encoder stays in evaluation mode, so its statistics do not change."""
        super().train(mode)
        if self.frozen:
            self.network.encoder.eval()
        return self

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Logits, [N, K]."""
        head = getattr(self.network, self.head_name)
        logits_NK: Tensor = head(self._codes(images_NCHW))
        return logits_NK

    def _codes(self, images_NCHW: Tensor) -> Tensor:
        if not self.frozen:
            return self.network.encode(images_NCHW)
        with torch.no_grad():
            return self.network.encode(images_NCHW)


class Reconstructor(nn.Module):
    """Encoder and decoder: images [N, C, H, W] → images."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Images, [N, C, H, W]."""
        return self.network.decode(self.network.encode(images_NCHW))
