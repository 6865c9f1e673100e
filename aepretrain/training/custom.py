"""Variants of users' own: further classifiers beside frozen, finetune and scratch.

To add one, subclass `Variant` and call `register("name", YourVariant)` in a module that the command loads
(``--plugin your_module``); ``aepretrain grid --variant name`` trains it beside the grid's own.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable

from torch import nn

from aepretrain.config import BUILT_IN_VARIANTS, declare_variant
from aepretrain.networks import Network, build
from aepretrain.registry import Registry, require, require_subclass


class Variant(ABC):
    """A classifier: where its encoder comes from, and which modules of it learn. It is made without arguments.

    It shares with finetune and scratch of its seed what those share: split, initial weights, order, augmentation.
    """

    pretrained: bool = True
    """Whether it starts from the encoder of its seed's pretraining, else from the same random one as scratch."""

    @abstractmethod
    def learned(self, network: Network, head: nn.Module) -> Iterable[nn.Module]:
        """The modules that learn, of `network.encoder` and the head; all others stay as they are."""


def _check_variant(variant: type[Variant] | None) -> None:
    """Try a user's variant on both networks of the grid."""
    require_subclass(variant, Variant)
    assert variant is not None
    require(isinstance(variant.pretrained, bool), f"pretrained is {variant.pretrained!r}, expected True or False")
    for name in ("fc", "conv"):
        network = build(name, 0)
        set_learned(variant(), network, getattr(network, network.trained_head))


def set_learned(variant: Variant, network: Network, head: nn.Module) -> None:
    """Let those weights learn that the variant names, and no others. Raises `UsageError` where it names none."""
    network.requires_grad_(False)
    for module in variant.learned(network, head):
        require(isinstance(module, nn.Module), f"learned gives {type(module).__name__}, expected modules")
        module.requires_grad_(True)
    own = [*network.encoder.parameters(), *head.parameters()]
    require(any(weight.requires_grad for weight in own), "learned names no weights of the encoder or the head")


VARIANTS: Registry[type[Variant] | None] = Registry("variant", dict.fromkeys(BUILT_IN_VARIANTS), _check_variant)
"""The built-in ones have no class: they are the code of this package."""


def register(name: str, variant: type[Variant]) -> None:
    """Make a subclass of `Variant` known under a name (see `Registry.register`)."""
    VARIANTS.register(name, variant)
    declare_variant(name, pretrained=variant.pretrained)
