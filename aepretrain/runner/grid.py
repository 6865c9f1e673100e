"""A grid, a study or a plan: find what is missing in the store, train it, and select what is shown."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any

from aepretrain import stopping, tracking
from aepretrain.config import Execution, TrainingSpec, canonical_json, grid_key, grid_options
from aepretrain.data import Dataset, load
from aepretrain.plans import Plan
from aepretrain.records import Record
from aepretrain.runner.events import Event, Listener
from aepretrain.runner.forecast import Forecast
from aepretrain.runner.jobs import draw_errors, log_model
from aepretrain.runner.plugins import load_plugins
from aepretrain.runner.pool import Pool, local_pool, stack_size
from aepretrain.runner.schedule import Schedule
from aepretrain.runner.selection import select
from aepretrain.runner.study import Study
from aepretrain.runner.work import Job, find_work, jobs_of, related_records
from aepretrain.tuning import TUNED

MakePool = Callable[[Execution, Dataset], AbstractContextManager[Pool]]
"""Makes a pool that trains on a dataset, for as long as a block lasts."""


Conclude = Callable[[tracking.Run, Sequence[Record]], None]
"""Writes what follows from finished trainings into their parent run, which is still open."""


@dataclass(frozen=True)
class GridResult:
    """Finished trainings in the order of their specs, and the message of each failure by the training's name."""

    run_id: str
    records: tuple[Record, ...]
    failures: Mapping[str, str]


def run_grid(
    specs: Sequence[TrainingSpec],
    store: tracking.Store,
    execution: Execution,
    listen: Listener,
    conclude: Conclude,
    *,
    study: Study | None = None,
    plan: Plan | None = None,
    tuned: bool = False,
    run_id: str | None = None,
    make_pool: MakePool = local_pool,
    forecast: Forecast | None = None,
) -> GridResult:
    """Train what is not finished of `specs`, all on the same dataset, as children of one parent run.

    With a study, the parent run is the study's, its trainings follow, and ``force`` applies to those only. With a plan,
    of which `specs` are a part, the parent run is the plan's, and trainings begin in the order of `specs`. `tuned` ones
    stay out of grids and reports, as those of a study do. `listen` gets the news, after `forecast`, which gets the
    store's similar trainings, too. `conclude` gets the parent run, still open, and all finished records. `run_id` is a
    run that ``mlflow run`` opened for the parent. If a training fails, those that start from it are not tried; the
    others go on. Raises `Failure` if the store fails.
    """
    load_plugins(execution)
    dataset = load(specs[0].settings.data, execution.data_dir)
    of_grid = execution if study is None else replace(execution, force=False)
    jobs = jobs_of(specs, dataset.digests, store, of_grid, TUNED if tuned else None)
    about = _about_plan(plan, dataset) if plan else _about_grid(specs, tuple(jobs), dataset, study)
    with about.opened(store, run_id, partial(listen, Event("waiting", specs[0])), again=execution.force) as parent:
        if plan is not None:
            jobs = _under_plan(plan, jobs, parent)
        trainer = Trainer(store, dataset, listen, make_pool, parent, forecast or Forecast(), in_order=plan is not None)
        finished = trainer.train(jobs, of_grid)
        if study is None and plan is None:  # a plan has many cells, and is trained in parts
            _present_selected(dataset, jobs, finished)
        elif study is not None:
            own = study.plan({jobs[key].spec: record for key, record in finished.items()}, dataset)
            further = jobs_of(
                [spec for spec in own if spec not in specs], dataset.digests, store, execution, study.name
            )
            for job in further.values():
                listen(Event("planned", job.spec))
            finished |= trainer.train(further, execution, sources=jobs)
        records = tuple(finished.values())
        adopted = [record.run_id for record in records if record.parent_run_id != parent.run_id]
        parent.tag(reused=tracking.listing(adopted))
        conclude(parent, records)
        parent.end("FAILED" if trainer.failures else "FINISHED")
    return GridResult(parent.run_id, records, trainer.failures)


@dataclass(frozen=True)
class About:
    """What is known of a parent run before it is opened."""

    kind: str
    name: str
    key: str
    params: Mapping[str, Any]
    tags: Mapping[str, str] = field(default_factory=dict)

    @contextmanager
    def opened(
        self, store: tracking.Store, run_id: str | None, on_wait: Callable[[], None], *, again: bool
    ) -> Iterator[tracking.Run]:
        """The run, open, while its lock is held; the block ends it. What earlier processes left is put right first."""
        with stopping.deferred():
            tracking.recover(store)
        with stopping.deferred(), store.lock(f"grid-{self.key}", on_wait), tracking.ending() as open_runs:
            parent = tracking.open_grid(
                store, self.name, self.key, kind=self.kind, run_id=run_id, again=again, **self.tags
            )
            open_runs.append(parent)
            parent.log_params(self.params)
            yield parent


def _about_grid(specs: Sequence[TrainingSpec], keys: tuple[str, ...], dataset: Dataset, study: Study | None) -> About:
    options = grid_options(specs)
    name = f"{study.name if study else 'grid'} {dataset.name}, seeds {options['seeds']}"
    return About("study" if study else "grid", name, grid_key(keys, study.name if study else None), options)


def _about_plan(plan: Plan, dataset: Dataset) -> About:
    """One parent run for all parts of a plan on one dataset."""
    content = plan.content | {"dataset": dataset.name}
    params = {name: one if isinstance(one, str | float) else canonical_json(one) for name, one in content.items()}
    return About("plan", f"{plan.name} {dataset.name}", plan.key(dataset.name), params, {"plan": plan.digest})


def _under_plan(plan: Plan, jobs: Mapping[str, Job], parent: tracking.Run) -> dict[str, Job]:
    """The jobs with tags that say which plan starts them, and when the store first saw it; its file is kept, too."""
    parent.log_bytes("plan.yaml", plan.source)
    tags = {"plan": plan.digest, "plan_seen": tracking.plan_seen(parent.store, plan.digest)}
    return {key: replace(job, tags=tags) for key, job in jobs.items()}


NO_JOBS: Mapping[str, Job] = MappingProxyType({})


@dataclass
class Trainer:
    """Trains jobs as children of one parent run."""

    store: tracking.Store
    dataset: Dataset
    listen: Listener
    make_pool: MakePool
    parent: tracking.Run
    forecast: Forecast
    in_order: bool = False
    failures: dict[str, str] = field(default_factory=dict)

    def train(
        self, wanted: Mapping[str, Job], execution: Execution, sources: Mapping[str, Job] = NO_JOBS
    ) -> dict[str, Record]:
        """Train what is not finished of the wanted jobs, and what they start from; gives the finished records."""
        all_jobs = {**sources, **wanted}
        records = related_records(all_jobs, self.store, self.dataset.digest)
        for record in records.values():
            self.forecast.add(record)
        work = find_work(wanted, records, sources)
        for key, record in work.done.items():
            self.listen(Event("reused", wanted[key].spec, record=record))
        for key, job in work.jobs.items():
            if key not in wanted:
                self.listen(Event("planned", job.spec))
        jobs = {key: replace(job, parent_run_id=self.parent.run_id) for key, job in work.jobs.items()}
        schedule = Schedule(
            jobs, self.listen, stack_size(execution), self.in_order, self.forecast, failures=self.failures
        )
        while schedule.waiting:
            stopping.check()  # the signal may have killed the pool
            with tracking.recovering(self.store), self.make_pool(execution, self.dataset) as pool:
                schedule.work_through(pool)
        for key, record in work.done.items():
            job = wanted[key]
            is_of_others = record.study is not None and (record.study == TUNED or not job.tags)
            if job.study is None and is_of_others:  # it belongs to the grid from now on
                with tracking.where_possible():
                    tracking.Run(self.store, record.run_id).tag(study="")
        finished = {**work.done, **schedule.finished}
        return {key: finished[key] for key in all_jobs if key in finished}


def _present_selected(dataset: Dataset, jobs: Mapping[str, Job], finished: Mapping[str, Record]) -> None:
    for record in select(finished.values()):
        stopping.check()
        with tracking.where_possible():
            log_model(jobs[record.key], record, dataset)
            draw_errors(jobs[record.key], record, dataset)
