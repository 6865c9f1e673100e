"""What is trained next: order, stacks, failures and pools that die, with executors that answer at once."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Any

import pytest

from aepretrain.config import AUGMENTATIONS, GRID_NETWORKS, Execution, Settings, grid_specs
from aepretrain.errors import Failure
from aepretrain.records import EpochResult, Record
from aepretrain.runner import schedule as schedules
from aepretrain.runner.events import Event
from aepretrain.runner.forecast import BESIDE_S
from aepretrain.runner.pool import Pool
from aepretrain.runner.schedule import Schedule
from aepretrain.runner.work import Job
from aepretrain.tracking import Store, Unavailable

SECONDS = {"pretrain": 5.0, "frozen": 1.0, "finetune": 3.0, "scratch": 2.0}


def jobs(
    *seeds: int, networks: tuple[str, ...] = ("fc",), augmentations: tuple[str, ...] = ("none",)
) -> dict[str, Job]:
    store, found = Store("sqlite:///nowhere.db", "0"), {}
    for spec in grid_specs(networks, augmentations, seeds, Settings()):
        sources = {name: one.key("", {}) for name, one in spec.sources.items()}
        found[spec.key("", {})] = Job(
            spec=spec, key=spec.key("", {}), sources=sources, store=store, execution=Execution()
        )
    return found


def record_of(job: Job) -> Record:
    metrics = {"training_s": SECONDS[job.spec.variant]}
    return Record(job.key[:32], None, job.key, 1, job.spec.identity(), metrics, {})


@dataclass
class Answering(Executor):
    """An executor that has done what it takes at once.

    A training in `failing` fails, one in `deadly` kills the pool, and after `dies_at` stacks the pool is dead.
    """

    failing: tuple[str, ...] = ()
    deadly: tuple[str, ...] = ()
    dies_at: int = 1000
    taken: list[list[str]] = field(default_factory=list)

    def submit(self, _: Any, stack: list[Job]) -> Any:  # type: ignore[override]
        if len(self.taken) == self.dies_at:
            raise BrokenProcessPool
        self.taken.append([job.spec.name for job in stack])
        future: Future[list[Record | Failure]] = Future()
        if any(name in self.deadly for stack in self.taken for name in stack):
            future.set_exception(BrokenProcessPool())
        else:
            future.set_result(
                [Failure("too bad") if job.spec.name in self.failing else record_of(job) for job in stack]
            )
        return future


def work_through(schedule: Schedule, executor: Answering, num_workers: int = 1) -> list[list[str]]:
    schedule.work_through(Pool(executor, lambda: num_workers))
    return executor.taken


def test_pretraining_comes_first_then_what_takes_longest() -> None:
    events: list[Event] = []
    all_jobs = jobs(0, 1)
    schedule = Schedule({key: job for key, job in all_jobs.items() if job.spec.seed == 1}, events.append)
    for job in all_jobs.values():
        schedule.forecast.add(record_of(job))
    taken = work_through(schedule, Answering())
    assert taken == [[f"fc-none-{variant}-s1"] for variant in ("pretrain", "finetune", "scratch", "frozen")]
    assert [event.kind for event in events] == ["finished"] * 4
    assert [record.cell[2] for record in schedule.finished.values()] == ["pretrain", "finetune", "scratch", "frozen"]


def test_stacks_hold_the_seeds_of_one_cell() -> None:
    taken = work_through(Schedule(jobs(0, 1, 2), lambda _: None, stack_size=2), Answering())
    assert taken[:2] == [["fc-none-pretrain-s0", "fc-none-pretrain-s1"], ["fc-none-pretrain-s2"]]
    assert all(len({name.rpartition("-")[0] for name in stack}) == 1 for stack in taken)
    assert sorted(name for stack in taken for name in stack) == sorted(job.spec.name for job in jobs(0, 1, 2).values())


def test_what_needs_a_failure_is_not_tried() -> None:
    schedule = Schedule(jobs(0, 1), lambda _: None)
    taken = work_through(schedule, Answering(failing=("fc-none-pretrain-s1",)))
    assert sorted(name for stack in taken for name in stack) == sorted(
        [job.spec.name for job in jobs(0).values()] + ["fc-none-pretrain-s1", "fc-none-scratch-s1"]
    )
    assert schedule.failures == {
        "fc-none-pretrain-s1": "too bad",
        "fc-none-frozen-s1": "not tried, because fc-none-pretrain-s1, which it needs, failed",
        "fc-none-finetune-s1": "not tried, because fc-none-pretrain-s1, which it needs, failed",
    }


def test_what_a_dead_pool_does_not_take_is_trained_in_the_next() -> None:
    schedule = Schedule(jobs(0), lambda _: None)
    first = work_through(schedule, Answering(dies_at=2))
    assert len(schedule.waiting) == 2
    second = work_through(schedule, Answering())
    assert sorted(first + second) == sorted([job.spec.name] for job in jobs(0).values())
    assert not schedule.waiting
    assert not schedule.failures


def test_what_was_at_work_in_a_dead_pool_is_tried_once_more_alone() -> None:
    events: list[Event] = []
    schedule = Schedule(jobs(0, 1, 2, 3), events.append, stack_size=2)
    deadly = Answering(deadly=("fc-none-pretrain-s0",))
    pretrainings = [["fc-none-pretrain-s0", "fc-none-pretrain-s1"], ["fc-none-pretrain-s2", "fc-none-pretrain-s3"]]
    assert work_through(schedule, deadly, num_workers=2) == pretrainings
    assert [event.spec.seed for event in events if event.kind == "retried"] == [0, 1, 2, 3]
    second = work_through(schedule, Answering(deadly=("fc-none-pretrain-s0",)), num_workers=2)
    assert second[0] == pretrainings[1], "alone, and nothing beside it"
    assert second[-1] == pretrainings[0]
    assert sorted(schedule.failures) == sorted(
        f"fc-none-{variant}-s{seed}" for variant in ("pretrain", "frozen", "finetune") for seed in (0, 1)
    )
    third = work_through(schedule, Answering(), num_workers=2)
    assert not schedule.waiting
    done = {event.spec.name for event in events if event.kind == "finished"}
    assert done == {job.spec.name for job in jobs(0, 1, 2, 3).values()} - schedule.failures.keys()
    assert len(third) == 4


def test_what_was_finished_when_the_pool_died_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dying(Answering):
        def submit(self, function: Any, stack: list[Job]) -> Any:  # type: ignore[override]
            if self.taken:
                return super().submit(function, stack)
            self.taken.append([job.spec.name for job in stack])
            future: Future[Any] = Future()
            future.set_exception(BrokenProcessPool())
            return future

    monkeypatch.setattr(schedules, "wait", lambda running, **_: (list(running), []))  # the dead one is seen first
    schedule = Schedule(jobs(0, 1), lambda _: None)
    first = work_through(schedule, Dying(), num_workers=2)
    assert first == [["fc-none-pretrain-s0"], ["fc-none-pretrain-s1"]]
    assert [record.spec.name for record in schedule.finished.values()] == ["fc-none-pretrain-s1"]
    second = work_through(schedule, Answering(), num_workers=2)
    assert ["fc-none-pretrain-s1"] not in second
    assert len(schedule.finished) == len(jobs(0, 1))


def test_where_no_worker_comes_to_life_there_is_no_third_pool() -> None:
    schedule = Schedule(jobs(0), lambda _: None)
    assert work_through(schedule, Answering(deadly=("fc-none-pretrain-s0",))) == [["fc-none-pretrain-s0"]]
    with pytest.raises(Failure, match="worker processes die before they train anything, twice in a row"):
        work_through(schedule, Answering(deadly=("fc-none-pretrain-s0",)))


def test_where_the_store_is_away_nothing_is_tried_once_more() -> None:
    class Away(Answering):
        def submit(self, _: Any, stack: list[Job]) -> Any:  # type: ignore[override]
            future: Future[Any] = Future()
            future.set_exception(BrokenProcessPool() if self.taken else Unavailable("it is away"))
            self.taken.append([job.spec.name for job in stack])
            return future

    events: list[Event] = []
    schedule = Schedule(jobs(0, 1), events.append)
    with pytest.raises(Unavailable, match="it is away"):
        work_through(schedule, Away(), num_workers=2)
    assert [event.kind for event in events] == ["failed"]


OF_EVIDENCE = {
    ("fc", "none"): {"pretrain": (50, 3.51), "frozen": (50, 0.14), "finetune": (19, 1.01), "scratch": (22, 1.42)},
    ("fc", "erasing"): {"pretrain": (48, 3.22), "frozen": (50, 0.67), "finetune": (36, 1.42), "scratch": (43, 1.45)},
    ("conv", "none"): {"pretrain": (50, 8.68), "frozen": (50, 0.16), "finetune": (38, 3.05), "scratch": (39, 3.02)},
    ("conv", "erasing"): {"pretrain": (50, 6.22), "frozen": (41, 1.58), "finetune": (46, 2.97), "scratch": (48, 3.01)},
}
"""Numbers of epochs, and seconds of each, as they were on MNIST (the project's folder `evidence`)."""


class Simulated(Executor):
    """An executor whose trainings take what a table says, on a clock of its own. `factor` makes some of them slower."""

    def __init__(self, factor: Mapping[str, float]) -> None:
        self.now_s, self.factor = 0.0, factor
        self._coming: list[tuple[float, int, Iterator[Event | None], Job, Future[Any]]] = []
        self._number = count()

    def submit(self, _: Any, stack: list[Job]) -> Any:  # type: ignore[override]
        (job,) = stack
        future: Future[Any] = Future()
        self._next(self._training(job), job, future)
        return future

    def _of(self, job: Job) -> tuple[int, float]:
        network, augmentation, variant = job.spec.cell
        num, each_s = OF_EVIDENCE[network, augmentation][variant]
        return num, each_s * self.factor.get(network, 1.0)

    def _training(self, job: Job) -> Iterator[Event | None]:
        num, each_s = self._of(job)
        best = num if num == job.spec.epochs else num - job.spec.settings.patience
        yield Event("started", job.spec)
        for epoch in range(1, num + 1):
            loss = 1 / epoch if epoch <= best else 1.0
            yield Event("epoch", job.spec, EpochResult(epoch, 1.0, loss, None, each_s, 1.0))

    def _next(self, training: Iterator[Event | None], job: Job, future: Future[Any]) -> None:
        event = next(training, None)
        takes_s = 0.0 if event and event.kind == "started" else self._of(job)[1] if event else BESIDE_S
        again = iter([event, *training])
        heappush(self._coming, (self.now_s + takes_s, next(self._number), again, job, future))

    def news(self) -> list[Event]:
        """What happens next."""
        if not self._coming:
            return []
        self.now_s, _, training, job, future = heappop(self._coming)
        event = next(training)
        if event is None:
            num, each_s = self._of(job)
            metrics = {"num_epochs": num, "training_s": num * each_s}
            future.set_result([Record(job.key[:32], None, job.key, 1, job.spec.identity(), metrics, {})])
            return []
        self._next(training, job, future)
        return [event]


@pytest.mark.parametrize("factor", [{}, {"fc": 0.3, "conv": 0.5}, {"fc": 3.0}], ids=["as it was", "faster", "slow fc"])
@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_the_time_left_of_a_default_grid_is_right_after_two_trainings(
    num_workers: int, factor: Mapping[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At that moment, and from then on; near the end by 5 % of the whole time at most."""
    simulated = Simulated(factor)
    monkeypatch.setattr("aepretrain.runner.forecast.time.monotonic", lambda: simulated.now_s)
    monkeypatch.setattr(schedules, "NEWS_INTERVAL_S", 0)
    missing = {job.spec: {job.spec} for job in jobs(0, networks=GRID_NETWORKS, augmentations=AUGMENTATIONS).values()}
    said: list[tuple[float, float, bool]] = []

    def listen(event: Event) -> None:
        if event.kind == "finished":
            del missing[event.spec]
        if len(missing) <= len(schedule.place) - 2:
            said.append((simulated.now_s, *schedule.forecast.time_left(missing)))

    schedule = Schedule(jobs(0, networks=GRID_NETWORKS, augmentations=AUGMENTATIONS), listen)
    schedule.work_through(Pool(simulated, lambda: num_workers, simulated.news))
    assert not missing
    assert said[0][1] == pytest.approx(simulated.now_s - said[0][0], rel=0.3)
    for at_s, left_s, all_known in said:
        assert all_known
        assert left_s == pytest.approx(simulated.now_s - at_s, rel=0.3, abs=0.05 * simulated.now_s), at_s
