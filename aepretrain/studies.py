"""Studies: the further trainings that answer a question about a grid."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from aepretrain.config import LABELS, TrainingSpec
from aepretrain.data import Dataset, labelled, split
from aepretrain.errors import UsageError
from aepretrain.runner import Finished, Study
from aepretrain.variants import CLASSIFIERS, GRID_VARIANTS, PROBES

UPDATES = 5_000
"""Steps of every training of the study of labels, unless the settings have others: few labels are not to mean little
training."""


def _controls(finished: Finished, _dataset: Dataset) -> Iterator[TrainingSpec]:
    """What the columns of the grid have to be held against.

    Heads on encoders that learned nothing; scratch with as many epochs as pretraining and finetuning took together; and
    with erasing, an autoencoder that has to restore what was erased.
    """
    for pretraining, record in _pretrainings(finished):
        for probe in PROBES:
            yield replace(pretraining, variant=probe)
        finetune = finished.get(replace(pretraining, variant="finetune"))
        if finetune is not None:
            epochs = round(record.metrics["num_epochs"] + finetune.metrics["num_epochs"])
            yield _changed(pretraining, "scratch", patience=0, cls_epochs=epochs)
        if pretraining.augmentation == "erasing" and pretraining.settings.ae_target == "input":
            for variant in ("pretrain", "frozen", "finetune"):
                yield _changed(pretraining, variant, ae_target="clean")


def _labels(finished: Finished, dataset: Dataset) -> Iterator[TrainingSpec]:
    """Few labels, with an autoencoder that was pretrained on all images: as many as the dataset has of each class."""
    for pretraining, _ in _pretrainings(finished):
        updates = pretraining.settings.updates or UPDATES
        for labels in LABELS:
            if _are_there(dataset, pretraining, labels):
                for variant in (*CLASSIFIERS, "pixels"):
                    yield _changed(pretraining, variant, labels=labels, updates=updates)


def _robustness(finished: Finished, _dataset: Dataset) -> Iterator[TrainingSpec]:
    """What the classifiers of each seed make of erased test images."""
    yield from _evaluations(finished, "robustness")


def _similarity(finished: Finished, _dataset: Dataset) -> Iterator[TrainingSpec]:
    """How alike the encoders of each seed are; the last seed has no next one to be held against, and is left out."""
    yield from _evaluations(finished, "similarity")


def _evaluations(finished: Finished, variant: str) -> Iterator[TrainingSpec]:
    """Those of each seed all of whose sources are finished."""
    for pretraining, _ in _pretrainings(finished):
        evaluation = replace(pretraining, variant=variant)
        if all(source in finished for source in evaluation.sources.values()):
            yield evaluation


def _pretrainings(finished: Finished) -> Iterator[tuple[TrainingSpec, Any]]:
    return ((spec, record) for spec, record in finished.items() if spec.variant == "pretrain")


def _changed(spec: TrainingSpec, variant: str, **settings: Any) -> TrainingSpec:
    return replace(spec, variant=variant, settings=replace(spec.settings, **settings))


def _are_there(dataset: Dataset, spec: TrainingSpec, labels: int) -> bool:
    """Whether every class has images enough."""
    try:
        return not labels or bool(labelled(dataset, split(dataset, spec.settings.split, spec.seed), labels, spec.seed))
    except UsageError:
        return False


STUDIES: Mapping[str, Study] = {
    study.name: study
    for study in (
        Study("controls", GRID_VARIANTS, _controls),
        Study("labels", ("pretrain",), _labels),
        Study("robustness", GRID_VARIANTS, _robustness),
        Study("similarity", ("pretrain", "finetune", "scratch"), _similarity),
    )
}
