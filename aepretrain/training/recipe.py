"""The variants as calls of the one training loop.

Shapes: S seeds of a stack, N images, M of a seed, D features, C components.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aepretrain.analysis import principal_components
from aepretrain.augment import AUGMENTATIONS
from aepretrain.config import EVALUATIONS, TrainingSpec
from aepretrain.data import DATASETS, IMAGE_SIZE, Dataset, labelled, split
from aepretrain.engine import Snapshots, Trained, set_weights, train
from aepretrain.errors import Failure
from aepretrain.networks import NETWORKS, Network, build, build_probe, load_part, part_weights
from aepretrain.records import EpochResult, Evidence
from aepretrain.registry import definitions
from aepretrain.training.batches import Images, normalize
from aepretrain.training.comparisons import Weights, evaluate_all
from aepretrain.training.custom import VARIANTS
from aepretrain.training.evaluation import class_counts, judge_classifier, judge_reconstruction
from aepretrain.training.tasks import classification_task, patience_of, reconstruction_task

SnapshotsOf = Callable[[Sequence[TrainingSpec]], Snapshots]


@dataclass(frozen=True)
class Outcome:
    """A finished training: its final figures, its evidence, and the weights that it learned or used, on the CPU."""

    metrics: Mapping[str, float]
    evidence: Evidence
    weights: Mapping[str, Tensor]
    warning: str | None


def training_key(spec: TrainingSpec, dataset_digest: str) -> str:
    """The key of a training (`TrainingSpec.key`), with the digests of all in it that plugins registered.

    Raises `UsageError` for a network, dataset, augmentation or variant that is not known.
    """
    used = (
        (NETWORKS, spec.network),
        (DATASETS, spec.settings.dataset),
        (AUGMENTATIONS, spec.augmentation),
        (VARIANTS, spec.variant),
    )
    return spec.key(dataset_digest, definitions(used))


def run(
    specs: Sequence[TrainingSpec],
    dataset: Dataset,
    device: torch.device,
    sources: Sequence[Mapping[str, Weights]],
    on_epoch: Callable[[int, EpochResult], None],
    snapshots: SnapshotsOf | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> list[Outcome | Failure]:
    """Train a stack of specs that differ only in their seeds, then evaluate each once at its best weights.

    `sources` holds for each the weights that it needs, by the names of `TrainingSpec.sources`.
    `on_epoch` gets each epoch's numbers with the place of their spec. `snapshots` says where the state of a stack's
    training is kept; it goes on from what is there. `on_step` is called after each step and may raise, to stop. What
    fails, fails alone. Where the device's memory does not hold the stack, its halves are trained one after the other.
    Raises `Failure` where pretrained weights do not fit.
    """
    if specs[0].variant in EVALUATIONS:
        return [_look(spec, given, dataset, device) for spec, given in zip(specs, sources, strict=True)]
    try:
        return _run(specs, dataset, device, sources, on_epoch, snapshots, on_step)
    except torch.OutOfMemoryError:
        if len(specs) == 1:
            raise Failure(f"{device} has too little memory for {specs[0].name}") from None
    half = len(specs) // 2

    def on_later_epoch(place: int, result: EpochResult) -> None:
        on_epoch(half + place, result)

    first = run(specs[:half], dataset, device, sources[:half], on_epoch, snapshots, on_step)
    return first + run(specs[half:], dataset, device, sources[half:], on_later_epoch, snapshots, on_step)


def _look(
    spec: TrainingSpec, sources: Mapping[str, Weights], dataset: Dataset, device: torch.device
) -> Outcome | Failure:
    found = evaluate_all(spec, sources, dataset, device)
    if isinstance(found, Failure):
        return found
    figures, maps = found
    return Outcome(figures, Evidence(history=(), code_maps=maps), {}, None)


def _run(
    specs: Sequence[TrainingSpec],
    dataset: Dataset,
    device: torch.device,
    sources: Sequence[Mapping[str, Weights]],
    on_epoch: Callable[[int, EpochResult], None],
    snapshots: SnapshotsOf | None,
    on_step: Callable[[], None],
) -> list[Outcome | Failure]:
    settings = specs[0].settings
    halves = [split(dataset, settings.split, spec.seed) for spec in specs]
    networks = [_network(spec, dataset.images_NHW[half.train_N]) for spec, half in zip(specs, halves, strict=True)]
    for network, given in zip(networks, sources, strict=True):
        if "pretrain" in given:
            load_part(network, "encoder", given["pretrain"])
        network.to(device)
    if settings.labels and specs[0].phase == "cls":
        halves = [labelled(dataset, half, settings.labels, spec.seed) for spec, half in zip(specs, halves, strict=True)]
    training, validation = (
        Images.on_device(dataset.images_NHW, dataset.labels_N, rows, settings, device)
        for rows in ([half.train_N for half in halves], [half.validation_N for half in halves])
    )
    make_task = reconstruction_task if specs[0].variant == "pretrain" else classification_task
    task = make_task(specs, networks, training, validation)
    results = train(task, on_epoch, snapshots(specs) if snapshots else None, on_step)
    test_rows = torch.arange(len(dataset.test_labels_N))
    test = Images.on_device(dataset.test_images_NHW, dataset.test_labels_N, [test_rows] * len(specs), settings, device)
    return [
        result
        if isinstance(result, Failure)
        else _conclude(
            specs[place],
            networks[place],
            task.models[place],
            result,
            *(one.of(place) for one in (training, validation, test)),
        )
        for place, result in enumerate(results)
    ]


def _network(spec: TrainingSpec, training_MHW: Tensor) -> Network:
    """The network of a training before it learns; of pixels and principal components one that has them for a code."""
    network = build(spec.network, spec.seed)
    if spec.variant == "pixels":
        return build_probe(None, spec.seed)
    if spec.variant == "pca":
        pixels_MD = normalize(training_MHW.float().div(255), spec.settings).flatten(1)
        code_size = network.eval().encode(torch.zeros(1, 1, *IMAGE_SIZE)).shape[1]
        return build_probe(_onto_components(pixels_MD, code_size), spec.seed)
    return network


@torch.no_grad()
def _onto_components(pixels_MD: Tensor, num: int) -> nn.Linear:
    """The map of pixels to their coordinates along the first principal components."""
    found = principal_components(pixels_MD.numpy(), num)
    directions_CD = torch.from_numpy(found.directions_CD)
    linear_map = nn.Linear(pixels_MD.shape[1], num)
    linear_map.weight.copy_(directions_CD)
    linear_map.bias.copy_(-directions_CD @ torch.from_numpy(found.mean_D))
    return linear_map


def _conclude(
    spec: TrainingSpec,
    network: Network,
    model: nn.Module,
    trained: Trained,
    training: Images,
    validation: Images,
    test: Images,
) -> Outcome | Failure:
    """What remains of one training: figures and evidence at its best weights, and those weights.

    It fails where a figure is not finite: what weights that grew without end give may still be finite for validation.
    A classifier without patience had a number of steps fixed beforehand, so what it ends with is a result too.
    """
    if spec.variant == "pretrain":
        figures, shown = judge_reconstruction(spec, network, validation, test)
        shown["class_counts"] = class_counts(training=training, validation=validation)
        parts = ("encoder", "decoder")
    else:
        figures, shown = judge_classifier(spec, network, validation, test)
        parts = ("encoder", network.head_name(spec.variant))
    weights = part_weights(network, *parts)
    if spec.phase == "cls" and patience_of(spec) == 0:
        set_weights(model, trained.last_weights)
        last, _ = judge_classifier(spec, network, validation, test)
        figures |= {f"last_{name}": last[name] for name in ("test_accuracy", "test_macro_f1", "test_loss")}
        figures["num_labels"] = training.rows_SM.shape[1]
    odd = ", ".join(name for name, value in figures.items() if not math.isfinite(value))
    if odd:
        return Failure(f"with the weights of epoch {trained.best_epoch}, these figures are not finite: {odd}")
    return Outcome(
        metrics=_history_figures(trained) | figures,
        evidence=Evidence(history=trained.history, **shown),
        weights=weights,
        warning=_warning(spec, trained),
    )


def _history_figures(trained: Trained) -> dict[str, float]:
    return {
        "best_epoch": trained.best_epoch,
        "num_epochs": len(trained.history),
        "best_val_loss": trained.history[trained.best_epoch - 1].val_loss,
        "training_s": sum(result.elapsed_s for result in trained.history),
    }


def _warning(spec: TrainingSpec, trained: Trained) -> str | None:
    if trained.best_epoch < spec.epochs or (spec.phase == "cls" and spec.settings.updates):
        return None
    return f"the best epoch is the last one ({spec.epochs}): with more epochs the validation loss may fall further"
