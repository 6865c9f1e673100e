"""The four variants as calls of the one training loop. The only module that touches test images.

Shapes: N images, B batch, C channels, H rows, W columns, D code features, K classes.
"""

import ctypes
import io
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from aepretrain import metrics
from aepretrain.augment import Rectangles, draw_rectangles, erase
from aepretrain.data import IMAGE_SIZE, NUM_CLASSES, PIXEL_SCALES, Dataset, split
from aepretrain.engine import Examples, Phase, Task, Trained, evaluate, train
from aepretrain.networks import (
    Classifier,
    Network,
    Reconstructor,
    build,
    definition_digest,
    load_part,
    part_weights,
)
from aepretrain.records import EpochResult, Evidence, Predictions, Reconstructions
from aepretrain.spec import Failure, Settings, TrainingSpec, UsageError, derive_seed

AE_LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": functional.mse_loss,
    "bce": functional.binary_cross_entropy_with_logits,
}


@dataclass(frozen=True)
class Outcome:
    """A finished training: its final figures, its evidence, and the weights that it learned or used, on the CPU."""

    metrics: Mapping[str, float]
    evidence: Evidence
    weights: Mapping[str, Tensor]
    warning: str | None


def training_key(spec: TrainingSpec, dataset_digest: str) -> str:
    """The key of a training (`TrainingSpec.key`). Raises `UsageError` for a network that is not registered."""
    digest = definition_digest(spec.network)
    return spec.key(dataset_digest, {} if digest is None else {"network": digest})


def resolve_device(name: str) -> torch.device:
    """The device of a name; ``auto`` takes the accelerator that is there, or else the CPU. Raises `UsageError`."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if name == "auto":
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"device={name!r} is not known: use auto, cpu, cuda or mps") from None
    if device.type != "cpu" and (accelerator is None or accelerator.type != device.type):
        raise UsageError(f"device={name!r} is not available on this machine")
    return device


def prepare_process(num_threads: int) -> None:
    """Let this process compute with so many threads, and keep the memory that a training step frees for the next.

    Two processes with one thread beat one process with two. glibc would give large freed blocks back to the system
    and have every step fault them in again, a tenth of a convolutional step; other C libraries are left alone.
    """
    torch.set_num_threads(num_threads)
    if platform.libc_ver()[0] == "glibc":
        trim_threshold, mmap_threshold = -1, -3  # mallopt(3)
        libc = ctypes.CDLL(None)
        for parameter in (trim_threshold, mmap_threshold):
            libc.mallopt(parameter, 1 << 30)


def dump_weights(weights: Mapping[str, Tensor]) -> bytes:
    """A checkpoint: tensors by name, in PyTorch's format, which `parse_weights` reads."""
    buffer = io.BytesIO()
    torch.save(dict(weights), buffer)
    return buffer.getvalue()


def parse_weights(content: bytes) -> dict[str, Tensor]:
    """The weights of a checkpoint; nothing in it is executed. Raises `Failure` where it is none."""
    try:
        weights = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    except Exception as error:  # torch documents no class for what a damaged file raises
        raise Failure(f"the checkpoint cannot be read: {type(error).__name__}") from error
    if not (isinstance(weights, dict) and all(isinstance(weight, Tensor) for weight in weights.values())):
        raise Failure("the checkpoint cannot be read: it does not hold tensors by name")
    return weights


def run(
    spec: TrainingSpec,
    dataset: Dataset,
    device: torch.device,
    pretrained: Mapping[str, Tensor] | None,
    on_epoch: Callable[[EpochResult], None],
) -> Outcome:
    """Train, then evaluate once at the best weights.

    `pretrained` holds the pretraining's weights, for frozen and finetune. Raises `Failure` where they do not fit the
    network or a loss is not finite.
    """
    network = build(spec.network, spec.seed)
    if pretrained is not None:
        load_part(network, "encoder", pretrained)
    # Channels-last convolutions are 1.4 to 2 times as fast on a CPU (benchmarks/NOTES.md).
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in the stubs
    halves = split(dataset, spec.settings.split, spec.seed)
    training, validation = (
        _Images.on_device(dataset.images_NHW[index_N], dataset.labels_N[index_N], spec.settings, device)
        for index_N in (halves.train_N, halves.validation_N)
    )
    is_pretraining = spec.variant == "pretrain"
    make_task = _reconstruction_task if is_pretraining else _classification_task
    trained = train(make_task(spec, network, training, validation), on_epoch)
    test = _Images.on_device(dataset.test_images_NHW, dataset.test_labels_N, spec.settings, device)
    figures, shown = (_judge_reconstruction if is_pretraining else _judge_classifier)(spec, network, validation, test)
    if is_pretraining:
        shown["class_counts"] = _class_counts(training=training, validation=validation)
    parts = ("encoder", "decoder" if is_pretraining else network.head_name(spec.variant))
    return Outcome(
        metrics=_history_figures(trained) | figures,
        evidence=Evidence(history=trained.history, **shown),
        weights=part_weights(network, *parts),
        warning=_warning(spec, trained),
    )


def scoring_module(spec: TrainingSpec, weights: Mapping[str, Tensor]) -> nn.Module:
    """The trained classifier as users call it: images [N, 1, 28, 28] in [0, 1] → class probabilities [N, K]."""
    network = build(spec.network, spec.seed)
    head = network.head_name(spec.variant)
    load_part(network, "encoder", weights)
    load_part(network, head, weights)
    return _Scorer(Classifier(network, head, frozen=False), spec.settings).eval()


class _Scorer(nn.Module):
    def __init__(self, classifier: Classifier, settings: Settings) -> None:
        super().__init__()
        self.classifier = classifier
        self.settings = settings

    def forward(self, images_NCHW: Tensor) -> Tensor:
        logits_NK: Tensor = self.classifier(_normalize(images_NCHW, self.settings))
        return logits_NK.softmax(1)


@dataclass(frozen=True)
class _Images:
    """Images, uint8 [N, 1, 28, 28], and classes, int64 [N], on the device that trains, and how pixels are prepared."""

    images_N1HW: Tensor
    labels_N: Tensor
    settings: Settings

    @classmethod
    def on_device(cls, images_NHW: Tensor, labels_N: Tensor, settings: Settings, device: torch.device) -> "_Images":
        return cls(images_NHW.unsqueeze(1).to(device), labels_N.to(device), settings)

    def examples(self, target: str, draw: Callable[[int], Rectangles] | None = None) -> Examples:
        """Batches of images with a target: their ``label``, the ``input`` itself, or the ``clean`` image.

        `draw` gives an epoch's rectangles to erase, one for each image.
        """

        def at_epoch(epoch: int) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
            rectangles = draw(epoch) if draw else None

            def select(index_B: Tensor) -> tuple[Tensor, Tensor]:
                clean_B1HW = self.images_N1HW.index_select(0, index_B).float().div_(255)
                seen_B1HW = clean_B1HW
                if rectangles is not None:
                    seen_B1HW = erase(clean_B1HW, rectangles[index_B], self.settings.erase_value)
                inputs_B1HW = _normalize(seen_B1HW, self.settings)
                if target == "label":
                    return inputs_B1HW, self.labels_N[index_B]
                return inputs_B1HW, inputs_B1HW if target == "input" else _normalize(clean_B1HW, self.settings)

            return select

        return Examples(len(self.labels_N), at_epoch, self.labels_N.device)


def _normalize(pixels_B1HW: Tensor, settings: Settings) -> Tensor:
    mean, deviation = PIXEL_SCALES[settings.normalize]
    return pixels_B1HW if (mean, deviation) == (0.0, 1.0) else (pixels_B1HW - mean) / deviation


def _reconstruction_task(spec: TrainingSpec, network: Network, training: _Images, validation: _Images) -> Task:
    _learn_only(network, "encoder", "decoder")
    return Task(
        model=Reconstructor(network),
        loss=AE_LOSSES[spec.settings.ae_loss],
        train=training.examples(spec.settings.ae_target, _rectangles(spec, training, "AE erasing")),
        validation=validation.examples("clean"),
        classifies=False,
        seed=spec.seed,
        order="AE order",
        phase=_phase(spec),
    )


def _classification_task(spec: TrainingSpec, network: Network, training: _Images, validation: _Images) -> Task:
    head = network.head_name(spec.variant)
    frozen = spec.variant == "frozen"
    _learn_only(network, *((head,) if frozen else ("encoder", head)))
    draw = _rectangles(spec, training, "classifier erasing")
    model: nn.Module = Classifier(network, head, frozen=frozen)
    train_examples, validation_examples = training.examples("label", draw), validation.examples("label")
    if frozen and draw is None:  # the codes never change, so they are computed once
        model = getattr(network, head)
        train_examples, validation_examples = _codes(network, training), _codes(network, validation)
    return Task(
        model=model,
        loss=functional.cross_entropy,
        train=train_examples,
        validation=validation_examples,
        classifies=True,
        seed=spec.seed,
        order="classifier order",
        phase=_phase(spec),
    )


def _phase(spec: TrainingSpec) -> Phase:
    settings = spec.settings
    return Phase(epochs=spec.epochs, batch_size=settings.batch_size, lr=settings.lr, patience=settings.patience)


def _learn_only(network: Network, *parts: str) -> None:
    network.requires_grad_(False)
    for part in parts:
        getattr(network, part).requires_grad_(True)


def _rectangles(spec: TrainingSpec, images: _Images, purpose: str) -> Callable[[int], Rectangles] | None:
    """How each epoch's rectangles are drawn; None without augmentation."""
    if spec.augmentation == "none":
        return None
    settings, num, device = spec.settings, len(images.labels_N), images.labels_N.device

    def draw(epoch: int) -> Rectangles:
        generator = torch.Generator().manual_seed(derive_seed(spec.seed, purpose, epoch))
        return draw_rectangles(num, IMAGE_SIZE, settings.erase_scale, settings.erase_ratio, generator).to(device)

    return draw


def _codes(network: Network, images: _Images) -> Examples:
    """The images' codes as examples, computed here once."""
    network.eval()
    codes_ND = evaluate(network.encode, images.examples("label"))

    def select(index_B: Tensor) -> tuple[Tensor, Tensor]:
        return codes_ND[index_B], images.labels_N[index_B]

    return Examples(len(codes_ND), lambda _epoch: select, codes_ND.device)


def _history_figures(trained: Trained) -> dict[str, float]:
    return {
        "best_epoch": trained.best_epoch,
        "num_epochs": len(trained.history),
        "best_val_loss": trained.history[trained.best_epoch - 1].val_loss,
        "training_s": sum(result.elapsed_s for result in trained.history),
    }


def _warning(spec: TrainingSpec, trained: Trained) -> str | None:
    if trained.best_epoch < spec.epochs:
        return None
    return f"the best epoch is the last one ({spec.epochs}): with more epochs the validation loss may fall further"


def _judge_classifier(
    spec: TrainingSpec, network: Network, validation: _Images, test: _Images
) -> tuple[dict[str, float], dict[str, Any]]:
    """Final figures and evidence at the best weights."""
    model = Classifier(network, network.head_name(spec.variant), frozen=True).eval()
    figures: dict[str, float] = {}
    for name, images in (("best_val", validation), ("test", test)):
        log_probs_NK = evaluate(model, images.examples("label")).log_softmax(1).cpu()
        predictions = _predictions(log_probs_NK, images.labels_N.cpu())
        confusion_KK = metrics.confusion_matrix(predictions.labels_N, predictions.predicted_N, NUM_CLASSES)
        figures |= {
            f"{name}_accuracy": metrics.accuracy(confusion_KK),
            f"{name}_macro_f1": metrics.macro_f1(confusion_KK),
        }
    figures["test_loss"] = functional.nll_loss(log_probs_NK, test.labels_N.cpu()).item()
    for name, shares_K in (("precision", metrics.precision(confusion_KK)), ("recall", metrics.recall(confusion_KK))):
        figures |= {f"test_{name}_{digit}": float(share) for digit, share in enumerate(shares_K)}
    return figures, {"predictions": predictions, "confusion_KK": confusion_KK}


def _predictions(log_probs_NK: Tensor, labels_N: Tensor) -> Predictions:
    nll_predicted_N, predicted_N = log_probs_NK.neg().min(1)
    nll_label_N = log_probs_NK.neg().gather(1, labels_N.unsqueeze(1)).squeeze(1)
    return Predictions(
        labels_N=labels_N.numpy().astype(np.uint8),
        predicted_N=predicted_N.numpy().astype(np.uint8),
        nll_label_N=nll_label_N.numpy().astype(np.float16),
        nll_predicted_N=nll_predicted_N.numpy().astype(np.float16),
    )


def _judge_reconstruction(
    spec: TrainingSpec, network: Network, validation: _Images, test: _Images
) -> tuple[dict[str, float], dict[str, Any]]:
    """The loss on clean test images at the best weights, and a few validation images with their reconstructions."""
    model = Reconstructor(network).eval()
    outputs_N1HW = evaluate(model, test.examples("clean"))
    targets_N1HW = evaluate(lambda images_N1HW: images_N1HW, test.examples("clean"))
    figures = {"test_loss": AE_LOSSES[spec.settings.ae_loss](outputs_N1HW, targets_N1HW).item()}
    return figures, {"reconstructions": _reconstruct(spec, model, validation)}


def _class_counts(**parts: _Images) -> dict[str, NDArray[np.int64]]:
    return {
        name: torch.bincount(images.labels_N.cpu(), minlength=NUM_CLASSES).numpy() for name, images in parts.items()
    }


@torch.no_grad()
def _reconstruct(spec: TrainingSpec, model: Reconstructor, validation: _Images) -> Reconstructions:
    """The first validation image of each class, erased where the training erases, and what comes back."""
    firsts = [int(index_N[0]) for k in range(NUM_CLASSES) if len(index_N := (validation.labels_N == k).nonzero())]
    chosen = replace(validation, images_N1HW=validation.images_N1HW[firsts], labels_N=validation.labels_N[firsts])
    all_B = torch.arange(len(firsts), device=chosen.labels_N.device)
    draw = _rectangles(spec, chosen, "figure erasing")
    original_B1HW, _ = chosen.examples("clean").at_epoch(0)(all_B)
    seen_B1HW, _ = chosen.examples("input", draw).at_epoch(0)(all_B)
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
