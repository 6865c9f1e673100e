"""What training images are put through: random erasing of a whole batch, an own rectangle for each image.

The same distribution as torchvision's `RandomErasing(p=1)` applied image by image (Zhong et al. 2017, Algorithm 1);
called on a batch, torchvision's transform would erase one rectangle shared by all images.

To add an augmentation, subclass `Augmentation` and call `register("name", YourAugmentation)` in a module that the
command loads (``--plugin your_module``).

Shapes: S seeds, N images, B of a batch, U of those without a rectangle yet, C channels, H rows, W columns.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aepretrain.registry import Registry, require, require_subclass

NUM_TRIES = 10
"""torchvision draws up to 10 rectangles until one fits; an image for which none fits stays whole."""


@dataclass(frozen=True)
class Rectangles:
    """One rectangle for each image: first row, first column, height and width, int64 [S, N] each; height 0 = none."""

    top_SN: Tensor
    left_SN: Tensor
    height_SN: Tensor
    width_SN: Tensor

    def take(self, index_SB: Tensor) -> "Rectangles":
        """The rectangles of a batch of each seed, one seed after the other in one row, [1, S·B]."""
        return Rectangles(*(part_SN.gather(1, index_SB).view(1, -1) for part_SN in vars(self).values()))

    @classmethod
    def stack(cls, several: Sequence["Rectangles"], device: torch.device) -> "Rectangles":
        """Those of several seeds, one row each, on a device."""
        return cls(
            *(torch.cat(parts).to(device) for parts in zip(*(vars(one).values() for one in several), strict=True))
        )


def draw_rectangles(
    num: int,
    size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    generator: torch.Generator,
) -> Rectangles:
    """Rectangles for `num` images of `size` (rows, columns), [1, N].

    Area share uniform in `scale`, logarithm of height / width uniform in the logarithms of `ratio`, both sides rounded
    and shorter than the image's, position uniform among those that fit: torchvision's `RandomErasing.get_params`.
    """
    rows, columns = size
    low, high = torch.tensor(ratio, dtype=torch.float64).log()
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
    return Rectangles(*(part_N.unsqueeze(0) for part_N in (top_N, left_N, height_N, width_N)))


def erase(images_NCHW: Tensor, rectangles: Rectangles, value: float) -> Tensor:
    """The images with each one's rectangle, [1, N], set to `value`; the given tensor stays as it is."""
    rows_N1H = _covered(rectangles.top_SN, rectangles.height_SN, images_NCHW.shape[2]).to(images_NCHW.dtype)
    columns_N1W = _covered(rectangles.left_SN, rectangles.width_SN, images_NCHW.shape[3]).to(images_NCHW.dtype)
    covered_N1HW = rows_N1H.unsqueeze(3) * columns_N1W.unsqueeze(2)  # 0 and 1: on a CPU faster than a mask of bools
    return (images_NCHW * (1 - covered_N1HW)).add_(covered_N1HW, alpha=value)


def _covered(start_1N: Tensor, length_1N: Tensor, size: int) -> Tensor:
    """Which of `size` places each interval covers, bool [N, 1, size]."""
    place_1P = torch.arange(size, device=start_1N.device).unsqueeze(0)
    start_N1 = start_1N.view(-1, 1)
    return ((place_1P >= start_N1) & (place_1P < start_N1 + length_1N.view(-1, 1))).unsqueeze(1)


class Augmentation(ABC):
    """An augmentation of a user's own: what it draws for each image, and what it makes of images with that.

    It is made without arguments. Training images alone are put through it, for the autoencoder and for classifiers.
    """

    @abstractmethod
    def draw(self, num: int, generator: torch.Generator) -> Tensor:
        """What `num` images need drawn for one epoch, a row for each, [N, …].

        From `generator` alone, on the CPU: then the same seed and epoch draw the same, whatever else is trained.
        """

    @abstractmethod
    def apply(self, images_BCHW: Tensor, drawn_B: Tensor) -> Tensor:
        """Images [B, 1, 28, 28] in [0, 1], each with its row [B, …] of what was drawn, as new ones of that shape."""


def _check_augmentation(augmentation: type[Augmentation] | None) -> None:
    """Try a user's augmentation with three images."""
    require_subclass(augmentation, Augmentation)
    assert augmentation is not None
    tried = augmentation()
    drawn, again = (tried.draw(3, torch.Generator().manual_seed(0)) for _ in range(2))
    require(
        isinstance(drawn, Tensor) and drawn.shape[:1] == (3,),
        f"draw gives {list(getattr(drawn, 'shape', ()))} for 3 images, expected one row for each: [3, …]",
    )
    require(torch.equal(drawn, again), "draw gives something else for the same generator: draw from that alone")
    images_BCHW = torch.full((3, 1, 28, 28), 0.5)
    seen_BCHW = tried.apply(images_BCHW, drawn)
    require(
        seen_BCHW.shape == images_BCHW.shape and seen_BCHW.dtype == torch.float32,
        f"apply gives {seen_BCHW.dtype} {list(seen_BCHW.shape)}, expected float32 {list(images_BCHW.shape)}",
    )
    require(bool((images_BCHW == 0.5).all()), "apply changes the images that it is given: give new ones")
    require(bool(torch.isfinite(seen_BCHW).all()), "apply gives values that are not finite")


AUGMENTATIONS: Registry[type[Augmentation] | None] = Registry(
    "augmentation", {"none": None, "erasing": None}, _check_augmentation
)
"""The built-in ones have no class: ``erasing`` depends on the settings (see `draw_rectangles`)."""

register = AUGMENTATIONS.register
"""Make a subclass of `Augmentation` known under a name."""
