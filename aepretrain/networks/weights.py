"""Weights of the parts of a network: copies, and loading with a check that they fit."""

from collections.abc import Mapping

import torch
from torch import Tensor

from aepretrain.errors import Failure
from aepretrain.networks.network import Network


def part_weights(network: Network, *parts: str) -> dict[str, Tensor]:
    """Copies of the weights of some parts, on the CPU, by their names in the network's state dict."""
    prefixes = tuple(f"{part}." for part in parts)
    return {
        name: weight.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, weight in network.state_dict().items()
        if name.startswith(prefixes)
    }


def load_part(network: Network, part: str, weights: Mapping[str, Tensor]) -> None:
    """Load the weights of one part of a network.

    Raises `Failure` where a weight is missing, unknown, of another shape or type, or not finite.
    """
    module = getattr(network, part)
    given = {name.removeprefix(f"{part}."): weight for name, weight in weights.items() if name.startswith(f"{part}.")}
    wanted = module.state_dict()
    parts = {name for name, _ in network.named_children()}
    odd = {f"{part}.{name}" for name in given.keys() ^ wanted.keys()}
    odd |= {name for name in weights if name.partition(".")[0] not in parts}
    if odd:
        raise Failure(
            f"the checkpoint does not fit {type(network).__name__}: missing or unknown weights: "
            f"{' '.join(', '.join(sorted(odd)).split())[:200]}"
        )
    for name, weight in given.items():
        if weight.shape != wanted[name].shape or weight.dtype != wanted[name].dtype:
            raise Failure(
                f"the checkpoint does not fit {type(network).__name__}: {part}.{name} is {weight.dtype} "
                f"{list(weight.shape)}, expected {wanted[name].dtype} {list(wanted[name].shape)}"
            )
        if not bool(torch.isfinite(weight).all()):
            raise Failure(f"the checkpoint is damaged: {part}.{name} holds values that are not finite")
    module.load_state_dict(given)
