"""From a specification to its outcome: build networks, load weights, train, evaluate on the test images.

Shapes: S seeds of a stack, N images, M of a seed, D features, C components.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from aepretrain.analysis import principal_components
from aepretrain.augment import AUGMENTATIONS
from aepretrain.config import TrainingSpec
from aepretrain.data import DATASETS, IMAGE_SIZE, Dataset, labelled, split
from aepretrain.engine import Snapshots, Trained, set_weights, train
from aepretrain.errors import Failure
from aepretrain.networks import NETWORKS, Network, build, build_probe, load_part, part_weights
from aepretrain.objectives import OBJECTIVES
from aepretrain.records import CodeMaps, EpochResult, Evidence
from aepretrain.registry import Registry, definitions
from aepretrain.training.batches import Images, normalize
from aepretrain.training.evaluation import class_counts, evaluate_classifier, evaluate_pretraining
from aepretrain.training.robustness import measure_robustness
from aepretrain.training.similarity import measure_similarity
from aepretrain.training.tasks import learned_modules, make_task, patience_of
from aepretrain.variants import CLASSIFICATION, EVALUATIONS, PRETRAINING, VARIANTS, Variant

Weights = Mapping[str, Tensor]
SnapshotsOf = Callable[[Sequence[TrainingSpec]], Snapshots]


@dataclass(frozen=True)
class Outcome:
    """What a training gives: final figures, evidence, and the weights that it learned or used, on the CPU."""

    metrics: Mapping[str, float]
    evidence: Evidence
    weights: Mapping[str, Tensor]
    warning: str | None


Measure = Callable[
    [TrainingSpec, Mapping[str, Weights], Dataset, torch.device], tuple[dict[str, float], CodeMaps | None]
]
"""From an evaluation's specification and the weights of its sources, its figures by name, and maps of codes."""

MEASURES: Mapping[str, Measure] = {"robustness": measure_robustness, "similarity": measure_similarity}


def training_key(spec: TrainingSpec, dataset_digest: str) -> str:
    """The key of a training (`TrainingSpec.key`), with the digests of all that plugins registered of it.

    Raises `UsageError` for an unknown network, dataset, augmentation, objective or variant.
    """
    used: list[tuple[Registry[Any], str]] = [
        (NETWORKS, spec.network),
        (DATASETS, spec.settings.dataset),
        (AUGMENTATIONS, spec.augmentation),
    ]
    if PRETRAINING in spec.kind.stages:
        used.append((OBJECTIVES, spec.settings.objective))
    if spec.variant not in EVALUATIONS:
        used.append((VARIANTS, spec.variant))
    return spec.key(dataset_digest, definitions(used))


def check(spec: TrainingSpec) -> None:
    """Find out before a run is opened whether a training can be built. Raises `UsageError` where it cannot."""
    training_key(spec, "")
    if isinstance(spec.kind, Variant) and callable(spec.kind.learns):
        learned_modules(spec.kind, build(spec.network, spec.seed))


def run(
    specs: Sequence[TrainingSpec],
    dataset: Dataset,
    device: torch.device,
    sources: Sequence[Mapping[str, Weights]],
    on_epoch: Callable[[int, EpochResult], None],
    snapshots: SnapshotsOf | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> list[Outcome | Failure]:
    """Train a stack of specifications that differ only in their seeds, and evaluate each once at its best weights.

    `sources` holds for each the weights that it needs, by the names of `TrainingSpec.sources`. `on_epoch` gets each
    epoch's numbers with the place of their specification. `on_step` is called after each step and may raise, to stop.
    `snapshots` keeps the state of a stack's training, which resumes from it. The failure of one seed leaves the others
    as they are. Where the stack does not fit into the device's memory, its halves are trained one after the other.
    Raises `Failure` where pretrained weights do not fit.
    """
    if specs[0].variant in EVALUATIONS:
        return [_measure(spec, weights, dataset, device) for spec, weights in zip(specs, sources, strict=True)]
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


def _measure(
    spec: TrainingSpec, sources: Mapping[str, Weights], dataset: Dataset, device: torch.device
) -> Outcome | Failure:
    started_s = time.perf_counter()
    try:
        figures, maps = MEASURES[spec.variant](spec, sources, dataset, device)
    except Failure as failure:
        return failure
    figures["training_s"] = time.perf_counter() - started_s
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
    for network, weights in zip(networks, sources, strict=True):
        if "pretrain" in weights:
            load_part(network, "encoder", weights["pretrain"])
        network.to(device)
    if settings.labels and specs[0].stage == CLASSIFICATION:
        halves = [labelled(dataset, half, settings.labels, spec.seed) for spec, half in zip(specs, halves, strict=True)]
    training, validation = (
        Images.on_device(dataset.images_NHW, dataset.labels_N, rows, settings, device)
        for rows in ([half.train_N for half in halves], [half.validation_N for half in halves])
    )
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
    """The network of a training before it learns, with the encoder that its variant starts from."""
    encoder = VARIANTS.look_up(spec.variant).encoder
    if encoder == "pixels":
        return build_probe(None, spec.seed)
    network = build(spec.network, spec.seed)
    if encoder != "components":
        return network
    pixels_MD = normalize(training_MHW.float().div(255), spec.settings).flatten(1)
    code_size = network.eval().encode(torch.zeros(1, 1, *IMAGE_SIZE)).shape[1]
    return build_probe(_onto_components(pixels_MD, code_size), spec.seed)


@torch.no_grad()
def _onto_components(pixels_MD: Tensor, num: int) -> nn.Linear:
    """The map of pixels to their coordinates along the first principal components."""
    components = principal_components(pixels_MD.numpy(), num)
    directions_CD = torch.from_numpy(components.directions_CD)
    linear_map = nn.Linear(pixels_MD.shape[1], num)
    linear_map.weight.copy_(directions_CD)
    linear_map.bias.copy_(-directions_CD @ torch.from_numpy(components.mean_D))
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
    """The outcome of one training: figures and evidence at its best weights, and those weights.

    A `Failure` where a figure is not finite, which may happen on test images alone. A classifier without patience has a
    fixed length, so its figures at the last weights are recorded too.
    """
    if spec.stage == PRETRAINING:
        figures, shown = evaluate_pretraining(spec, network, validation, test)
        shown["class_counts"] = class_counts(training=training, validation=validation)
        parts = ("encoder", "decoder")
    else:
        figures, shown = evaluate_classifier(spec, network, validation, test)
        parts = ("encoder", network.head_name(VARIANTS.look_up(spec.variant)))
    weights = part_weights(network, *parts)
    if spec.stage == CLASSIFICATION and patience_of(spec) == 0:
        set_weights(model, trained.last_weights)
        last, _ = evaluate_classifier(spec, network, validation, test)
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
    if trained.best_epoch < spec.epochs or spec.trains_by_updates:
        return None
    return f"the best epoch is the last one ({spec.epochs}): with more epochs the validation loss may fall further"
