"""Finished trainings as tables, data frames and figures; `compare` reads them from a store."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from aepretrain import frame, report, tracking
from aepretrain.api.reports import Report, check_match, make_report
from aepretrain.api.stores import check_settings, log_result, open_store, store_option
from aepretrain.errors import Failure, UsageError
from aepretrain.files import check_file, check_folder, write_files
from aepretrain.records import EPOCH_METRICS, Record, of_newest_images
from aepretrain.report import Grid
from aepretrain.stats import fewest_seeds


@dataclass(frozen=True, repr=False)
class Results:
    """Finished trainings of a store. A notebook shows the table of their classifiers."""

    records: tuple[Record, ...]
    failures: Mapping[str, str]
    """Why trainings failed, by their names."""
    store_uri: str
    written: tuple[str, ...] = field(default=())
    """Names of the files that were written: in the folder `out`, or as they were given."""
    is_tuned: bool = False
    """Whether each classifier has its own learning rate and weight decay, as tuning chose them."""
    asked: tuple[report.Experiment, ...] = ()
    """The experiments of a grid that was trained: they are rows of its table even without a training."""

    @property
    def table(self) -> Grid:
        """Test accuracy and macro-F1 by experiment and variant, over seeds, without the trainings of studies.

        Of several numbers of labels and steps, it has those of the source's grid, if they are there; each objective has
        rows of its own.
        Raises `Failure` where no classifier is finished, and `UsageError` where settings differ.
        """
        trainings = self.frame()
        chosen = report.without_choices(trainings) if self.is_tuned else report.choose(trainings, {})
        return report.build_grid(report.narrow(chosen), self.asked)

    @property
    def tables(self) -> list[tuple[str, list[list[str]]]]:
        """`table` as text: a title and rows, of which the first is the heading; likewise the source's figures."""
        return report.tables(self.table)

    @property
    def next_steps(self) -> str:
        """What to do after a grid: the command that writes the report, and the number of seeds that a verdict needs."""
        lines = [f"The report with its statistics: aepretrain report{store_option(self.store_uri)}"]
        of_pretrained = [record for record in self.records if record.setting("objective") is not None]
        experiments = {(*record.cell[:2], record.setting("objective")) for record in of_pretrained}
        num_seeds = len({record.seed for record in self.records})
        needed = fewest_seeds(max(1, len(experiments)))
        if num_seeds < needed:
            lines.append(
                f"A difference can be found with {needed} seeds or more, and this grid has {num_seeds}: choose the "
                "number before you look at results. "
                f"The same command with --seeds 0-{needed - 1} trains what is missing."
            )
        return "\n".join(lines)

    def figure(self) -> Figure:
        """Each seed's test accuracy by experiment and variant; a notebook shows it after ``%matplotlib inline``."""
        return report.figure(self.table)

    def frame(self) -> pd.DataFrame:
        """One row a training: keys, settings and figures as columns."""
        return frame.frame(self.records)

    def histories(self) -> pd.DataFrame:
        """One row an epoch of each training, read from the store: key, cell, seed, epoch, and the epoch's numbers."""
        store = open_store(self.store_uri)
        curves = {name: store.curves(self.records, name) for name in sorted(EPOCH_METRICS)}
        parts = []
        for place, record in enumerate(self.records):
            values = pd.DataFrame({name: pd.Series(all_[place], dtype="float64") for name, all_ in curves.items()})
            cell = dict(zip(("network", "augmentation", "variant"), record.cell, strict=True))
            parts.append(
                values.assign(key=record.key, run_id=record.run_id, **cell, seed=record.seed, epoch=values.index + 1)
            )
        columns = ["key", "run_id", "network", "augmentation", "variant", "seed", "epoch", *sorted(EPOCH_METRICS)]
        return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)

    def report(self, **options: Any) -> Report:
        """The report about the store's trainings with these settings, or of plans (see `make_report`)."""
        settings = {} if options.get("plans") else self.table.settings
        return make_report(tracking_uri=self.store_uri, **settings, **options)

    def write(self, out: str | Path) -> "Results":
        """The same results, with the table written into a folder as Markdown, CSV, JSON and figure."""
        files = report.files(self.table)
        write_files(Path(out), files)
        return replace(self, written=tuple(files))

    def __repr__(self) -> str:
        try:
            shown = report.markdown(self.table)
        except (Failure, UsageError) as error:
            shown = f"{len(self.records)} trainings without a table: {error}\n"
        return shown + "".join(f"\nMissing: {name}: {why}\n" for name, why in self.failures.items())

    def _repr_markdown_(self) -> str:
        return repr(self)


def load_results(
    *,
    csv: str | Path | None = None,
    parquet: str | Path | None = None,
    json: str | Path | None = None,
    per_epoch: bool = False,
    tracking_uri: str | None = None,
    **settings: Any,
) -> Results:
    """All finished trainings of a store, those of studies, plans and tuning too.

    `settings` are fields of `Settings` that they have, wherever these apply. `csv`, `parquet` and `json` are files to
    write them to: a row a training (`Results.frame`), or with `per_epoch` a row an epoch (`Results.histories`). Raises
    `Failure` where nothing is found, and `UsageError` where no file can be written.
    """
    formats = {"csv": csv, "parquet": parquet, "json": json}
    for name, file in formats.items():
        check_file(file, name)
    wanted = check_settings(settings)
    store = open_store(tracking_uri)
    records = store.records(wanted)
    table = frame.frame(records.values())
    results = Results(tuple(records[key] for key in table["key"][report.fits(table, wanted)]), {}, store.uri)
    if not results.records:
        report.check_match(frame.frame(store.records().values()), wanted)
        raise Failure(f"there is no finished training in {tracking.shown_uri(store.uri)}")
    if any(formats.values()):
        rows = results.histories() if per_epoch else results.frame()
        for name, file in formats.items():
            if file is not None:
                write_files(Path(file).parent, {Path(file).name: frame.to_bytes(rows, name)})
        results = replace(results, written=tuple(str(file) for file in formats.values() if file is not None))
    return results


def compare(
    *,
    tracking_uri: str | None = None,
    out: str | Path | None = None,
    run_id: str | None = None,
    **settings: Any,
) -> Results:
    """The finished trainings of a store, without those of studies.

    `settings` are fields of `Settings` that all of them have. Raises `UsageError` where only other settings have
    classifiers. With `out` or `run_id` there must be classifiers, and their settings must be the same.
    """
    check_folder(out)
    wanted = check_settings(settings)
    store = open_store(tracking_uri, run_id)
    records = of_newest_images(store.records(wanted))
    chosen = report.choose(frame.frame(records.values()), wanted)
    if wanted and report.in_table(chosen).empty:
        check_match(wanted, store.records())
    results = Results(tuple(records[key] for key in chosen["key"]), {}, store.uri)
    if out is not None:
        results = results.write(out)
    if run_id is not None:
        log_result(store, run_id, "comparison", report.markdown(results.table), report.files(results.table))
    return results
