"""Robustness: the classifiers of a seed on test images of which a rectangle is erased.

Shapes: N images, K classes.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from aepretrain.augment import ImageShape, RandomErasing
from aepretrain.config import Settings, TrainingSpec, derive_seed
from aepretrain.data import Dataset
from aepretrain.engine import evaluate
from aepretrain.metrics import expected_calibration_error
from aepretrain.networks import Classifier, build, load_part
from aepretrain.training.batches import Draw, Images
from aepretrain.variants import CLASSIFIERS, VARIANTS

ERASED_PERCENT = (0, 10, 20, 30, 40, 50)
"""Shares of an image's area that are erased, in black, whatever the training erased."""

ERASED_RATIO = (0.3, 3.3)
"""Smallest and largest height / width of the rectangle."""


def measure_robustness(
    spec: TrainingSpec, sources: Mapping[str, Mapping[str, Tensor]], dataset: Dataset, device: torch.device
) -> tuple[dict[str, float], None]:
    """Accuracy, negative log-likelihood and calibration error of each classifier, by the erased share.

    Every classifier of every seed sees the same rectangles. Raises `Failure` where weights do not fit.
    """
    rows_N = torch.arange(len(dataset.test_labels_N))
    test = Images.on_device(dataset.test_images_NCHW, dataset.test_labels_N, [rows_N], spec.settings, device)
    figures: dict[str, float] = {}
    for variant in CLASSIFIERS:
        network = build(spec.network, spec.seed, dataset.shape)
        head = network.head_name(VARIANTS.look_up(variant))
        for part in ("encoder", head):
            load_part(network, part, sources[variant])
        model = Classifier(network.to(device), head, frozen=True).eval()
        for percent in ERASED_PERCENT:
            draw = _erase(percent, len(rows_N), dataset.shape.image, device)

            def draw_at(_epoch: int, _members: Sequence[int], draw: Draw = draw) -> Draw:
                return draw

            logits_NK, labels_N = evaluate(model, test.examples("label", draw_at if percent else None))
            scores = _score(logits_NK.double().softmax(1).cpu(), labels_N.cpu())
            figures |= {f"{variant}_{name}_at_{percent}": value for name, value in scores.items()}
    return figures, None


def _erase(percent: int, num: int, shape: ImageShape, device: torch.device) -> Draw:
    """A black rectangle of this share for each of `num` images of a shape."""
    share = max(percent, 1) / 100
    erasing = RandomErasing(Settings(erase_scale=(share, share), erase_ratio=ERASED_RATIO, erase_value=0.0))
    generator = torch.Generator().manual_seed(derive_seed(0, "robustness erasing", percent))
    return Draw(erasing, erasing.draw(num, shape, generator).unsqueeze(0).to(device))


def _score(probs_NK: Tensor, labels_N: Tensor) -> dict[str, float]:
    confidence_N, predicted_N = probs_NK.max(1)
    correct_N = predicted_N == labels_N
    of_label_N = probs_NK.gather(1, labels_N.unsqueeze(1)).squeeze(1)
    return {
        "accuracy": correct_N.double().mean().item(),
        "nll": -of_label_N.clamp_min(torch.finfo(torch.float64).tiny).log().mean().item(),
        "ece": expected_calibration_error(confidence_N.numpy(), correct_N.numpy()),
    }
