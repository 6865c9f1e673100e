"""An augmentation that moves each image by up to two pixels, differently in every epoch.

python -m aepretrain grid --plugin examples.shifting --augmentation none,shifting
"""

import torch
from torch import Tensor
from torch.nn import functional

from aepretrain import Augmentation, register_augmentation

MAX_SHIFT = 2


class Shifting(Augmentation):
    """Random shift of each image. Pixels from outside the image are black."""

    def draw(self, num: int, shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:  # noqa: ARG002
        """The shift of each image, down and to the right, int64 [N, 2]."""
        return torch.randint(-MAX_SHIFT, MAX_SHIFT + 1, (num, 2), generator=generator)

    def apply(self, images_BCHW: Tensor, drawn_B: Tensor) -> Tensor:
        """The shifted images."""
        num, _, height, width = images_BCHW.shape
        padded_BCHW = functional.pad(images_BCHW, (MAX_SHIFT,) * 4)
        rows_BH = MAX_SHIFT - drawn_B[:, :1] + torch.arange(height, device=drawn_B.device)
        columns_BW = MAX_SHIFT - drawn_B[:, 1:] + torch.arange(width, device=drawn_B.device)
        image_B = torch.arange(num, device=drawn_B.device)
        shifted_BHWC = padded_BCHW[image_B[:, None, None], :, rows_BH[:, :, None], columns_BW[:, None, :]]
        return shifted_BHWC.movedim(3, 1)


register_augmentation("shifting", Shifting)
