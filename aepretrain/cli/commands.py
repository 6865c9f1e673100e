"""The commands that train: ``grid``, one for each variant, and ``study``; with the others, the whole command line."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aepretrain import __version__
from aepretrain.cli.options import (
    cell_options,
    cluster_options,
    execution_from,
    execution_options,
    further_variants,
    grid_options,
    setting_options,
    settings_from,
    store_option,
)
from aepretrain.cli.request import asked_for, with_available_dataset, workers
from aepretrain.cli.results import compare, export, import_, report_
from aepretrain.cli.serving import encode, onnx, predict, promote
from aepretrain.cli.shared import adopted_run_id, open_store, out_option, say_where, show
from aepretrain.cli.sync import sync
from aepretrain.config import STUDIES, Execution, TrainingSpec
from aepretrain.errors import Failure, UsageError
from aepretrain.variants import GRID_VARIANTS, is_in_table

if TYPE_CHECKING:
    from aepretrain import runner, tracking
    from aepretrain.records import Record


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__)
def cli() -> None:
    """Does pretraining an autoencoder help classification? Train, track and compare."""


@cli.command()
@grid_options
@further_variants
@setting_options(None)
@execution_options(with_jobs=True)
@cluster_options
@store_option
@out_option
@click.option(
    "--fallback-dataset",
    type=click.Choice(["digits"]),
    help="Train on this instead where the dataset's files cannot be had at all (never where they are damaged).",
)
def grid(**options: Any) -> None:
    """Train the whole grid (what is missing of it) and print the 4×3 table."""
    asked = asked_for(options)
    from rich.console import Console

    from aepretrain import report, runner
    from aepretrain.cli.display import Display
    from aepretrain.frame import frame

    if os.path.isfile(options["out"]):
        raise UsageError(f"out={options['out']!r} is a file: it must be a folder, which may be new")
    asked = replace(
        asked, settings=with_available_dataset(asked.settings, asked.execution, options["fallback_dataset"])
    )
    store = open_store(options, asked.run_id)
    say_where(store)
    with workers(asked, store) as (make_pool, jobs), Display(Console(), asked.specs, jobs) as display:
        result = runner.run_grid(
            asked.specs, store, asked.execution, display.handle, log_grid, run_id=asked.run_id, make_pool=make_pool
        )
    if any(is_in_table(record.cell[2]) for record in result.records):
        show(report.build_grid(frame(result.records)), Path(options["out"]))
    say_where(store)
    _complain_of_missing(result)


@cli.command()
@click.argument("name", type=click.Choice((*STUDIES, "all")))
@grid_options
@setting_options(None)
@execution_options(with_jobs=True)
@cluster_options
@store_option
def study(name: str, **options: Any) -> None:
    """Train what answers a further question about the grid; `report` shows what came out.

    \b
    controls    heads on encoders that learned nothing, scratch with as much
                training as pretraining and finetuning together, and an
                autoencoder that restores what was erased
    labels      10 to 10,000 labelled images, and all of them
    robustness  accuracy and calibration on erased test images
    similarity  how alike encoders are, layer by layer
    all         one after the other

    What a study needs of the grid is trained too, where it is missing.
    """
    asked = asked_for(options)
    from rich.console import Console

    from aepretrain import data, runner, tracking
    from aepretrain.cli.display import Display
    from aepretrain.studies import STUDIES as KNOWN

    data.load(asked.settings.dataset, asked.execution.data_dir)
    store = open_store(options, asked.run_id)
    say_where(store)
    results = []
    for one in STUDIES if name == "all" else [name]:
        click.echo(f"study {one}")
        settings = asked.settings if one == "labels" else replace(asked.settings, labels=0, updates=0)
        specs = [spec for spec in replace(asked, settings=settings).specs if spec.variant in KNOWN[one].needs]
        with workers(asked, store) as (make_pool, jobs), Display(Console(), specs, jobs) as display:
            result = runner.run_grid(
                specs,
                store,
                asked.execution,
                display.handle,
                lambda *_: None,
                study=KNOWN[one],
                run_id=None if name == "all" else asked.run_id,
                make_pool=make_pool,
            )
        results.append(result)
        if not result.failures and all(record.study is None for record in result.records):
            click.echo(f"study {one} found nothing to do (similarity compares neighbouring seeds: give two or more)")
    say_where(store)
    if name == "all" and asked.run_id is not None:
        _point_to_studies(tracking.Run(store, asked.run_id), dict(zip(STUDIES, results, strict=True)))
    _complain_of_missing(*results)


def _point_to_studies(run: "tracking.Run", results: "Mapping[str, runner.GridResult]") -> None:
    """Say in the run that ``mlflow run`` opened for all studies which runs are theirs."""
    from aepretrain import tracking

    run.tag(kind="studies")
    links = [tracking.run_link(f"study {name}", result.run_id) for name, result in results.items()]
    run.describe("\n".join(f"- {link}" for link in links))
    run.end("FAILED" if any(result.failures for result in results.values()) else "FINISHED")


def _complain_of_missing(*results: "runner.GridResult") -> None:
    failures = [f"{name}: {message}" for result in results for name, message in result.failures.items()]
    if failures:
        total = sum(len(result.records) for result in results) + len(failures)
        raise Failure(f"{len(failures)} of {total} trainings are missing ({'; '.join(failures)})")


def log_grid(parent: "tracking.Run", records: "Sequence[Record]") -> None:
    """Give a grid's parent run its table, and its experiment too."""
    from aepretrain import report, tracking
    from aepretrain.frame import frame

    if any(is_in_table(record.cell[2]) for record in records):
        table = report.build_grid(frame(records))
        parent.log_files(report.files(table))
        parent.describe(report.markdown(table))
        link = tracking.run_link("this grid", parent.run_id)
        parent.describe_experiment(f"{report.markdown(table)}\nThese are the results of {link}, the last to end.")


def _variant_command(variant: str) -> click.Command:
    """The command that trains one cell for one seed."""

    @cell_options
    @setting_options(variant)
    @execution_options(with_jobs=False)
    @store_option
    def command(**options: Any) -> None:
        execution, settings = execution_from(options), settings_from(options)
        cell = {name: options[name] for name in ("network", "augmentation", "seed")}
        spec = TrainingSpec(variant=variant, settings=settings, **cell)
        _train_single(spec, execution, options)

    helps = {
        "pretrain": "Train an autoencoder.",
        "frozen": "Train a linear head on a pretrained encoder whose weights stay as they are.",
        "finetune": "Train a pretrained encoder and a fresh head together.",
        "scratch": "Train the same encoder and head from random weights.",
    }
    return cli.command(variant, help=helps[variant])(command)


def _train_single(spec: TrainingSpec, execution: Execution, options: dict[str, Any]) -> None:
    from rich.console import Console

    from aepretrain import data, runner
    from aepretrain.cli.display import Display, summary

    runner.load_plugins(execution)
    runner.check([spec], execution)
    data.load(spec.settings.dataset, execution.data_dir)
    run_id = adopted_run_id()
    store = open_store(options, run_id)
    console = Console()
    with Display(console, [spec], 1) as display:
        result = runner.run_single(spec, store, execution, display.handle, run_id=run_id)
    if result.reused:
        click.echo(f"{spec.name} is done already: {summary(result.record)} (--force trains it again)")
    click.echo(f"run {result.record.run_id}")
    say_where(store)


for _variant in GRID_VARIANTS:
    _variant_command(_variant)


for _command in (compare, report_, export, import_, sync, predict, encode, onnx, promote):
    cli.add_command(_command)
