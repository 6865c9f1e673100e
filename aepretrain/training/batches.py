"""Batches of images for the engine: scaled to [0, 1], augmented, normalised, in this order.

Shapes: S seeds of a stack, N images, M of a seed, B batch, P = S·B images of all seeds' batches, C channels, H rows, W
columns. The
objective of a pretraining may give inputs of any shape [P, …].
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from aepretrain.augment import AUGMENTATIONS, ImageShape, NoAugmentation
from aepretrain.config import Settings, TrainingSpec, derive_seed
from aepretrain.data import PIXEL_SCALES
from aepretrain.engine import Examples, Select
from aepretrain.objectives import Objective


class Drawing(Protocol):
    """What an augmentation and an objective have in common: images changed by random numbers."""

    def draw(self, num: int, shape: ImageShape, generator: torch.Generator) -> Tensor:
        """The random numbers for `num` images, [N, …]."""

    def apply(self, images_BCHW: Tensor, drawn_B: Tensor, /) -> Tensor:
        """What is made of images, each with its row of the draw."""


@dataclass(frozen=True)
class Draw:
    """What was drawn for every image of each seed, on the device."""

    drawing: Drawing
    drawn_SN: Tensor
    """A row for each image, [S, N, …]."""

    def apply(self, images_PCHW: Tensor, index_SB: Tensor) -> Tensor:
        """What is made of these images, which are the seeds' batches that the index names, [P, …]."""
        seed_S1 = torch.arange(len(index_SB), device=index_SB.device).unsqueeze(1)
        return self.drawing.apply(images_PCHW, self.drawn_SN[seed_S1, index_SB].flatten(0, 1))


DrawAt = Callable[[int, Sequence[int]], Draw]
"""From an epoch and seeds of a stack, what is drawn for their images in that epoch."""


@dataclass(frozen=True)
class Images:
    """Images, uint8 [N, C, H, W], and classes, int64 [N], on the device that trains.

    The seeds of a stack share the images; `rows_SM` are the rows that each seed uses.
    """

    images_NCHW: Tensor
    labels_N: Tensor
    rows_SM: Tensor
    settings: Settings

    @classmethod
    def on_device(
        cls, images_NCHW: Tensor, labels_N: Tensor, rows: Sequence[Tensor], settings: Settings, device: torch.device
    ) -> "Images":
        """From a dataset's images [N, C, H, W] and classes [N], and each seed's rows [M]."""
        return cls(images_NCHW.to(device), labels_N.to(device), torch.stack(list(rows)).to(device), settings)

    def with_unlabelled(self, further_NCHW: Tensor) -> "Images":
        """These images and further ones without classes (-1), which all seeds use."""
        num, device = len(self.images_NCHW), self.labels_N.device
        no_labels_N = self.labels_N.new_full((len(further_NCHW),), -1)
        rows_N = torch.arange(num, num + len(further_NCHW), device=device)
        return replace(
            self,
            images_NCHW=torch.cat([self.images_NCHW, further_NCHW.to(device)]),
            labels_N=torch.cat([self.labels_N, no_labels_N]),
            rows_SM=torch.cat([self.rows_SM, rows_N.expand(len(self.rows_SM), -1)], 1),
        )

    @property
    def shape(self) -> ImageShape:
        """The shape of an image, [C, H, W]."""
        channels, height, width = self.images_NCHW.shape[1:]
        return channels, height, width

    def of(self, place: int) -> "Images":
        """The images of one seed of the stack."""
        return replace(self, rows_SM=self.rows_SM[place : place + 1])

    def examples(self, target: str, augment: DrawAt | None = None, corrupt: DrawAt | None = None) -> Examples:
        """Batches of images with a target: augmented, and then changed by a pretraining's objective.

        The target is their ``label``, the augmented ``input`` before the objective changes it, or the ``clean`` image.
        """

        def at_epoch(epoch: int, members: Sequence[int]) -> Select:
            draw = augment(epoch, members) if augment else None
            corruption = corrupt(epoch, members) if corrupt else None
            rows_SM = self.rows_SM[list(members)]

            def select(index_SB: Tensor) -> tuple[Tensor, Tensor]:
                rows_P = rows_SM.gather(1, index_SB).flatten()
                clean_PCHW = self.images_NCHW.index_select(0, rows_P).float().div_(255)
                augmented_PCHW = clean_PCHW if draw is None else draw.apply(clean_PCHW, index_SB)
                given_P = augmented_PCHW if corruption is None else corruption.apply(augmented_PCHW, index_SB)
                inputs_SB = normalize(given_P, self.settings).unflatten(0, index_SB.shape)
                if target == "label":
                    return inputs_SB, self.labels_N.index_select(0, rows_P).view_as(index_SB)
                if target == "input" and corruption is None:
                    return inputs_SB, inputs_SB
                wanted_PCHW = augmented_PCHW if target == "input" else clean_PCHW
                return inputs_SB, normalize(wanted_PCHW, self.settings).unflatten(0, index_SB.shape)

            return select

        return Examples(self.rows_SM.shape[1], at_epoch, self.labels_N.device)


def normalize(pixels: Tensor, settings: Settings) -> Tensor:
    """Pixels in [0, 1] on the scale that a network sees, in the same shape."""
    mean, std = PIXEL_SCALES[settings.normalize]
    return pixels if (mean, std) == (0.0, 1.0) else (pixels - mean) / std


def augmentation_draws(specs: Sequence[TrainingSpec], images: Images, purpose: str) -> DrawAt | None:
    """How the augmentation of a stack's trainings is drawn in each epoch; None where images stay as they are.

    `purpose` names the random stream.
    """
    augmentation = AUGMENTATIONS.look_up(specs[0].augmentation)(specs[0].settings)
    return None if type(augmentation) is NoAugmentation else _draws(augmentation, specs, images, purpose)


def corruption_draws(
    objective: Objective, specs: Sequence[TrainingSpec], images: Images, purpose: str = "AE corruption"
) -> DrawAt | None:
    """How the objective of a stack's pretrainings changes images in each epoch; None where it takes them as they are.

    Validation has epoch 0, so its images are changed in the same way after every epoch.
    """
    changes = type(objective).apply is not Objective.apply
    return _draws(objective, specs, images, purpose) if changes else None


def _draws(drawing: Drawing, specs: Sequence[TrainingSpec], images: Images, purpose: str) -> DrawAt:
    num, shape, device = images.rows_SM.shape[1], images.shape, images.labels_N.device

    def draw_at(epoch: int, members: Sequence[int]) -> Draw:
        generators = [
            torch.Generator().manual_seed(derive_seed(specs[member].seed, purpose, epoch)) for member in members
        ]
        drawn = [drawing.draw(num, shape, generator) for generator in generators]
        return Draw(drawing, torch.stack(drawn).to(device))

    return draw_at
