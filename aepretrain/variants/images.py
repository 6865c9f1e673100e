"""Images in memory as the batches that the engine asks for: in [0, 1], erased, normalised, in this order.

Shapes: N images, B batch, H rows, W columns.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from aepretrain.augment import Rectangles, draw_rectangles, erase
from aepretrain.data import IMAGE_SIZE, PIXEL_SCALES
from aepretrain.engine import Examples
from aepretrain.spec import Settings, TrainingSpec, derive_seed


@dataclass(frozen=True)
class Images:
    """Images, uint8 [N, 1, 28, 28], and classes, int64 [N], on the device that trains, and how pixels are prepared."""

    images_N1HW: Tensor
    labels_N: Tensor
    settings: Settings

    @classmethod
    def on_device(cls, images_NHW: Tensor, labels_N: Tensor, settings: Settings, device: torch.device) -> "Images":
        """The images [N, 28, 28] and classes [N] of a dataset, brought to the device."""
        return cls(images_NHW.unsqueeze(1).to(device), labels_N.to(device), settings)

    def examples(self, target: str, draw: Callable[[int], Rectangles] | None = None) -> Examples:
        """Batches of images with a target: their ``label``, the ``input`` itself, or the ``clean`` image.

        `draw` gives an epoch's rectangles to erase, one for each image.
        """

        def at_epoch(epoch: int) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
            rectangles = draw(epoch) if draw else None

            def select(index_B: Tensor) -> tuple[Tensor, Tensor]:
                clean_B1HW = self.images_N1HW.index_select(0, index_B).float().div_(255)
                seen_B1HW = clean_B1HW
                if rectangles is not None:
                    seen_B1HW = erase(clean_B1HW, rectangles[index_B], self.settings.erase_value)
                inputs_B1HW = normalize(seen_B1HW, self.settings)
                if target == "label":
                    return inputs_B1HW, self.labels_N[index_B]
                return inputs_B1HW, inputs_B1HW if target == "input" else normalize(clean_B1HW, self.settings)

            return select

        return Examples(len(self.labels_N), at_epoch, self.labels_N.device)


def normalize(pixels_B1HW: Tensor, settings: Settings) -> Tensor:
    """Pixels in [0, 1] as a network is shown them."""
    mean, deviation = PIXEL_SCALES[settings.normalize]
    return pixels_B1HW if (mean, deviation) == (0.0, 1.0) else (pixels_B1HW - mean) / deviation


def erasing(spec: TrainingSpec, images: Images, purpose: str) -> Callable[[int], Rectangles] | None:
    """How each epoch's rectangles are drawn; None without augmentation."""
    if spec.augmentation == "none":
        return None
    settings, num, device = spec.settings, len(images.labels_N), images.labels_N.device

    def draw(epoch: int) -> Rectangles:
        generator = torch.Generator().manual_seed(derive_seed(spec.seed, purpose, epoch))
        return draw_rectangles(num, IMAGE_SIZE, settings.erase_scale, settings.erase_ratio, generator).to(device)

    return draw
