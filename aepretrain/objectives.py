"""Objectives: what pretraining learns from images without labels.

A plugin adds one with a subclass of `Objective` and `register("name", YourObjective)` in a module that the command
loads (``--plugin your_module``); ``--objective name`` pretrains with it.

Shapes: N images, B of a batch, C channels, H rows, W columns.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from aepretrain.augment import Augmentation, GaussianNoise, ImageShape, PatchMask, PixelMask
from aepretrain.config import Settings, Shape
from aepretrain.networks import Network, Reconstructor, build, drawing_from
from aepretrain.registry import Registry, require, require_subclass


class Objective(ABC):
    """An objective of pretraining: what the model gets, what it is, and its loss.

    What the model learns is the weights of its encoder, of its decoder if it has one, and of layers of its own. The
    encoder is what finetune and frozen start from.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    target = "input"
    """What outputs are compared with: the ``input`` as augmented, or the ``clean`` image."""

    def draw(self, num: int, shape: ImageShape, generator: torch.Generator) -> Tensor:  # noqa: ARG002
        """The random numbers that `apply` needs for `num` images of a shape [C, H, W], a row each, [N, …].

        They are drawn anew in each epoch; for validation images once. Draw from `generator` alone, on the CPU.
        """
        return torch.empty(num, 0)

    def apply(self, images_BCHW: Tensor, drawn_B: Tensor) -> Tensor:  # noqa: ARG002  # for those that override it
        """What the model gets for augmented images in [0, 1]: the same images, or corrupted ones, or views of them.

        Gives [B, …]. Pixels are brought to the network's scale afterwards.
        """
        return images_BCHW

    @abstractmethod
    def model(self, network: Network) -> nn.Module:
        """The module that is trained: what `apply` gives, on the network's scale → outputs, [B, …].

        The weights of its own layers are initialised from PyTorch's global generator, which is seeded.
        """

    @abstractmethod
    def loss(self, outputs: Tensor, targets_BCHW: Tensor) -> Tensor:
        """The mean loss over the batch, a scalar."""

    def pixels(self, outputs: Tensor) -> Tensor | None:  # noqa: ARG002  # for those that override it
        """The outputs as images [B, C, H, W] on the scale of the inputs; None where they are not images."""
        return None


class Reconstruct(Objective):
    """Give the input back, by the loss and with the target that the settings name."""

    LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
        "mse": functional.mse_loss,
        "bce": functional.binary_cross_entropy_with_logits,
    }

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.target = settings.ae_target

    def model(self, network: Network) -> nn.Module:
        """Encoder and decoder."""
        return Reconstructor(network)

    def loss(self, outputs: Tensor, targets_BCHW: Tensor) -> Tensor:
        """Squared error, or cross-entropy on logits."""
        return self.LOSSES[self.settings.ae_loss](outputs, targets_BCHW)

    def pixels(self, outputs: Tensor) -> Tensor:
        """The reconstructions."""
        return outputs.sigmoid() if self.settings.ae_loss == "bce" else outputs


class Restore(Reconstruct, ABC):
    """Give the image back from a corrupted one."""

    corruption: type[Augmentation]

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._corruption = self.corruption(settings)

    def draw(self, num: int, shape: ImageShape, generator: torch.Generator) -> Tensor:
        """What the corruption draws, [N, …]."""
        return self._corruption.draw(num, shape, generator)

    def apply(self, images_BCHW: Tensor, drawn_B: Tensor) -> Tensor:
        """Corrupted images."""
        return self._corruption.apply(images_BCHW, drawn_B)


class RestorePixels(Restore):
    """Fill in hidden pixels (Vincent et al. 2010); the loss is over all pixels."""

    corruption = PixelMask


class RestorePatches(Restore):
    """Fill in hidden patches (after He et al. 2022); the loss is over all pixels."""

    corruption = PatchMask


class RemoveNoise(Restore):
    """Remove Gaussian noise (Vincent et al. 2010)."""

    corruption = GaussianNoise


def check(objective: type[Objective], settings: Settings, network: str, shape: Shape) -> None:
    """Try an objective on a network with two images of a shape. Raises `UsageError`."""
    tried = objective(settings)
    require(tried.target in ("input", "clean"), f"target is {tried.target!r}, expected 'input' or 'clean'")
    drawn, again = (tried.draw(2, shape.image, torch.Generator().manual_seed(0)) for _ in range(2))
    require(
        isinstance(drawn, Tensor) and drawn.shape[:1] == (2,),
        f"draw gives {list(getattr(drawn, 'shape', ()))} for 2 images, expected one row for each: [2, …]",
    )
    require(torch.equal(drawn, again), "draw gives different numbers for the same generator: draw from that alone")
    images_BCHW = torch.full((2, *shape.image), 0.5)
    given = tried.apply(images_BCHW, drawn)
    require(given.shape[:1] == (2,), f"apply gives {list(given.shape)} for 2 images, expected [2, …]")
    require(bool((images_BCHW == 0.5).all()), "apply changes the images that it is given: return new ones")
    with drawing_from(0, "objective"):
        outputs = tried.model(build(network, 0, shape))(given)
    loss = tried.loss(outputs, images_BCHW)
    require(loss.shape == () and bool(torch.isfinite(loss)), f"loss gives {loss.tolist()}, expected one finite number")
    require(loss.requires_grad, "loss depends on no weight of the network")
    shown_BCHW = tried.pixels(outputs)
    require(
        shown_BCHW is None or shown_BCHW.shape == images_BCHW.shape,
        f"pixels gives {list(getattr(shown_BCHW, 'shape', ()))} for 2 images, expected {list(images_BCHW.shape)}",
    )


OBJECTIVES: Registry[type[Objective]] = Registry(
    "objective",
    {
        "reconstruct": Reconstruct,
        "pixel-mask": RestorePixels,
        "patch-mask": RestorePatches,
        "gaussian-noise": RemoveNoise,
    },
    partial(require_subclass, base=Objective),
)

register = OBJECTIVES.register
"""Add a subclass of `Objective` under a name."""
