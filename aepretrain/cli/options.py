"""Command-line options made from the fields of `spec`, where all defaults and help texts stand."""

import re
from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from typing import Any

import click

from aepretrain.config import AUGMENTATIONS, NETWORKS, Execution, Settings
from aepretrain.errors import UsageError
from aepretrain.variants import CLASSIFICATION, PRETRAINING, find

Command = Callable[..., Any]


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


def setting_options(variant: str | None, *, as_filter: bool = False) -> Callable[[Command], Command]:
    """The options of `Settings` that a variant's result depends on (all of them for None).

    As a filter they have no defaults, and an option left out accepts every value.
    """
    stages = find(variant).stages if variant else {PRETRAINING, CLASSIFICATION}
    excluded = {PRETRAINING, CLASSIFICATION} - stages
    chosen = [one for one in fields(Settings) if one.metadata["part"] not in excluded]

    def add(command: Command) -> Command:
        for one in reversed(chosen):
            command = _setting(one, as_filter)(command)
        return click.option(
            "--epochs",
            type=int,
            default=None if as_filter else _default_epochs(),
            show_default=not as_filter,
            help="Epochs at most, of pretraining and classifier alike.",
        )(command)

    return add


def _setting(one: Field[Any], as_filter: bool) -> Callable[[Command], Command]:
    check = one.metadata["check"]
    follows_epochs = one.name.endswith("_epochs")
    return click.option(
        "--" + one.name.replace("_", "-"),
        type=click.Choice(check) if isinstance(check, tuple) else _type_of(one.default),
        default=None if as_filter or follows_epochs else one.default,
        show_default="as --epochs" if follows_epochs and not as_filter else not as_filter,
        help=one.metadata["help"],
    )


def _type_of(default: Any) -> Any:
    return _Pair() if isinstance(default, tuple) else type(default)


def _default_epochs() -> int:
    """The one default of ``--epochs``; the two phases have the same in `Settings`."""
    (default,) = {getattr(Settings(), one.name) for one in fields(Settings) if one.name.endswith("_epochs")}
    return int(default)


def settings_from(options: Mapping[str, Any]) -> Settings:
    """Settings from the options of `setting_options`. Raises `UsageError`."""
    return Settings(**given_settings(options))


def given_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those settings that have a value, by name; ``--epochs`` speaks for both phases unless one has its own."""
    values = {one.name: options.get(one.name) for one in fields(Settings)}
    for name in ("ae_epochs", "cls_epochs"):
        values[name] = options["epochs"] if values[name] is None else values[name]
    return {name: value for name, value in values.items() if value is not None}


def cell_options(command: Command) -> Command:
    """Which single training is meant."""
    network = click.option("--network", required=True, help=f"{', '.join(NETWORKS)} or a registered name.  [required]")
    augmentation = click.option(
        "--augmentation",
        default="none",
        show_default=True,
        help=f"Augmentation of the training images: {', '.join(AUGMENTATIONS)} or a registered name.",
    )
    seed = click.option("--seed", type=int, default=0, show_default=True, help="Seed of everything that is drawn.")
    return network(augmentation(seed(command)))


def grid_options(command: Command) -> Command:
    """Which trainings a grid consists of."""
    network = click.option(
        "--network", "networks", default=",".join(NETWORKS), show_default=True, help="Networks, separated by commas."
    )
    augmentation = click.option(
        "--augmentation",
        "augmentations",
        default=",".join(AUGMENTATIONS),
        show_default=True,
        help="Augmentations, separated by commas.",
    )
    seeds = click.option("--seeds", default="0", show_default=True, help="Seeds, like 0-19 or 0,3,7.")
    return network(augmentation(seeds(command)))


further_variants = click.option(
    "--variant",
    "further",
    multiple=True,
    metavar="NAME",
    help="A variant of a plugin's, to be trained beside pretrain, frozen, finetune and scratch; may be repeated.",
)


def store_option(command: Command) -> Command:
    """Where runs are tracked."""
    return click.option(
        "--tracking-uri",
        envvar="MLFLOW_TRACKING_URI",
        help="MLflow's tracking URI.  [default: mlflow.db in the project's folder; env: MLFLOW_TRACKING_URI]",
    )(command)


def execution_options(*, with_jobs: bool) -> Callable[[Command], Command]:
    """The options of `Execution`: how to train, not what."""

    def add(command: Command) -> Command:
        command = click.option(
            "--plugin",
            "plugins",
            multiple=True,
            metavar="MODULE",
            help="Module to import first, which registers networks, datasets and so on; may be repeated.",
        )(command)
        command = click.option(
            "--force",
            type=bool,
            is_flag=False,
            flag_value="true",
            default=_execution("force"),
            show_default=True,
            help="Train again what is done already.",
        )(command)
        command = click.option(
            "--data-dir",
            envvar="AEPRETRAIN_DATA_DIR",
            help="Folder with the dataset's four IDX files, in MNIST/raw (FashionMNIST/raw, KMNIST/raw) or in the "
            "folder itself; missing files are downloaded into it.  [default: ./data, then ../shared/data; "
            "env: AEPRETRAIN_DATA_DIR]",
        )(command)
        command = click.option(
            "--threads", type=int, default=_execution("threads"), show_default=True, help="Threads of each training."
        )(command)
        command = click.option(
            "--device", default=_execution("device"), show_default=True, help="auto, cpu, cuda or mps."
        )(command)
        command = click.option(
            "--outage-s",
            type=float,
            default=_execution("outage_s"),
            show_default=True,
            help="Seconds to wait for a tracking server that is away; later, results are kept for `aepretrain sync`.",
        )(command)
        if with_jobs:
            command = click.option(
                "--stack", type=int, help="Seeds trained as one stack.  [default: 1 on a CPU, up to 100 on a GPU]"
            )(command)
            command = click.option(
                "--jobs", type=int, help="Stacks at once, each in a process.  [default: physical cores; 2 on a GPU]"
            )(command)
        return command

    return add


def cluster_options(command: Command) -> Command:
    """Where else than on this machine to train."""
    address = click.option(
        "--cluster",
        metavar="ADDRESS",
        help="Train on the workers of the Dask scheduler at this address, like tcp://10.0.0.1:8786, each of one thread "
        "(dask worker --nthreads 1).  [default: in processes here]",
    )
    resources = click.option(
        "--resources",
        metavar="NAME=NUMBER,…",
        help="What of a Dask worker's resources a training takes, like GPU=0.5; with --cluster.",
    )
    return address(resources(command))


def cluster_from(options: Mapping[str, Any]) -> tuple[str | None, dict[str, float]]:
    """A scheduler's address, if one is given, and the resources of a training. Raises `UsageError`."""
    address, asked = options["cluster"], options["resources"]
    if address is not None and not re.fullmatch(r"(tcp|tls)://[\w.\[\]:-]+:\d{1,5}", address):
        raise UsageError(f"cluster={address!r} is not allowed: it must look like tcp://10.0.0.1:8786")
    if asked is not None and address is None:
        raise UsageError(f"resources={asked!r} is not allowed without a cluster")
    resources = {}
    for part in asked.split(",") if asked is not None else []:
        found = re.fullmatch(r"\s*(\w+)=(\d{1,9}(\.\d{1,9})?)\s*", part, re.ASCII)
        if not found or not float(found[2]):
            raise UsageError(f"resources={asked!r} is not allowed: it must look like GPU=0.5 or GPU=1,MEMORY=2")
        resources[found[1]] = float(found[2])
    return address, resources


def _execution(name: str) -> Any:
    return getattr(Execution(), name)


def execution_from(options: Mapping[str, Any]) -> Execution:
    """How to train, from the options of `execution_options`. Raises `UsageError`."""
    return Execution(**{one.name: options[one.name] for one in fields(Execution) if one.name in options})
