"""Bundles: finished trainings as Parquet files in a folder."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from aepretrain import report, tracking
from aepretrain.api.reports import shown_records
from aepretrain.api.results import compare
from aepretrain.api.stores import check_settings, open_store, read_bundle
from aepretrain.config import canonical_json
from aepretrain.display import say, track
from aepretrain.errors import Failure, UsageError
from aepretrain.frame import frame
from aepretrain.records import Record


class Exported(NamedTuple):
    """The part of the bundle that `export` has written; None and zeros where the bundle held everything."""

    num_finished: int
    """How many finished trainings the store has."""
    part: Path | None
    num_written: int
    num_bytes: int


class Imported(NamedTuple):
    """What `import_` has read: trainings that the store did not have, and all."""

    num_new: int
    num_trainings: int


def export(folder: str | Path, *, tracking_uri: str | None = None, show: bool = True, **settings: Any) -> Exported:
    """Add the finished trainings of a store to the bundle in a folder, as a new part.

    `settings` are fields of `Settings` that the grid has. The seed that is shown of each cell is kept with its pictures
    and weights; of a plan's cells with all labels the lowest seed, with its pictures only.
    """
    wanted = check_settings(settings)
    store = open_store(tracking_uri)
    finished = store.records(wanted)
    table = report.belongs(frame(finished.values()), wanted)
    records, of_grids = ([finished[key] for key in rows["key"]] for rows in (table, report.choose(table, {})))
    if not records:
        report.check_match(frame(store.records().values()), wanted)
        raise Failure(f"nothing is finished in {tracking.shown_uri(store.uri)}")
    unplanned = [record for record in of_grids if "plan" not in record.tags]
    shown = [*shown_records(unplanned, records, store), *_first_of_each_cell(records)]
    selected = {record.run_id for record in shown}
    part = tracking.export(store, records, selected, Path(folder), partial(track, Console(quiet=not show), "read"))
    if part is None:
        return Exported(len(records), None, 0, 0)
    num_bytes = sum(file.stat().st_size for file in part.folder.iterdir())
    return Exported(len(records), part.folder, part.num_trainings, num_bytes)


def _first_of_each_cell(records: Sequence[Record]) -> Iterable[Record]:
    """The lowest seed of each cell of a plan with all labels. It stays the same while the plan's trainings grow."""
    first: dict[str, Record] = {}
    for record in sorted(records, key=lambda record: record.seed):
        if "plan" in record.tags and not record.setting("labels"):
            first.setdefault(canonical_json(dict(record.identity) | {"seed": None}), record)
    return first.values()


def import_(folder: str | Path, *, tracking_uri: str | None = None, show: bool = True) -> Imported:
    """Add the trainings of the bundle in a folder to a store, and count them. The store's own stay as they are."""
    bundle = read_bundle(folder, "folder")
    console = Console(quiet=not show)
    shown = partial(track, console, "imported")
    on_wait = partial(say, console, "locked by another process that imports this bundle; waiting")
    store = open_store(tracking_uri)
    num_new = tracking.restore(store, bundle, shown, on_wait)
    if num_new:
        _describe(store)
    return Imported(num_new, len(bundle.trainings))


def _describe(store: tracking.Store) -> None:
    """Describe the experiment with the table of all finished trainings, where one table can hold them."""
    with suppress(Failure, UsageError), tracking.where_possible():
        results = compare(tracking_uri=store.uri)
        note = f"{report.listing(results.table)}\nThese are all finished trainings after an import."
        tracking.Run(store, results.records[-1].run_id).describe_experiment(note)
