"""The order in which a pool trains jobs, and what becomes of them."""

from collections import Counter, deque
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import InitVar, dataclass, field
from itertools import islice

from aepretrain import stopping, tracking
from aepretrain.config import TrainingSpec
from aepretrain.errors import Failure
from aepretrain.records import Record
from aepretrain.runner.events import Event, Listener
from aepretrain.runner.forecast import Forecast
from aepretrain.runner.pool import Pool
from aepretrain.runner.work import Job

NEWS_INTERVAL_S = 0.2


@dataclass
class Schedule:
    """The jobs that wait, those under way, and what became of the others.

    A worker that dies takes the whole pool with it. The stacks under way then are retried in the next pool, one at a
    time. If the pool dies again, the stack under way is the cause, and fails. If two pools in a row die before they
    send any news, there is no third.
    """

    jobs: InitVar[Mapping[str, Job]]
    listen: Listener
    """Gets the news, after `forecast`."""
    stack_size: int = 1
    in_order: bool = False
    """Whether jobs begin in their order, as far as they are ready; else pretraining first, then the longest."""
    forecast: Forecast = field(default_factory=Forecast)
    failures: dict[str, str] = field(default_factory=dict)
    """The message of each failure, by the name of its training."""
    finished: dict[str, Record] = field(init=False, default_factory=dict)
    waiting: dict[str, Job] = field(init=False)
    place: dict[str, int] = field(init=False)
    """The place of each job in their order."""
    running: dict[Future[list[Record | Failure]], list[Job]] = field(init=False, default_factory=dict)
    to_retry: list[list[Job]] = field(init=False, default_factory=list)
    retried: list[list[Job]] = field(init=False, default_factory=list)
    begun: Counter[str] = field(init=False, default_factory=Counter)
    """The number of stacks of each network that have begun."""

    num_silent: int = field(init=False, default=0)
    """The number of pools in a row that sent no news."""

    unavailable: tracking.Unavailable | None = field(init=False, default=None)
    ready: dict[TrainingSpec, deque[Job]] = field(init=False, default_factory=dict)
    """The waiting jobs whose sources are finished, by `TrainingSpec.seedless`."""

    missing: dict[str, set[str]] = field(init=False, default_factory=dict)
    """The unfinished sources of each other waiting job."""

    dependents: dict[str, list[str]] = field(init=False, default_factory=dict)
    """The jobs that wait for a job."""

    def __post_init__(self, jobs: Mapping[str, Job]) -> None:
        self.listen, self.forecast.stack = self.forecast.before(self.listen), self.stack_size
        self.waiting = dict(jobs)
        self.place = {key: place for place, key in enumerate(jobs)}
        for key, job in jobs.items():
            missing = jobs.keys() & set(job.sources.values())
            for source in missing:
                self.dependents.setdefault(source, []).append(key)
            if missing:
                self.missing[key] = missing
            else:
                self._make_ready(job)

    def _make_ready(self, job: Job) -> None:
        self.ready.setdefault(job.spec.seedless, deque()).append(job)

    def work_through(self, pool: Pool) -> None:
        """Train what is waiting, until nothing waits or the pool is dead.

        If the store takes no results, nothing new is begun, and `Unavailable` is raised when the running stacks have
        ended. Raises `Failure` if two pools in a row die before they train.
        """
        self.num_silent += 1
        self.forecast.expect_new_workers()
        try:
            while self.waiting or self.running:
                stopping.check()
                self.forecast.workers = pool.num_workers()
                while len(self.running) < pool.num_workers() and (jobs := self._next_stack()):
                    self.running[pool.executor.submit(pool.train, jobs)] = jobs  # raises if the pool is dead
                    self._note_begun(jobs)
                finished, _ = wait(self.running, timeout=NEWS_INTERVAL_S, return_when=FIRST_COMPLETED)
                self._hear(pool)
                for future in finished:
                    self._settle(self.running[future], future)
                    del self.running[future]
        except BrokenProcessPool:
            self._hear(pool)
            if self.num_silent > 1:
                raise Failure("worker processes die before they train anything, twice in a row") from None
            self._after_death()
        if self.unavailable:
            raise self.unavailable

    def _hear(self, pool: Pool) -> None:
        for event in pool.news():
            self.num_silent = 0
            self.listen(event)

    def _after_death(self) -> None:
        """Let the stacks that ran in a dead pool wait for their second try, or fail if it was their second."""
        in_pool = [jobs for future, jobs in self.running.items() if isinstance(future.exception(), BrokenProcessPool)]
        for future, jobs in self.running.items():
            if jobs not in in_pool:
                self._settle(jobs, future)
        self.running.clear()
        for jobs in in_pool if self.unavailable is None else ():
            if jobs in self.retried:
                for job in jobs:
                    self._fail(job, "its worker process died twice, perhaps for lack of memory (fewer workers: --jobs)")
            else:
                self.to_retry.append(jobs)
                for job in jobs:
                    self.waiting[job.key] = job
                    self.listen(Event("retried", job.spec))

    def _next_stack(self) -> list[Job]:
        """The seeds of one cell that begin next.

        Unless `in_order`, pretraining is first, as others wait for it, and then what takes longest. Where that is not
        known, networks take turns, so that it soon is.
        """
        if any(jobs in self.retried for jobs in self.running.values()):
            return []
        if self.to_retry:
            return [] if self.running else self.to_retry[-1]
        if not self.ready:
            return []
        cell = min(self.ready, key=self._rank)
        return list(islice(self.ready[cell], self.stack_size))

    def _rank(self, cell: TrainingSpec) -> tuple[float, ...]:
        """The place of a cell among those that are ready."""
        if self.in_order:
            return (self.place[self.ready[cell][0].key],)
        return cell.variant != "pretrain", -self.forecast.seconds(cell), self.begun[cell.network]

    def _note_begun(self, jobs: list[Job]) -> None:
        if jobs in self.to_retry:
            self.to_retry.remove(jobs)
            self.retried.append(jobs)
        else:
            cell = jobs[0].spec.seedless
            for _ in jobs:
                self.ready[cell].popleft()
            if not self.ready[cell]:
                del self.ready[cell]
        self.begun[jobs[0].spec.network] += 1
        for job in jobs:
            del self.waiting[job.key]

    def _settle(self, jobs: list[Job], future: Future[list[Record | Failure]]) -> None:
        if future.cancelled():  # by Dask's client, which has lost its scheduler
            raise Failure(
                "the Dask scheduler has dropped the trainings; what is finished is kept, "
                "and the same command goes on from there"
            )
        error = future.exception()
        if isinstance(error, BrokenProcessPool):
            raise error
        self.num_silent = 0
        if isinstance(error, tracking.Unavailable):
            self.unavailable = error
            self.waiting.clear()
            self.ready.clear()
        results = [error] * len(jobs) if error else future.result()
        for job, result in zip(jobs, results, strict=True):
            if isinstance(result, Record):
                self.finished[job.key] = result
                self.listen(Event("finished", job.spec, record=result))
                self._release(job.key)
            else:
                self._fail(job, tracking.one_line(result))

    def _release(self, key: str) -> None:
        """Make ready those jobs that waited for this one only."""
        for dependent in self.dependents.pop(key, []):
            missing = self.missing.get(dependent, set())
            missing.discard(key)
            if not missing and dependent in self.waiting:
                del self.missing[dependent]
                self._make_ready(self.waiting[dependent])

    def _fail(self, job: Job, message: str) -> None:
        """Record a failure, and with it those of the jobs that wait for this one."""
        name = job.spec.name
        self.failures[f"{name} ({job.key[:8]})" if name in self.failures else name] = message
        self.listen(Event("failed", job.spec, message=message))
        for key in self.dependents.pop(job.key, []):
            if key in self.waiting:
                self._fail(self.waiting.pop(key), f"not tried, because {name}, which it needs, failed")
