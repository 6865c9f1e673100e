"""Evaluation of a trained network: final figures and evidence at its best weights.

Shapes: N images, M of a seed, B batch, C channels, H rows, W columns, K classes.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from aepretrain import metrics
from aepretrain.config import TrainingSpec
from aepretrain.data import PIXEL_SCALES
from aepretrain.engine import evaluate
from aepretrain.networks import Classifier, Network
from aepretrain.objectives import OBJECTIVES, Objective
from aepretrain.records import Predictions, Reconstructions
from aepretrain.training.batches import Images, augmentation_draws, corruption_draws
from aepretrain.variants import VARIANTS

MOST_SHOWN = 16
"""More images would make a figure too wide for a screen."""


def evaluate_classifier(
    spec: TrainingSpec, network: Network, validation: Images, test: Images
) -> tuple[dict[str, float], dict[str, Any]]:
    """Final figures and evidence at the best weights."""
    model = Classifier(network, network.head_name(VARIANTS.look_up(spec.variant)), frozen=True).eval()
    figures: dict[str, float] = {}
    for name, images in (("best_val", validation), ("test", test)):
        logits_NK, labels_N = evaluate(model, images.examples("label"))
        log_probs_NK, labels_N = logits_NK.log_softmax(1).cpu(), labels_N.cpu()
        predictions = _predictions(log_probs_NK, labels_N)
        confusion_KK = metrics.confusion_matrix(predictions.labels_N, predictions.predicted_N, network.num_classes)
        figures |= {
            f"{name}_accuracy": metrics.accuracy(confusion_KK),
            f"{name}_macro_f1": metrics.macro_f1(confusion_KK),
        }
    figures["test_loss"] = functional.nll_loss(log_probs_NK, labels_N).item()
    return figures, {"predictions": predictions, "confusion_KK": confusion_KK}


def _predictions(log_probs_NK: Tensor, labels_N: Tensor) -> Predictions:
    nll_predicted_N, predicted_N = log_probs_NK.neg().min(1)
    nll_label_N = log_probs_NK.neg().gather(1, labels_N.unsqueeze(1)).squeeze(1)
    kind = np.uint8 if log_probs_NK.shape[1] <= 256 else np.uint16
    with np.errstate(over="ignore"):  # what is beyond 65,504 nats is infinite
        return Predictions(
            labels_N=labels_N.numpy().astype(kind),
            predicted_N=predicted_N.numpy().astype(kind),
            nll_label_N=nll_label_N.numpy().astype(np.float16),
            nll_predicted_N=nll_predicted_N.numpy().astype(np.float16),
        )


def evaluate_pretraining(
    spec: TrainingSpec, model: nn.Module, validation: Images, test: Images
) -> tuple[dict[str, float], dict[str, Any]]:
    """The loss on test images that are not augmented, and a few validation images with what the model makes of them.

    Neither where the outputs are not images: then a loss may compare the images of a batch with each other, and depends
    on its size.
    """
    objective = OBJECTIVES.look_up(spec.settings.objective)(spec.settings)
    reconstructions = _reconstruct(spec, objective, model.eval(), validation)
    if reconstructions is None:
        return {}, {}
    corrupt = corruption_draws(objective, [spec], test, "AE corruption of test images")
    outputs, targets_NCHW = evaluate(model, test.examples("clean", corrupt=corrupt))
    return {"test_loss": objective.loss(outputs, targets_NCHW).item()}, {"reconstructions": reconstructions}


@torch.no_grad()
def _reconstruct(
    spec: TrainingSpec, objective: Objective, model: nn.Module, validation: Images
) -> Reconstructions | None:
    """The first validation image of each class, what the model gets of it in training, and what comes back.

    Of many classes only the first `MOST_SHOWN` are shown.
    """
    labels_M = validation.labels_N[validation.rows_SM[0]]
    firsts = [int((labels_M == k).nonzero()[0]) for k in labels_M.unique()[:MOST_SHOWN]]
    chosen = replace(validation, rows_SM=validation.rows_SM[:, firsts])
    index_1B = torch.arange(len(firsts), device=labels_M.device).unsqueeze(0)
    changes = augmentation_draws([spec], chosen, "figure erasing"), corruption_draws(objective, [spec], chosen)
    original_BCHW, seen_BCHW = (
        chosen.examples("input", *draws).at_epoch(0, [0])(index_1B)[0].squeeze(0) for draws in ((), changes)
    )
    shown_BCHW = objective.pixels(model(seen_BCHW))
    if shown_BCHW is None:
        return None
    mean, std = PIXEL_SCALES[spec.settings.normalize]
    return Reconstructions(
        *(
            (images_BCHW * std + mean).clamp(0, 1).cpu().numpy()
            for images_BCHW in (original_BCHW, seen_BCHW, shown_BCHW)
        )
    )


def class_counts(num_classes: int, **parts: Images) -> dict[str, NDArray[np.int64]]:
    """The number of images of each class in the named parts of a seed's split, [K] each."""
    return {
        name: torch.bincount(images.labels_N[images.rows_SM[0]].cpu(), minlength=num_classes).numpy()
        for name, images in parts.items()
    }
