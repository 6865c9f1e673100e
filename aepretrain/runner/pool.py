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
from aepretrain.runner.jobs import Event, perform
from aepretrain.runner.plan import Job
from aepretrain.runner.plugins import load_plugins
from aepretrain.stopping import stop_if_told, stop_on

START_METHOD = "forkserver" if sys.platform == "linux" else "spawn"
"""Never a plain fork: the parent has threads. A fork server has imported everything once for all workers."""

PRELOADED = ["aepretrain.runner"]
"""What that server imports."""

MAX_STACK = 100
"""The largest default number of seeds in a stack on an accelerator."""

TERMINATED = 128 + signal.SIGTERM
"""The exit code of a process that SIGTERM has ended."""

UNWIND_S = 4
"""How long a worker that is told to stop, or whose parent has died, may take to end its run."""


def train_in_worker(jobs: Sequence[Job]) -> list[Record | Failure]:
    """`perform`, with its news sent to whoever made this worker's pool.

    A worker that is told to stop ends its runs and then itself: the pool's own loop would take any exception for a
    result, and go on.
    """
    global _at_work
    _at_work = True
    try:
        results = perform(jobs, _report)
        _at_work = False
        stop_if_told()  # Python has lost the exception if it came in a finalizer at the end of all
        return results
    except SystemExit:
        os._exit(TERMINATED)
    finally:
        _at_work = False


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
    """A pool of processes that share the dataset's memory, stopped when the block is left.

    When it is left by an exception (Ctrl-C, SIGTERM), workers are told to stop: they end their runs as KILLED.
    """
    context = multiprocessing.get_context(START_METHOD)
    context.set_forkserver_preload(PRELOADED)  # without effect where the server runs already
    events: Queue[Event] = context.Queue()
    num = num_workers(execution)
    executor = ProcessPoolExecutor(num, context, _begin_worker, (events, execution, dataset.in_shared_memory()))
    try:
        yield Pool(executor, lambda: num, lambda: list(_drain(events)))
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
