"""The commands that read finished trainings: ``compare``, ``report``, ``ui`` and so on; and ``sync``."""

from pathlib import Path
from typing import Any

import click

from aepretrain.cli.command import Command
from aepretrain.cli.options import given_settings, setting_options, store_option, switch
from aepretrain.cli.printing import adopted_run_id, echo, out_option, print_tables
from aepretrain.config import SMALLEST_EFFECT


@click.command(cls=Command)
@setting_options(None, as_filter=True)
@store_option
@out_option
def compare(tracking_uri: str | None, out: str, **options: Any) -> None:
    """Print the 4×3 table of finished trainings.

    A table never mixes runs of different settings. If the store has several settings, these options choose one.
    """
    from aepretrain import api

    results = api.compare(tracking_uri=tracking_uri, out=out, run_id=adopted_run_id(), **given_settings(options))
    print_tables(results, out)
    echo(api.where(results.store_uri))


@click.command("results", cls=Command)
@click.option("--csv", type=click.Path(path_type=Path), help="Write them to this CSV file.")
@click.option("--parquet", type=click.Path(path_type=Path), help="Write them to this Parquet file.")
@click.option("--json", type=click.Path(path_type=Path), help="Write them to this JSON file, a list of objects.")
@switch("--per-epoch", "A row an epoch, with its losses and accuracies, instead of a row a training.")
@setting_options(None, as_filter=True)
@store_option
def results(
    csv: Path | None, parquet: Path | None, json: Path | None, per_epoch: bool, tracking_uri: str | None, **options: Any
) -> None:
    """Write finished trainings as CSV, Parquet or JSON.

    Settings and figures are the columns. Those of studies and of tuning have a value in the column study. Options
    choose trainings with certain settings.
    """
    from aepretrain import api

    if not (csv or parquet or json):
        raise click.UsageError("name a file with --csv, --parquet or --json")
    found = api.load_results(
        csv=csv,
        parquet=parquet,
        json=json,
        per_epoch=per_epoch,
        tracking_uri=tracking_uri,
        **given_settings(options),
    )
    echo(f"{len(found.records)} trainings written to {', '.join(found.written)}")


bundle_argument = click.argument("folder", type=click.Path(path_type=Path, file_okay=False))


@click.command(cls=Command)
@bundle_argument
@setting_options(None, as_filter=True)
@store_option
def export(folder: Path, tracking_uri: str | None, **options: Any) -> None:
    """Add finished trainings to the bundle in FOLDER.

    `import` and --bundle read it. The trainings that the bundle does not have yet are written as a new part, a folder
    of Parquet files. A part has the settings, figures and epochs of each training, and for a classifier which test
    images it got right. For one seed of each cell, which the report shows, it also has the pictures and the
    classifier's weights.
    """
    from aepretrain import api

    exported = api.export(folder, tracking_uri=tracking_uri, **given_settings(options))
    if exported.part is None:
        echo(f"nothing new: {folder} holds all {exported.num_finished} trainings")
    else:
        size = f"{exported.num_bytes / 1e6:.1f} MB"
        echo(f"{exported.num_written} trainings written to {exported.part} ({size})")


@click.command("import", cls=Command)
@bundle_argument
@store_option
def import_(folder: Path, tracking_uri: str | None) -> None:
    """Write the trainings of a bundle into the store.

    Trainings already in the store stay unchanged.
    """
    from aepretrain import api

    imported = api.import_(folder, tracking_uri=tracking_uri)
    echo(f"{imported.num_new} of {imported.num_trainings} trainings of {folder} were new")
    echo(api.where(tracking_uri))


@click.command("report", cls=Command)
@click.argument("plans", nargs=-1, metavar="[PLAN]...", type=click.Path(path_type=Path))
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, file_okay=False),
    help="Read from this bundle (see `export`) instead of a store.",
)
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    help="Judge other people's runs in this CSV or Parquet file: columns experiment, variant, seed and accuracy.",
)
@click.option(
    "--compare",
    multiple=True,
    metavar='"A - B"',
    help="Variants of --results to compare, if there are more than two. May be repeated; not with a PLAN.",
)
@click.option(
    "--smallest-effect",
    show_default=f"{SMALLEST_EFFECT:g}",
    help='Smallest difference of accuracies that matters, or like "10 images"; not with a PLAN, which has its own.',
)
@setting_options(None, as_filter=True)
@store_option
@click.option("--out", default="results", show_default=True, help="Folder for report.html, report.md and pictures.")
def report(
    plans: tuple[Path, ...],
    bundle: Path | None,
    results: Path | None,
    compare: tuple[str, ...],
    smallest_effect: str | None,
    tracking_uri: str | None,
    out: str,
    **options: Any,
) -> None:
    """Write the report: verdicts, statistics, figures.

    Each PLAN is a YAML file (see `run`). Its comparisons are judged by the rule that it fixed, and the report says how
    many trainings were started under it. The table of the grid is that of the first plan that is the source's grid.
    Without a plan it is that of all finished trainings. It never mixes runs of different settings: if the store has
    several, options choose one; of numbers of labels and objectives, it takes all labels and reconstruct.

    With --results the report is of a table of other people's runs, and a PLAN has the keys question, smallest_effect,
    alpha, comparisons, families and, if wanted, seeds.
    """
    from aepretrain import api

    made = api.make_report(
        plans=plans,
        bundle=bundle,
        results=results,
        compare=compare,
        smallest_effect=smallest_effect,
        tracking_uri=tracking_uri,
        out=out,
        run_id=adopted_run_id(),
        **given_settings(options),
    )
    if bundle is None and results is None:
        echo(api.where(tracking_uri))
    echo(repr(made))
    pages = [name for name in made.files if "/" not in name]
    echo(f"Written to {out}: {', '.join(pages)} and {len(made.files) - len(pages)} pictures")


@click.command(cls=Command)
@store_option
def sync(tracking_uri: str | None) -> None:
    """Upload what was kept here while the server was away.

    Runs whose process has died are ended as KILLED. Every training command also does both at its start.
    """
    from aepretrain import api

    num_uploaded = api.sync(tracking_uri=tracking_uri)
    echo(f"{num_uploaded} training(s) uploaded" if num_uploaded else "nothing to upload")
    echo(api.where(tracking_uri))


@click.command(cls=Command)
@click.option("--port", type=int, help="Port of the UI's server.  [default: 5000, or the next free one]")
@switch("--browser", "Open a browser, where there is a screen.", default=True)
@store_option
def ui(port: int | None, browser: bool, tracking_uri: str | None) -> None:
    """Show the trainings in MLflow's UI until Ctrl-C.

    The UI's server answers on this machine only. Where the store is a server, its page is opened.
    """
    from aepretrain import api

    api.open_ui(port=port, browser=browser, tracking_uri=tracking_uri)
