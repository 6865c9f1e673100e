"""Objectives: what pretraining learns from images without labels.

A plugin adds one with a subclass of `Objective` and `register("name", YourObjective)` in a module that the command
loads (``--plugin your_module``); ``--objective name`` pretrains with it.

Shapes: B images of a batch, H rows, W columns.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from aepretrain.config import Settings
from aepretrain.networks import Network, Reconstructor, build
from aepretrain.registry import Registry, require, require_subclass


class Objective(ABC):
    """An objective of pretraining. Encoder and decoder learn; the encoder is what finetune and frozen start from."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    target = "input"
    """What outputs are compared with: the ``input`` as augmented, or the ``clean`` image."""

    @abstractmethod
    def model(self, network: Network) -> nn.Module:
        """The module that is trained: images [B, 1, 28, 28], as the network sees them → outputs."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets_B1HW: Tensor) -> Tensor:
        """The mean loss over the batch, a scalar."""

    def pixels(self, outputs: Tensor) -> Tensor | None:  # noqa: ARG002  # for those that override it
        """The outputs as images [B, 1, 28, 28] on the scale of the inputs; None where they are not images."""
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

    def loss(self, outputs: Tensor, targets_B1HW: Tensor) -> Tensor:
        """Squared error, or cross-entropy on logits."""
        return self.LOSSES[self.settings.ae_loss](outputs, targets_B1HW)

    def pixels(self, outputs: Tensor) -> Tensor:
        """The reconstructions."""
        return outputs.sigmoid() if self.settings.ae_loss == "bce" else outputs


def _check(objective: type[Objective]) -> None:
    """Try an objective with two images on the fully connected network."""
    require_subclass(objective, Objective)
    tried = objective(Settings())
    require(tried.target in ("input", "clean"), f"target is {tried.target!r}, expected 'input' or 'clean'")
    images_B1HW = torch.full((2, 1, 28, 28), 0.5)
    outputs = tried.model(build("fc", 0))(images_B1HW)
    loss = tried.loss(outputs, images_B1HW)
    require(loss.shape == () and bool(torch.isfinite(loss)), f"loss gives {loss.tolist()}, expected one finite number")
    require(loss.requires_grad, "loss depends on no weight of the network")
    shown_B1HW = tried.pixels(outputs)
    require(
        shown_B1HW is None or shown_B1HW.shape == images_B1HW.shape,
        f"pixels gives {list(getattr(shown_B1HW, 'shape', ()))} for 2 images, expected {list(images_B1HW.shape)}",
    )


OBJECTIVES: Registry[type[Objective]] = Registry("objective", {"reconstruct": Reconstruct}, _check)

register = OBJECTIVES.register
"""Add a subclass of `Objective` under a name."""
