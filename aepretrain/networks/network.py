"""What a network is: an encoder, a decoder and two heads.

Shapes: N images, C channels, H rows, W columns, D code features, K classes.
"""

import torch
from torch import Tensor, nn

from aepretrain.variants import Variant


class Network(nn.Module):
    """An autoencoder and two linear heads for its encoder.

    A subclass sets `encoder`, `decoder` and the modules named by `frozen_head` and `trained_head`, for images of a
    shape [C, H, W] and so many classes. It overrides `decode` where the decoder does not give that shape back by
    itself. It raises `UsageError` for a shape that it does not fit.
    """

    encoder: nn.Module
    decoder: nn.Module
    frozen_head: str
    """Attribute name of the head for a frozen encoder."""
    trained_head: str
    """Attribute name of the head that is trained with the encoder."""

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.num_classes = num_classes

    def encode(self, images_NCHW: Tensor) -> Tensor:
        """Codes, [N, D]."""
        return self.encode_by_layers(images_NCHW)

    def encode_by_layers(self, images_NCHW: Tensor) -> Tensor:
        """Codes, [N, D], computed by calling each layer, so that hooks on layers work."""
        codes_ND: Tensor = self.encoder(images_NCHW).flatten(1)
        return codes_ND

    def decode(self, codes_ND: Tensor) -> Tensor:
        """Images, [N, C, H, W], without a final activation."""
        images_NCHW: Tensor = self.decoder(codes_ND)
        return images_NCHW

    def head_name(self, variant: Variant) -> str:
        """The attribute name of the head that a variant trains."""
        return self.frozen_head if variant.trains_head_only else self.trained_head


def runs_on_cpu(inputs: Tensor) -> bool:
    """Whether a network may compute its layers in the form that is fastest on a CPU: there, unless it is exported."""
    return inputs.device.type == "cpu" and not torch.compiler.is_exporting()
