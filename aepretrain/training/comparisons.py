"""What is asked of finished trainings beyond their own figures: nothing is trained here, and nothing is chosen.

Shapes: N images, D features of a layer, K classes.
"""

import time
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aepretrain.analysis import linear_cka, map_of_codes
from aepretrain.augment import Rectangles, draw_rectangles
from aepretrain.config import CLASSIFIERS, TrainingSpec, derive_seed
from aepretrain.data import IMAGE_SIZE, Dataset, split
from aepretrain.engine import evaluate
from aepretrain.errors import Failure
from aepretrain.metrics import expected_calibration_error
from aepretrain.networks import Classifier, Network, build, load_part
from aepretrain.records import CodeMaps
from aepretrain.training.batches import Erasing, Images, normalize

Weights = Mapping[str, Tensor]

ERASED_PERCENT = (0, 10, 20, 30, 40, 50)
"""Shares of an image's area that robustness erases, in black, whatever a training erased."""

ERASED_RATIO = (0.3, 3.3)
"""Smallest and largest height / width of what robustness erases."""

COMPARED_IMAGES = 2_000
"""How many validation images similarity compares codes of."""

MAPPED_IMAGES = 1_000
"""How many of them it maps."""

MAPPED = ("pretrain", "finetune")
"""The encoders whose codes it maps: before and after finetuning."""

PAIRS = (
    ("initial", "pretrain"),
    ("initial", "finetune"),
    ("initial", "scratch"),
    ("pretrain", "finetune"),
    ("pretrain", "scratch"),
    ("finetune", "scratch"),
    ("scratch", "other"),
)
"""Whose encoders similarity compares; ``other`` is scratch of the next seed, which says what no kinship looks like."""


Found = tuple[dict[str, float], CodeMaps | None]
"""Figures by name, and maps where the evaluation draws some."""


def evaluate_all(
    spec: TrainingSpec, sources: Mapping[str, Weights], dataset: Dataset, device: torch.device
) -> Found | Failure:
    """What an evaluation finds. Gives a `Failure` where a source's weights do not fit."""
    started = time.perf_counter()
    look = {"robustness": _robustness, "similarity": _similarity}[spec.variant]
    try:
        figures, maps = look(spec, sources, dataset, device)
    except Failure as failure:
        return failure
    return figures | {"training_s": time.perf_counter() - started}, maps


def _robustness(spec: TrainingSpec, sources: Mapping[str, Weights], dataset: Dataset, device: torch.device) -> Found:
    """Accuracy, negative log-likelihood and calibration error of each classifier on erased test images.

    Every classifier of every seed is shown the same rectangles.
    """
    rows_N = torch.arange(len(dataset.test_labels_N))
    test = Images.on_device(dataset.test_images_NHW, dataset.test_labels_N, [rows_N], spec.settings, device)
    figures: dict[str, float] = {}
    for variant in CLASSIFIERS:
        network = build(spec.network, spec.seed)
        head = network.head_name(variant)
        for part in ("encoder", head):
            load_part(network, part, sources[variant])
        model = Classifier(network.to(device), head, frozen=True).eval()
        for percent in ERASED_PERCENT:
            mask = _mask(percent, len(rows_N), device)
            examples = test.examples("label", None if mask is None else lambda *_, drawn=mask: drawn)
            logits_NK, labels_N = evaluate(model, examples)
            found = _judge(logits_NK.double().softmax(1).cpu(), labels_N.cpu())
            figures |= {f"{variant}_{name}_at_{percent}": value for name, value in found.items()}
    return figures, None


def _mask(percent: int, num: int, device: torch.device) -> Erasing | None:
    if percent == 0:
        return None
    generator = torch.Generator().manual_seed(derive_seed(0, "robustness erasing", percent))
    share = percent / 100
    drawn = draw_rectangles(num, IMAGE_SIZE, (share, share), ERASED_RATIO, generator)
    return Erasing(Rectangles.stack([drawn], device), value=0.0)


def _judge(probs_NK: Tensor, labels_N: Tensor) -> dict[str, float]:
    confidence_N, predicted_N = probs_NK.max(1)
    right_N = predicted_N == labels_N
    of_label_N = probs_NK.gather(1, labels_N.unsqueeze(1)).squeeze(1)
    return {
        "accuracy": right_N.double().mean().item(),
        "nll": -of_label_N.clamp_min(torch.finfo(torch.float64).tiny).log().mean().item(),
        "ece": expected_calibration_error(confidence_N.numpy(), right_N.numpy()),
    }


def _similarity(spec: TrainingSpec, sources: Mapping[str, Weights], dataset: Dataset, device: torch.device) -> Found:
    """Linear CKA between encoders, layer by layer, on validation images of the seed, and maps of some codes.

    (Of the other seed's training, some of them were training images.)
    """
    rows_N = split(dataset, spec.settings.split, spec.seed).validation_N[:COMPARED_IMAGES]
    pixels_NHW = dataset.images_NHW[rows_N].to(device)
    images_N1HW = normalize(pixels_NHW.unsqueeze(1).float().div(255), spec.settings)
    codes = {"initial": _layers(build(spec.network, spec.seed).to(device), images_N1HW)}
    for name, weights in sources.items():
        network = build(spec.network, spec.seed)
        load_part(network, "encoder", weights)
        codes[name] = _layers(network.to(device), images_N1HW)
    figures = {
        f"cka_{first}_{second}_{number}": linear_cka(first_ND, second_ND)
        for first, second in PAIRS
        for number, (first_ND, second_ND) in enumerate(zip(codes[first], codes[second], strict=True), 1)
    }
    state = derive_seed(spec.seed, "map of codes")
    places_N2 = {name: map_of_codes(codes[name][-1][:MAPPED_IMAGES], state) for name in MAPPED}
    labels_N = dataset.labels_N[rows_N[:MAPPED_IMAGES]].numpy().astype(np.uint8)
    return figures, CodeMaps(places_N2, labels_N)


@torch.no_grad()
def _layers(network: Network, images_N1HW: Tensor) -> list[NDArray[np.float32]]:
    """What comes out of each ReLU of the encoder, [N, D] each, and the code where that is none of them."""
    found: list[Tensor] = []
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output: found.append(output.flatten(1)))
        for module in network.encoder.modules()
        if isinstance(module, nn.ReLU)
    ]
    codes_ND = network.eval().encode_by_layers(images_N1HW)
    for hook in hooks:
        hook.remove()
    if not found or not torch.equal(found[-1], codes_ND):
        found.append(codes_ND)
    return [one_ND.cpu().numpy() for one_ND in found]
