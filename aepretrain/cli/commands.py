"""The commands: ``grid``, one for each variant, and ``compare``."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from aepretrain import __version__
from aepretrain.cli.options import (
    cell_options,
    execution_from,
    execution_options,
    given_settings,
    grid_options,
    setting_options,
    settings_from,
    store_option,
)
from aepretrain.spec import (
    CLASSIFIERS,
    VARIANTS,
    Execution,
    Failure,
    Settings,
    TrainingSpec,
    UsageError,
    grid_specs,
    parse_seeds,
)

if TYPE_CHECKING:
    from aepretrain import report, tracking
    from aepretrain.records import Record

out_option = click.option(
    "--out", default="results", show_default=True, help="Folder for the table as Markdown, CSV, JSON and figure."
)

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
"""What MLflow is told unless the user has told it something else."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__)
def cli() -> None:
    """Does pretraining an autoencoder help classification? Train, track and compare."""


@cli.command()
@grid_options
@setting_options(None)
@execution_options(with_jobs=True)
@store_option
@out_option
@click.option(
    "--fallback-dataset",
    type=click.Choice(["digits"]),
    help="Train on this instead where the dataset's files cannot be had at all (never where they are damaged).",
)
def grid(**options: Any) -> None:
    """Train the whole grid (what is missing of it) and print the 4×3 table."""
    execution, settings, seeds = execution_from(options), settings_from(options), parse_seeds(options["seeds"])
    networks, augmentations = (
        tuple(dict.fromkeys(part.strip() for part in options[name].split(",")))
        for name in ("networks", "augmentations")
    )
    grid_specs(networks, augmentations, seeds[:1], settings)  # what is not allowed is said before anything is loaded
    run_id = _adopted_run_id()
    _warm_up_workers(settings.dataset)
    from rich.console import Console

    from aepretrain import report, suite
    from aepretrain.cli.display import Display

    suite.check(grid_specs(networks, augmentations, seeds[:1], settings), execution)
    if Path(options["out"]).is_file():
        raise UsageError(f"out={options['out']!r} is a file: it must be a folder, which may be new")
    settings = _with_available_dataset(settings, execution, options["fallback_dataset"])
    specs = grid_specs(networks, augmentations, seeds, settings)
    store = _open_store(options, run_id)
    _say_where(store)
    console = Console()
    with Display(console, specs, suite.num_jobs(execution)) as display:
        result = suite.run_grid(specs, store, execution, display.handle, _log_grid, run_id=run_id)
    if any(record.cell[2] in CLASSIFIERS for record in result.records):
        _show(report.build_grid(result.records), Path(options["out"]))
    _say_where(store)
    if result.failures:
        missing = "; ".join(f"{name}: {message}" for name, message in result.failures.items())
        raise Failure(f"{len(result.failures)} of {len(specs)} trainings are missing ({missing})")


def _log_grid(parent: "tracking.Run", records: "Sequence[Record]") -> None:
    """Give a grid's parent run its table."""
    from aepretrain import report

    if any(record.cell[2] in CLASSIFIERS for record in records):
        table = report.build_grid(records)
        for name, content in report.files(table).items():
            parent.log_bytes(f"results/{name}", content)
        parent.describe(report.markdown(table))


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

    from aepretrain import data, suite
    from aepretrain.cli.display import Display, summary

    suite.check([spec], execution)
    data.load(spec.settings.dataset, execution.data_dir)
    run_id = _adopted_run_id()
    store = _open_store(options, run_id)
    console = Console()
    with Display(console, [spec], 1) as display:
        result = suite.run_single(spec, store, execution, display.handle, run_id=run_id)
    if result.reused:
        click.echo(f"{spec.name} is done already: {summary(result.record)} (--force trains it again)")
    click.echo(f"run {result.record.run_id}")
    _say_where(store)


for _variant in VARIANTS:
    _variant_command(_variant)


@cli.command()
@setting_options(None, as_filter=True)
@store_option
@out_option
def compare(**options: Any) -> None:
    """Print the 4×3 table of what is finished in the store.

    Runs of different settings never share a table: where the store holds several, the options choose.
    """
    from aepretrain import report

    run_id = _adopted_run_id()
    store = _open_store(options, run_id)
    table = report.build_grid(report.choose(store.records().values(), given_settings(options)))
    _show(table, Path(options["out"]))
    if run_id is not None:
        _log_comparison(store, run_id, table)
    _say_where(store)


bundle_argument = click.argument("folder", type=click.Path(path_type=Path, file_okay=False))


@cli.command()
@bundle_argument
@setting_options(None, as_filter=True)
@store_option
def export(folder: Path, **options: Any) -> None:
    """Write what is finished in the store into FOLDER as a bundle: compact Parquet files that `import` reads.

    The seed that is shown of each cell is kept with its weights and figures, the others with their numbers and
    predictions.
    """
    from aepretrain import report, suite, tracking

    store = _open_store(options, None)
    records = report.choose(store.records().values(), given_settings(options))
    if not records:
        raise Failure(f"nothing is finished in {store.uri}")
    shown = suite.select(records)
    pretrainings = {record.tags.get("pretraining_key") for record in shown}
    whole = {record.run_id for record in shown} | {one.run_id for one in records if one.key in pretrainings}
    tracking.export(store, records, whole, folder)
    size = sum(file.stat().st_size for file in folder.glob("*.parquet"))
    click.echo(f"{len(records)} trainings, {len(whole)} of them whole, written to {folder} ({size / 1e6:.1f} MB)")


@cli.command("import")
@bundle_argument
@store_option
def import_(folder: Path, **options: Any) -> None:
    """Fill the store with the trainings of the bundle in FOLDER; what it has already is left alone."""
    from aepretrain import tracking

    if not folder.is_dir():
        raise UsageError(f"folder={str(folder)!r} is not a folder")
    store = _open_store(options, None)
    num_new, num = tracking.restore(store, folder)
    click.echo(f"{num_new} of {num} trainings of {folder} were new")
    _say_where(store)


def _log_comparison(store: "tracking.Store", run_id: str, grid: "report.Grid") -> None:
    """Put the table into the run that ``mlflow run`` opened for the comparison."""
    from aepretrain import report, tracking

    run = tracking.Run(store, run_id)
    with tracking.ending(run):
        run.tag(kind="comparison")
        for name, content in report.files(grid).items():
            run.log_bytes(f"results/{name}", content)
        run.describe(report.markdown(grid))
        run.end("FINISHED")


def _warm_up_workers(dataset: str) -> None:
    """Let the server from which workers are forked import what they need while this process imports it too."""
    if sys.platform == "linux":
        from multiprocessing import forkserver

        multiprocessing.set_forkserver_preload(["aepretrain.suite", f"aepretrain.data.{dataset}"])
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server inherits that: Ctrl-C is ours to answer
        forkserver.ensure_running()
        signal.signal(signal.SIGINT, handler)


def _with_available_dataset(settings: Settings, execution: Execution, fallback: str | None) -> Settings:
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


def _adopted_run_id() -> str | None:
    """The run that ``mlflow run`` opened for this command, if it did; no worker shall take it for its own."""
    return os.environ.pop("MLFLOW_RUN_ID", None)


def _open_store(options: dict[str, Any], run_id: str | None) -> "tracking.Store":
    from aepretrain import tracking

    uri = options["tracking_uri"] or tracking.default_uri(Path.cwd())
    return tracking.open_store(uri, os.environ.get("MLFLOW_EXPERIMENT_NAME"), run_id)


def _say_where(store: "tracking.Store") -> None:
    from aepretrain import tracking

    click.echo(f"Runs are kept in {store.uri}; look at them with: {tracking.ui_hint(store.uri)}")


def _show(grid: "report.Grid", folder: Path) -> None:
    """The grid on the terminal and as files."""
    from rich.console import Console
    from rich.table import Table

    from aepretrain import report

    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # a file has no width to keep to
    for title, (heading, *rows) in report.tables(grid):
        table = Table(*heading, title=title, title_justify="left")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in report.files(grid).items():
            partial = folder / f".{name}.partial"
            partial.write_bytes(content)
            partial.replace(folder / name)
    except OSError as error:
        raise Failure(f"the table cannot be written to {folder}: {error.strerror}") from None
    console.print(f"Written to {folder}: {', '.join(report.files(grid))}", highlight=False)


def main() -> NoReturn:
    """Run the command line. Exit code 0, 1 (failure), 2 (usage), 130 (Ctrl-C) or 143 (SIGTERM)."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGINT, _interrupt)  # explicitly, for a script's background job would ignore it
    try:
        code = cli.main(standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as error:
        code = _complain(error.format_message(), 2)
    except click.ClickException as error:
        code = _complain(f"aepretrain: {error.format_message()}", 2)
    except UsageError as error:
        code = _complain(f"aepretrain: {error}", 2)
    except Failure as error:
        code = _complain(f"aepretrain: {error}", 1)
    except (KeyboardInterrupt, click.Abort):
        code = _complain("aepretrain: interrupted; what is finished is kept, the same command goes on from there", 130)
    except Exception as error:
        if not type(error).__module__.startswith(("mlflow.", "sqlalchemy.", "sqlite3")):
            raise
        code = _complain(f"aepretrain: the tracking store failed: {' '.join(str(error).split())[:300]}", 1)
    sys.exit(code)


def _complain(message: str, code: int) -> int:
    click.echo(message, err=True)
    return code


def _interrupt(_signum: int, _frame: Any) -> NoReturn:
    """Unwind on Ctrl-C, once: runs are ended as KILLED on the way, which a second Ctrl-C shall not disturb."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _terminate(signum: int, _frame: Any) -> NoReturn:
    """Unwind on SIGTERM, once: runs are ended as KILLED on the way."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    click.echo("aepretrain: terminated; what is finished is kept, the same command goes on from there", err=True)
    sys.exit(128 + signum)
