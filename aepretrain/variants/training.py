"""The four variants as calls of the one training loop.

Shapes: N images, B batch, D code features.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from aepretrain.data import Dataset, split
from aepretrain.engine import Examples, Phase, Task, Trained, evaluate, train
from aepretrain.networks import Classifier, Network, Reconstructor, build, definition_digest, load_part, part_weights
from aepretrain.records import EpochResult, Evidence
from aepretrain.spec import TrainingSpec
from aepretrain.variants.images import Images, erasing
from aepretrain.variants.judging import AE_LOSSES, class_counts, judge_classifier, judge_reconstruction


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
    # Channels-last layout makes the convolutional encoder 1.6 times as fast on a CPU (benchmarks/NOTES.md).
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in the stubs
    halves = split(dataset, spec.settings.split, spec.seed)
    training, validation = (
        Images.on_device(dataset.images_NHW[index_N], dataset.labels_N[index_N], spec.settings, device)
        for index_N in (halves.train_N, halves.validation_N)
    )
    is_pretraining = spec.variant == "pretrain"
    make_task = _reconstruction_task if is_pretraining else _classification_task
    trained = train(make_task(spec, network, training, validation), on_epoch)
    test = Images.on_device(dataset.test_images_NHW, dataset.test_labels_N, spec.settings, device)
    figures, shown = (judge_reconstruction if is_pretraining else judge_classifier)(spec, network, validation, test)
    if is_pretraining:
        shown["class_counts"] = class_counts(training=training, validation=validation)
    parts = ("encoder", "decoder" if is_pretraining else network.head_name(spec.variant))
    return Outcome(
        metrics=_history_figures(trained) | figures,
        evidence=Evidence(history=trained.history, **shown),
        weights=part_weights(network, *parts),
        warning=_warning(spec, trained),
    )


def _reconstruction_task(spec: TrainingSpec, network: Network, training: Images, validation: Images) -> Task:
    _learn_only(network, "encoder", "decoder")
    return Task(
        model=Reconstructor(network),
        loss=AE_LOSSES[spec.settings.ae_loss],
        train=training.examples(spec.settings.ae_target, erasing(spec, training, "AE erasing")),
        validation=validation.examples("clean"),
        classifies=False,
        seed=spec.seed,
        order="AE order",
        phase=_phase(spec),
    )


def _classification_task(spec: TrainingSpec, network: Network, training: Images, validation: Images) -> Task:
    head = network.head_name(spec.variant)
    frozen = spec.variant == "frozen"
    _learn_only(network, *((head,) if frozen else ("encoder", head)))
    draw = erasing(spec, training, "classifier erasing")
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


def _codes(network: Network, images: Images) -> Examples:
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
