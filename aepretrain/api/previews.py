"""What a grid, a study or a plan would train, without training, downloading or writing anything."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console

from aepretrain import data, runner, tracking
from aepretrain.api.choices import part_to_tune, planned_choices, tuned_specs, tuned_study
from aepretrain.api.plans import choose
from aepretrain.api.stores import find_store, store_uri
from aepretrain.api.texts import size_text
from aepretrain.api.training import Session, needed_by, studies_of, with_data_dir
from aepretrain.config import (
    AUGMENTATIONS,
    GRID_NETWORKS,
    MNIST_SHAPE,
    Execution,
    Settings,
    Shape,
    TrainingSpec,
    canonical_json,
    dataset_name,
)
from aepretrain.display import duration_text
from aepretrain.plans import read_plan
from aepretrain.records import Record
from aepretrain.tuning import TUNED
from aepretrain.variants import EVALUATIONS, PRETRAINING


@dataclass(frozen=True)
class PreviewRow:
    """The trainings of one kind."""

    dataset: str
    network: str
    labels: str
    """How many labelled images, or ``all``; empty for what has no labels of its own."""
    variant: str
    num_done: int
    num_missing: int
    seconds: float
    """How long the missing ones take, one after the other; infinite if no training of the network is finished."""
    bytes_each: int

    def texts(self, jobs: int) -> list[str]:
        """The row as text; its missing trainings are trained so many at once."""
        cell = [self.dataset, self.network, self.labels, self.variant]
        needs = [duration_text(self.seconds / jobs), size_text(self.num_missing * self.bytes_each)]
        return [*cell, f"{self.num_done:,}", f"{self.num_missing:,}", *needs]


@dataclass(frozen=True, repr=False)
class Preview:
    """What is done and what is missing, and what the missing trainings will take."""

    rows: tuple[PreviewRow, ...]
    jobs: int
    """The number of worker processes."""
    seconds: float
    """How long the missing trainings take in these processes, without those whose time is unknown."""
    missing: tuple[TrainingSpec, ...]
    """What would be trained."""
    notes: tuple[str, ...] = ()
    """What cannot be known before, in sentences."""

    @property
    def table(self) -> list[list[str]]:
        """The rows as text, after a heading."""
        heading = ["dataset", "network", "labels", "variant", "done", "missing", "time", "disk"]
        return [heading, *(one.texts(self.jobs) for one in self.rows)]

    @property
    def summary(self) -> str:
        """All rows in a few sentences."""
        done, missing = sum(one.num_done for one in self.rows), len(self.missing)
        text = [f"{done:,} trainings are done and {missing:,} are missing."]
        if missing:
            unknown = sum(one.num_missing for one in self.rows if math.isinf(one.seconds))
            if unknown < missing:
                which = f"{missing - unknown:,} of the missing ones" if unknown else "The missing ones"
                processes = f"{self.jobs:,} worker process{'es' if self.jobs > 1 else ''}"
                text.append(f"{which} take about {duration_text(self.seconds)} in {processes}.")
            if unknown:
                text.append(f"The time of {unknown:,} is unknown, as no training like them is finished.")
            size = sum(one.num_missing * one.bytes_each for one in self.rows)
            text.append(f"They need about {size_text(size)} of disk.")
        return " ".join([*text, *self.notes])

    def __repr__(self) -> str:
        return "\n".join(["  ".join(row) for row in self.table] + [self.summary])


def preview_grid(
    *,
    networks: Sequence[str] = GRID_NETWORKS,
    augmentations: Sequence[str] = AUGMENTATIONS,
    objectives: Sequence[str] | None = None,
    variants: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    settings: Settings | None = None,
    tuned: bool = False,
    execution: Execution | None = None,
    tracking_uri: str | None = None,
) -> Preview:
    """What `run_grid` would train with these arguments. It trains, downloads and writes nothing."""
    session = _session(execution)
    specs = session.checked_specs(networks, augmentations, seeds, settings or Settings(), objectives, variants)
    outlook = _Outlook(session.execution, tracking_uri)
    if tuned:
        specs = tuned_specs(specs, outlook.store, session.place(store_uri(tracking_uri)))
    outlook.look(specs, study=TUNED if tuned else None)
    return outlook.preview()


def preview_study(
    name: str,
    *,
    networks: Sequence[str] = GRID_NETWORKS,
    augmentations: Sequence[str] = AUGMENTATIONS,
    objectives: Sequence[str] | None = None,
    seeds: Sequence[int] = (0, 1),
    settings: Settings | None = None,
    tuned: bool = False,
    execution: Execution | None = None,
    tracking_uri: str | None = None,
) -> Preview:
    """What `run_study` would train with these arguments, the grid's trainings included.

    It trains, downloads and writes nothing. Where the study depends on missing results or on a dataset that is not
    here, its trainings are counted as far as they can be foreseen, and `Preview.notes` says so.
    """
    studies, session = studies_of(name, tuned=tuned), _session(execution)
    specs = session.checked_specs(networks, augmentations, seeds, settings or Settings(), objectives)
    outlook = _Outlook(session.execution, tracking_uri)
    needs_images = name in ("labels", "all")
    dataset = data.find(specs[0].settings.data, session.execution.data_dir) if needs_images else None
    if tuned:
        place = session.place(store_uri(tracking_uri))
        studies = [tuned_study(one, specs, dataset, outlook.store, place) for one in studies]
    notes = []
    for study in studies:
        needed = needed_by(study, specs)
        done = outlook.look(needed, again=False)
        foreseen = {spec: done.get(spec) or outlook.stand_in(spec) for spec in needed}
        outlook.look([spec for spec in study.plan(foreseen, dataset) if spec not in foreseen], study.name, needed)
        if study.follows_results and len(done) < len(needed):
            notes.append(f"Numbers of epochs in the study {study.name} follow from results that are missing.")
    if dataset is None and needs_images:
        name_of_dataset = specs[0].settings.dataset
        notes.append(f"Numbers of labels may be too large for {name_of_dataset}: its images were not read.")
    return outlook.preview(notes)


def preview_plan(
    plan: str | Path,
    *,
    datasets: Sequence[str] | None = None,
    networks: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    tuned: bool = False,
    execution: Execution | None = None,
    tracking_uri: str | None = None,
) -> Preview:
    """What `run_plan` would train with these arguments. It trains, downloads and writes nothing."""
    read = read_plan(plan)
    chosen = choose(read, datasets, networks, seeds)
    part = part_to_tune(plan, read, datasets, networks) if tuned else None
    session = _session(execution)
    runner.load_plugins(session.execution)
    runner.check([spec for specs in chosen.values() for spec in specs], session.execution)
    outlook = _Outlook(session.execution, tracking_uri)
    if part is not None:
        place = session.place(store_uri(tracking_uri))
        chosen = choose(part, None, networks, seeds, planned_choices(plan, part, outlook.store, place))
    for specs in chosen.values():
        outlook.look(specs, TUNED if tuned else None)
    return outlook.preview()


def _session(execution: Execution | None) -> Session:
    return Session(with_data_dir(execution), None, {}, Console(quiet=True))


@dataclass
class _Outlook:
    """What the store, which may not be there yet, tells about wanted trainings."""

    execution: Execution
    tracking_uri: str | None
    store: tracking.Store | None = field(init=False)
    forecast: runner.Forecast = field(init=False)
    _records: dict[str, dict[str, Record]] = field(init=False, default_factory=dict)
    """The finished trainings on each dataset."""
    _wanted: dict[str, TrainingSpec] = field(init=False, default_factory=dict)
    """The trainings that were looked for, each once, by `_id`."""
    _missing: dict[str, TrainingSpec] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.store = find_store(self.tracking_uri, self.execution.outage_s)
        self.forecast = runner.Forecast(runner.num_workers(self.execution), runner.stack_size(self.execution))

    def look(
        self,
        specs: Sequence[TrainingSpec],
        study: str | None = None,
        sources: Sequence[TrainingSpec] = (),
        *,
        again: bool = True,
    ) -> runner.Finished:
        """What is done of trainings, all on one dataset; without `again`, ``force`` does not apply to them.

        Those that are trained for a `study` start from `sources`.
        """
        done: runner.Finished = {}
        missing = specs
        if self.store is not None and specs:
            execution = self.execution if again else replace(self.execution, force=False)
            records = self._records_on(self.store, dataset_name(specs[0].settings.dataset))
            done, missing = runner.find_missing(specs, records, self.store, execution, study, sources)
        self._wanted |= {_id(spec): spec for spec in specs}
        self._missing |= {_id(spec): spec for spec in missing}
        return done

    def _records_on(self, store: tracking.Store, dataset: str) -> dict[str, Record]:
        if dataset not in self._records:
            self._records[dataset] = store.records({"dataset": dataset})
            for record in self._records[dataset].values():
                self.forecast.add(record)
        return self._records[dataset]

    def stand_in(self, spec: TrainingSpec) -> Record:
        """A record in place of that of a missing training."""
        return Record("", None, "", 1, spec.identity(), {"num_epochs": self.forecast.epochs(spec)}, {})

    def preview(self, notes: Sequence[str] = ()) -> Preview:
        """All trainings that were looked for."""
        missing: dict[TrainingSpec, list[TrainingSpec]] = {}
        for spec in self._missing.values():
            missing.setdefault(spec.seedless, []).append(spec)
        seconds, _ = self.forecast.time_left(missing)
        return Preview(tuple(self._rows()), self.forecast.workers, seconds, tuple(self._missing.values()), tuple(notes))

    def _rows(self) -> Iterator[PreviewRow]:
        """A row for each dataset, network, number of labels and variant."""
        groups: dict[tuple[str, str, str, str], list[TrainingSpec]] = {}
        for spec in (self._wanted | self._missing).values():
            has_labels = spec.stage != PRETRAINING and spec.variant not in EVALUATIONS
            labels = f"{spec.settings.labels or 'all'}" if has_labels else ""
            groups.setdefault((spec.settings.dataset, spec.network, labels, spec.variant), []).append(spec)
        for cell, group in groups.items():
            missing = [spec for spec in group if _id(spec) in self._missing]
            size = runner.bytes_on_disk(group[0], self._shape_of(cell[0]))
            seconds = sum(map(self.forecast.seconds, missing))
            yield PreviewRow(*cell, len(group) - len(missing), len(missing), seconds, size)

    def _shape_of(self, dataset: str) -> Shape:
        """The shape of the dataset's images in its last finished training; MNIST's where there is none."""
        records = self._records.get(dataset_name(dataset), {})
        return next((record.shape for record in reversed(list(records.values()))), MNIST_SHAPE)


def _id(spec: TrainingSpec) -> str:
    """The same for trainings that differ only in settings on which they do not depend."""
    return canonical_json(spec.identity())
