"""The commands that read what is finished: ``compare``, ``report``, ``export``, and ``import``, its way back."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aepretrain.cli.options import given_settings, setting_options, store_option
from aepretrain.cli.shared import adopted_run_id, open_store, out_option, say_where, show, write_files
from aepretrain.config import NETWORKS, SMALLEST_EFFECT
from aepretrain.errors import Failure, UsageError
from aepretrain.redaction import redact

if TYPE_CHECKING:
    from aepretrain import report, tracking
    from aepretrain.records import Archive, Record


@click.command()
@setting_options(None, as_filter=True)
@store_option
@out_option
def compare(**options: Any) -> None:
    """Print the 4×3 table of what is finished in the store.

    Runs of different settings never share a table: where the store holds several, the options choose.
    """
    from aepretrain import report
    from aepretrain.frame import frame

    run_id = adopted_run_id()
    store = open_store(options, run_id)
    wanted = given_settings(options)
    table = report.build_grid(report.choose(frame(store.records(wanted).values()), wanted))
    show(table, Path(options["out"]))
    if run_id is not None:
        _log_comparison(store, run_id, table)
    say_where(store)


bundle_argument = click.argument("folder", type=click.Path(path_type=Path, file_okay=False))


@click.command()
@bundle_argument
@setting_options(None, as_filter=True)
@store_option
def export(folder: Path, **options: Any) -> None:
    """Add the finished trainings of the store to the bundle in FOLDER, which `import` and `report --bundle` read.

    A new part, a folder of Parquet files, is written with those trainings that the bundle does not hold yet. Each
    training is kept with its settings, figures and epochs, and a classifier with which test images it got right. The
    seed that is shown of each cell is kept with its pictures and the classifier's weights.
    """
    from aepretrain import report, tracking
    from aepretrain.frame import frame

    store = open_store(options, None)
    wanted = given_settings(options)
    found = store.records(wanted)
    table = report.belongs(frame(found.values()), wanted)
    records, of_grids = ([found[key] for key in part["key"]] for part in (table, report.choose(table, {})))
    if not records:
        raise Failure(f"nothing is finished in {redact(store.uri)}")
    selected = {record.run_id for record in _shown(of_grids, records, store)}
    part = tracking.export(store, records, selected, folder)
    if part is None:
        click.echo(f"nothing new: {folder} holds all {len(records)} trainings")
        return
    size = sum(file.stat().st_size for file in part.folder.iterdir())
    click.echo(f"{part.num_trainings} trainings written to {part.folder} ({size / 1e6:.1f} MB)")


@click.command("import")
@bundle_argument
@store_option
def import_(folder: Path, **options: Any) -> None:
    """Write the trainings of the bundle in FOLDER into the store; trainings that it has already stay as they are."""
    from aepretrain import tracking

    if not os.path.isdir(folder):
        raise UsageError(f"folder={str(folder)!r} is not a folder")
    bundle = tracking.read_bundle(folder)
    store = open_store(options, None)
    num_new = tracking.restore(store, bundle)
    click.echo(f"{num_new} of {len(bundle.trainings)} trainings of {folder} were new")
    say_where(store)


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
    help="Smallest difference of accuracies that matters; below it, variants count as equivalent.",
)
@click.option(
    "--planned-seeds",
    metavar="[labels:]NETWORK=NUMBER,…",
    help="With how many seeds each network was to be judged, in the grid and with few labels, like "
    "fc=40,conv=20,labels:fc=20, fixed before looking. Until all are there, verdicts are interim, and say so.",
)
@setting_options(None, as_filter=True)
@store_option
@click.option("--out", default="results", show_default=True, help="Folder for report.html, report.md and pictures.")
def report_(bundle: Path | None, smallest_effect: float, planned_seeds: str | None, **options: Any) -> None:
    """Write the answer as a page: the verdict, the statistics behind it, figures, and how it was made.

    Runs of different settings never share a report: where there are several, the options choose.
    """
    if not 0 < smallest_effect < 1:
        raise UsageError(f"smallest_effect={smallest_effect!r} is not allowed: it must be a number between 0 and 1")
    num_seeds, num_label_seeds = _planned(planned_seeds)
    if bundle is not None and not os.path.isdir(bundle):
        raise UsageError(f"bundle={str(bundle)!r} is not a folder")
    from aepretrain import report, tracking

    wanted, plan = given_settings(options), report.Plan(smallest_effect, num_seeds, num_label_seeds)
    if bundle is not None:
        kept = tracking.read_bundle(bundle)
        answer, files = _page(kept.records(), kept, wanted, plan)
        write_files(Path(options["out"]), files)
    else:
        run_id = adopted_run_id()
        store = open_store(options, run_id)
        answer, files = _page(store.records(wanted), store, wanted, plan)
        write_files(Path(options["out"]), files)
        _log_page(store, run_id, answer, files)
        say_where(store)
    click.echo(report.sentences(answer))
    click.echo(
        f"Written to {options['out']}: {', '.join(name for name in files if '/' not in name)} and "
        f"{sum('/' in name for name in files)} pictures"
    )


def _planned(text: str | None) -> tuple[dict[str, int], dict[str, int]]:
    """A number of seeds for each network, in the grid and with few labels. Raises `UsageError`."""
    grid: dict[str, int] = {}
    labels: dict[str, int] = {}
    for part in text.split(",") if text is not None else []:
        found = re.fullmatch(r"\s*(labels:)?([A-Za-z_]\w*)=([1-9]\d{0,8})\s*", part, re.ASCII)
        planned = labels if found and found[1] else grid
        if not found or found[2] in planned:
            raise UsageError(f"planned_seeds={text!r} is not allowed: it must look like fc=40,conv=20,labels:fc=20")
        planned[found[2]] = int(found[3])
    return grid, labels


def _page(
    found: "Mapping[str, Record]", archive: "Archive", wanted: dict[str, Any], plan: "report.Plan"
) -> "tuple[report.Answer, dict[str, bytes]]":
    """The answer of those trainings of an archive that have the wanted settings, and its page as files."""
    from aepretrain import report
    from aepretrain.frame import frame
    from aepretrain.studies import PANELS

    chosen = report.choose(frame(found.values()), wanted)
    grid = report.build_grid(chosen)
    planned = plan.num_seeds.keys() | plan.num_label_seeds.keys()
    if unknown := planned - {network for network, _ in grid.experiments} - set(NETWORKS):
        raise UsageError(f"planned_seeds has network {sorted(unknown)[0]!r}, of which nothing is finished")
    answer = report.build_answer(grid, lambda key: archive.outcomes(found[key]), plan)
    shown = _shown([found[key] for key in chosen["key"]], found.values(), archive)
    return answer, report.page_files(answer, report.build_page(answer, found, archive, shown, PANELS))


def _shown(records: "Sequence[Record]", everything: "Iterable[Record]", archive: "Archive") -> "list[Record]":
    """The classifiers of these that are shown; before them the pretrainings they started from, and a look at codes."""
    from aepretrain import runner

    selected = runner.select(records)
    pretrainings = {record.tags.get("pretraining_key") for record in selected}
    looks = [record for record in everything if record.cell[2] == "similarity"]
    mapped = [look_at(record, looks, archive) for record in selected if record.cell[2] == "finetune"]
    return [
        *(record for record in records if record.key in pretrainings),
        *(record for record in mapped if record is not None),
        *selected,
    ]


def look_at(wanted: "Record", looks: "Iterable[Record]", archive: "Archive") -> "Record | None":
    """The look, in the same settings, that has its map: of the wanted record's seed, or else of the lowest."""
    any_seed = {"variant": None, "seed": None}
    alike = [one for one in looks if dict(one.identity) | any_seed == dict(wanted.identity) | any_seed]
    alike.sort(key=lambda one: (one.seed != wanted.seed, one.seed))
    return next((one for one in alike if archive.has_artifact(one, "figures/code_maps.png")), None)


def _log_page(store: "tracking.Store", run_id: str | None, answer: "report.Answer", files: dict[str, bytes]) -> None:
    """Put the page into the run that ``mlflow run`` opened for it, else into the parent of most of the trainings.

    Not where that is somebody else's, on a server that keeps them apart.
    """
    from aepretrain import report, tracking

    if run_id is not None:
        with tracking.ending(run := tracking.Run(store, run_id)):
            run.tag(kind="report")
            run.log_files(files)
            run.describe(report.sentences(answer))
            run.end("FINISHED")
        return
    parents = Counter(answer.grid.trainings["parent_run_id"].dropna())
    if parents:
        parent = tracking.Run(store, parents.most_common(1)[0][0])
        with tracking.where_allowed():
            parent.log_files(files)
            where = f"`results/report.html` among the artifacts of {tracking.run_link('this run', parent.run_id)}"
            parent.describe_experiment(f"{files['answer.md'].decode()}\nThe whole report is {where}.")


def _log_comparison(store: "tracking.Store", run_id: str, grid: "report.Grid") -> None:
    """Put the table into the run that ``mlflow run`` opened for the comparison."""
    from aepretrain import report, tracking

    run = tracking.Run(store, run_id)
    with tracking.ending(run):
        run.tag(kind="comparison")
        run.log_files(report.files(grid))
        run.describe(report.markdown(grid))
        run.end("FINISHED")
