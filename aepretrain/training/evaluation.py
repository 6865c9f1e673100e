"""What a trained network is worth: final figures and evidence at its best weights.

Shapes: N images, M of a seed, B batch, H rows, W columns, K classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from aepretrain import metrics
from aepretrain.config import TrainingSpec
from aepretrain.data import NUM_CLASSES, PIXEL_SCALES
from aepretrain.engine import evaluate
from aepretrain.networks import Classifier, Network, Reconstructor
from aepretrain.records import Predictions, Reconstructions
from aepretrain.training.batches import Images, augmenting

AE_LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": functional.mse_loss,
    "bce": functional.binary_cross_entropy_with_logits,
}


def judge_classifier(
    spec: TrainingSpec, network: Network, validation: Images, test: Images
) -> tuple[dict[str, float], dict[str, Any]]:
    """Final figures and evidence at the best weights."""
    model = Classifier(network, network.head_name(spec.variant), frozen=True).eval()
    figures: dict[str, float] = {}
    for name, images in (("best_val", validation), ("test", test)):
        logits_NK, labels_N = evaluate(model, images.examples("label"))
        log_probs_NK, labels_N = logits_NK.log_softmax(1).cpu(), labels_N.cpu()
        predictions = _predictions(log_probs_NK, labels_N)
        confusion_KK = metrics.confusion_matrix(predictions.labels_N, predictions.predicted_N, NUM_CLASSES)
        figures |= {
            f"{name}_accuracy": metrics.accuracy(confusion_KK),
            f"{name}_macro_f1": metrics.macro_f1(confusion_KK),
        }
    figures["test_loss"] = functional.nll_loss(log_probs_NK, labels_N).item()
    return figures, {"predictions": predictions, "confusion_KK": confusion_KK}


def _predictions(log_probs_NK: Tensor, labels_N: Tensor) -> Predictions:
    nll_predicted_N, predicted_N = log_probs_NK.neg().min(1)
    nll_label_N = log_probs_NK.neg().gather(1, labels_N.unsqueeze(1)).squeeze(1)
    with np.errstate(over="ignore"):  # what is beyond 65,504 nats is infinite
        return Predictions(
            labels_N=labels_N.numpy().astype(np.uint8),
            predicted_N=predicted_N.numpy().astype(np.uint8),
            nll_label_N=nll_label_N.numpy().astype(np.float16),
            nll_predicted_N=nll_predicted_N.numpy().astype(np.float16),
        )


def judge_reconstruction(
    spec: TrainingSpec, network: Network, validation: Images, test: Images
) -> tuple[dict[str, float], dict[str, Any]]:
    """The loss on clean test images at the best weights, and a few validation images with their reconstructions."""
    model = Reconstructor(network).eval()
    outputs_N1HW, targets_N1HW = evaluate(model, test.examples("clean"))
    figures = {"test_loss": AE_LOSSES[spec.settings.ae_loss](outputs_N1HW, targets_N1HW).item()}
    return figures, {"reconstructions": _reconstruct(spec, model, validation)}


@torch.no_grad()
def _reconstruct(spec: TrainingSpec, model: Reconstructor, validation: Images) -> Reconstructions:
    """The first validation image of each class, augmented where the training augments, and what comes back."""
    labels_M = validation.labels_N[validation.rows_SM[0]]
    firsts = [int(index_N[0]) for k in range(NUM_CLASSES) if len(index_N := (labels_M == k).nonzero())]
    chosen = replace(validation, rows_SM=validation.rows_SM[:, firsts])
    all_1B = torch.arange(len(firsts), device=labels_M.device).unsqueeze(0)
    draw = augmenting([spec], chosen, "figure erasing")
    original_B1HW, seen_B1HW = (
        chosen.examples("input", drawn).at_epoch(0, [0])(all_1B)[0].squeeze(0) for drawn in (None, draw)
    )
    outputs_B1HW = model(seen_B1HW)
    if spec.settings.ae_loss == "bce":
        outputs_B1HW = outputs_B1HW.sigmoid()
    mean, deviation = PIXEL_SCALES[spec.settings.normalize]
    return Reconstructions(
        *(
            (images_B1HW.squeeze(1) * deviation + mean).clamp(0, 1).cpu().numpy()
            for images_B1HW in (original_B1HW, seen_B1HW, outputs_B1HW)
        )
    )


def class_counts(**parts: Images) -> dict[str, NDArray[np.int64]]:
    """How many images of each class a seed's named parts hold, [K] each."""
    return {
        name: torch.bincount(images.labels_N[images.rows_SM[0]].cpu(), minlength=NUM_CLASSES).numpy()
        for name, images in parts.items()
    }
