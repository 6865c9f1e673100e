"""Trainings with their arms' choices, from the finished trainings of a store."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aepretrain.config import TrainingSpec, canonical_json, changed_settings, command_text, dataset_name
from aepretrain.data import Dataset
from aepretrain.errors import UsageError
from aepretrain.plans import Plan, PlannedComparison, with_sources
from aepretrain.records import Record
from aepretrain.runner import Finished, Study
from aepretrain.tracking import Store
from aepretrain.tuning import TUNED, NotTunedError, Tune, arm_key, arm_name, arm_of, tuner
from aepretrain.variants import CLASSIFIERS


def arms_of(specs: Sequence[TrainingSpec]) -> list[TrainingSpec]:
    """The arms of trainings, each once. Raises `UsageError` where something cannot be tuned."""
    for spec in specs:
        if spec.variant not in (*CLASSIFIERS, "pretrain"):
            raise UsageError(f"variant={spec.variant!r} cannot be tuned: it must be one of {', '.join(CLASSIFIERS)}")
    arms = [arm_of(spec) for spec in specs if spec.variant != "pretrain"]
    return list({arm_key(arm): arm for arm in arms}.values())


def find_choices(
    arms: Sequence[TrainingSpec],
    store: Store | None,
    place: Mapping[str, Any],
    plan: str | Path | None = None,
    seeds: tuple[int, ...] | None = None,
    trials: int | None = None,
) -> Tune:
    """What gives a training of these arms its arm's choice (see `tuning.tuner`).

    Raises `UsageError`, which names the arm that has none and the command that tunes it: that of the file of a `plan`,
    if they are a plan's. `place` has options of this command: dataset, plugins, folder of datasets, tracking URI.
    """
    records: dict[str, Record] = {}
    if store is not None:
        for dataset in {arm.settings.dataset for arm in arms}:
            records |= store.records({"dataset": dataset_name(dataset)})
    try:
        return tuner(arms, records.values(), seeds, trials)
    except NotTunedError as error:
        name, dataset = arm_name(error.arm), error.arm.settings.dataset
        command = _command(error.arm, place)
        if plan is not None:
            command = command_text(f"aepretrain tune {shlex.quote(str(plan))}", place)
        raise UsageError(f"{name} on {dataset} is not tuned, or not like the other arms: run {command}") from None


def part_to_tune(path: str | Path, plan: Plan, datasets: Sequence[str] | None, networks: Sequence[str] | None) -> Plan:
    """The part of a plan with these datasets and networks that is tuned; None stands for all. Raises `UsageError`."""
    if plan.tuned is None:
        raise UsageError(f"{path}: the plan has no key tuned")
    for name, wanted, planned in (("dataset", datasets, plan.datasets), ("network", networks, plan.tuned.networks)):
        for one in wanted or ():
            if one not in planned:
                raise UsageError(f"{name}={one!r} is not tuned in the plan: it has {', '.join(planned)}")
    tuned = replace(plan.tuned, networks=tuple(networks or plan.tuned.networks))
    return replace(plan, datasets=tuple(datasets or plan.datasets), tuned=tuned)


def planned_choices(
    path: str | Path, plan: Plan, store: Store | None, place: Mapping[str, Any]
) -> tuple[PlannedComparison, ...]:
    """The tuned comparisons of a plan (a `part_to_tune`), once all of its arms are tuned. Raises `UsageError`."""
    assert plan.tuned is not None, "part_to_tune checks it"
    arms = arms_of([arm for dataset in plan.datasets for arm in plan.arms(dataset)])
    tune = find_choices(arms, store, place, path, plan.tuned.seeds, plan.tuned.trials)
    return plan.tuned_comparisons(tune)


def tuned_specs(specs: Sequence[TrainingSpec], store: Store | None, place: Mapping[str, Any]) -> list[TrainingSpec]:
    """A grid's trainings with their arms' choices, and the pretrainings that these start from."""
    return _with(find_choices(arms_of(specs), store, place), specs)


def tuned_study(
    study: Study,
    specs: Sequence[TrainingSpec],
    dataset: Dataset | None,
    store: Store | None,
    place: Mapping[str, Any],
) -> Study:
    """A study whose trainings are known before it begins, with the choices of the arms among them."""
    planned = list(study.plan(dict.fromkeys(specs, NO_RECORD), dataset))
    tune = find_choices(arms_of([spec for spec in planned if spec.variant in CLASSIFIERS]), store, place)

    def plan(finished: Finished, dataset: Dataset | None) -> list[TrainingSpec]:
        return _with(tune, [spec for spec in study.plan(finished, dataset) if spec.variant in CLASSIFIERS])

    return Study(TUNED, study.needs, plan)


def _with(tune: Tune, specs: Sequence[TrainingSpec]) -> list[TrainingSpec]:
    """Classifiers at their choices, each after the pretraining that it starts from."""
    tuned: dict[str, TrainingSpec] = {}
    for spec in specs:
        for one in with_sources(tune(spec)) if spec.variant != "pretrain" else ():
            tuned.setdefault(canonical_json(one.identity()), one)
    return list(tuned.values())


NO_RECORD = Record("", None, "", 1, {}, {}, {})
"""In place of a training that is not finished, for a study that does not look at it."""


def _command(arm: TrainingSpec, place: Mapping[str, Any]) -> str:
    """The command that tunes an arm, with the others of its experiment."""
    cell = {"network": arm.network, "augmentation": arm.augmentation}
    return command_text("aepretrain tune", {**cell, **changed_settings(vars(arm.settings)), **place})
