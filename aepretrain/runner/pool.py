"""Worker processes on this machine, and the events that they send."""

import multiprocessing
import os
import pickle
import queue
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from pathlib import Path
from typing import NoReturn

import joblib

from aepretrain import fork_server, stopping, training
from aepretrain.config import Execution
from aepretrain.data import Dataset, adopt
from aepretrain.errors import Failure
from aepretrain.records import Record
from aepretrain.runner.events import Event
from aepretrain.runner.jobs import perform
from aepretrain.runner.plugins import load_plugins
from aepretrain.runner.work import Job

MAX_STACK = 100
"""The largest default number of seeds in a stack on an accelerator."""

TERMINATED = 128 + signal.SIGTERM
"""The exit code of a process that SIGTERM has ended."""

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # where Linux has it
SPARE_BYTES = 1_000_000
"""What is left for semaphores."""

GRACE_S = 3.0
"""How long a worker that is asked to stop, or whose parent has died, may take to end its runs."""


def train_in_worker(jobs: Sequence[Job]) -> list[Record | Failure]:
    """`perform`, with its news sent to the process that made this worker's pool.

    A worker that is asked to stop ends its runs and then itself: the pool's own loop would take the exception for a
    result, and wait for the next stack.
    """
    try:
        with stopping.deferred():
            return perform(jobs, _report)
    finally:
        if stopping.is_requested():
            _end()


def _end(*_: object) -> NoReturn:
    os._exit(TERMINATED)


@dataclass(frozen=True)
class Pool:
    """An executor, the number of stacks that it can train at once now, and the news of its workers.

    `news` gives the events since its last call. `train` is the function that a worker calls with a stack.
    """

    executor: Executor
    num_workers: Callable[[], int]
    news: Callable[[], list[Event]] = list
    train: Callable[[Sequence[Job]], list[Record | Failure]] = train_in_worker


def num_workers(execution: Execution) -> int:
    """The number of worker processes: ``--jobs``, or that of physical cores.

    On an accelerator 2 by default: one worker computes while the other writes its results.
    """
    on_cpu = training.resolve_device(execution.device).type == "cpu"
    return execution.jobs or (int(joblib.cpu_count(only_physical_cores=True)) if on_cpu else 2)


def stack_size(execution: Execution) -> int:
    """The number of seeds trained as one stack: ``--stack``, or 1 on a CPU, where more are no faster.

    On an accelerator all seeds of a cell by default, up to a number that limits what a crash can lose.
    """
    on_cpu = training.resolve_device(execution.device).type == "cpu"
    return execution.stack or (1 if on_cpu else MAX_STACK)


@contextmanager
def local_pool(execution: Execution, dataset: Dataset) -> Iterator[Pool]:
    """A pool of processes that share the dataset's memory where there is room, stopped when the block is left.

    If it is left by an exception, workers are asked to stop: they end their runs as KILLED.
    """
    context = multiprocessing.get_context(fork_server.START_METHOD)
    if fork_server.START_METHOD == "forkserver":
        _start_server()
    num = num_workers(execution)
    try:
        events: Queue[Event] = context.Queue()
        executor = ProcessPoolExecutor(num, context, _begin_worker, (events, execution, _to_send(dataset)))
    except OSError as error:  # semaphores are files there
        raise Failure(
            f"worker processes need a little room in /dev/shm, and there is none ({error.strerror or error}); "
            "remove files from it, or make it larger (docker run --shm-size=64m)"
        ) from None
    try:
        yield Pool(executor, lambda: num, lambda: list(_drain(events)))
        executor.shutdown()
    except BaseException:
        workers = multiprocessing.active_children()
        for worker in workers:
            worker.terminate()
        executor.shutdown(wait=False, cancel_futures=True)
        _wait_for_end(workers)
        raise


def _to_send(dataset: Dataset) -> Dataset | bytes:
    """What a worker gets: the dataset in shared memory, or, where there is no room for it, a copy for each worker.

    A container has 64 MB by default. PyTorch is not asked to try: it would leave a file there that fills it.
    """
    is_there = dataset.images_NCHW.is_shared() or not SHARED_MEMORY.is_dir()
    has_room = is_there or shutil.disk_usage(SHARED_MEMORY).free > dataset.num_bytes + SPARE_BYTES
    return dataset.in_shared_memory() if has_room else pickle.dumps(dataset)


def _start_server() -> None:
    """Wait until the fork server, which imports for seconds, answers; a signal ends the waiting."""
    fork_server.launch()
    process = multiprocessing.get_context("forkserver").Process(target=int)  # does nothing
    starting = threading.Thread(target=process.start, daemon=True)
    starting.start()
    while starting.is_alive():
        stopping.check()
        starting.join(0.1)


def _wait_for_end(workers: Sequence[BaseProcess]) -> None:
    """Wait for workers that were asked to stop, and kill those that take too long."""
    until_s = time.monotonic() + GRACE_S
    for worker in workers:
        worker.join(max(0, until_s - time.monotonic()))
        worker.kill()


_events: "Queue[Event] | None" = None
"""The pool's queue, set once when a worker begins: a job cannot carry it."""


def _report(event: Event) -> None:
    if _events is not None:
        _events.put(event)


def _drain(events: "Queue[Event]") -> Iterator[Event]:
    while True:
        try:
            yield events.get_nowait()
        except queue.Empty:
            return


def _begin_worker(events: "Queue[Event]", execution: Execution, sent: Dataset | bytes) -> None:
    global _events
    _events = events
    _handle_signals()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    dataset = pickle.loads(sent) if isinstance(sent, bytes) else sent  # noqa: S301  # from the process that made this one
    adopt(dataset, execution.data_dir)
    events.cancel_join_thread()  # a worker that ends does not wait until its news are read
    training.prepare_process(execution.threads)
    load_plugins(execution)


def _handle_signals(grace_s: float = GRACE_S) -> None:
    """Stop at SIGTERM, and leave to the parent what a terminal sends to all processes.

    A second SIGTERM changes nothing, as it must not cut off a worker that is ending its runs. The executor sends one as
    soon as another worker has ended, and a service manager sends one beside the parent's.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    stopping.start([signal.SIGTERM], idle=_end, end=_end, grace_s=grace_s, second_ends=False)


def _end_with_parent() -> None:
    """Stop this worker when the process that made it has died."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
