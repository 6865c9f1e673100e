"""What the engine is asked to do for a variant: models, examples, loss and phase.

Shapes: S seeds of a stack, M images of a seed, B batch, P = S·B items of all seeds' batches, D code features.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from aepretrain.config import FROZEN, TrainingSpec
from aepretrain.engine import Examples, Phase, Select, Task, evaluate
from aepretrain.networks import Classifier, Network, Reconstructor
from aepretrain.training.batches import Images, augmenting
from aepretrain.training.custom import VARIANTS, set_learned
from aepretrain.training.evaluation import AE_LOSSES

UPDATES_BETWEEN_VALIDATIONS = 100
"""Where training is by updates, it is validated after as many passes as fit into so many, but at least one."""


def reconstruction_task(
    specs: Sequence[TrainingSpec], networks: Sequence[Network], training: Images, validation: Images
) -> Task:
    """Encoders and decoders that learn to give images back; validation images are never augmented."""
    for network in networks:
        _learn_only(network, "encoder", "decoder")
    settings = specs[0].settings
    return Task(
        models=[Reconstructor(network) for network in networks],
        seeds=[spec.seed for spec in specs],
        loss=AE_LOSSES[settings.ae_loss],
        train=training.examples(settings.ae_target, augmenting(specs, training, "AE erasing")),
        validation=validation.examples("clean"),
        classifies=False,
        order="AE order",
        phase=_phase(specs[0], training),
    )


def classification_task(
    specs: Sequence[TrainingSpec], networks: Sequence[Network], training: Images, validation: Images
) -> Task:
    """Heads that learn the labels, with their encoders or on codes of frozen ones."""
    head = networks[0].head_name(specs[0].variant)
    frozen = specs[0].variant in FROZEN
    own = VARIANTS.look_up(specs[0].variant)
    for network in networks:
        if own is None:
            _learn_only(network, *((head,) if frozen else ("encoder", head)))
        else:
            set_learned(own(), network, getattr(network, head))
    draw = augmenting(specs, training, "classifier erasing")
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
        phase=_phase(specs[0], training),
    )


def _phase(spec: TrainingSpec, training: Images) -> Phase:
    settings, num = spec.settings, training.rows_SM.shape[1]
    batch_size = min(settings.batch_size, num) if spec.phase == "cls" and settings.labels else settings.batch_size
    phase = Phase(epochs=spec.epochs, batch_size=batch_size, lr=settings.lr, patience=patience_of(spec))
    if spec.phase == "ae" or not settings.updates:
        return phase
    steps = math.ceil(num / batch_size)
    passes = max(1, UPDATES_BETWEEN_VALIDATIONS // steps)
    return replace(
        phase, epochs=math.ceil(settings.updates / (steps * passes)), passes=passes, updates=settings.updates
    )


def patience_of(spec: TrainingSpec) -> int:
    """A number of updates that is fixed beforehand leaves nothing to patience."""
    return 0 if spec.phase == "cls" and spec.settings.updates else spec.settings.patience


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
