"""An augmentation of one's own: each image moved by up to two pixels, another way in every epoch.

python -m aepretrain grid --plugin examples.shifting --augmentation none,shifting
"""

import torch
from torch import Tensor
from torch.nn import functional

from aepretrain import Augmentation, register_augmentation

MOST = 2


class Shifting(Augmentation):
    """Rows and columns by which an image is moved; what comes in from outside is black."""

    def draw(self, num: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:  # noqa: ARG002
        """How far each image goes down and to the right, int64 [N, 2]."""
        return torch.randint(-MOST, MOST + 1, (num, 2), generator=generator)

    def apply(self, images_BCHW: Tensor, drawn_B: Tensor) -> Tensor:
        """The images, moved."""
        num, _, height, width = images_BCHW.shape
        padded_BCHW = functional.pad(images_BCHW, (MOST,) * 4)
        rows_BH = MOST - drawn_B[:, :1] + torch.arange(height, device=drawn_B.device)
        columns_BW = MOST - drawn_B[:, 1:] + torch.arange(width, device=drawn_B.device)
        image_B = torch.arange(num, device=drawn_B.device)
        return padded_BCHW[image_B[:, None, None], 0, rows_BH[:, :, None], columns_BW[:, None, :]].unsqueeze(1)


register_augmentation("shifting", Shifting)
