"""Signals that stop the work: at once, but never in the middle of what must be whole."""

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy.orm import Session

from aepretrain import tracking
from aepretrain.config import TrainingSpec
from aepretrain.errors import Failure
from aepretrain.records import Record
from aepretrain.runner import pool
from aepretrain.stopping import is_stopping, stop_if_told, stop_on, whole
from aepretrain.tracking import DatasetReference, Store
from tests.commands import start

pytestmark = pytest.mark.usefixtures("stopping")


def send() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_outside_it_stops_at_once() -> None:
    with pytest.raises(SystemExit):
        send()


def test_what_is_whole_is_done_to_its_end() -> None:
    done = []

    @whole()
    def inner() -> None:
        send()
        done.append("inner")

    @whole()
    def outer() -> None:
        inner()
        done.append("outer")

    with pytest.raises(SystemExit):
        outer()
    assert done == ["inner", "outer"]


def test_a_second_signal_does_not_disturb() -> None:
    with pytest.raises(SystemExit):
        send()
    send()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_stop_that_is_lost_comes_again() -> None:
    class Finalized:
        def __del__(self) -> None:
            send()

    @whole()
    def write() -> None:
        pass

    Finalized()
    with pytest.raises(SystemExit):
        write()


def test_unwinding_is_not_stopped() -> None:
    ended = []
    try:
        send()
    except SystemExit:
        with whole():
            ended.append("run")
    assert ended == ["run"]


def test_an_error_while_unwinding_does_not_stop_it_again() -> None:
    @whole()
    def fail() -> None:
        raise ValueError

    try:
        send()
    except SystemExit:
        with suppress(ValueError):
            fail()


def test_a_wait_within_a_whole_can_be_stopped() -> None:
    done = []

    @whole()
    def wait() -> None:
        send()
        done.append("the step before the wait")
        assert is_stopping()
        stop_if_told()
        done.append("the step after it")

    with pytest.raises(SystemExit):
        wait()
    assert done == ["the step before the wait"]


def test_it_stops_after_an_error_too() -> None:
    @whole()
    def fail() -> None:
        send()
        raise ValueError

    with pytest.raises(SystemExit) as stop:
        fail()
    assert isinstance(stop.value.__context__, ValueError)


def test_a_run_that_is_stopped_while_it_is_written_is_killed(store: Store) -> None:
    """An exception in the middle of a database session ends as an error of SQLAlchemy's, and the run as FAILED."""
    spec = TrainingSpec(variant="scratch", network="fc")
    reference = DatasetReference("digits", "d" * 64, "here")
    run = tracking.open_training(store, spec, "k", reference, parent_run_id=None, run_id=None)

    def log() -> None:
        with tracking.ending(run):
            run.log_metrics({"val_loss": 0.5})

    sqlalchemy.event.listen(Session, "before_commit", lambda _: send(), once=True)
    with pytest.raises(SystemExit):
        log()
    found = store.client.get_run(run.run_id)
    assert (found.info.status, found.data.metrics) == ("KILLED", {"loss/validation": 0.5})


class Finalized:
    """Python ignores what is raised where this one goes."""

    def __del__(self) -> None:
        send()


@pytest.mark.parametrize(("then_s", "longest_s"), [(0, 10), (40, 35)])
def test_a_worker_ends_although_the_exception_is_lost(then_s: float, longest_s: float, tmp_path: Path) -> None:
    """In the last moment of a training, or before a long wait: a pool that is broken would wait for it forever."""

    def perform(*_: object) -> list[Record | Failure]:
        Finalized()
        time.sleep(then_s)
        return []

    def work() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pool, "perform", perform)
            patch.setattr(pool, "UNWIND_S", 4 if then_s else 30)
            patch.setattr(sys, "unraisablehook", lambda lost: os.write(2, repr(lost.exc_value).encode()))
            stop_on(signal.SIGTERM, pool._stop)
            pool.train_in_worker([])
        time.sleep(40)  # where a pool's loop waits for more

    done = start(work, tmp_path).finish()
    assert done.code == pool.TERMINATED, done
    assert done.err == f"SystemExit({pool.TERMINATED})", "it was lost, once"
    assert done.elapsed_s < longest_s
