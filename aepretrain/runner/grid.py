"""A whole grid: what is missing in the store is trained, pretraining before what depends on it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from aepretrain import tracking
from aepretrain.config import Execution, TrainingSpec, canonical_json, grid_key, grid_options
from aepretrain.data import Dataset, load
from aepretrain.records import Record
from aepretrain.runner.jobs import Event, Listener, Work, make_work, present
from aepretrain.runner.plugins import load_plugins
from aepretrain.runner.pool import Pool, local_pool, stack_size
from aepretrain.runner.schedule import Schedule
from aepretrain.stopping import whole
from aepretrain.variants import CLASSIFIERS

Finished = Mapping[TrainingSpec, Record]
"""Finished trainings by what was asked for."""


MakePool = Callable[[Execution, Dataset], AbstractContextManager[Pool]]
"""Makes somewhere to train on a dataset, for as long as a block lasts."""


@dataclass(frozen=True)
class Study:
    """Trainings beyond a grid's that answer one question about it.

    It builds on the grid's variants named in `needs`; `plan` gives its own trainings when those are done, for some
    depend on what those have found.
    """

    name: str
    needs: Sequence[str]
    plan: Callable[[Finished, Dataset], Iterable[TrainingSpec]]


@dataclass(frozen=True)
class GridResult:
    """Finished trainings in the order of their specs, and what failed, by name, with its message."""

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
    study: Study | None = None,
    run_id: str | None = None,
    make_pool: MakePool = local_pool,
) -> GridResult:
    """Train what is not done yet of `specs`, all with the same settings, as children of one parent run.

    With a study, the parent run is the study's, and its own trainings follow. `listen` gets the news while it runs,
    `conclude` the parent run and all finished records at the end, while the parent is still open. `run_id` is a run
    that ``mlflow run`` opened for the parent. A training that fails leaves the others running; those that need it are
    not tried. Raises `Failure` where the store fails.
    """
    load_plugins(execution)
    dataset = load(specs[0].settings.dataset, execution.data_dir)
    works = _works(specs, dataset, store, execution)
    tracking.recover(store)
    key = grid_key(tuple(works), study.name if study else None)
    what = f"{study.name if study else 'grid'} {dataset.name}, seeds {grid_options(specs)['seeds']}"
    with store.lock(f"grid-{key}", lambda: listen(Event("waiting", specs[0]))), tracking.ending() as open_runs:
        with whole():
            kind = "study" if study else "grid"
            parent = tracking.open_grid(store, what, key, kind=kind, run_id=run_id, again=execution.force)
            open_runs.append(parent)
        parent.log_params(grid_options(specs))
        batch = _Batch(store, dataset, listen, make_pool, parent)
        if study is None:
            finished = batch.train(works, execution)
            _present_selected(dataset, works, finished)
        else:
            finished = batch.train(works, replace(execution, force=False))
            own = study.plan({works[key].spec: record for key, record in finished.items()}, dataset)
            further = _works([spec for spec in own if spec not in specs], dataset, store, execution, study.name)
            of_grids = {key for key, record in _finished(store, dataset, further).items() if record.study is None}
            further = {key: replace(work, study=None) if key in of_grids else work for key, work in further.items()}
            for work in further.values():
                listen(Event("planned", work.spec))
            finished |= batch.train_again(works, finished, further, execution)
            finished |= batch.train(further, execution)
        records = tuple(finished.values())
        adopted = [record.run_id for record in records if record.parent_run_id != parent.run_id]
        parent.tag(reused=tracking.listing(adopted))
        conclude(parent, records)
        parent.end("FAILED" if batch.failures else "FINISHED")
    return GridResult(parent.run_id, records, batch.failures)


def _works(
    specs: Iterable[TrainingSpec],
    dataset: Dataset,
    store: tracking.Store,
    execution: Execution,
    study: str | None = None,
) -> dict[str, Work]:
    return {
        work.key: replace(work, study=study) for work in (make_work(one, dataset, store, execution) for one in specs)
    }


@dataclass
class _Batch:
    """What trains under one parent run, and what of it failed."""

    store: tracking.Store
    dataset: Dataset
    listen: Listener
    make_pool: MakePool
    parent: tracking.Run
    failures: dict[str, str] = field(default_factory=dict)

    def train(
        self, works: Mapping[str, Work], execution: Execution, *, weights_needed: bool = False
    ) -> dict[str, Record]:
        """Train what is not done yet; gives all that is finished, in the order of the works.

        What comes from a bundle may be done but have no weights: it is trained again where those are needed.
        """
        finished = self._of_use(works)
        needed = {one for key, work in works.items() if key not in finished for one in work.sources.values()}
        children = {
            key: replace(
                work,
                parent_run_id=self.parent.run_id,
                execution=execution,
                weights_needed=weights_needed or key in needed,
            )
            for key, work in works.items()
        }
        done = {
            key: record
            for key, record in finished.items()
            if not execution.force and (record.has_weights or not children[key].weights_needed)
        }
        schedule = Schedule(children, done, self.listen, stack_size(execution), failures=self.failures)
        while schedule.waiting:
            with tracking.recovering(self.store), self.make_pool(execution, self.dataset) as pool:
                schedule.work_through(pool)
        finished = _finished(self.store, self.dataset, works)
        if execution.force:  # what failed now is missing, though an earlier attempt may have succeeded
            finished = {key: one for key, one in finished.items() if one.parent_run_id == self.parent.run_id}
        for key, record in finished.items():
            if works[key].study is None and record.study is not None:  # from now on it is not the study's alone
                with tracking.where_allowed():
                    tracking.Run(self.store, record.run_id).tag(study="")
        return finished

    def train_again(
        self,
        works: Mapping[str, Work],
        finished: Mapping[str, Record],
        dependents: Mapping[str, Work],
        execution: Execution,
    ) -> dict[str, Record]:
        """Train those works again whose weights were not kept and are needed by dependents that are not done."""
        done = {} if execution.force else self._of_use(dependents)
        open_ones = [work for key, work in dependents.items() if key not in done]
        again: dict[str, Work] = {}
        while open_ones:
            sources = {key for work in open_ones for key in work.sources.values()}
            open_ones = [
                works[key]
                for key in sources & finished.keys() - again.keys()
                if key in works and not finished[key].has_weights
            ]
            again |= {work.key: work for work in open_ones}
        for work in again.values():
            self.listen(Event("planned", work.spec))
        return self.train(again, replace(execution, force=False), weights_needed=True) if again else {}

    def _of_use(self, works: Mapping[str, Work]) -> dict[str, Record]:
        """What is finished; for a grid not what a bundle has left of a study's, which is without predictions."""
        return {
            key: record
            for key, record in _finished(self.store, self.dataset, works).items()
            if works[key].study or not (record.study and "imported_run" in record.tags)
        }


def _finished(store: tracking.Store, dataset: Dataset, works: Mapping[str, Work]) -> dict[str, Record]:
    """What is finished of works that differ in no setting that every training depends on."""
    if not works:
        return {}
    settings = next(iter(works.values())).spec.settings
    records = store.records(vars(settings), dataset_digest=dataset.digest)
    return {key: records[key] for key in works if key in records}


def select(records: Iterable[Record]) -> list[Record]:
    """Of each classifier's cell the seed that is shown and served: lowest validation loss, ties to the lowest seed.

    Cells of different settings are different cells.
    """
    best: dict[str, Record] = {}
    for record in sorted(records, key=lambda record: (record.metrics["best_val_loss"], record.seed)):
        best.setdefault(canonical_json(dict(record.identity) | {"seed": None}), record)
    return [record for record in best.values() if record.cell[2] in CLASSIFIERS]


def _present_selected(dataset: Dataset, works: Mapping[str, Work], finished: Mapping[str, Record]) -> None:
    for record in select(finished.values()):
        with tracking.where_allowed():
            present(works[record.key], record, dataset)
