"""Images in memory as the batches that the engine asks for: in [0, 1], erased, normalised, in this order.

Shapes: S seeds of a stack, N images, M of a seed, B batch, P = S·B images of all seeds' batches, H rows, W columns.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from aepretrain.augment import AUGMENTATIONS, Augmentation, Rectangles, draw_rectangles, erase
from aepretrain.config import Settings, TrainingSpec, derive_seed
from aepretrain.data import IMAGE_SIZE, PIXEL_SCALES
from aepretrain.engine import Examples, Select


class Drawn(Protocol):
    """What was drawn for every image of each seed of a stack."""

    def applied(self, images_P1HW: Tensor, index_SB: Tensor) -> Tensor:
        """These images, of the seeds' batches that the index names, as new ones, [P, 1, H, W]."""


@dataclass(frozen=True)
class Erasing:
    """A rectangle for each image, and the value that is written into it."""

    rectangles: Rectangles
    value: float

    def applied(self, images_P1HW: Tensor, index_SB: Tensor) -> Tensor:
        """The images, erased."""
        return erase(images_P1HW, self.rectangles.take(index_SB), self.value)


@dataclass(frozen=True)
class Augmenting:
    """What a user's augmentation has drawn, on the device, and the augmentation."""

    augmentation: Augmentation
    drawn_SN: Tensor

    def applied(self, images_P1HW: Tensor, index_SB: Tensor) -> Tensor:
        """The images, augmented."""
        seed_S1 = torch.arange(len(index_SB), device=index_SB.device).unsqueeze(1)
        return self.augmentation.apply(images_P1HW, self.drawn_SN[seed_S1, index_SB].flatten(0, 1))


Draw = Callable[[int, Sequence[int]], Drawn]
"""What an epoch needs drawn for those seeds of a stack."""


@dataclass(frozen=True)
class Images:
    """Images, uint8 [N, 1, 28, 28], and classes, int64 [N], on the device that trains, and how pixels are prepared.

    `rows_SM` are those of each seed of a stack: all seeds share the images and have a selection of their own.
    """

    images_N1HW: Tensor
    labels_N: Tensor
    rows_SM: Tensor
    settings: Settings

    @classmethod
    def on_device(
        cls, images_NHW: Tensor, labels_N: Tensor, rows: Sequence[Tensor], settings: Settings, device: torch.device
    ) -> "Images":
        """The images [N, 28, 28] and classes [N] of a dataset, and each seed's rows [M], brought to the device."""
        return cls(
            images_NHW.unsqueeze(1).to(device), labels_N.to(device), torch.stack(list(rows)).to(device), settings
        )

    def of(self, place: int) -> "Images":
        """Those of one seed of the stack."""
        return replace(self, rows_SM=self.rows_SM[place : place + 1])

    def examples(self, target: str, draw: Draw | None = None) -> Examples:
        """Batches of images with a target: their ``label``, the ``input`` itself, or the ``clean`` image.

        `draw` gives what an epoch's augmentation needs, for each image of each seed.
        """

        def at_epoch(epoch: int, members: Sequence[int]) -> Select:
            drawn = draw(epoch, members) if draw else None
            rows_SM = self.rows_SM[list(members)]

            def select(index_SB: Tensor) -> tuple[Tensor, Tensor]:
                rows_P = rows_SM.gather(1, index_SB).flatten()
                clean_P1HW = self.images_N1HW.index_select(0, rows_P).float().div_(255)
                seen_P1HW = clean_P1HW
                if drawn is not None:
                    seen_P1HW = drawn.applied(clean_P1HW, index_SB)
                inputs_SB1HW = normalize(seen_P1HW, self.settings).unflatten(0, index_SB.shape)
                if target == "label":
                    return inputs_SB1HW, self.labels_N.index_select(0, rows_P).view_as(index_SB)
                if target == "input":
                    return inputs_SB1HW, inputs_SB1HW
                return inputs_SB1HW, normalize(clean_P1HW, self.settings).unflatten(0, index_SB.shape)

            return select

        return Examples(self.rows_SM.shape[1], at_epoch, self.labels_N.device)


def normalize(pixels_B1HW: Tensor, settings: Settings) -> Tensor:
    """Pixels in [0, 1] as a network is shown them."""
    mean, deviation = PIXEL_SCALES[settings.normalize]
    return pixels_B1HW if (mean, deviation) == (0.0, 1.0) else (pixels_B1HW - mean) / deviation


def augmenting(specs: Sequence[TrainingSpec], images: Images, purpose: str) -> Draw | None:
    """How each epoch's augmentation is drawn for the trainings of a stack; None without one.

    `purpose` names the random stream.
    """
    name, settings, num = specs[0].augmentation, specs[0].settings, images.rows_SM.shape[1]
    made_by = AUGMENTATIONS.look_up(name)
    if name == "none":
        return None
    device = images.labels_N.device

    def generators(epoch: int, members: Sequence[int]) -> Iterator[torch.Generator]:
        for member in members:
            yield torch.Generator().manual_seed(derive_seed(specs[member].seed, purpose, epoch))

    def draw_erasing(epoch: int, members: Sequence[int]) -> Drawn:
        scale, ratio = settings.erase_scale, settings.erase_ratio
        drawn = [draw_rectangles(num, IMAGE_SIZE, scale, ratio, one) for one in generators(epoch, members)]
        return Erasing(Rectangles.stack(drawn, device), settings.erase_value)

    if made_by is None:
        return draw_erasing
    augmentation = made_by()

    def draw(epoch: int, members: Sequence[int]) -> Drawn:
        drawn = [augmentation.draw(num, one) for one in generators(epoch, members)]
        return Augmenting(augmentation, torch.stack(drawn).to(device))

    return draw
