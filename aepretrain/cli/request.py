"""What the options of a grid ask for, checked, and the workers that train it."""

import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from aepretrain import stopping
from aepretrain.cli.options import cluster_from, execution_from, settings_from
from aepretrain.cli.shared import adopted_run_id
from aepretrain.config import Execution, Settings, TrainingSpec, grid_specs, parse_seeds
from aepretrain.errors import Failure

if TYPE_CHECKING:
    from aepretrain import runner, tracking


@dataclass(frozen=True)
class Asked:
    """What the options of a grid ask for, checked as far as this goes without loading anything."""

    networks: tuple[str, ...]
    augmentations: tuple[str, ...]
    further: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: Settings
    execution: Execution
    cluster: str | None
    resources: dict[str, float]
    run_id: str | None

    @property
    def specs(self) -> tuple[TrainingSpec, ...]:
        """The grid's trainings."""
        return grid_specs(self.networks, self.augmentations, self.seeds, self.settings, self.further)


def asked_for(options: dict[str, Any]) -> Asked:
    """Read the options of a grid; meanwhile the workers' server imports what they need."""
    networks, augmentations = (
        tuple(dict.fromkeys(part.strip() for part in options[name].split(",")))
        for name in ("networks", "augmentations")
    )
    asked = Asked(
        networks,
        augmentations,
        tuple(dict.fromkeys(options.get("further", ()))),
        parse_seeds(options["seeds"]),
        settings_from(options),
        execution_from(options),
        *cluster_from(options),
        adopted_run_id(),
    )
    if asked.cluster is None:
        _warm_up_workers(networks)
    from aepretrain import runner

    runner.load_plugins(asked.execution)
    runner.check(replace(asked, seeds=asked.seeds[:1]).specs, asked.execution)
    return asked


@contextmanager
def workers(asked: Asked, store: "tracking.Store") -> "Iterator[tuple[runner.MakePool, int]]":
    """Where to train, on this machine or on a cluster, and how many stacks at once."""
    from aepretrain import runner

    if asked.cluster is None:
        yield runner.local_pool, runner.num_workers(asked.execution)
        return
    try:
        from aepretrain.runner import dask
    except ModuleNotFoundError as error:
        raise Failure(f'a cluster needs Dask, the extra "dask" of this package ({error})') from None
    with dask.connect(asked.cluster, asked.resources, store) as found:
        yield found.pool, asked.execution.jobs or found.num_workers()


def with_available_dataset(settings: Settings, execution: Execution, fallback: str | None) -> Settings:
    """The settings, with the fallback dataset, said loudly, where theirs cannot be had and a fallback was given."""
    from aepretrain import data

    try:
        data.load(settings.dataset, execution.data_dir)
    except data.DatasetMissing as error:
        if fallback is None:
            raise
        click.secho(f"{error}", fg="yellow", err=True)
        click.secho(
            f"!!! {settings.dataset.upper()} CANNOT BE HAD. TRAINING ON {fallback.upper()} INSTEAD: "
            f"NO NUMBER BELOW IS AN {settings.dataset.upper()} RESULT. !!!",
            fg="red",
            bold=True,
            err=True,
        )
        return replace(settings, dataset=fallback)
    return settings


def _warm_up_workers(networks: Sequence[str]) -> None:
    """Let the server from which workers are forked import what they need while this process imports it too."""
    if sys.platform == "linux":
        from multiprocessing import forkserver

        needed = ["aepretrain.runner"] + ["aepretrain.convolution.compiled"] * ("conv" in networks)
        multiprocessing.set_forkserver_preload(needed)
        with stopping.ignored():
            forkserver.ensure_running()
