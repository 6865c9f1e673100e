"""What is trained next, in whatever pool there is, and what becomes of it."""

import math
from collections import deque
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import InitVar, dataclass, field
from itertools import islice

from aepretrain import tracking
from aepretrain.config import TrainingSpec
from aepretrain.errors import Failure
from aepretrain.records import Record
from aepretrain.runner.jobs import Event, Listener, Work
from aepretrain.runner.pool import Pool

NEWS_INTERVAL_S = 0.2


class Forecast:
    """How long trainings take, learned from those that have finished."""

    def __init__(self) -> None:
        self._finished: dict[tuple[str, str, int], tuple[float, int]] = {}
        """Of each network, variant and number of labels the seconds in all, and how many trainings that were."""

    def add(self, record: Record) -> None:
        """Take a finished training into account."""
        network, _, variant = record.cell
        kind = network, variant, record.identity.get("labels", 0)
        seconds, num = self._finished.get(kind, (0.0, 0))
        self._finished[kind] = seconds + record.metrics["training_s"], num + 1

    def seconds(self, spec: TrainingSpec) -> float:
        """The mean of the same network, variant and labels, else of the network; infinite where there is none."""
        same = self._finished.get((spec.network, spec.variant, spec.settings.labels))
        samples = [same] if same else [one for (network, *_), one in self._finished.items() if network == spec.network]
        num = sum(num for _, num in samples)
        return sum(seconds for seconds, _ in samples) / num if num else math.inf


@dataclass
class Schedule:
    """What is still to be trained, and the stacks under way; begun with all works, and those that are done already.

    A worker that dies takes the whole pool with it. The stacks that were at work then are tried once more in the next
    pool, and one by one, so that a stack that is at work when that pool dies has brought it about itself: it fails.
    Where two pools in a row die before they tell of anything, there is no third.
    """

    works: InitVar[Mapping[str, Work]]
    done: InitVar[Mapping[str, Record]]
    listen: Listener
    stack_size: int = 1
    forecast: Forecast = field(default_factory=Forecast)
    failures: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, Work] = field(init=False)
    running: dict[Future[list[Record | Failure]], list[Work]] = field(init=False, default_factory=dict)
    to_retry: list[list[Work]] = field(init=False, default_factory=list)
    retried: list[list[Work]] = field(init=False, default_factory=list)
    num_silent: int = field(init=False, default=0)
    """How many pools in a row have told of nothing."""

    unavailable: tracking.Unavailable | None = field(init=False, default=None)
    ready: dict[TrainingSpec, deque[Work]] = field(init=False, default_factory=dict)
    """Of what is waiting that which could begin now, by `TrainingSpec.seedless`."""

    missing: dict[str, set[str]] = field(init=False, default_factory=dict)
    """Of what is waiting and could not begin now, what it waits for."""

    dependents: dict[str, list[str]] = field(init=False, default_factory=dict)
    """Who waits for a training."""

    def __post_init__(self, works: Mapping[str, Work], done: Mapping[str, Record]) -> None:
        for key, record in done.items():
            self.forecast.add(record)
            self.listen(Event("reused", works[key].spec, record=record))
        self.waiting = {key: work for key, work in works.items() if key not in done}
        for key, work in self.waiting.items():
            missing = self.waiting.keys() & set(work.sources.values())
            for source in missing:
                self.dependents.setdefault(source, []).append(key)
            if missing:
                self.missing[key] = missing
            else:
                self._make_ready(work)

    def _make_ready(self, work: Work) -> None:
        self.ready.setdefault(work.spec.seedless, deque()).append(work)

    def work_through(self, pool: Pool) -> None:
        """Train what is waiting, until nothing is or the pool is dead.

        Raises `Unavailable`, when what is under way has ended, where one of them found that its results are not taken,
        and `Failure` where no worker comes to life.
        """
        self.num_silent += 1
        try:
            while self.waiting or self.running:
                while len(self.running) < pool.jobs() and (works := self._next_stack()):
                    self.running[pool.executor.submit(pool.train, works)] = works  # which a dead pool does not take
                    self._note_begun(works)
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
        """What was at work in the pool that died fails, or waits to be retried."""
        at_work = [works for future, works in self.running.items() if isinstance(future.exception(), BrokenProcessPool)]
        for future, works in self.running.items():
            if works not in at_work:
                self._settle(works, future)
        self.running.clear()
        for works in at_work if self.unavailable is None else ():
            if works in self.retried:
                for work in works:
                    self._fail(
                        work, "its worker process died twice, perhaps for lack of memory (fewer workers: --jobs)"
                    )
            else:
                self.to_retry.append(works)
                for work in works:
                    self.waiting[work.key] = work
                    self.listen(Event("retried", work.spec))

    def _next_stack(self) -> list[Work]:
        """The seeds of one cell that begin next: pretraining first, for others wait for it, then what takes longest."""
        if any(works in self.retried for works in self.running.values()):
            return []
        if self.to_retry:
            return [] if self.running else self.to_retry[-1]
        if not self.ready:
            return []
        cell = min(self.ready, key=lambda spec: (spec.variant != "pretrain", -self.forecast.seconds(spec)))
        return list(islice(self.ready[cell], self.stack_size))

    def _note_begun(self, works: list[Work]) -> None:
        if works in self.to_retry:
            self.to_retry.remove(works)
            self.retried.append(works)
        else:
            cell = works[0].spec.seedless
            for _ in works:
                self.ready[cell].popleft()
            if not self.ready[cell]:
                del self.ready[cell]
        for work in works:
            del self.waiting[work.key]

    def _settle(self, works: list[Work], future: Future[list[Record | Failure]]) -> None:
        if future.cancelled():  # by a cluster's client, which has lost its scheduler
            raise Failure(
                "the cluster has dropped its work; what is finished is kept, the same command goes on from there"
            )
        error = future.exception()
        if isinstance(error, BrokenProcessPool):
            raise error
        self.num_silent = 0
        if isinstance(error, tracking.Unavailable):
            self.unavailable = error
            self.waiting.clear()
            self.ready.clear()
        results = [error] * len(works) if error else future.result()
        for work, result in zip(works, results, strict=True):
            if isinstance(result, Record):
                self.forecast.add(result)
                self.listen(Event("finished", work.spec, record=result))
                self._release(work.key)
            else:
                self._fail(work, tracking.one_line(result))

    def _release(self, key: str) -> None:
        """A training is there: what waited for it alone can begin."""
        for dependent in self.dependents.pop(key, []):
            missing = self.missing.get(dependent, set())
            missing.discard(key)
            if not missing and dependent in self.waiting:
                del self.missing[dependent]
                self._make_ready(self.waiting[dependent])

    def _fail(self, work: Work, message: str) -> None:
        """Note that a work has failed, and with it those that wait for it."""
        name = work.spec.name
        self.failures[f"{name} ({work.key[:8]})" if name in self.failures else name] = message
        self.listen(Event("failed", work.spec, message=message))
        for key in self.dependents.pop(work.key, []):
            if key in self.waiting:
                self._fail(self.waiting.pop(key), f"not tried, because {name}, which it needs, failed")
