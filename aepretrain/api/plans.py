"""Train a plan."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from aepretrain import runner, tracking
from aepretrain.api.choices import part_to_tune, planned_choices
from aepretrain.api.results import Results
from aepretrain.api.stores import find_store, store_uri
from aepretrain.api.training import Session, link_parts, together, with_data_dir
from aepretrain.config import Execution, TrainingSpec, format_seeds
from aepretrain.display import say
from aepretrain.errors import UsageError
from aepretrain.plans import Plan, PlannedComparison, read_plan
from aepretrain.records import Record


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
