"""Worker processes on this machine, and the news they send while they train."""

import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from typing import NoReturn

import joblib

from aepretrain import training
from aepretrain.config import Execution
from aepretrain.data import Dataset, adopt
from aepretrain.errors import Failure
from aepretrain.records import Record
from aepretrain.runner.jobs import Event, Work, perform
from aepretrain.runner.plugins import load_plugins
from aepretrain.stopping import stop_if_told, stop_on

START_METHOD = "forkserver" if sys.platform == "linux" else "spawn"
"""Never a plain fork: the parent has threads. A fork server has imported everything once for all workers."""

PRELOADED = ["aepretrain.runner"]
"""What that server imports."""

MAX_STACK = 100
"""The most seeds that an accelerator carries at once unless told otherwise."""

TERMINATED = 128 + signal.SIGTERM
"""The exit code of a process that SIGTERM has ended."""

UNWIND_S = 4
"""How long a worker that is told to stop, or whose parent has died, may take to end its run."""


def train_in_worker(works: Sequence[Work]) -> list[Record | Failure]:
    """`perform`, with its news sent to whoever made this worker's pool.

    A worker that is told to stop ends its runs and then itself: the pool's own loop would take any exception for a
    result, and go on.
    """
    global _at_work
    _at_work = True
    try:
        results = perform(works, _report)
        _at_work = False
        stop_if_told()  # Python has lost the exception if it came in a finalizer at the end of all
        return results
    except SystemExit:
        os._exit(TERMINATED)
    finally:
        _at_work = False


@dataclass(frozen=True)
class Pool:
    """Somewhere to train: any executor, how many stacks it takes at once now, and the news of its workers.

    `news` gives the events that have come since it was last asked; an executor without a way back gives none. `train`
    is what a worker is told to do with a stack.
    """

    executor: Executor
    jobs: Callable[[], int]
    news: Callable[[], list[Event]] = list
    train: Callable[[Sequence[Work]], list[Record | Failure]] = train_in_worker


def num_jobs(execution: Execution) -> int:
    """How many stacks are trained at once: as many as asked for, or as there are physical cores.

    On an accelerator two, so that one computes while the other writes what it has computed.
    """
    on_cpu = training.resolve_device(execution.device).type == "cpu"
    return execution.jobs or (int(joblib.cpu_count(only_physical_cores=True)) if on_cpu else 2)


def stack_size(execution: Execution) -> int:
    """How many seeds are trained as one stack: as many as asked for, or one on a CPU, where more gain nothing.

    On an accelerator as many as a grid has, up to a number at which what is lost by a crash stays small.
    """
    on_cpu = training.resolve_device(execution.device).type == "cpu"
    return execution.stack or (1 if on_cpu else MAX_STACK)


@contextmanager
def local_pool(execution: Execution, dataset: Dataset) -> Iterator[Pool]:
    """A pool of processes that share the dataset's memory, stopped when the block is left.

    When it is left by an exception (Ctrl-C, SIGTERM), workers are told to stop: they end their runs as KILLED.
    """
    context = multiprocessing.get_context(START_METHOD)
    context.set_forkserver_preload(PRELOADED)  # without effect where the server runs already
    events: Queue[Event] = context.Queue()
    jobs = num_jobs(execution)
    executor = ProcessPoolExecutor(jobs, context, _begin_worker, (events, execution, dataset.in_shared_memory()))
    try:
        yield Pool(executor, lambda: jobs, lambda: list(_drain(events)))
        executor.shutdown()
    except BaseException:
        workers = multiprocessing.active_children()
        for worker in workers:
            worker.terminate()
        executor.shutdown(wait=False, cancel_futures=True)
        _see_end(workers)
        raise


def _see_end(workers: Sequence[BaseProcess]) -> None:
    """Wait for workers that were told to stop, and kill those that take too long to end their runs."""
    until_s = time.monotonic() + UNWIND_S
    for worker in workers:
        worker.join(max(0, until_s - time.monotonic()))
        worker.kill()


_at_work = False
"""Whether this worker has runs to end before it stops."""

_events: "Queue[Event] | None" = None
"""Set once, when a worker of a local pool begins; there is no other way to hand a queue to a worker."""


def _report(event: Event) -> None:
    if _events is not None:
        _events.put(event)


def _drain(events: "Queue[Event]") -> Iterator[Event]:
    while True:
        try:
            yield events.get_nowait()
        except queue.Empty:
            return


def _begin_worker(events: "Queue[Event]", execution: Execution, dataset: Dataset) -> None:
    global _events
    _events = events
    adopt(dataset, execution.data_dir)
    events.cancel_join_thread()  # a worker that ends does not wait until its news are read
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is the parent's to answer
    stop_on(signal.SIGTERM, _stop)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    training.prepare_process(execution.threads)
    load_plugins(execution)


def _stop() -> NoReturn:
    """Unwind, so that the runs at hand are ended as KILLED; where there are none, or it takes too long, end."""
    if not _at_work:
        os._exit(TERMINATED)
    deadline = threading.Timer(UNWIND_S, os._exit, (TERMINATED,))  # a broken pool waits for its workers without limit
    deadline.daemon = True
    deadline.start()
    sys.exit(TERMINATED)


def _end_with_parent() -> None:
    """Stop this worker when the process that made it has died without a word."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(UNWIND_S)
        os._exit(TERMINATED)
