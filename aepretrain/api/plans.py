"""Train a plan, or say what is missing of it."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from aepretrain import runner, tracking
from aepretrain.api.choices import part_to_tune, planned_choices
from aepretrain.api.results import Results
from aepretrain.api.stores import find_store, store_uri
from aepretrain.api.texts import duration_text, size_text
from aepretrain.api.training import Session, link_parts, together, with_data_dir
from aepretrain.config import MNIST_SHAPE, Execution, Shape, TrainingSpec, dataset_name, format_seeds
from aepretrain.display import say
from aepretrain.errors import UsageError
from aepretrain.plans import Plan, PlannedComparison, read_plan
from aepretrain.records import Record
from aepretrain.variants import PRETRAINING


def run_plan(
    plan: str | Path,
    *,
    datasets: Sequence[str] | None = None,
    networks: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    tuned: bool = False,
    execution: Execution | None = None,
    cluster: str | None = None,
    resources: Mapping[str, float] | None = None,
    tracking_uri: str | None = None,
    run_id: str | None = None,
    show: bool = True,
) -> Results:
    """Train what is missing of a plan, and give its trainings: at equal settings, or `tuned` as `tune_plan` has chosen.

    `plan` is its YAML file. Only the part with these `datasets`, `networks` and `seeds` is trained; None stands for
    all. Each training that is started has the plan's digest as a tag. The other arguments are those of `run_grid`.
    """
    read = read_plan(plan)
    chosen = choose(read, datasets, networks, seeds)
    part = part_to_tune(plan, read, datasets, networks) if tuned else None
    session = Session(with_data_dir(execution), cluster, resources or {}, Console(quiet=not show))
    runner.load_plugins(session.execution)
    runner.check([spec for specs in chosen.values() for spec in specs], session.execution)
    tracking_uri = store_uri(tracking_uri)  # before a dataset is downloaded
    for specs in chosen.values():
        runner.load_dataset(specs, session.execution)
    if part is not None:  # before a store is made
        tunings = find_store(tracking_uri, session.execution.outage_s)
        chosen = choose(part, None, networks, seeds, planned_choices(plan, part, tunings, session.place(tracking_uri)))
    store = session.open_store(tracking_uri, run_id)
    session = session.on_checked_device(store, chosen.values())
    results = {}
    for dataset, specs in chosen.items():
        say(session.console, f"plan {read.name}, {dataset}: {len(specs)} trainings")
        parent = run_id if len(chosen) == 1 else None
        results[dataset] = session.train(specs, store, _describe(read), plan=read, tuned=tuned, run_id=parent)
    if run_id is not None and len(chosen) > 1:
        link_parts(tracking.Run(store, run_id), "plans", results)
    return together(list(results.values()), store)


@dataclass(frozen=True)
class PreviewRow:
    """The trainings of one kind in a part of a plan."""

    dataset: str
    network: str
    labels: str
    """How many labelled images, or ``all``; empty for pretraining."""
    variant: str
    num_done: int
    num_missing: int
    seconds_each: float
    """The mean of the finished trainings of this network, variant and number of labels; infinite if there are none."""
    bytes_each: int

    @property
    def seconds(self) -> float:
        """How long the missing ones take, one after the other."""
        return self.num_missing * self.seconds_each if self.num_missing else 0.0

    def texts(self, jobs: int) -> list[str]:
        """The row as text; its missing trainings are trained so many at once."""
        cell = [self.dataset, self.network, self.labels, self.variant]
        needs = [duration_text(self.seconds / jobs), size_text(self.num_missing * self.bytes_each)]
        return [*cell, f"{self.num_done:,}", f"{self.num_missing:,}", *needs]


@dataclass(frozen=True, repr=False)
class PlanPreview:
    """What is done and what is missing of a part of a plan, and what the missing trainings will take."""

    rows: tuple[PreviewRow, ...]
    jobs: int
    """The number of trainings at once."""

    @property
    def table(self) -> list[list[str]]:
        """The rows as text, after a heading."""
        heading = ["dataset", "network", "labels", "variant", "done", "missing", "time", "disk"]
        return [heading, *(one.texts(self.jobs) for one in self.rows)]

    @property
    def summary(self) -> str:
        """All rows in a few sentences."""
        done, missing = (sum(getattr(one, name) for one in self.rows) for name in ("num_done", "num_missing"))
        known = sum(one.seconds for one in self.rows if math.isfinite(one.seconds)) / self.jobs
        unknown = sum(one.num_missing for one in self.rows if math.isinf(one.seconds))
        text = f"{done:,} trainings are done and {missing:,} are missing."
        if not missing:
            return text
        if unknown < missing:
            text += (
                f" {missing - unknown:,} of the missing ones take about {duration_text(known)}, {self.jobs} at once."
            )
        if unknown:
            text += f" The time of {unknown:,} is unknown, as no training like them is finished."
        return (
            f"{text} They need about {size_text(sum(one.num_missing * one.bytes_each for one in self.rows))} of disk."
        )

    def __repr__(self) -> str:
        return "\n".join(["  ".join(row) for row in self.table] + [self.summary])


def preview_plan(
    plan: str | Path,
    *,
    datasets: Sequence[str] | None = None,
    networks: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    tuned: bool = False,
    execution: Execution | None = None,
    tracking_uri: str | None = None,
) -> PlanPreview:
    """What `run_plan` would train with these arguments. It trains nothing and writes nothing."""
    read = read_plan(plan)
    chosen = choose(read, datasets, networks, seeds)
    part = part_to_tune(plan, read, datasets, networks) if tuned else None
    session = Session(execution or Execution(), None, {}, Console(quiet=True))
    execution = session.execution
    runner.load_plugins(execution)
    runner.check([spec for specs in chosen.values() for spec in specs], execution)
    store, forecast = find_store(tracking_uri, execution.outage_s), runner.Forecast()
    if part is not None:
        chosen = choose(
            part, None, networks, seeds, planned_choices(plan, part, store, session.place(store_uri(tracking_uri)))
        )
    missing: set[TrainingSpec] = set()
    shapes: dict[str, Shape] = {}
    for dataset, specs in chosen.items():
        records = store.records({"dataset": dataset_name(dataset)}) if store else {}
        shapes[dataset] = next((record.shape for record in reversed(list(records.values()))), MNIST_SHAPE)
        missing |= set(runner.find_missing(specs, records, store, execution) if store else specs)
        for record in records.values():
            forecast.add(record)
    rows = _rows([spec for specs in chosen.values() for spec in specs], missing, forecast, shapes)
    return PlanPreview(tuple(rows), runner.num_workers(execution))


def _rows(
    specs: Sequence[TrainingSpec],
    missing: Collection[TrainingSpec],
    forecast: runner.Forecast,
    shapes: Mapping[str, Shape],
) -> Iterator[PreviewRow]:
    """A row for each dataset, network, number of labels and variant. `shapes` are those of the datasets' images."""
    groups: dict[tuple[str, str, str, str], list[TrainingSpec]] = {}
    for spec in specs:
        labels = "" if spec.stage == PRETRAINING else f"{spec.settings.labels or 'all'}"
        groups.setdefault((spec.settings.dataset, spec.network, labels, spec.variant), []).append(spec)
    for cell, group in groups.items():
        num_missing = sum(spec in missing for spec in group)
        took, size = forecast.seconds_of_same(group[0]), runner.bytes_on_disk(group[0], shapes[cell[0]])
        yield PreviewRow(*cell, len(group) - num_missing, num_missing, took, size)


def choose(
    plan: Plan,
    datasets: Sequence[str] | None,
    networks: Sequence[str] | None,
    seeds: Sequence[int] | None,
    comparisons: Sequence[PlannedComparison] | None = None,
) -> dict[str, list[TrainingSpec]]:
    """The trainings of a part of a plan by dataset, by default those at equal settings.

    Raises `UsageError` where it is empty.
    """
    for name, wanted, planned in (("dataset", datasets, plan.datasets), ("network", networks, tuple(plan.networks))):
        for one in wanted or ():
            if one not in planned:
                raise UsageError(f"{name}={one!r} is not in the plan: it has {', '.join(planned)}")
    chosen = {
        dataset: [
            spec
            for spec in plan.specs(dataset, comparisons)
            if (networks is None or spec.network in networks) and (seeds is None or spec.seed in set(seeds))
        ]
        for dataset in plan.datasets
        if datasets is None or dataset in datasets
    }
    if not all(chosen.values()):
        there = ", ".join(f"{network} {format_seeds(of_network)}" for network, of_network in plan.networks.items())
        given = format_seeds(sorted(seeds or ()))
        raise UsageError(f"seeds={given!r} selects nothing of the plan: it has the seeds {there}")
    return chosen


def _describe(plan: Plan) -> runner.Conclude:
    """What writes a plan's question into the description of its run."""

    def describe(parent: tracking.Run, _: Sequence[Record]) -> None:
        parent.describe(f"**{plan.question}** The plan is the artifact `plan.yaml`; its digest is {plan.digest}.")

    return describe
