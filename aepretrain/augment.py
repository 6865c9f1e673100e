"""Random erasing of a whole batch, an own rectangle for each image.

The same distribution as torchvision's `RandomErasing(p=1)` applied image by image (Zhong et al. 2017, Algorithm 1);
called on a batch, torchvision's transform would erase one rectangle shared by all images.

Shapes: N images of an epoch, B of a batch, T tries, C channels, H rows, W columns.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

NUM_TRIES = 10
"""torchvision draws up to 10 rectangles until one fits; an image for which none fits stays whole."""


@dataclass(frozen=True)
class Rectangles:
    """One rectangle for each image: first row, first column, height and width, int64 [N] each; height 0 = none."""

    top_N: Tensor
    left_N: Tensor
    height_N: Tensor
    width_N: Tensor

    def __getitem__(self, index_B: Tensor) -> "Rectangles":
        return Rectangles(self.top_N[index_B], self.left_N[index_B], self.height_N[index_B], self.width_N[index_B])

    def to(self, device: torch.device) -> "Rectangles":
        """The same rectangles on another device."""
        return Rectangles(*(part.to(device) for part in vars(self).values()))


def draw_rectangles(
    num: int,
    size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    generator: torch.Generator,
) -> Rectangles:
    """Rectangles for `num` images of `size` (rows, columns).

    Area share uniform in `scale`, logarithm of height / width uniform in the logarithms of `ratio`, both sides rounded
    and shorter than the image's, position uniform among those that fit: torchvision's `RandomErasing.get_params`.
    """
    rows, columns = size
    uniform_TN = torch.rand(2, NUM_TRIES, num, generator=generator, dtype=torch.float64)
    area_TN = rows * columns * (scale[0] + (scale[1] - scale[0]) * uniform_TN[0])
    low, high = torch.tensor(ratio, dtype=torch.float64).log()
    aspect_TN = torch.exp(low + (high - low) * uniform_TN[1])
    height_TN = (area_TN * aspect_TN).sqrt().round().long()
    width_TN = (area_TN / aspect_TN).sqrt().round().long()
    fits_TN = (height_TN < rows) & (width_TN < columns)
    first_1N = fits_TN.int().argmax(dim=0, keepdim=True)
    any_N = fits_TN.any(dim=0)
    height_N = height_TN.gather(0, first_1N)[0] * any_N
    width_N = width_TN.gather(0, first_1N)[0] * any_N
    place_N2 = torch.rand(2, num, generator=generator, dtype=torch.float64)
    return Rectangles(
        top_N=(place_N2[0] * (rows - height_N + 1)).long(),
        left_N=(place_N2[1] * (columns - width_N + 1)).long(),
        height_N=height_N,
        width_N=width_N,
    )


def erase(images_BCHW: Tensor, rectangles: Rectangles, value: float) -> Tensor:
    """The images with each one's rectangle set to `value`; the given tensor stays as it is."""
    rows_B1H = _covered(rectangles.top_N, rectangles.height_N, images_BCHW.shape[2])
    columns_B1W = _covered(rectangles.left_N, rectangles.width_N, images_BCHW.shape[3])
    return images_BCHW.masked_fill(rows_B1H.unsqueeze(3) & columns_B1W.unsqueeze(2), value)


def _covered(start_B: Tensor, length_B: Tensor, size: int) -> Tensor:
    """Which of `size` places each interval covers, bool [B, 1, size]."""
    place_1S = torch.arange(size, device=start_B.device).unsqueeze(0)
    start_B1 = start_B.unsqueeze(1)
    return ((place_1S >= start_B1) & (place_1S < start_B1 + length_B.unsqueeze(1))).unsqueeze(1)
