"""What is trained next, in whatever pool there is, and what becomes of it."""

import math
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace

from aepretrain import tracking
from aepretrain.records import Record
from aepretrain.spec import Failure, TrainingSpec
from aepretrain.suite.pool import Pool
from aepretrain.suite.training import Event, Listener, Work

NEWS_INTERVAL_S = 0.2


class Forecast:
    """How long trainings take, learned from those that have finished."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, str, int], list[float]] = {}

    def add(self, record: Record) -> None:
        """Take a finished training into account."""
        network, _, variant = record.cell
        labels = record.identity.get("labels", 0)
        self._seconds.setdefault((network, variant, labels), []).append(record.metrics["training_s"])

    def seconds(self, spec: TrainingSpec) -> float:
        """The mean of the same network, variant and labels, else of the network; infinite where there is none."""
        same = self._seconds.get((spec.network, spec.variant, spec.settings.labels))
        of_network = [s for (network, *_), seconds in self._seconds.items() if network == spec.network for s in seconds]
        sample = same or of_network
        return sum(sample) / len(sample) if sample else math.inf


@dataclass
class Schedule:
    """What is still to be trained, and the stacks under way.

    A worker that dies takes the whole pool with it. The stacks that were at work then are tried once more in the next
    pool, and one by one, so that a stack that is at work when that pool dies has brought it about itself: it fails.
    """

    waiting: dict[str, Work]
    listen: Listener
    stack_size: int = 1
    forecast: Forecast = field(default_factory=Forecast)
    running: dict[Future[list[Record | Failure]], list[Work]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    to_retry: list[list[Work]] = field(default_factory=list)
    retried: list[list[Work]] = field(default_factory=list)
    unavailable: tracking.Unavailable | None = None

    def leave_out(self, done: Mapping[str, Record]) -> None:
        """Strike off what is done, and learn from it how long the rest will take."""
        for key, record in done.items():
            self.forecast.add(record)
            self.listen(Event("reused", self.waiting.pop(key).spec, record=record))

    def work_through(self, pool: Pool) -> None:
        """Train what is waiting, until nothing is or the pool is dead.

        Raises `Unavailable`, when what is under way has ended, where one of them found that its results are not taken.
        """
        try:
            while self.waiting or self.running:
                while len(self.running) < pool.jobs() and (works := self._next_stack()):
                    self.running[pool.executor.submit(pool.train, works)] = works
                    for work in works:
                        del self.waiting[work.key]
                finished, _ = wait(self.running, timeout=NEWS_INTERVAL_S, return_when=FIRST_COMPLETED)
                for event in pool.news():
                    self.listen(event)
                for future in finished:
                    self._settle(self.running[future], future)
                    del self.running[future]
        except BrokenProcessPool:
            self._after_death()
        if self.unavailable:
            raise self.unavailable

    def _after_death(self) -> None:
        """What was at work in the pool that died fails, or waits to be retried."""
        for future, works in self.running.items():
            if not isinstance(future.exception(), BrokenProcessPool):
                self._settle(works, future)
            elif works in self.retried:
                for work in works:
                    self._fail(
                        work, "its worker process died twice, perhaps for lack of memory (fewer workers: --jobs)"
                    )
            else:
                self.to_retry.append(works)
                for work in works:
                    self.waiting[work.key] = work
                    self.listen(Event("retried", work.spec))
        self.running.clear()

    def _next_stack(self) -> list[Work]:
        """The seeds of one cell that begin next: pretraining first, for others wait for it, then what takes longest."""
        if any(works in self.retried for works in self.running.values()):
            return []
        if self.to_retry:
            return [] if self.running else self._retry()
        unsettled = self.waiting.keys() | {work.key for works in self.running.values() for work in works}
        ready = [work for work in self.waiting.values() if unsettled.isdisjoint(work.sources.values())]
        if not ready:
            return []
        first = min(ready, key=lambda work: (work.spec.variant != "pretrain", -self.forecast.seconds(work.spec)))
        return [work for work in ready if replace(work.spec, seed=first.spec.seed) == first.spec][: self.stack_size]

    def _retry(self) -> list[Work]:
        self.retried.append(self.to_retry.pop())
        return self.retried[-1]

    def _settle(self, works: list[Work], future: Future[list[Record | Failure]]) -> None:
        if future.cancelled():  # by a cluster's client, which has lost its scheduler
            raise Failure(
                "the cluster has dropped its work; what is finished is kept, the same command goes on from there"
            )
        error = future.exception()
        if isinstance(error, BrokenProcessPool):
            raise error
        if isinstance(error, tracking.Unavailable):
            self.unavailable = error
            self.waiting.clear()
        results = [error] * len(works) if error else future.result()
        for work, result in zip(works, results, strict=True):
            if isinstance(result, Record):
                self.forecast.add(result)
                self.listen(Event("finished", work.spec, record=result))
            else:
                self._fail(work, tracking.one_line(result))

    def _fail(self, work: Work, message: str) -> None:
        """Note that a work has failed, and with it those that wait for it."""
        name = work.spec.name
        self.failures[f"{name} ({work.key[:8]})" if name in self.failures else name] = message
        self.listen(Event("failed", work.spec, message=message))
        for other in [one for one in self.waiting.values() if work.key in one.sources.values()]:
            del self.waiting[other.key]
            self._fail(other, f"not tried, because {work.spec.name}, which it needs, failed")
