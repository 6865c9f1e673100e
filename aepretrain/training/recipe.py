"""From a specification to its outcome: build networks, load weights, train, evaluate on the test images.

Shapes: S seeds of a stack, N images, M of a seed, D features, C components.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from aepretrain.analysis import principal_components
from aepretrain.augment import AUGMENTATIONS
from aepretrain.augment import check as check_augmentation
from aepretrain.config import Shape, TrainingSpec, source_of
from aepretrain.data import DATASETS, Dataset, Split, labelled, split
from aepretrain.engine import Snapshots, Trained, set_weights, train
from aepretrain.errors import Failure
from aepretrain.networks import NETWORKS, Network, build, build_probe, load_part, part_weights
from aepretrain.networks import check as check_network
from aepretrain.objectives import OBJECTIVES
from aepretrain.objectives import check as check_objective
from aepretrain.records import CodeMaps, EpochResult, Evidence
from aepretrain.registry import Registry, definitions
from aepretrain.training.batches import Images, normalize
from aepretrain.training.diagnostics import diagnose, first_layer_filters
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


@dataclass(frozen=True)
class Parts:
    """The images of a stack: those that it trains on and is validated on, the test images, and its whole split.

    They differ from the whole split where a classifier has few labels.
    """

    training: Images
    validation: Images
    test: Images
    all_training: Images
    all_validation: Images

    def of(self, place: int) -> "Parts":
        """The images of one seed of the stack."""
        return Parts(*(images.of(place) for images in vars(self).values()))


Measure = Callable[
    [TrainingSpec, Mapping[str, Weights], Dataset, torch.device], tuple[dict[str, float], CodeMaps | None]
]
"""From an evaluation's specification and the weights of its sources, its figures by name, and maps of codes."""

MEASURES: Mapping[str, Measure] = {"robustness": measure_robustness, "similarity": measure_similarity}


Digests = tuple[str, str]
"""The digests of a dataset's labelled and unlabelled images (`Dataset.digests`)."""


def training_key(spec: TrainingSpec, digests: Digests) -> str:
    """The key of a training (`TrainingSpec.key`), with the digests of all that plugins registered of it.

    Raises `UsageError` for an unknown network, dataset, augmentation, objective or variant.
    """
    used: list[tuple[Registry[Any], str]] = [(NETWORKS, spec.network), (AUGMENTATIONS, spec.augmentation)]
    if source_of(spec.settings.dataset) is None:
        used.append((DATASETS, spec.settings.dataset))
    pretrains = PRETRAINING in spec.kind.stages
    if pretrains:
        used.append((OBJECTIVES, spec.settings.objective))
    if spec.variant not in EVALUATIONS:
        used.append((VARIANTS, spec.variant))
    labelled_digest, unlabelled_digest = digests
    further = {"unlabelled": unlabelled_digest} if pretrains and unlabelled_digest else {}
    return spec.key(labelled_digest, definitions(used) | further)


def check_names(spec: TrainingSpec) -> None:
    """Raise `UsageError` for a network, dataset, augmentation, objective or variant that is not known."""
    training_key(spec, ("", ""))


def try_out(spec: TrainingSpec, shape: Shape) -> None:
    """Find out before a run is opened whether a training works on images of a shape. Raises `UsageError`."""
    NETWORKS.try_out(spec.network, partial(check_network, shape=shape))
    if not AUGMENTATIONS.is_built_in(spec.augmentation):
        trial = partial(check_augmentation, settings=spec.settings, shape=shape.image)
        AUGMENTATIONS.try_out(spec.augmentation, trial)
    objective = spec.settings.objective
    if PRETRAINING in spec.kind.stages and not OBJECTIVES.is_built_in(objective):
        of_objective = partial(check_objective, settings=spec.settings, network=spec.network, shape=shape)
        OBJECTIVES.try_out(objective, of_objective)
    if isinstance(spec.kind, Variant) and callable(spec.kind.learns):
        learned_modules(spec.kind, build(spec.network, spec.seed, shape))


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
    wholes = [split(dataset, settings.split, spec.seed) for spec in specs]
    networks = [_network(spec, dataset, whole.train_N) for spec, whole in zip(specs, wholes, strict=True)]
    for network, weights in zip(networks, sources, strict=True):
        if "pretrain" in weights:
            load_part(network, "encoder", weights["pretrain"])
        network.to(device)
    used = wholes
    if settings.labels and specs[0].stage == CLASSIFICATION:
        used = [labelled(dataset, whole, settings.labels, spec.seed) for spec, whole in zip(specs, wholes, strict=True)]

    def images(splits: Sequence[Split], part: str) -> Images:
        rows = [getattr(one, part) for one in splits]
        return Images.on_device(dataset.images_NCHW, dataset.labels_N, rows, settings, device)

    training, validation = images(used, "train_N"), images(used, "validation_N")
    if specs[0].stage == PRETRAINING and dataset.unlabelled_NCHW is not None:
        training = training.with_unlabelled(dataset.unlabelled_NCHW)
    task = make_task(specs, networks, training, validation)
    results = train(task, on_epoch, snapshots(specs) if snapshots else None, on_step)
    rows = [torch.arange(len(dataset.test_labels_N))] * len(specs)
    test = Images.on_device(dataset.test_images_NCHW, dataset.test_labels_N, rows, settings, device)
    parts = Parts(training, validation, test, images(wholes, "train_N"), images(wholes, "validation_N"))
    return [
        result
        if isinstance(result, Failure)
        else _conclude(specs[place], networks[place], task.models[place], result, parts.of(place))
        for place, result in enumerate(results)
    ]


def _network(spec: TrainingSpec, dataset: Dataset, train_M: Tensor) -> Network:
    """The network of a training before it learns, with the encoder that its variant starts from.

    `train_M` are the rows of the training images.
    """
    encoder, shape = VARIANTS.look_up(spec.variant).encoder, dataset.shape
    if encoder == "pixels":
        return build_probe(None, spec.seed, shape)
    network = build(spec.network, spec.seed, shape)
    if encoder != "components":
        return network
    pixels_MD = normalize(dataset.images_NCHW[train_M].float().div(255), spec.settings).flatten(1)
    code_size = network.eval().encode(torch.zeros(1, *shape.image)).shape[1]
    return build_probe(_onto_components(pixels_MD, code_size), spec.seed, shape)


@torch.no_grad()
def _onto_components(pixels_MD: Tensor, num: int) -> nn.Linear:
    """The map of pixels to their coordinates along the first principal components, or all of them if there are less."""
    components = principal_components(pixels_MD.numpy(), num)
    directions_CD = torch.from_numpy(components.directions_CD)
    linear_map = nn.Linear(pixels_MD.shape[1], len(directions_CD))
    linear_map.weight.copy_(directions_CD)
    linear_map.bias.copy_(-directions_CD @ torch.from_numpy(components.mean_D))
    return linear_map


def _conclude(
    spec: TrainingSpec, network: Network, model: nn.Module, trained: Trained, parts: Parts
) -> Outcome | Failure:
    """The outcome of one training: figures and evidence at its best weights, and those weights.

    A classifier's test figures are also taken at its most accurate and its last epoch. A `Failure` where a figure is
    not finite, which may happen on test images alone.
    """
    if spec.stage == PRETRAINING:
        figures, shown = evaluate_pretraining(spec, model, parts.validation, parts.test)
        of_parts = {"training": parts.all_training, "validation": parts.validation}
        shown["class_counts"] = class_counts(network.num_classes, **of_parts)
        kept = ("encoder", "decoder")
    else:
        figures, shown = evaluate_classifier(spec, network, parts.validation, parts.test)
        kept = ("encoder", network.head_name(VARIANTS.look_up(spec.variant)))
    weights = part_weights(network, *kept)
    if any(weight.requires_grad for weight in network.encoder.parameters()):
        figures |= diagnose(network, parts.all_training, parts.all_validation, parts.test)
        shown["filters_CHW"] = first_layer_filters(network)
    if spec.stage == CLASSIFICATION:
        figures |= _figures_at_other_checkpoints(spec, network, model, trained, parts)
    odd = ", ".join(name for name, value in figures.items() if not math.isfinite(value))
    if odd:
        return Failure(f"with the weights of epoch {trained.best_epoch}, these figures are not finite: {odd}")
    return Outcome(
        metrics=_history_figures(trained) | figures,
        evidence=Evidence(history=trained.history, **shown),
        weights=weights,
        warning=_warning(spec, trained),
    )


def _figures_at_other_checkpoints(
    spec: TrainingSpec, network: Network, model: nn.Module, trained: Trained, parts: Parts
) -> dict[str, float]:
    """A classifier's figures at its most accurate and its last epoch, by names that begin with the checkpoint's."""
    figures = {"most_accurate_epoch": float(trained.most_accurate_epoch)}
    checkpoints = {"most_accurate": trained.most_accurate_weights, "last": trained.last_weights}
    for name, weights in checkpoints.items():
        set_weights(model, weights)
        found, _ = evaluate_classifier(spec, network, parts.validation, parts.test)
        figures |= {f"{name}_{of_test}": found[of_test] for of_test in ("test_accuracy", "test_macro_f1", "test_loss")}
        figures[f"{name}_val_accuracy"] = found["best_val_accuracy"]
    if patience_of(spec) == 0:
        figures["num_labels"] = parts.training.rows_SM.shape[1]
    return figures


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
