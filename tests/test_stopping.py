"""Signals that stop the work: a flag that is checked where nothing is half-done, and what ends a process anyway."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy
from filelock import FileLock
from mlflow.exceptions import MlflowException
from sqlalchemy.orm import Session

from aepretrain import api, fork_server, runner, stopping, tracking
from aepretrain.cli import program
from aepretrain.config import Execution, Settings, TrainingSpec
from aepretrain.engine import train
from aepretrain.records import EpochResult
from aepretrain.runner import Event, pool
from aepretrain.tracking import DatasetReference, Store, retry
from tests.commands import Command, forget_connections, forked, start
from tests.tasks import make, task


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_a_deferred_block_stops_where_it_checks_and_ctrl_c_is_pythons_again_after_it() -> None:
    before, done = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with stopping.deferred():
            stopping.check()
            press_ctrl_c()
            done.append("the rest of the step")
            with stopping.deferred():
                stopping.check()
            done.append("the next step")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["the rest of the step"]
    assert signal.getsignal(signal.SIGINT) is before
    assert not stopping.is_requested()
    stopping.check()


def test_a_deferred_block_that_never_checks_stops_at_its_end() -> None:
    done = []

    @stopping.deferred()
    def work() -> None:
        press_ctrl_c()
        done.append("all")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["all"]


def test_an_error_in_a_deferred_block_stays_what_it_is() -> None:
    @stopping.deferred()
    def fail() -> None:
        press_ctrl_c()
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        fail()
    assert not stopping.is_requested()


def test_a_second_ctrl_c_interrupts_at_once() -> None:
    done = []

    def work() -> None:
        with stopping.deferred():
            press_ctrl_c()
            done.append("after the first")
            press_ctrl_c()
            done.append("after the second")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["after the first"]


def test_a_sleep_ends_with_a_signal() -> None:
    @stopping.deferred()
    def wait() -> None:
        press_ctrl_c()
        stopping.sleep(3600)

    with pytest.raises(KeyboardInterrupt):
        wait()


def test_waiting_for_a_lock_ends_with_a_signal(store: Store) -> None:
    got = []

    @stopping.deferred()
    def wait() -> None:
        with store.lock("key", press_ctrl_c):
            got.append("the lock")

    with FileLock(store.folder / "key.lock"), pytest.raises(KeyboardInterrupt):
        wait()
    assert not got


def test_a_store_that_is_away_is_not_waited_for_after_a_signal() -> None:
    calls = []

    class Away:
        def get_run(self) -> None:
            calls.append(1)
            press_ctrl_c()
            raise MlflowException("connection refused")

    client = retry.patient(Away(), 3600)  # type: ignore[arg-type]
    with pytest.raises(tracking.Unavailable), stopping.deferred():
        client.get_run()  # type: ignore[call-arg]
    assert calls == [1]


def test_training_stops_between_two_steps() -> None:
    steps: list[int] = []
    epochs: list[EpochResult] = []

    def on_step() -> None:
        steps.append(1)
        if len(steps) == 2:
            press_ctrl_c()
        stopping.check()

    one = task(make("fc", "classifier"), epochs=5)
    with pytest.raises(KeyboardInterrupt), stopping.deferred():
        train(one, lambda _, result: epochs.append(result), on_step=on_step)
    assert (len(steps), epochs) == (2, []), "in the first epoch"


def test_a_run_that_is_written_when_the_signal_comes_is_written_whole_and_killed(store: Store) -> None:
    """An exception in the middle of a database session would end as an error of SQLAlchemy's, and the run as FAILED."""
    spec = TrainingSpec(variant="scratch", network="fc")
    reference = DatasetReference("digits", "d" * 64, "here")
    run = tracking.open_training(store, spec, "k", reference, parent_run_id=None, run_id=None)

    def log() -> None:
        with stopping.deferred(), tracking.ending(run):
            run.log_metrics({"val_loss": 0.5})
            stopping.check()

    sqlalchemy.event.listen(Session, "before_commit", lambda _: press_ctrl_c(), once=True)
    with pytest.raises(KeyboardInterrupt):
        log()
    found = store.client.get_run(run.run_id)
    assert (found.info.status, found.data.metrics) == ("KILLED", {"loss/validation": 0.5})


def test_an_error_after_a_signal_ends_the_run_as_killed(store: Store) -> None:
    """As when the terminal is gone, and printing fails."""
    spec = TrainingSpec(variant="scratch", network="fc")
    reference = DatasetReference("digits", "d" * 64, "here")
    run = tracking.open_training(store, spec, "k", reference, parent_run_id=None, run_id=None)

    @stopping.deferred()
    def fail() -> None:
        with tracking.ending(run):
            press_ctrl_c()
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        fail()
    assert store.client.get_run(run.run_id).info.status == "KILLED"


def signals(command: Command, *numbers: int) -> int:
    """Send signals to a process that says that it is ready; gives its exit code."""
    wait_until_ready(command)
    for number in numbers:
        os.kill(command.pid, number)
        time.sleep(0.05)
    return command.finish().code


def wait_until_ready(command: Command) -> None:
    while not command.has_printed():
        assert command.poll() is None, command.poll()
        time.sleep(0.01)


def never_check(grace_s: float) -> None:
    """A process whose main thread never looks at the flag."""
    stopping.start(
        [signal.SIGTERM, signal.SIGHUP], idle=lambda _: None, end=lambda number: os._exit(number), grace_s=grace_s
    )
    os.write(1, b"ready")
    while True:
        time.sleep(1)


def test_the_same_signal_once_more_ends_a_process_at_once(tmp_path: Path) -> None:
    assert signals(start(partial(never_check, 3600), tmp_path), signal.SIGHUP, signal.SIGHUP) == signal.SIGHUP


def test_another_signal_after_the_first_changes_nothing(tmp_path: Path) -> None:
    """As when ``mlflow run`` sends SIGTERM after the terminal's Ctrl-C."""
    command = start(partial(never_check, 3600), tmp_path)
    wait_until_ready(command)
    os.kill(command.pid, signal.SIGHUP)
    time.sleep(0.05)
    os.kill(command.pid, signal.SIGTERM)
    assert command.wait(0.5) is None
    os.kill(command.pid, signal.SIGHUP)
    assert command.finish().code == signal.SIGHUP


def test_signals_that_others_handle_do_not_stop_the_work(tmp_path: Path) -> None:
    def with_alarm() -> None:
        signal.signal(signal.SIGALRM, lambda *_: None)
        never_check(0.2)

    command = start(with_alarm, tmp_path)
    wait_until_ready(command)
    os.kill(command.pid, signal.SIGALRM)
    assert command.wait(0.7) is None
    assert signals(command, signal.SIGTERM, signal.SIGALRM) == signal.SIGTERM


def test_a_process_that_does_not_stop_in_time_is_ended(tmp_path: Path) -> None:
    assert signals(start(partial(never_check, 0.2), tmp_path), signal.SIGTERM) == signal.SIGTERM


@pytest.mark.parametrize("looks", [True, False])
def test_a_worker_ends_whether_its_training_looks_at_the_flag_or_not(looks: bool, tmp_path: Path) -> None:
    """A pool that is broken would wait for it forever."""

    def perform(*_: object) -> None:
        os.write(1, b"ready")
        while True:
            time.sleep(0.01)
            if looks:
                stopping.check()

    def work() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pool, "perform", perform)
            pool._handle_signals(3600 if looks else 0.2)
            pool.train_in_worker([])

    assert signals(start(work, tmp_path), signal.SIGTERM) == pool.TERMINATED


def test_a_worker_ends_its_runs_also_if_it_is_told_twice(tmp_path: Path) -> None:
    """A pool's executor terminates all workers when the first has ended, whether they were told before or not."""

    def perform(*_: object) -> None:
        os.write(1, b"ready")
        try:
            while True:
                time.sleep(0.01)
                stopping.check()
        finally:
            time.sleep(0.5)  # as a run that is ended on a busy disk
            os.write(1, b", ended its runs")

    def work() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pool, "perform", perform)
            pool._handle_signals(3600)
            pool.train_in_worker([])

    command = start(work, tmp_path)
    assert signals(command, signal.SIGTERM, signal.SIGTERM, signal.SIGTERM) == pool.TERMINATED
    assert command.finish().out == "ready, ended its runs"


def test_a_worker_without_work_ends_at_once(tmp_path: Path) -> None:
    def work() -> None:
        pool._handle_signals(3600)
        os.write(1, b"ready")
        while True:
            time.sleep(1)

    assert signals(start(work, tmp_path), signal.SIGTERM) == pool.TERMINATED


def test_a_command_under_nohup_goes_on_after_a_hang_up() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        assert program._signals() == [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        assert program._signals() == [signal.SIGINT, signal.SIGTERM]
    finally:
        signal.signal(signal.SIGHUP, before)


TRAINING = ("scratch", "--network", "fc", "--dataset", "digits", "--epochs", "1")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_waits_for_a_lock_stops(number: int, store: Store, uri: str, tmp_path: Path) -> None:
    keys = []

    def note(event: Event) -> None:
        keys.append(event.record.key if event.record else "")

    spec = TrainingSpec(variant="scratch", network="fc", settings=Settings(dataset="digits", cls_epochs=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking, "log_model", lambda *_: None)
        runner.run_single(spec, store, Execution(device="cpu"), note)
    with FileLock(store.folder / f"{keys[-1]}.lock"):
        command = start(partial(forked, *TRAINING, "--force", "true"), tmp_path, MLFLOW_TRACKING_URI=uri)
        assert signals(command, number) == 128 + number
    assert "the same command goes on from there" in command.finish().complaint()
    assert "waiting" in command.finish().out
    assert len(list(store.search({"kind": "training"}))) == 1, "it had not begun"


def train_until_interrupted(uri: str) -> None:
    """A script that trains a grid, and is told by `KeyboardInterrupt` that Ctrl-C was pressed."""
    forget_connections()
    os.register_at_fork(after_in_child=forget_connections)
    fork_server.START_METHOD = "fork"
    settings = Settings(dataset="digits", ae_epochs=100_000, cls_epochs=100_000, patience=0)
    try:
        api.run_grid(
            networks=["fc"],
            augmentations=["none"],
            settings=settings,
            execution=Execution(device="cpu", jobs=2),
            tracking_uri=uri,
            show=False,
        )
    except KeyboardInterrupt:
        is_as_before = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        os.write(1, f"interrupted, {is_as_before}".encode())


def test_ctrl_c_stops_a_grid_that_a_script_trains(uri: str, store: Store, tmp_path: Path) -> None:
    command = start(partial(train_until_interrupted, uri), tmp_path)
    while len(list(store.search({"kind": "training"}, "metrics.`loss/validation` > 0"))) < 2:
        assert command.poll() is None, command.poll()
        time.sleep(0.1)
    os.kill(command.pid, signal.SIGINT)
    done = command.finish()
    assert (done.code, done.out, done.err) == (0, "interrupted, True", "")
    assert [run.info.status for run in store.search({})] == ["KILLED"] * 3


def test_a_thread_leaves_signals_as_they_are() -> None:
    before = signal.getsignal(signal.SIGINT)

    def look() -> object:
        with stopping.ignored():
            return signal.getsignal(signal.SIGINT)

    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(look).result() is before
    with stopping.ignored():
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) is before
