"""The commands that read finished trainings: ``compare``, ``report``, ``export`` and ``import``; and ``sync``."""

import re
from pathlib import Path
from typing import Any

import click

from aepretrain.cli.options import given_settings, setting_options, store_option
from aepretrain.cli.printing import adopted_run_id, out_option, print_tables
from aepretrain.config import SMALLEST_EFFECT
from aepretrain.errors import UsageError


@click.command()
@setting_options(None, as_filter=True)
@store_option
@out_option
def compare(tracking_uri: str | None, out: str, **options: Any) -> None:
    """Print the 4×3 table of the finished trainings in the store.

    A table never mixes runs of different settings. If the store has several settings, these options choose one.
    """
    from aepretrain import api

    results = api.compare(tracking_uri=tracking_uri, out=out, run_id=adopted_run_id(), **given_settings(options))
    print_tables(results, out)
    click.echo(api.where(results.store_uri))


bundle_argument = click.argument("folder", type=click.Path(path_type=Path, file_okay=False))


@click.command()
@bundle_argument
@setting_options(None, as_filter=True)
@store_option
def export(folder: Path, tracking_uri: str | None, **options: Any) -> None:
    """Add the finished trainings of the store to the bundle in FOLDER, which `import` and `report --bundle` read.

    The trainings that the bundle does not have yet are written as a new part, a folder of Parquet files. A part has
    the settings, figures and epochs of each training, and for a classifier which test images it got right. For one
    seed of each cell, which the report shows, it also has the pictures and the classifier's weights.
    """
    from aepretrain import api

    exported = api.export(folder, tracking_uri=tracking_uri, **given_settings(options))
    if exported.part is None:
        click.echo(f"nothing new: {folder} holds all {exported.num_finished} trainings")
    else:
        size = f"{exported.num_bytes / 1e6:.1f} MB"
        click.echo(f"{exported.num_written} trainings written to {exported.part} ({size})")


@click.command("import")
@bundle_argument
@store_option
def import_(folder: Path, tracking_uri: str | None) -> None:
    """Write the trainings of the bundle in FOLDER into the store; trainings already in the store stay unchanged."""
    from aepretrain import api

    imported = api.import_(folder, tracking_uri=tracking_uri)
    click.echo(f"{imported.num_new} of {imported.num_trainings} trainings of {folder} were new")
    click.echo(api.where(tracking_uri))


@click.command("report")
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, file_okay=False),
    help="Read from this bundle (see `export`) instead of a store.",
)
@click.option(
    "--smallest-effect",
    type=float,
    default=SMALLEST_EFFECT,
    show_default=True,
    help="Smallest difference of accuracies that matters. Smaller ones count as equivalent.",
)
@click.option(
    "--planned-seeds",
    metavar="[labels:]NETWORK=NUMBER,…",
    help="Numbers of seeds that were fixed before the results were seen, for each network, in the grid and with few "
    "labels, like fc=40,conv=20,labels:fc=20. Until all are finished, verdicts are interim.",
)
@setting_options(None, as_filter=True)
@store_option
@click.option("--out", default="results", show_default=True, help="Folder for report.html, report.md and pictures.")
def report(
    bundle: Path | None,
    smallest_effect: float,
    planned_seeds: str | None,
    tracking_uri: str | None,
    out: str,
    **options: Any,
) -> None:
    """Write the report: verdicts, statistics, figures, and how they were made.

    A report never mixes runs of different settings. If the store has several settings, these options choose one.
    """
    planned = _planned(planned_seeds)
    from aepretrain import api

    made = api.make_report(
        bundle=bundle,
        smallest_effect=smallest_effect,
        planned_seeds=planned,
        tracking_uri=tracking_uri,
        out=out,
        run_id=adopted_run_id(),
        **given_settings(options),
    )
    if bundle is None:
        click.echo(api.where(tracking_uri))
    click.echo(repr(made))
    pages = [name for name in made.files if "/" not in name]
    click.echo(f"Written to {out}: {', '.join(pages)} and {len(made.files) - len(pages)} pictures")


def _planned(text: str | None) -> dict[str, int]:
    """Numbers of seeds by network, or by ``labels:NETWORK``. Raises `UsageError`."""
    planned: dict[str, int] = {}
    for part in text.split(",") if text is not None else []:
        match = re.fullmatch(r"\s*((?:labels:)?[A-Za-z_]\w*)=([1-9]\d{0,8})\s*", part, re.ASCII)
        if not match or match[1] in planned:
            raise UsageError(f"planned_seeds={text!r} is not allowed: it must look like fc=40,conv=20,labels:fc=20")
        planned[match[1]] = int(match[2])
    return planned


@click.command()
@store_option
def sync(tracking_uri: str | None) -> None:
    """Upload results that were kept on this machine because the tracking server was unreachable.

    Runs whose process has died are ended as KILLED. Every training command also does both at its start.
    """
    from aepretrain import api

    num_uploaded = api.sync(tracking_uri=tracking_uri)
    click.echo(f"{num_uploaded} training(s) uploaded" if num_uploaded else "nothing to upload")
    click.echo(api.where(tracking_uri))
