"""Augmentations: what training images are put through, each image in its own way in each epoch.

Pixel mask, patch mask and Gaussian noise are what objectives of pretraining corrupt images with, too (`objectives`).

A plugin adds one with a subclass of `Augmentation` and `register("name", YourAugmentation)` in a module that the
command loads (``--plugin your_module``).

Shapes: N images, B of a batch, U of those without a rectangle yet, C channels, H rows, W columns, h and w rows and
columns of patches.
"""

import math
from abc import ABC, abstractmethod
from functools import partial

import torch
from torch import Tensor

from aepretrain.config import MASK_SHARES, Settings
from aepretrain.registry import Registry, require, require_subclass

NUM_TRIES = 10
"""torchvision draws up to 10 rectangles until one fits; an image for which none fits stays whole."""


ImageShape = tuple[int, int, int]
"""Channels, rows and columns of an image."""


class Augmentation(ABC):
    """An augmentation. Training images alone are put through it, for pretraining and for classifiers."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @abstractmethod
    def draw(self, num: int, shape: ImageShape, generator: torch.Generator) -> Tensor:
        """The random numbers that `num` images of a shape [C, H, W] need for one epoch, a row each, [N, …].

        Draw from `generator` alone, on the CPU: then a seed and an epoch give the same numbers, whatever else is
        trained.
        """

    @abstractmethod
    def apply(self, images_BCHW: Tensor, drawn_B: Tensor) -> Tensor:
        """New images of the same shape from images [B, C, H, W] in [0, 1], each with its row [B, …] of the draw."""


class NoAugmentation(Augmentation):
    """Images as they are."""

    def draw(self, num: int, shape: ImageShape, generator: torch.Generator) -> Tensor:  # noqa: ARG002
        """Nothing, [N, 0]."""
        return torch.empty(num, 0)

    def apply(self, images_BCHW: Tensor, drawn_B: Tensor) -> Tensor:  # noqa: ARG002
        """The images."""
        return images_BCHW


class RandomErasing(Augmentation):
    """One rectangle of each image set to a value (Zhong et al. 2017, Algorithm 1).

    The same distribution as torchvision's `RandomErasing(p=1)` applied image by image. Called on a batch, torchvision's
    transform erases one rectangle shared by all images.
    """

    def draw(self, num: int, shape: ImageShape, generator: torch.Generator) -> Tensor:
        """First row, first column, height and width of each rectangle, int64 [N, 4]; height 0 = none.

        As in torchvision's `RandomErasing.get_params`, the area's share is uniform in `erase_scale`, the logarithm of
        height / width is uniform in the logarithms of `erase_ratio`, both sides are rounded and shorter than the
        image's, and the position is uniform among those that fit.
        """
        _, rows, columns = shape
        scale = self.settings.erase_scale
        low, high = torch.tensor(self.settings.erase_ratio, dtype=torch.float64).log()
        height_N, width_N = torch.zeros(2, num, dtype=torch.int64)
        unfit_U = torch.arange(num)
        for _ in range(NUM_TRIES):
            if len(unfit_U) == 0:
                break
            uniform_2U = torch.rand(2, len(unfit_U), generator=generator, dtype=torch.float64)
            area_U = rows * columns * (scale[0] + (scale[1] - scale[0]) * uniform_2U[0])
            aspect_U = torch.exp(low + (high - low) * uniform_2U[1])
            drawn_height_U = (area_U * aspect_U).sqrt().round().long()
            drawn_width_U = (area_U / aspect_U).sqrt().round().long()
            fits_U = (drawn_height_U < rows) & (drawn_width_U < columns)
            height_N[unfit_U] = drawn_height_U * fits_U
            width_N[unfit_U] = drawn_width_U * fits_U
            unfit_U = unfit_U[~fits_U]
        place_2N = torch.rand(2, num, generator=generator, dtype=torch.float64)
        top_N = (place_2N[0] * (rows - height_N + 1)).long()
        left_N = (place_2N[1] * (columns - width_N + 1)).long()
        return torch.stack((top_N, left_N, height_N, width_N), dim=1)

    def apply(self, images_BCHW: Tensor, drawn_B: Tensor) -> Tensor:
        """The images with each one's rectangle set to `erase_value`."""
        top_B, left_B, height_B, width_B = drawn_B.unbind(1)
        rows_B1H = _covered(top_B, height_B, images_BCHW.shape[2]).to(images_BCHW.dtype)
        columns_B1W = _covered(left_B, width_B, images_BCHW.shape[3]).to(images_BCHW.dtype)
        covered_B1HW = rows_B1H.unsqueeze(3) * columns_B1W.unsqueeze(2)  # 0 and 1: on a CPU faster than a bool mask
        return (images_BCHW * (1 - covered_B1HW)).add_(covered_B1HW, alpha=self.settings.erase_value)


class PixelMask(Augmentation):
    """Each pixel set to 0 with probability `mask_share`, independently (masking noise, Vincent et al. 2010)."""

    def draw(self, num: int, shape: ImageShape, generator: torch.Generator) -> Tensor:
        """Which pixels stay, bool [N, H, W]. A pixel is hidden in all of its channels."""
        return _kept(self.settings, "pixel-mask", (num, *shape[1:]), generator)

    def apply(self, images_BCHW: Tensor, drawn_B: Tensor) -> Tensor:
        """The images without the hidden pixels."""
        return images_BCHW * drawn_B.unsqueeze(1).view(torch.int8)  # on a CPU twice as fast as a bool mask


class PatchMask(Augmentation):
    """Each square patch of a grid set to 0 with probability `mask_share`, independently (after He et al. 2022).

    Patches have `patch_size` rows and columns; those at the right and lower edge are cut where the size does not fit.
    """

    def draw(self, num: int, shape: ImageShape, generator: torch.Generator) -> Tensor:
        """Which patches stay, bool [N, h, w]."""
        patches = (math.ceil(length / self.settings.patch_size) for length in shape[1:])
        return _kept(self.settings, "patch-mask", (num, *patches), generator)

    def apply(self, images_BCHW: Tensor, drawn_B: Tensor) -> Tensor:
        """The images without the hidden patches."""
        row_H, column_W = (
            torch.arange(length, device=drawn_B.device) // self.settings.patch_size for length in images_BCHW.shape[2:]
        )
        kept_BHW = drawn_B.view(torch.int8).index_select(1, row_H).index_select(2, column_W)
        return images_BCHW * kept_BHW.unsqueeze(1)


class GaussianNoise(Augmentation):
    """Normal noise of mean 0 and standard deviation `noise` added to each pixel, not clipped (Vincent et al. 2010)."""

    def draw(self, num: int, shape: ImageShape, generator: torch.Generator) -> Tensor:
        """The noise, float32 [N, C, H, W]."""
        return torch.empty(num, *shape).normal_(0, self.settings.noise, generator=generator)

    def apply(self, images_BCHW: Tensor, drawn_B: Tensor) -> Tensor:
        """The images with the noise."""
        return images_BCHW + drawn_B


def _kept(settings: Settings, name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Which of what may be hidden stays, bool of this shape."""
    from aepretrain import masks  # needs Numba, which takes half a second to import

    share = MASK_SHARES[name] if settings.mask_share is None else settings.mask_share
    return masks.kept(shape, share, generator)


def _covered(start_B: Tensor, length_B: Tensor, size: int) -> Tensor:
    """Which of `size` places each interval covers, bool [B, 1, size]."""
    place_1P = torch.arange(size, device=start_B.device).unsqueeze(0)
    start_B1 = start_B.unsqueeze(1)
    return ((place_1P >= start_B1) & (place_1P < start_B1 + length_B.unsqueeze(1))).unsqueeze(1)


def check(augmentation: type[Augmentation], settings: Settings, shape: ImageShape) -> None:
    """Try an augmentation with three images of a shape. Raises `UsageError`."""
    tried = augmentation(settings)
    drawn, again = (tried.draw(3, shape, torch.Generator().manual_seed(0)) for _ in range(2))
    require(
        isinstance(drawn, Tensor) and drawn.shape[:1] == (3,),
        f"draw gives {list(getattr(drawn, 'shape', ()))} for 3 images, expected one row for each: [3, …]",
    )
    require(torch.equal(drawn, again), "draw gives different numbers for the same generator: draw from that alone")
    images_BCHW = torch.full((3, *shape), 0.5)
    seen_BCHW = tried.apply(images_BCHW, drawn)
    require(
        seen_BCHW.shape == images_BCHW.shape and seen_BCHW.dtype == torch.float32,
        f"apply gives {seen_BCHW.dtype} {list(seen_BCHW.shape)}, expected float32 {list(images_BCHW.shape)}",
    )
    require(bool((images_BCHW == 0.5).all()), "apply changes the images that it is given: return new ones")
    require(bool(torch.isfinite(seen_BCHW).all()), "apply gives values that are not finite")


AUGMENTATIONS: Registry[type[Augmentation]] = Registry(
    "augmentation",
    {
        "none": NoAugmentation,
        "erasing": RandomErasing,
        "pixel-mask": PixelMask,
        "patch-mask": PatchMask,
        "gaussian-noise": GaussianNoise,
    },
    partial(require_subclass, base=Augmentation),
)

register = AUGMENTATIONS.register
"""Add a subclass of `Augmentation` under a name."""
