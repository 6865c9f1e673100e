"""The commands that train: ``grid``, ``study``, and one for each variant; and the group of all commands."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from aepretrain import __version__, fork_server
from aepretrain.cli import models, results
from aepretrain.cli.command import Command, Group
from aepretrain.cli.options import (
    cell_options,
    cluster_options,
    dry_run_option,
    execution_from,
    execution_options,
    grid_from,
    grid_options,
    part_from,
    part_options,
    part_to_tune_from,
    preview_from,
    setting_options,
    settings_from,
    store_option,
    tuned_option,
    tuning_options,
    variants_option,
)
from aepretrain.cli.printing import adopted_run_id, echo, out_option, print_preview, print_table, print_tables
from aepretrain.cli.runs import runs
from aepretrain.config import GRID_NETWORKS, STUDIES
from aepretrain.errors import Failure
from aepretrain.variants import GRID_VARIANTS, VARIANTS

if TYPE_CHECKING:
    from aepretrain.api import Results, Tunings


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__)
def cli() -> None:
    """Does pretraining an autoencoder help classification? Train, track and compare."""


@click.command(cls=Command)
@grid_options("0")
@variants_option
@tuned_option
@execution_options(with_jobs=True)
@cluster_options
@store_option
@out_option
@click.option(
    "--fallback-dataset",
    type=click.Choice(["digits"]),
    help="Train on this if the dataset's files are missing and cannot be downloaded (not if they are damaged).",
)
@dry_run_option
def grid(out: str, fallback_dataset: str | None, dry_run: bool, **options: Any) -> None:
    """Train what is missing of the grid, and print its 4×3 table."""
    request = grid_from(options)
    if dry_run:
        _preview("preview_grid", request)
        return
    _warm_up_workers(request)
    from aepretrain import api

    trained = api.run_grid(**request, fallback_dataset=fallback_dataset, out=out, run_id=adopted_run_id())
    if trained.written:
        print_tables(trained, out)
    _print_end(trained)
    echo(trained.next_steps)


@click.command(cls=Command)
@click.argument("name", type=click.Choice((*STUDIES, "all")))
@grid_options("0-1")
@tuned_option
@execution_options(with_jobs=True)
@cluster_options
@store_option
@dry_run_option
def study(name: str, dry_run: bool, **options: Any) -> None:
    """Train what a further question about the grid needs.

    `report` shows the result.

    \b
    controls    heads on encoders that learned nothing, scratch with as much
                training as pretraining and finetuning together, and an
                autoencoder that restores what was erased
    labels      10 to 10,000 labelled images, and all of them
    robustness  accuracy and calibration on erased test images
    similarity  how similar encoders are, layer by layer
    all         all studies, one after the other

    If a study needs trainings of the grid that are missing, it trains them, too.
    """
    request = grid_from(options)
    if dry_run:
        _preview("preview_study", request, name)
        return
    _warm_up_workers(request)
    from aepretrain import api

    _print_end(api.run_study(name, **request, run_id=adopted_run_id()))


@click.command(cls=Command)
@click.argument("plan", type=click.Path(path_type=Path))
@part_options
@tuned_option
@execution_options(with_jobs=True)
@cluster_options
@store_option
@dry_run_option
def run(plan: Path, dry_run: bool, **options: Any) -> None:
    """Train what is missing of a plan, a YAML file.

    A plan fixes a question, the trainings that answer it and the comparisons to be judged, before the first training.
    Three options choose the part that is trained now. Each training that is started has the plan's digest as a tag.
    """
    request = part_from(options)
    if dry_run:
        _preview("preview_plan", request, plan)
        return
    _warm_up_workers({"networks": GRID_NETWORKS} | {name: one for name, one in request.items() if one is not None})
    from aepretrain import api

    _print_end(api.run_plan(plan, **request, run_id=adopted_run_id()))


@click.command(cls=Command)
@click.argument("plan", type=click.Path(path_type=Path), required=False)
@tuning_options
@execution_options(with_jobs=True)
@cluster_options
@store_option
def tune(plan: Path | None, **options: Any) -> None:
    """Choose the learning rate and weight decay of classifiers.

    They are chosen by validation loss on tuning seeds. Frozen, finetune and scratch are each an arm, and every arm has
    the same number of trials. The first trial has the settings as they are. With the YAML file PLAN, the arms of the
    plan are tuned as its key `tuned` says; --dataset and --network choose a part of them. `grid --tuned`,
    `study labels --tuned` and `run PLAN --tuned` use the choices, and `report` shows them.
    """
    context = click.get_current_context()
    on_line = [name for name in options if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    request = part_to_tune_from(options, on_line) if plan else grid_from(options)
    _warm_up_workers({"networks": GRID_NETWORKS} | {name: one for name, one in request.items() if one is not None})
    from aepretrain import api

    run_id = adopted_run_id()
    tuned = api.tune_plan(plan, **request, run_id=run_id) if plan else api.tune(**request, run_id=run_id)
    print_table(tuned.table)
    _print_end(tuned)


def _preview(call: str, request: dict[str, Any], *given: object) -> None:
    """Print what would be trained, as this function of `api` says."""
    request = preview_from(request)
    from aepretrain import api

    print_preview(getattr(api, call)(*given, **request))


def _print_end(trained: "Results | Tunings") -> None:
    """Print where runs are kept. Raises `Failure` where trainings have failed."""
    from aepretrain import api

    echo(api.where(trained.store_uri))
    if trained.failures:
        num, reasons = len(trained.failures), "; ".join(f"{name}: {why}" for name, why in trained.failures.items())
        raise Failure(f"{num} of {len(trained.records) + num} trainings are missing ({reasons})")


def _warm_up_workers(request: dict[str, Any]) -> None:
    """Start the process from which workers are forked: it imports what they need while this one imports it too."""
    networks: Sequence[str] = request["networks"]
    if request.get("cluster") is None:
        fork_server.launch(["aepretrain.convolution.compiled"] * ("conv" in networks))


def _variant_command(variant: str) -> click.Command:
    """The command that trains one variant for one seed."""

    @cell_options
    @setting_options(variant)
    @execution_options(with_jobs=False)
    @store_option
    def command(network: str, augmentation: str, seed: int, tracking_uri: str | None, **options: Any) -> None:
        settings, execution = settings_from(options), execution_from(options)
        from aepretrain import api
        from aepretrain.display import summary

        trained = api.train(
            variant,
            network=network,
            augmentation=augmentation,
            seed=seed,
            settings=settings,
            execution=execution,
            tracking_uri=tracking_uri,
            run_id=adopted_run_id(),
        )
        if trained.reused:
            name = trained.record.spec.name
            echo(f"{name} is done already: {summary(trained.record)} (--force trains it again)")
        echo(f"run {trained.record.run_id}")
        echo(api.where(tracking_uri))

    return click.command(variant, cls=Command, help=VARIANTS.look_up(variant).title)(command)


cli.add_section("Train many", [grid, run, study, tune])
cli.add_section("Train one", [_variant_command(variant) for variant in GRID_VARIANTS])
cli.add_section("Read results", [results.report, results.compare, results.results, runs, results.ui])
cli.add_section("Use a network", [models.predict, models.encode, models.onnx, models.promote])
cli.add_section("Move results", [results.export, results.import_, results.sync])
