"""The four variants as calls of the one training loop.

Shapes: S seeds of a stack, N images, M of a seed, B batch, P = S·B items of all seeds' batches, D code features.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from aepretrain.data import Dataset, split
from aepretrain.engine import Examples, Phase, Select, Task, Trained, evaluate, train
from aepretrain.networks import Classifier, Network, Reconstructor, build, definition_digest, load_part, part_weights
from aepretrain.records import EpochResult, Evidence
from aepretrain.spec import Failure, TrainingSpec
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
    specs: Sequence[TrainingSpec],
    dataset: Dataset,
    device: torch.device,
    pretrained: Sequence[Mapping[str, Tensor]],
    on_epoch: Callable[[int, EpochResult], None],
) -> list[Outcome | Failure]:
    """Train a stack of specs that differ only in their seeds, then evaluate each once at its best weights.

    `pretrained` holds the weights of each one's pretraining, for frozen and finetune; it is empty for the others.
    `on_epoch` gets each epoch's numbers with the place of their spec. What fails, fails alone. Where the device's
    memory does not hold the stack, its halves are trained one after the other. Raises `Failure` where pretrained
    weights do not fit.
    """
    try:
        return _run(specs, dataset, device, pretrained, on_epoch)
    except torch.OutOfMemoryError:
        if len(specs) == 1:
            raise Failure(f"{device} has too little memory for {specs[0].name}") from None
    half = len(specs) // 2

    def on_later_epoch(place: int, result: EpochResult) -> None:
        on_epoch(half + place, result)

    first = run(specs[:half], dataset, device, pretrained[:half], on_epoch)
    return first + run(specs[half:], dataset, device, pretrained[half:], on_later_epoch)


def _run(
    specs: Sequence[TrainingSpec],
    dataset: Dataset,
    device: torch.device,
    pretrained: Sequence[Mapping[str, Tensor]],
    on_epoch: Callable[[int, EpochResult], None],
) -> list[Outcome | Failure]:
    networks = [build(spec.network, spec.seed) for spec in specs]
    for network, weights in zip(networks, pretrained, strict=False):  # none but for frozen and finetune
        load_part(network, "encoder", weights)
    for network in networks:
        network.to(device)
    settings = specs[0].settings
    halves = [split(dataset, settings.split, spec.seed) for spec in specs]
    training, validation = (
        Images.on_device(dataset.images_NHW, dataset.labels_N, rows, settings, device)
        for rows in ([half.train_N for half in halves], [half.validation_N for half in halves])
    )
    make_task = _reconstruction_task if specs[0].variant == "pretrain" else _classification_task
    results = train(make_task(specs, networks, training, validation), on_epoch)
    test_rows = torch.arange(len(dataset.test_labels_N))
    test = Images.on_device(dataset.test_images_NHW, dataset.test_labels_N, [test_rows] * len(specs), settings, device)
    return [
        result
        if isinstance(result, Failure)
        else _conclude(specs, place, networks[place], result, training, validation, test)
        for place, result in enumerate(results)
    ]


def _conclude(
    specs: Sequence[TrainingSpec],
    place: int,
    network: Network,
    trained: Trained,
    training: Images,
    validation: Images,
    test: Images,
) -> Outcome:
    """What remains of one training: figures and evidence at its best weights, and those weights."""
    spec = specs[place]
    is_pretraining = spec.variant == "pretrain"
    judge = judge_reconstruction if is_pretraining else judge_classifier
    figures, shown = judge(spec, network, validation.of(place), test.of(place))
    if is_pretraining:
        shown["class_counts"] = class_counts(training=training.of(place), validation=validation.of(place))
    parts = ("encoder", "decoder" if is_pretraining else network.head_name(spec.variant))
    return Outcome(
        metrics=_history_figures(trained) | figures,
        evidence=Evidence(history=trained.history, **shown),
        weights=part_weights(network, *parts),
        warning=_warning(spec, trained),
    )


def _reconstruction_task(
    specs: Sequence[TrainingSpec], networks: Sequence[Network], training: Images, validation: Images
) -> Task:
    for network in networks:
        _learn_only(network, "encoder", "decoder")
    settings = specs[0].settings
    return Task(
        models=[Reconstructor(network) for network in networks],
        seeds=[spec.seed for spec in specs],
        loss=AE_LOSSES[settings.ae_loss],
        train=training.examples(settings.ae_target, erasing(specs, training, "AE erasing")),
        validation=validation.examples("clean"),
        classifies=False,
        order="AE order",
        phase=_phase(specs[0]),
    )


def _classification_task(
    specs: Sequence[TrainingSpec], networks: Sequence[Network], training: Images, validation: Images
) -> Task:
    head = networks[0].head_name(specs[0].variant)
    frozen = specs[0].variant == "frozen"
    for network in networks:
        _learn_only(network, *((head,) if frozen else ("encoder", head)))
    draw = erasing(specs, training, "classifier erasing")
    models: list[nn.Module] = [Classifier(network, head, frozen=frozen) for network in networks]
    train_examples, validation_examples = training.examples("label", draw), validation.examples("label")
    if frozen and draw is None:  # the codes never change, so they are computed once
        models = [getattr(network, head) for network in networks]
        train_examples, validation_examples = _codes(networks, training), _codes(networks, validation)
    return Task(
        models=models,
        seeds=[spec.seed for spec in specs],
        loss=functional.cross_entropy,
        train=train_examples,
        validation=validation_examples,
        classifies=True,
        order="classifier order",
        phase=_phase(specs[0]),
    )


def _phase(spec: TrainingSpec) -> Phase:
    settings = spec.settings
    return Phase(epochs=spec.epochs, batch_size=settings.batch_size, lr=settings.lr, patience=settings.patience)


def _learn_only(network: Network, *parts: str) -> None:
    network.requires_grad_(False)
    for part in parts:
        getattr(network, part).requires_grad_(True)


def _codes(networks: Sequence[Network], images: Images) -> Examples:
    """Each seed's images as its network's codes, computed here once."""
    coded = [evaluate(network.eval().encode, images.of(i).examples("label")) for i, network in enumerate(networks)]
    codes_SMD, labels_SM = (torch.stack(parts) for parts in zip(*coded, strict=True))
    num = labels_SM.shape[1]

    def at_epoch(_epoch: int, members: Sequence[int]) -> Select:
        first_S1 = torch.tensor(members, device=labels_SM.device).unsqueeze(1) * num

        def select(index_SB: Tensor) -> tuple[Tensor, Tensor]:
            rows_P = (first_S1 + index_SB).flatten()
            codes_PD = codes_SMD.flatten(0, 1).index_select(0, rows_P)
            return codes_PD.unflatten(0, index_SB.shape), labels_SM.flatten().index_select(0, rows_P).view_as(index_SB)

        return select

    return Examples(num, at_epoch, labels_SM.device)


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
