"""A whole grid: what is missing in the store is trained, pretraining before what depends on it."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from aepretrain import tracking, variants
from aepretrain.data import Dataset, load
from aepretrain.records import Record
from aepretrain.spec import CLASSIFIERS, Execution, Failure, TrainingSpec, canonical_json, grid_key, grid_options
from aepretrain.stopping import whole
from aepretrain.suite.pool import Pool, local_pool, stack_size, train_in_worker
from aepretrain.suite.training import Event, Listener, Work, load_plugins, log_model, make_work

NEWS_INTERVAL_S = 0.2


@dataclass(frozen=True)
class GridResult:
    """A grid's finished trainings in the order of its specs, and what failed, by name, with its message."""

    run_id: str
    records: tuple[Record, ...]
    failures: Mapping[str, str]


def run_grid(
    specs: Sequence[TrainingSpec],
    store: tracking.Store,
    execution: Execution,
    listen: Listener,
    conclude: Callable[[tracking.Run, Sequence[Record]], None],
    *,
    run_id: str | None = None,
    make_pool: Callable[[Execution, Dataset], AbstractContextManager[Pool]] = local_pool,
) -> GridResult:
    """Train what is not done yet of `specs`, all with the same settings, as children of one parent run.

    `listen` gets the news while it runs, `conclude` the parent run and all finished records at the end, while the
    parent is still open. `run_id` is a run that ``mlflow run`` opened for the grid. A training that fails leaves the
    others running; those that need it are not tried. Raises `Failure` where the store or a worker process fails.
    """
    load_plugins(execution)
    dataset = load(specs[0].settings.dataset, execution.data_dir)
    works = {work.key: work for work in (make_work(spec, dataset, store, execution) for spec in specs)}
    key = grid_key(tuple(works))
    with store.lock(f"grid-{key}", lambda: listen(Event("waiting", specs[0]))):
        done = {} if execution.force else _settled(store, dataset, works)
        name = f"grid {dataset.name}, seeds {grid_options(specs)['seeds']}"
        with tracking.ending() as open_runs:
            with whole():
                parent = tracking.open_grid(store, name, key, run_id=run_id, again=execution.force)
                open_runs.append(parent)
            parent.log_params(grid_options(specs))
            children = {key: replace(work, parent_run_id=parent.run_id) for key, work in works.items()}
            schedule = _Schedule(children, listen, stack_size(execution))
            schedule.leave_out(done)
            if schedule.waiting:
                try:
                    with make_pool(execution, dataset) as pool:
                        schedule.work_through(pool)
                finally:
                    tracking.end_orphans(store, parent.run_id)
            finished = _finished(store, dataset, works)
            if execution.force:  # what failed now is missing, though an earlier attempt may have succeeded
                finished = {key: record for key, record in finished.items() if record.parent_run_id == parent.run_id}
            _log_selected_models(store, dataset, works, finished)
            records = tuple(finished[one] for one in works if one in finished)
            adopted = [record.run_id for record in records if record.parent_run_id != parent.run_id]
            parent.tag(reused=tracking.listing(adopted))
            conclude(parent, records)
            parent.end("FAILED" if schedule.failures else "FINISHED")
    return GridResult(parent.run_id, records, schedule.failures)


class Forecast:
    """How long trainings take, learned from those that have finished."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, str], list[float]] = {}

    def add(self, record: Record) -> None:
        """Take a finished training into account."""
        network, _, variant = record.cell
        self._seconds.setdefault((network, variant), []).append(record.metrics["training_s"])

    def seconds(self, spec: TrainingSpec) -> float:
        """The mean of the same network and variant, else of the same network; infinite where there is none."""
        same = self._seconds.get((spec.network, spec.variant))
        of_network = [s for (network, _), seconds in self._seconds.items() if network == spec.network for s in seconds]
        sample = same or of_network
        return sum(sample) / len(sample) if sample else math.inf


@dataclass
class _Schedule:
    """What is still to be trained, and the stacks under way."""

    waiting: dict[str, Work]
    listen: Listener
    stack_size: int = 1
    forecast: Forecast = field(default_factory=Forecast)
    running: dict[Future[list[Record | Failure]], list[Work]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def leave_out(self, done: Mapping[str, Record]) -> None:
        """Strike off what is done, and learn from it how long the rest will take."""
        for key, record in done.items():
            self.forecast.add(record)
            self.listen(Event("reused", self.waiting.pop(key).spec, record=record))

    def work_through(self, pool: Pool) -> None:
        while self.waiting or self.running:
            while len(self.running) < pool.jobs and (works := self._next_stack()):
                for work in works:
                    del self.waiting[work.key]
                self.running[pool.executor.submit(train_in_worker, works)] = works
            finished, _ = wait(self.running, timeout=NEWS_INTERVAL_S, return_when=FIRST_COMPLETED)
            for event in pool.news():
                self.listen(event)
            for future in finished:
                self._settle(self.running.pop(future), future)

    def _next_stack(self) -> list[Work]:
        """The seeds of one cell that begin next: pretraining first, for others wait for it, then what takes longest."""
        unsettled = self.waiting.keys() | {work.key for works in self.running.values() for work in works}
        ready = [work for work in self.waiting.values() if work.pretraining_key not in unsettled]
        if not ready:
            return []
        first = min(ready, key=lambda work: (work.spec.variant != "pretrain", -self.forecast.seconds(work.spec)))
        return [work for work in ready if work.spec.cell == first.spec.cell][: self.stack_size]

    def _settle(self, works: list[Work], future: Future[list[Record | Failure]]) -> None:
        error = future.exception()
        if isinstance(error, BrokenProcessPool):
            raise Failure(
                "a worker process died, perhaps for lack of memory; what is done is kept, and the same command goes on "
                "from there (fewer workers: --jobs)"
            ) from error
        results = [error] * len(works) if error else future.result()
        for work, result in zip(works, results, strict=True):
            if isinstance(result, Record):
                self.forecast.add(result)
                self.listen(Event("finished", work.spec, record=result))
            else:
                self._fail(work, tracking.one_line(result))
                for other in [one for one in self.waiting.values() if one.pretraining_key == work.key]:
                    del self.waiting[other.key]
                    self._fail(other, f"not tried, because its pretraining {work.spec.name} failed")

    def _fail(self, work: Work, message: str) -> None:
        self.failures[work.spec.name] = message
        self.listen(Event("failed", work.spec, message=message))


def _settled(store: tracking.Store, dataset: Dataset, works: Mapping[str, Work]) -> dict[str, Record]:
    """What needs no training: all that is finished, but a pretraining without weights that others still wait for."""
    finished = _finished(store, dataset, works)
    needed = {work.pretraining_key for key, work in works.items() if key not in finished}
    return {key: record for key, record in finished.items() if record.has_weights or key not in needed}


def _finished(store: tracking.Store, dataset: Dataset, works: Iterable[str]) -> dict[str, Record]:
    records = store.records(dataset_digest=dataset.digest)
    return {key: records[key] for key in works if key in records}


def select(records: Iterable[Record]) -> list[Record]:
    """Of each classifier's cell the seed that is shown and served: lowest validation loss, ties to the lowest seed.

    Cells of different settings are different cells.
    """
    best: dict[str, Record] = {}
    for record in sorted(records, key=lambda record: (record.metrics["best_val_loss"], record.seed)):
        best.setdefault(canonical_json(dict(record.identity) | {"seed": None}), record)
    return [record for record in best.values() if record.cell[2] in CLASSIFIERS]


def _log_selected_models(
    store: tracking.Store, dataset: Dataset, works: Mapping[str, Work], finished: Mapping[str, Record]
) -> None:
    for record in select(finished.values()):
        if "model" not in record.tags and record.has_weights:
            weights = variants.parse_weights(store.weights(record))
            log_model(works[record.key], record.run_id, dataset, weights)
