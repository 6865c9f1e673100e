"""Similarity: linear CKA between the encoders of a seed, layer by layer, and maps of their codes.

Shapes: N images, D features of a layer.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aepretrain.analysis import linear_cka, map_of_codes
from aepretrain.config import TrainingSpec, derive_seed
from aepretrain.data import Dataset, split
from aepretrain.networks import Network, build, load_part
from aepretrain.records import CodeMaps
from aepretrain.training.batches import normalize

COMPARED_IMAGES = 2_000
"""The number of validation images whose codes are compared."""

MAPPED_IMAGES = 1_000
"""The number of them that are mapped."""

MAPPED = ("pretrain", "finetune", "scratch")
"""The encoders whose codes are mapped: before and after finetuning, and without pretraining."""

PAIRS = (
    ("initial", "pretrain"),
    ("initial", "finetune"),
    ("initial", "scratch"),
    ("pretrain", "finetune"),
    ("pretrain", "scratch"),
    ("finetune", "scratch"),
    ("scratch", "other"),
)
"""The encoders that are compared. ``other`` is scratch of the next seed: the level of two unrelated trainings."""


def measure_similarity(
    spec: TrainingSpec, sources: Mapping[str, Mapping[str, Tensor]], dataset: Dataset, device: torch.device
) -> tuple[dict[str, float], CodeMaps]:
    """Linear CKA of each pair of encoders in each layer, on validation images of the seed, and maps of codes.

    For the training of the other seed, some of these were training images. Raises `Failure` where weights do not fit.
    """
    rows_N = split(dataset, spec.settings.split, spec.seed).validation_N[:COMPARED_IMAGES]
    pixels_NCHW = dataset.images_NCHW[rows_N].to(device)
    images_NCHW = normalize(pixels_NCHW.float().div(255), spec.settings)
    codes = {"initial": _layers(build(spec.network, spec.seed, dataset.shape).to(device), images_NCHW)}
    for name, weights in sources.items():
        network = build(spec.network, spec.seed, dataset.shape)
        load_part(network, "encoder", weights)
        codes[name] = _layers(network.to(device), images_NCHW)
    figures = {
        f"cka_{first}_{second}_{number}": linear_cka(first_ND, second_ND)
        for first, second in PAIRS
        for number, (first_ND, second_ND) in enumerate(zip(codes[first], codes[second], strict=True), 1)
    }
    state = derive_seed(spec.seed, "map of codes")
    places_N2 = {name: map_of_codes(codes[name][-1][:MAPPED_IMAGES], state) for name in MAPPED}
    labels_N = dataset.labels_N[rows_N[:MAPPED_IMAGES]].numpy()
    return figures, CodeMaps(places_N2, labels_N)


@torch.no_grad()
def _layers(network: Network, images_NCHW: Tensor) -> list[NDArray[np.float32]]:
    """The outputs of the encoder's ReLUs, [N, D] each, and the code where it is not the last of them."""
    outputs: list[Tensor] = []
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output.flatten(1)))
        for module in network.encoder.modules()
        if isinstance(module, nn.ReLU)
    ]
    codes_ND = network.eval().encode_by_layers(images_NCHW)
    for hook in hooks:
        hook.remove()
    if not outputs or not torch.equal(outputs[-1], codes_ND):
        outputs.append(codes_ND)
    return [output_ND.cpu().numpy() for output_ND in outputs]
