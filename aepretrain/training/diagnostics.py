"""Diagnostics of an encoder: units that never respond, effective rank of its codes, and a linear probe.

Shapes: N images, B batch, C filters of h rows and w columns, D code features, U units of a layer.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aepretrain.analysis import effective_rank, probe_accuracy
from aepretrain.engine import EVALUATION_BATCH
from aepretrain.networks import Network
from aepretrain.training.batches import Images

NUM_FILTERS = 16


def diagnose(network: Network, training: Images, validation: Images, test: Images) -> dict[str, float]:
    """Figures of the encoder of one seed, by name.

    ``dead_units`` is the share of units, of all layers with a ReLU, that are 0 for every validation image (a feature
    map is one unit); it is missing where the encoder has no ReLU. ``effective_rank`` is that of the codes of validation
    images, and ``effective_rank_centred`` that of their differences from the mean code, which otherwise dominates.
    ``probe_accuracy`` is the accuracy on test images of a linear probe that learns from the training images.
    """
    codes_ND, active_U = _encode(network, validation)
    figures = {
        "effective_rank": effective_rank(codes_ND.numpy()),
        "effective_rank_centred": effective_rank((codes_ND - codes_ND.mean(0)).numpy()),
    }
    if len(active_U):
        figures["dead_units"] = 1 - active_U.double().mean().item()
    codes = []
    for images in (training, test):
        codes += [_encode(network, images)[0].numpy(), images.labels_N[images.rows_SM[0]].cpu().numpy()]
    return figures | {"probe_accuracy": probe_accuracy(*codes)}


def first_layer_filters(network: Network) -> NDArray[np.float16] | None:
    """Weights of the encoder's first layer as images, [C, h, w], at most `NUM_FILTERS`; None for other layers.

    A filter is the kernel of a convolution or a unit of a linear layer on pixels, averaged over the channels of its
    input. The filters with the largest norm, largest first. Weights outside the range of float16 become its nearest
    end.
    """
    layers = (one for one in network.encoder.modules() if isinstance(one, (nn.Linear, nn.Conv2d)))
    layer = next(layers, None)
    if isinstance(layer, nn.Conv2d):
        weights_CHW = layer.weight.detach().mean(1)
    elif isinstance(layer, nn.Linear) and layer.in_features == math.prod(network.image_shape):
        weights_CHW = layer.weight.detach().unflatten(1, network.image_shape).mean(1)
    else:
        return None
    largest = weights_CHW.flatten(1).norm(dim=1).argsort(descending=True, stable=True)[:NUM_FILTERS]
    bound = float(np.finfo(np.float16).max)
    filters_CHW: NDArray[np.float16] = weights_CHW[largest].clamp(-bound, bound).cpu().numpy().astype(np.float16)
    return filters_CHW


@torch.no_grad()
def _encode(network: Network, images: Images) -> tuple[Tensor, Tensor]:
    """The codes of a seed's images, [N, D], and which units of the encoder were ever active, bool [U]; on the CPU."""
    network.eval()
    active: dict[nn.Module, Tensor] = {}

    def note(module: nn.Module, _inputs: object, output_B: Tensor) -> None:
        fired_U = (output_B > 0).transpose(0, 1).flatten(1).any(1)
        active[module] = active[module] | fired_U if module in active else fired_U

    hooks = [one.register_forward_hook(note) for one in network.encoder.modules() if isinstance(one, nn.ReLU)]
    examples = images.examples("label")
    select, indices = examples.at_epoch(0, [0]), torch.arange(examples.num, device=examples.device)
    codes = [
        network.encode_by_layers(select(index_B.unsqueeze(0))[0].squeeze(0)).cpu()
        for index_B in indices.split(EVALUATION_BATCH)
    ]
    for hook in hooks:
        hook.remove()
    none = torch.empty(0, dtype=torch.bool)
    return torch.cat(codes), torch.cat([none, *(fired_U.cpu() for fired_U in active.values())])
