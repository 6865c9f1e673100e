"""Command-line options, made from the fields of `Settings` and `Execution`, which have all defaults."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import Field, fields
from typing import Any

import click
from click.core import ParameterSource

from aepretrain.config import (
    AUGMENTATIONS,
    DATASETS,
    GRID_NETWORKS,
    NETWORKS,
    OBJECTIVES,
    Execution,
    Settings,
    parse_seeds,
)
from aepretrain.errors import UsageError
from aepretrain.variants import CLASSIFICATION, FINETUNING, PRETRAINING, find

Command = Callable[..., Any]

NAMES = {"dataset": DATASETS, "objective": OBJECTIVES}
"""The known names of settings that may have others, too."""

ALL_PARTS = frozenset({PRETRAINING, CLASSIFICATION, FINETUNING})


class _Pair(click.ParamType[tuple[float, float]]):
    """Two numbers as one word, ``0.1,0.15`` or ``"0.1 0.15"``."""

    name = "number,number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, float]:
        if isinstance(value, tuple):
            return value
        try:
            first, second = map(float, str(value).replace(",", " ").split())
        except ValueError:
            self.fail(f"{value!r} is not two numbers like 0.1,0.15", param, ctx)
        return first, second


def _completing(known: Collection[str]) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """For completion in the shell: names that continue what is typed, of several the one after the last comma."""

    def complete(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[str]:
        before, comma, begun = typed.rpartition(",")
        return [f"{before}{comma}{name}" for name in known if name.startswith(begun) and name not in before.split(",")]

    return complete


def switch(flag: str, help: str, *, default: bool | None = False) -> Callable[[Command], Command]:
    """An option that is off by default. It may stand alone, or have a value, as ``mlflow run`` writes it.

    A filter has the default None: it then accepts every value.
    """
    shown = default is not None
    return click.option(
        flag, type=bool, is_flag=False, flag_value="true", default=default, show_default=shown, help=help
    )


def setting_options(
    variant: str | None, *, as_filter: bool = False, without: tuple[str, ...] = ()
) -> Callable[[Command], Command]:
    """The options of `Settings` that the result of a variant depends on; all of them for None.

    A filter has no defaults: without an option, every value is accepted. `without` names fields that get no option.
    """
    stages = find(variant).parts if variant else ALL_PARTS
    excluded = ALL_PARTS - stages
    chosen = [one for one in fields(Settings) if one.name not in without and not one.metadata["parts"] <= excluded]

    def add(command: Command) -> Command:
        for one in reversed(chosen):
            command = _setting(one, as_filter)(command)
        return click.option(
            "--epochs",
            type=int,
            default=None if as_filter else _default_epochs(),
            show_default=not as_filter,
            help="Maximum number of epochs, for pretraining and for a classifier.",
        )(command)

    return add


def _setting(one: Field[Any], as_filter: bool) -> Callable[[Command], Command]:
    check = one.metadata["check"]
    follows_epochs = one.name.endswith("_epochs")
    if one.metadata["kind"] is bool:
        return switch("--" + one.name.replace("_", "-"), one.metadata["help"], default=None if as_filter else False)
    return click.option(
        "--" + one.name.replace("_", "-"),
        type=click.Choice(check) if isinstance(check, tuple) else _type_of(one.metadata["kind"]),
        default=None if as_filter or follows_epochs else one.default,
        show_default=not as_filter and ("as --epochs" if follows_epochs else one.metadata["shown_default"] or True),
        shell_complete=_completing(NAMES[one.name]) if one.name in NAMES else None,
        help=one.metadata["help"],
    )


def _type_of(kind: type) -> Any:
    return _Pair() if kind is tuple else kind


def _default_epochs() -> int:
    """The default of ``--epochs``: both stages have the same in `Settings`."""
    (default,) = {getattr(Settings(), one.name) for one in fields(Settings) if one.name.endswith("_epochs")}
    return int(default)


def settings_from(options: Mapping[str, Any]) -> Settings:
    """Settings from the options of `setting_options`. Raises `UsageError`."""
    return Settings(**given_settings(options))


def given_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that have a value, by name; ``--epochs`` holds for a stage without an option of its own."""
    values = {one.name: options.get(one.name) for one in fields(Settings)}
    for name in ("ae_epochs", "cls_epochs"):
        values[name] = options["epochs"] if values[name] is None else values[name]
    return {name: value for name, value in values.items() if value is not None}


def cell_options(command: Command) -> Command:
    """Network, augmentation and seed of a single training."""
    network = click.option(
        "--network",
        required=True,
        shell_complete=_completing(NETWORKS),
        help=f"{', '.join(NETWORKS)} or a registered name.  [required]",
    )
    augmentation = click.option(
        "--augmentation",
        default="none",
        show_default=True,
        shell_complete=_completing(AUGMENTATIONS),
        help=f"Augmentation of the training images: {', '.join(AUGMENTATIONS)} or a registered name.",
    )
    seed = click.option("--seed", type=int, default=0, show_default=True, help="Seed of all random numbers.")
    return network(augmentation(seed(command)))


def grid_options(seeds: str) -> Callable[[Command], Command]:
    """Networks, augmentations, objectives, settings and seeds of a grid, with these seeds by default."""
    option = click.option("--seeds", default=seeds, show_default=True, help="Seeds, like 0-19 or 0,3,7.")
    return lambda command: _cells(option(setting_options(None, without=("objective",))(command)))


def tuning_options(command: Command) -> Command:
    """Networks, augmentations, objectives, tuning seeds, number of trials and settings."""
    seeds = click.option(
        "--seeds",
        default="1000000-1000001",
        show_default=True,
        help="Tuning seeds, from 1000000 on; others are judged.",
    )
    trials = click.option("--trials", type=int, default=8, show_default=True, help="Number of trials of each arm.")
    return _cells(seeds(trials(setting_options(None, without=("objective",))(command))))


def _cells(command: Command) -> Command:
    network = click.option(
        "--network",
        "networks",
        default=",".join(GRID_NETWORKS),
        show_default=True,
        shell_complete=_completing(NETWORKS),
        help=f"Networks, separated by commas: {', '.join(NETWORKS)} or registered names.",
    )
    augmentation = click.option(
        "--augmentation",
        "augmentations",
        default=",".join(AUGMENTATIONS),
        show_default=True,
        shell_complete=_completing(AUGMENTATIONS),
        help="Augmentations, separated by commas.",
    )
    objective = click.option(
        "--objective",
        "objectives",
        default=Settings.objective,
        show_default=True,
        shell_complete=_completing(OBJECTIVES),
        help=f"Objectives of pretraining, separated by commas: {', '.join(OBJECTIVES)} or registered names.",
    )
    return network(augmentation(objective(command)))


def part_options(command: Command) -> Command:
    """The part of a plan that is trained now."""
    dataset = click.option("--dataset", "datasets", help="Only these datasets of the plan, separated by commas.")
    network = click.option("--network", "networks", help="Only these networks of the plan, separated by commas.")
    seeds = click.option("--seeds", help="Only these seeds of the plan, like 100-104.")
    return dataset(network(seeds(command)))


tuned_option = switch(
    "--tuned",
    "Train each classifier with the learning rate and the weight decay that `aepretrain tune` has chosen for it.",
)

dry_run_option = switch(
    "--dry-run",
    "Train nothing, download nothing and write nothing: print what is done, what would be trained, and about how much "
    "time and disk it will take.",
)

variants_option = click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="NAME",
    help="A plugin's variant to train beside pretrain, frozen, finetune and scratch. May be repeated.",
)

store_option = click.option(
    "--tracking-uri",
    help="MLflow's tracking URI.  [default: mlflow.db in the project's folder; env: MLFLOW_TRACKING_URI]",
)

plugin_option = click.option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="MODULE",
    help="Module that registers networks, datasets and so on; it is imported first. May be repeated.",
)

_EXECUTION = (
    click.option(
        "--jobs",
        type=int,
        help="Number of stacks trained at once, each in a process.  [default: physical cores; 2 on a GPU]",
    ),
    click.option(
        "--stack", type=int, help="Number of seeds trained as one stack.  [default: 1 on a CPU, up to 100 on a GPU]"
    ),
    click.option(
        "--outage-s",
        type=float,
        default=Execution.outage_s,
        show_default=True,
        help="Seconds to wait for an unreachable tracking server; then results are kept for `aepretrain sync`.",
    ),
    click.option(
        "--device",
        default=Execution.device,
        show_default=True,
        shell_complete=_completing(("auto", "cpu", "cuda", "mps")),
        help="auto (a GPU that passes a self-check, or else the CPU), cpu, cuda or mps.",
    ),
    click.option("--threads", type=int, default=Execution.threads, show_default=True, help="Threads of each training."),
    click.option(
        "--data-dir",
        help="Folder with the dataset's four IDX files, in MNIST/raw (FashionMNIST/raw, KMNIST/raw) or in the folder "
        "itself; missing files are downloaded into it.  [default: ./data, then ../shared/data; "
        "env: AEPRETRAIN_DATA_DIR]",
    ),
    switch("--force", "Train again what is already finished."),
    plugin_option,
)
"""The options of `Execution`: how to train, not what. The first two need worker processes."""


def execution_options(*, with_jobs: bool) -> Callable[[Command], Command]:
    """The options of `Execution`, with or without those of worker processes."""

    def add(command: Command) -> Command:
        for option in reversed(_EXECUTION if with_jobs else _EXECUTION[2:]):
            command = option(command)
        return command

    return add


def cluster_options(command: Command) -> Command:
    """The Dask cluster to train on."""
    address = click.option(
        "--cluster",
        metavar="ADDRESS",
        help="Train on the workers of the Dask scheduler at this address, like tcp://10.0.0.1:8786, each with one "
        "thread (dask worker --nthreads 1).  [default: in processes here]",
    )
    resources = click.option(
        "--resources",
        metavar="NAME=NUMBER,…",
        help="Resources of a Dask worker that one training needs, like GPU=0.5; only with --cluster.",
    )
    return address(resources(command))


def execution_from(options: Mapping[str, Any]) -> Execution:
    """How to train, from the options of `execution_options`. Raises `UsageError`."""
    return Execution(**{one.name: options[one.name] for one in fields(Execution) if one.name in options})


def grid_from(options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that `run_grid`, `run_study` and `tune` share. Raises `UsageError`."""
    further = {name: options[name] for name in ("variants", "tuned", "trials") if name in options}
    return further | {
        **{name: _names(options[name]) for name in ("networks", "augmentations", "objectives")},
        "seeds": parse_seeds(options["seeds"]),
        "settings": settings_from(options),
        **_workplace_from(options),
    }


def part_from(options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `run_plan` besides the plan. Raises `UsageError`."""
    named = {name: None if options[name] is None else _names(options[name]) for name in ("datasets", "networks")}
    seeds = None if options["seeds"] is None else parse_seeds(options["seeds"])
    return {**named, "seeds": seeds, "tuned": options["tuned"], **_workplace_from(options)}


def preview_from(request: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `preview_grid` and so on, from those of `run_grid` and so on.

    Raises `UsageError` where an option that only a training has is on the command line.
    """
    context = click.get_current_context()
    for name in ("cluster", "resources", "out", "fallback_dataset"):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(f"--{name.replace('_', '-')} is not allowed with --dry-run: nothing is trained or written")
    return {name: value for name, value in request.items() if name not in ("cluster", "resources")}


def part_to_tune_from(options: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
    """The arguments of `tune_plan` besides the plan; `given` are the options on the command line. Raises `UsageError`.

    What the plan says cannot be given as an option too.
    """
    of_plan = {"augmentations", "objectives", "seeds", "trials", "epochs", *(one.name for one in fields(Settings))} - {
        "dataset"
    }
    for name in sorted(of_plan & set(given)):
        flag = "--" + name.removesuffix("s" if name in ("augmentations", "objectives") else "").replace("_", "-")
        raise UsageError(f"{flag} is not allowed with a plan: the plan says it")
    named = {"datasets": "dataset", "networks": "networks"}
    part = {name: _names(options[option]) if option in given else None for name, option in named.items()}
    return {**part, **_workplace_from(options)}


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _workplace_from(options: Mapping[str, Any]) -> dict[str, Any]:
    """How and where to train, and where runs are kept."""
    return {
        "execution": execution_from(options),
        "cluster": options["cluster"],
        "resources": _resources(options["resources"]),
        "tracking_uri": options["tracking_uri"],
    }


def _resources(text: str | None) -> dict[str, float]:
    resources = {}
    for part in text.split(",") if text is not None else []:
        match = re.fullmatch(r"\s*(\w+)=(\d{1,9}(\.\d{1,9})?)\s*", part, re.ASCII)
        if not match or not float(match[2]):
            raise UsageError(f"resources={text!r} is not allowed: it must look like GPU=0.5 or GPU=1,MEMORY=2")
        resources[match[1]] = float(match[2])
    return resources
