"""Weights as files, and as the module that users of a trained classifier call.

Shapes: N images, C channels, H rows, W columns, D code features, K classes.
"""

import io
import zipfile
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from aepretrain.config import Settings, Shape, TrainingSpec
from aepretrain.errors import Failure
from aepretrain.networks import Classifier, Network, build, load_part
from aepretrain.training.batches import normalize
from aepretrain.variants import VARIANTS

ORDINARY = (torch.strided, "cpu")
"""Layout and device of a tensor that holds all its values here."""


ALLOWED = "images must have values from 0 to 1: divide values from 0 to 255 by 255"


def dump_weights(weights: Mapping[str, Tensor]) -> bytes:
    """A checkpoint: tensors by name, in PyTorch's format, which `parse_weights` reads."""
    buffer = io.BytesIO()
    torch.save(dict(weights), buffer)
    return buffer.getvalue()


def parse_weights(content: bytes) -> dict[str, Tensor]:
    """The weights of a checkpoint; nothing in it is executed. Raises `Failure` where it is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(part.file_size for part in archive.infolist()) > len(content):  # PyTorch never compresses
                raise ValueError("it would unpack to more than it is")
        weights = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    except Exception as error:  # torch documents no class for what a damaged file raises
        raise Failure(f"the checkpoint cannot be read: {type(error).__name__}") from error
    if not (isinstance(weights, dict) and all(map(_is_named_weight, weights.items()))):
        raise Failure("the checkpoint cannot be read: it does not hold tensors by name")
    return weights


def _is_named_weight(named: tuple[object, object]) -> bool:
    name, weight = named
    return isinstance(name, str) and type(weight) is Tensor and (weight.layout, weight.device.type) == ORDINARY


def scoring_module(spec: TrainingSpec, shape: Shape, weights: Mapping[str, Tensor]) -> nn.Module:
    """The trained classifier as users call it: images [N, C, H, W] in [0, 1] → class probabilities [N, K].

    Its call raises `RuntimeError` for other values, also where it was exported by PyTorch and is served by MLflow.
    """
    network = build(spec.network, spec.seed, shape)
    head = network.head_name(VARIANTS.look_up(spec.variant))
    load_part(network, "encoder", weights)
    load_part(network, head, weights)
    return _Scorer(Classifier(network, head, frozen=False), spec.settings).eval()


def encoding_module(spec: TrainingSpec, shape: Shape, weights: Mapping[str, Tensor]) -> nn.Module:
    """The trained encoder as users call it: images [N, C, H, W] in [0, 1] → codes [N, D]."""
    network = build(spec.network, spec.seed, shape)
    load_part(network, "encoder", weights)
    return _Encoder(network, spec.settings).eval()


class _Scorer(nn.Module):
    def __init__(self, classifier: Classifier, settings: Settings) -> None:
        super().__init__()
        self.classifier = classifier
        self.settings = settings

    def forward(self, images_NCHW: Tensor) -> Tensor:
        torch._assert_async(((images_NCHW >= 0) & (images_NCHW <= 1)).all(), ALLOWED)  # it is exported, too
        logits_NK: Tensor = self.classifier(normalize(images_NCHW, self.settings))
        return logits_NK.softmax(1)


class _Encoder(nn.Module):
    def __init__(self, network: Network, settings: Settings) -> None:
        super().__init__()
        self.network = network
        self.settings = settings

    def forward(self, images_NCHW: Tensor) -> Tensor:
        return self.network.encode(normalize(images_NCHW, self.settings))
