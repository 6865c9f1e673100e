"""Train a grid, a study or a single cell, and give what is finished."""

import multiprocessing
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from aepretrain import data, report, runner, tracking
from aepretrain.api.choices import tuned_specs, tuned_study
from aepretrain.api.results import Results
from aepretrain.api.stores import find_store, open_store, other_uri, store_uri, where
from aepretrain.config import AUGMENTATIONS, GRID_NETWORKS, Execution, Settings, TrainingSpec, grid_specs
from aepretrain.display import Display, say
from aepretrain.errors import Failure, UsageError
from aepretrain.files import check_folder
from aepretrain.frame import frame
from aepretrain.records import Record
from aepretrain.studies import STUDIES
from aepretrain.tuning import TUNED
from aepretrain.variants import is_in_table


def run_grid(
    *,
    networks: Sequence[str] = GRID_NETWORKS,
    augmentations: Sequence[str] = AUGMENTATIONS,
    objectives: Sequence[str] | None = None,
    variants: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    settings: Settings | None = None,
    tuned: bool = False,
    execution: Execution | None = None,
    cluster: str | None = None,
    resources: Mapping[str, float] | None = None,
    fallback_dataset: str | None = None,
    tracking_uri: str | None = None,
    out: str | Path | None = None,
    run_id: str | None = None,
    show: bool = True,
) -> Results:
    """Train what is missing of a grid, and give all of its trainings.

    `objectives` are those of pretraining; None stands for that of the settings. Trainings without pretraining are
    shared by them. `variants` are further ones, of plugins. With `tuned`, each classifier has the learning rate and the
    weight decay that `tune` has chosen for it; these trainings stay out of other tables and of the report's panels.
    `cluster` is the address of a Dask scheduler, on whose workers a training takes these `resources`.
    `fallback_dataset` is trained on where the dataset's files cannot be had. The table is written into the folder
    `out`. A training that fails leaves the others running.

    Workers are processes of their own: a script that calls this needs ``if __name__ == "__main__":``.
    """
    check_folder(out)
    session = Session(with_data_dir(execution), cluster, resources or {}, Console(quiet=not show))
    specs = session.checked_specs(networks, augmentations, seeds, settings or Settings(), objectives, variants)
    tracking_uri = store_uri(tracking_uri)  # before a dataset is downloaded
    specs = session.with_available_dataset(specs, fallback_dataset)
    if tuned:  # before a store is made
        tunings = find_store(tracking_uri, session.execution.outage_s)
        specs = tuned_specs(specs, tunings, session.place(tracking_uri))
    store = session.open_store(tracking_uri, run_id)
    session = session.on_checked_device(store, [specs])
    asked = tuple(dict.fromkeys((spec.network, spec.augmentation) for spec in specs))
    conclude = partial(_log_table, tuned=tuned, asked=asked)
    result = session.train(specs, store, conclude, tuned=tuned, run_id=run_id)
    results = Results(result.records, dict(result.failures), store.uri, is_tuned=tuned, asked=asked)
    has_table = any(is_in_table(record.cell[2]) for record in result.records)
    return results.write(out) if out is not None and has_table else results


def run_study(
    name: str,
    *,
    networks: Sequence[str] = GRID_NETWORKS,
    augmentations: Sequence[str] = AUGMENTATIONS,
    objectives: Sequence[str] | None = None,
    seeds: Sequence[int] = (0, 1),
    settings: Settings | None = None,
    tuned: bool = False,
    execution: Execution | None = None,
    cluster: str | None = None,
    resources: Mapping[str, float] | None = None,
    tracking_uri: str | None = None,
    run_id: str | None = None,
    show: bool = True,
) -> Results:
    """Train what is missing of a study (controls, labels, robustness, similarity, or all), and give its trainings.

    What it needs of the grid is trained too. There are two seeds by default, since similarity compares each seed with
    the next. Other arguments are those of `run_grid`; only the study labels can be `tuned`.
    """
    studies = studies_of(name, tuned=tuned)
    session = Session(with_data_dir(execution), cluster, resources or {}, Console(quiet=not show))
    specs = session.checked_specs(networks, augmentations, seeds, settings or Settings(), objectives)
    tracking_uri = store_uri(tracking_uri)  # before a dataset is downloaded
    session.with_available_dataset(specs, None)
    if tuned:  # before a store is made
        dataset = data.load(specs[0].settings.data, session.execution.data_dir)
        tunings = find_store(tracking_uri, session.execution.outage_s)
        place = session.place(tracking_uri)
        studies = [tuned_study(one, specs, dataset, tunings, place) for one in studies]
    store = session.open_store(tracking_uri, run_id)
    session = session.on_checked_device(store)
    results = {}
    for study in studies:
        say(session.console, f"study {study.name}")
        needed = needed_by(study, specs)
        parent = None if name == "all" else run_id
        results[study.name] = result = session.train(needed, store, lambda *_: None, study=study, run_id=parent)
        if not result.failures and all(record.study is None for record in result.records):
            hint = " (it compares neighbouring seeds: give two or more)" if study.name == "similarity" else ""
            say(session.console, f"study {study.name}: nothing to train{hint}")
    if name == "all" and run_id is not None:
        link_parts(tracking.Run(store, run_id), "studies", {f"study {name}": one for name, one in results.items()})
    return together(list(results.values()), store)


def train(
    variant: str,
    *,
    network: str,
    augmentation: str = "none",
    seed: int = 0,
    settings: Settings | None = None,
    execution: Execution | None = None,
    tracking_uri: str | None = None,
    run_id: str | None = None,
    show: bool = True,
) -> runner.SingleResult:
    """Train one variant in this process, and before it the pretraining it starts from, unless they are done."""
    execution = with_data_dir(execution)
    runner.load_plugins(execution)
    spec = TrainingSpec(
        variant=variant, network=network, augmentation=augmentation, seed=seed, settings=settings or Settings()
    )
    runner.check([spec], execution)
    tracking_uri = store_uri(tracking_uri)  # before a dataset is downloaded
    runner.load_dataset([spec], execution)
    store = open_store(tracking_uri, run_id, execution.outage_s)
    execution = runner.with_checked_device(execution, store, partial(warn, quiet=not show), [[spec]])
    with Display(Console(quiet=not show), [spec]) as display:
        return runner.run_single(spec, store, execution, display.handle, run_id=run_id, forecast=display.forecast)


def warn(line: str, style: str = "yellow", *, quiet: bool) -> None:
    """Print a warning as one line on standard error."""
    say(Console(stderr=True, quiet=quiet), line, style)


def with_data_dir(execution: Execution | None) -> Execution:
    """How to train, with the environment's folder of datasets where no other is named."""
    execution = execution or Execution()
    return replace(execution, data_dir=execution.data_dir or os.environ.get("AEPRETRAIN_DATA_DIR") or None)


@dataclass(frozen=True)
class Session:
    """How one call trains, and where it shows progress."""

    execution: Execution
    cluster: str | None
    resources: Mapping[str, float]
    console: Console

    def __post_init__(self) -> None:
        if getattr(multiprocessing.current_process(), "_inheriting", False):  # as multiprocessing itself checks it
            raise UsageError(
                'a worker process imports this script and trains again: call it under if __name__ == "__main__":'
            )
        if self.cluster is not None and not re.fullmatch(r"(tcp|tls)://[\w.\[\]:-]+:\d{1,5}", self.cluster):
            raise UsageError(f"cluster={self.cluster!r} is not allowed: it must look like tcp://10.0.0.1:8786")
        if self.resources and self.cluster is None:
            listed = ",".join(f"{name}={num:g}" for name, num in self.resources.items())
            raise UsageError(f"resources={listed!r} is not allowed without a cluster")

    def checked_specs(
        self,
        networks: Sequence[str],
        augmentations: Sequence[str],
        seeds: Sequence[int],
        settings: Settings,
        objectives: Sequence[str] | None,
        variants: Sequence[str] = (),
    ) -> Sequence[TrainingSpec]:
        """The grid's trainings. Raises `UsageError` for a name that is not known."""
        runner.load_plugins(self.execution)
        cells = tuple(dict.fromkeys(networks)), tuple(dict.fromkeys(augmentations)), tuple(dict.fromkeys(seeds))
        chosen = None if objectives is None else tuple(dict.fromkeys(objectives))
        specs = grid_specs(*cells, settings, tuple(dict.fromkeys(variants)), chosen)
        if not specs:
            raise UsageError("there is nothing to train: name at least one network, one augmentation and one seed")
        runner.check(specs, self.execution)
        return specs

    def with_available_dataset(self, specs: Sequence[TrainingSpec], fallback: str | None) -> Sequence[TrainingSpec]:
        """The trainings, on the fallback dataset where theirs cannot be had; a warning is shown then."""
        dataset = specs[0].settings.dataset
        try:
            runner.load_dataset(specs, self.execution)
        except data.DatasetMissing as error:
            if fallback is None:
                raise
            warn(str(error), quiet=self.console.quiet)
            warning = f"TRAINING ON {fallback.upper()} INSTEAD: NO NUMBER BELOW IS AN {dataset.upper()} RESULT."
            warn(f"!!! {dataset.upper()} CANNOT BE HAD. {warning} !!!", "bold red", quiet=self.console.quiet)
            return [replace(spec, settings=replace(spec.settings, dataset=fallback)) for spec in specs]
        return specs

    def place(self, tracking_uri: str) -> dict[str, Any]:
        """The options of a command that trains in the same way, besides those of its trainings."""
        data_dir = self.execution.data_dir
        return {
            "plugin": list(self.execution.plugins),
            "data_dir": data_dir if data_dir != os.environ.get("AEPRETRAIN_DATA_DIR") else None,
            "tracking_uri": other_uri(tracking_uri),
        }

    def open_store(self, tracking_uri: str | None, run_id: str | None) -> tracking.Store:
        """The store, which is shown."""
        store = open_store(tracking_uri, run_id, self.execution.outage_s)
        say(self.console, where(store.uri))
        return store

    def on_checked_device(
        self, store: tracking.Store, parts: Iterable[Sequence[TrainingSpec]] | None = None
    ) -> "Session":
        """The session, on the CPU where its accelerator fails the self-check (`runner.with_checked_device`).

        Workers of a cluster check their own devices.
        """
        if self.cluster is not None:
            return self
        say_so = partial(warn, quiet=self.console.quiet)
        return replace(self, execution=runner.with_checked_device(self.execution, store, say_so, parts))

    def train(
        self,
        specs: Sequence[TrainingSpec],
        store: tracking.Store,
        conclude: runner.Conclude,
        **options: Any,
    ) -> runner.GridResult:
        """Train what is missing, with bars or lines meanwhile."""
        with self.workers(store, specs, may_grow="study" in options) as (make_pool, display):
            options |= {"make_pool": make_pool, "forecast": display.forecast}
            return runner.run_grid(specs, store, self.execution, display.handle, conclude, **options)

    @contextmanager
    def workers(
        self, store: tracking.Store, specs: Sequence[TrainingSpec], *, may_grow: bool
    ) -> Iterator[tuple[runner.MakePool, Display]]:
        """Where to train, and what shows the progress of these trainings; their number `may_grow`."""
        with self._pools(store) as make_pool, Display(self.console, specs, may_grow=may_grow) as display:
            yield make_pool, display

    @contextmanager
    def _pools(self, store: tracking.Store) -> Iterator[runner.MakePool]:
        """Where to train, on this machine or on a cluster."""
        if self.cluster is None:
            yield runner.local_pool
            return
        try:
            from aepretrain.runner import dask
        except ModuleNotFoundError as error:
            raise Failure(f'a cluster needs Dask, the extra "dask" of this package ({error})') from None
        with dask.connect(self.cluster, self.resources, store) as cluster:
            yield cluster.pool


def studies_of(name: str, *, tuned: bool) -> list[runner.Study]:
    """The studies of a name, which may be ``all``. Raises `UsageError`."""
    if name not in (*STUDIES, "all"):
        raise UsageError(f"study={name!r} is not known: it must be one of {', '.join(STUDIES)}, all")
    if tuned and name != "labels":
        raise UsageError(f"tuned=True is not allowed for study={name!r}: only the study labels has tuned settings")
    return list(STUDIES.values()) if name == "all" else [STUDIES[name]]


def needed_by(study: runner.Study, specs: Sequence[TrainingSpec]) -> list[TrainingSpec]:
    """The grid's trainings that a study builds on: only the study of labels varies labels and updates."""
    needed = [spec for spec in specs if spec.variant in study.needs]
    if study.name in ("labels", TUNED):
        return needed
    return [replace(spec, settings=replace(spec.settings, labels=0, updates=0)) for spec in needed]


def _log_table(
    parent: tracking.Run, records: Sequence[Record], *, tuned: bool, asked: Sequence[report.Experiment]
) -> None:
    """Log the table of a grid to its parent run, and describe the experiment with it."""
    if any(is_in_table(record.cell[2]) for record in records):
        trainings = frame(records)
        table = report.build_grid(report.without_choices(trainings) if tuned else trainings, asked)
        parent.log_files(report.files(table))
        parent.log_metrics(report.summary_metrics(table))
        parent.describe(f"{'Tuned settings. ' if tuned else ''}{report.markdown(table)}")
        if tuned:
            return
        link = tracking.run_link("this grid", parent.run_id)
        parent.describe_experiment(f"{report.listing(table)}\nThese are the results of {link}, the last to end.")


def together(results: Sequence[runner.GridResult], store: tracking.Store) -> Results:
    """The trainings and failures of several parent runs."""
    records = {record.key: record for result in results for record in result.records}
    failures = {key: why for result in results for key, why in result.failures.items()}
    return Results(tuple(records.values()), failures, store.uri)


def link_parts(run: tracking.Run, kind: str, results: Mapping[str, runner.GridResult]) -> None:
    """Link from the run that ``mlflow run`` has opened for several parent runs to each of them, and end it."""
    run.tag(kind=kind)
    run.describe("\n".join(f"- {tracking.run_link(name, one.run_id)}" for name, one in results.items()))
    run.end("FAILED" if any(result.failures for result in results.values()) else "FINISHED")
