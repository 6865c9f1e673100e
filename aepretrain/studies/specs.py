"""The specs of further trainings, made from those of a grid."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from aepretrain.config import TrainingSpec
from aepretrain.records import Record
from aepretrain.runner import Finished


def pretrainings(finished: Finished) -> Iterator[tuple[TrainingSpec, Record]]:
    """The finished pretrainings, one for each experiment and seed."""
    return ((spec, record) for spec, record in finished.items() if spec.variant == "pretrain")


def change(spec: TrainingSpec, variant: str, **settings: Any) -> TrainingSpec:
    """The same seed and experiment as another variant, with these settings changed."""
    return replace(spec, variant=variant, settings=replace(spec.settings, **settings))


def evaluations(finished: Finished, variant: str) -> Iterator[TrainingSpec]:
    """An evaluation of each seed whose sources are all finished."""
    for pretraining, _ in pretrainings(finished):
        evaluation = replace(pretraining, variant=variant)
        if all(source in finished for source in evaluation.sources.values()):
            yield evaluation
