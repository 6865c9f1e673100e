"""From specifications to the engine's task: models, examples, loss and hyperparameters.

Shapes: S seeds of a stack, M images of a seed, B batch, P = S·B items of all seeds' batches, D code features.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from aepretrain.config import UPDATES_BETWEEN_VALIDATIONS, TrainingSpec
from aepretrain.engine import Examples, Hyperparameters, Rate, Select, Task, evaluate
from aepretrain.networks import Classifier, Network, drawing_from
from aepretrain.objectives import OBJECTIVES
from aepretrain.registry import require
from aepretrain.training.batches import Images, augmentation_draws, corruption_draws
from aepretrain.variants import FINETUNING, PRETRAINING, VARIANTS, Variant

ENCODER = "network.encoder."
"""How the names of an encoder's weights begin in a `Classifier`."""


def make_task(specs: Sequence[TrainingSpec], networks: Sequence[Network], training: Images, validation: Images) -> Task:
    """The task of a stack of trainings that differ only in their seeds. Validation images are never augmented.

    Raises `UsageError` where a plugin's variant names no weights.
    """
    make = _pretraining_task if specs[0].stage == PRETRAINING else _classification_task
    return make(specs, networks, training, validation)


def _pretraining_task(
    specs: Sequence[TrainingSpec], networks: Sequence[Network], training: Images, validation: Images
) -> Task:
    settings = specs[0].settings
    objective = OBJECTIVES.look_up(settings.objective)(settings)
    models = []
    for spec, network in zip(specs, networks, strict=True):
        set_learned(network, (network.encoder, network.decoder))
        with drawing_from(spec.seed, "objective"):
            models.append(objective.model(network).to(training.labels_N.device))
    augment, corrupt = augmentation_draws(specs, training, "AE erasing"), corruption_draws(objective, specs, training)
    return Task(
        models=models,
        seeds=[spec.seed for spec in specs],
        loss=objective.loss,
        train=training.examples(objective.target, augment, corrupt),
        validation=validation.examples("clean", corrupt=corruption_draws(objective, specs, validation)),
        classifies=False,
        order="AE order",
        hyperparameters=_hyperparameters(specs[0], training),
    )


def _classification_task(
    specs: Sequence[TrainingSpec], networks: Sequence[Network], training: Images, validation: Images
) -> Task:
    variant = VARIANTS.look_up(specs[0].variant)
    frozen, head = variant.trains_head_only, networks[0].head_name(variant)
    for network in networks:
        set_learned(network, learned_modules(variant, network))
    draws = augmentation_draws(specs, training, "classifier erasing")
    models: list[nn.Module] = [Classifier(network, head, frozen=frozen) for network in networks]
    train_examples, validation_examples = training.examples("label", draws), validation.examples("label")
    if frozen and draws is None:  # the codes never change, so they are computed once
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
        hyperparameters=_hyperparameters(specs[0], training),
    )


def learned_modules(variant: Variant, network: Network) -> tuple[nn.Module, ...]:
    """The modules of a network whose weights a classifier learns.

    Raises `UsageError` where a plugin's variant gives something else, or no weights of the encoder or the head.
    """
    head = getattr(network, network.head_name(variant))
    if not callable(variant.learns):
        parts = {"encoder": network.encoder, "head": head}
        return tuple(parts[part] for part in variant.learns)
    modules = tuple(variant.learns(network, head))
    for module in modules:
        require(
            isinstance(module, nn.Module),
            f"variant {variant.name!r}: learns gives {type(module).__name__}, expected modules",
        )
    learned = {id(weight) for module in modules for weight in module.parameters()}
    require(
        any(id(weight) in learned for part in (network.encoder, head) for weight in part.parameters()),
        f"variant {variant.name!r}: learns gives no weights of the encoder or the head",
    )
    return modules


def set_learned(network: Network, modules: Sequence[nn.Module]) -> None:
    """Let the weights of these modules learn, and no others of the network."""
    network.requires_grad_(False)
    for module in modules:
        module.requires_grad_(True)


def _hyperparameters(spec: TrainingSpec, training: Images) -> Hyperparameters:
    settings, num = spec.settings, training.rows_SM.shape[1]
    has_few_labels = spec.stage != PRETRAINING and settings.labels > 0
    batch_size = min(settings.batch_size, num) if has_few_labels else settings.batch_size
    steps = math.ceil(num / batch_size)
    limits = Hyperparameters(
        epochs=spec.epochs,
        batch_size=batch_size,
        lr=settings.learning_rate(spec.stage),
        patience=patience_of(spec),
        rates=_rates(spec, steps),
        weight_decay=settings.weight_decay,
        schedule=settings.schedule,
    )
    if not spec.trains_by_updates:
        return limits
    passes = max(1, UPDATES_BETWEEN_VALIDATIONS // steps)
    return replace(
        limits, epochs=math.ceil(settings.updates / (steps * passes)), passes=passes, updates=settings.updates
    )


def _rates(spec: TrainingSpec, steps: int) -> dict[str, Rate]:
    """The rate of a pretrained encoder that learns, where it is not that of the head; an epoch has so many steps."""
    settings = spec.settings
    if FINETUNING not in spec.kind.parts or (settings.encoder_lr is None and settings.head_first == 0):
        return {}
    lr = settings.learning_rate(spec.stage) if settings.encoder_lr is None else settings.encoder_lr
    return {ENCODER: Rate(lr, settings.head_first * (1 if spec.trains_by_updates else steps))}


def patience_of(spec: TrainingSpec) -> int:
    """The patience of a training; 0 where its number of updates is fixed."""
    return 0 if spec.trains_by_updates else spec.settings.patience


def _codes(networks: Sequence[Network], images: Images) -> Examples:
    """Each seed's images as the codes of its network, computed once."""
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
