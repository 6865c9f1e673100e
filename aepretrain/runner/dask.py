"""Workers on a Dask cluster, of one host or many; needs the extra ``dask``.

A worker is a process with one thread. It gets the dataset once, when it joins, and one stack of jobs at a time. If it
dies, Dask gives its stack to another worker, up to four times (``distributed.scheduler.allowed-failures``).
"""

import logging
import math
import os
import pickle
import queue
import socket
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

from distributed import Client, Scheduler, Status, Worker, WorkerPlugin, get_worker

from aepretrain import tracking, training
from aepretrain.config import Execution, TrainingSpec
from aepretrain.data import Dataset, adopt
from aepretrain.errors import Failure
from aepretrain.records import Record
from aepretrain.runner.accelerator import with_checked_device
from aepretrain.runner.events import Event, Listener
from aepretrain.runner.jobs import perform
from aepretrain.runner.plugins import load_plugins
from aepretrain.runner.pool import Pool
from aepretrain.runner.work import Job

CONNECT_S = 10
FIRST_WORKER_S = 60
"""How long to wait for the first worker."""

COUNT_INTERVAL_S = 5.0
"""How often workers are counted; those that join later get jobs after this time at most."""

EPOCH_INTERVAL_S = 1.0
"""A worker reports epochs no more often than this, as all reports go through the scheduler."""

CHECK_INTERVAL_S = 0.5
"""How often a worker checks whether its job is still wanted."""

PASSED_ON = ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "MLFLOW_HTTP_REQUEST_")
"""Prefixes of the environment variables that workers get, unless they have their own. Credentials are not sent."""

CLOSING = (Status.closing, Status.closed, Status.failed)

THREADS = (
    "the cluster has workers with several threads: start all with --nthreads 1, as two trainings in a process would mix"
)

LOST = "the cluster's scheduler is lost; what is finished is kept, and the same command goes on from there"


class Cluster:
    """The workers of a cluster that offer these resources; see `connect`."""

    def __init__(self, client: Client, resources: Mapping[str, float]) -> None:
        self._client, self._resources = client, resources
        self._num_workers, self._counted_s = 0, -COUNT_INTERVAL_S
        self._prepared: set[tuple[Any, ...]] = set()
        """The datasets, folders and plugins that workers have got."""

    def num_workers(self) -> int:
        """The number of workers, as counted some seconds ago.

        Raises `Failure` if the scheduler is lost or a worker has several threads.
        """
        if self._client.status != "running":
            raise Failure(LOST)
        if time.monotonic() - self._counted_s >= COUNT_INTERVAL_S:
            try:
                workers = self._client.scheduler_info()["workers"].values()
            except OSError:
                raise Failure(LOST) from None
            found = [worker for worker in workers if self._suits(worker)]
            if any(worker["nthreads"] != 1 for worker in found):
                raise Failure(THREADS)
            self._num_workers, self._counted_s = len(found), time.monotonic()
        return self._num_workers

    def _suits(self, worker: Mapping[str, Any]) -> bool:
        return all(worker["resources"].get(name, 0) >= least for name, least in self._resources.items())

    def wait_for_worker(self) -> None:
        """Wait for the first worker. Raises `Failure` if none joins."""
        until_s = time.monotonic() + FIRST_WORKER_S
        while not self.num_workers():
            if time.monotonic() > until_s:
                wanted = "".join(f" with {name}={least:g}" for name, least in self._resources.items())
                raise Failure(f"the cluster has no worker{wanted}")
            time.sleep(0.5)
            self._counted_s = -COUNT_INTERVAL_S

    def hosts(self) -> set[str]:
        """The names of the hosts of its workers."""
        return set(self._client.run(socket.gethostname).values())

    def _num_used(self, execution: Execution) -> int:
        num_workers = max(1, self.num_workers())  # while there is none, a stack waits for one
        return min(num_workers, execution.jobs) if execution.jobs else num_workers

    @contextmanager
    def pool(self, execution: Execution, dataset: Dataset) -> Iterator[Pool]:
        """Its workers as a pool, each with the dataset, also those that join later.

        If the block is left by an exception, workers stop their jobs (see `_is_wanted`).
        """
        self._prepare(execution, dataset)
        token = uuid.uuid4().hex
        news = _News()
        self._client.subscribe_topic(token, news.take)
        executor = self._client.get_executor(pure=False, resources=dict(self._resources) or None)
        try:
            yield Pool(executor, partial(self._num_used, execution), news.read, partial(_train, token))
        except BaseException:
            with suppress(Exception):  # the scheduler may be lost
                executor.shutdown(wait=False)
            raise

    def _prepare(self, execution: Execution, dataset: Dataset) -> None:
        """Give workers the dataset and the plugins, unless they have them, also workers that join later."""
        what = dataset.request, dataset.digests, execution.data_dir, execution.plugins
        if what in self._prepared:
            return
        settings = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
        preparation = _Preparation(dataset, execution, settings, self._client.id)
        try:
            self._client.run_on_scheduler(_forget_those_of_dead_clients)
            self._client.register_plugin(preparation)
        except Exception as error:
            if self._client.status != "running":
                raise Failure(LOST) from error
            raise Failure(
                f"the cluster's workers cannot be prepared; they need the same environment as this command "
                f"({tracking.one_line(error)})"
            ) from error
        self._prepared.add(what)

    def forget(self) -> None:
        """Workers that join from now on are not prepared for this command."""
        with suppress(Exception):
            if self._client.status == "running":
                self._client.run_on_scheduler(_forget_those_of, clients={self._client.id})


@contextmanager
def connect(address: str, resources: Mapping[str, float], store: tracking.Store) -> Iterator[Cluster]:
    """The cluster whose scheduler has this address, when it has a worker that offers these resources.

    Raises `Failure` if there is no scheduler, if no worker joins, and if workers on other hosts cannot reach the store.
    """
    for name in ("distributed", "distributed.client"):  # they have handlers of their own
        logging.getLogger(name).setLevel(logging.CRITICAL)  # we report lost connections ourselves
    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise Failure(f"there is no Dask scheduler at {address}: {tracking.one_line(error)}") from None
    try:
        cluster = Cluster(client, resources)
        cluster.wait_for_worker()
        check_hosts(cluster.hosts() - {socket.gethostname()}, store)
        try:
            yield cluster
        finally:
            cluster.forget()
    finally:
        with suppress(TimeoutError):  # must not replace the command's own error
            client.close(timeout=2)


def check_hosts(others: Collection[str], store: tracking.Store) -> None:
    """Check that workers on these hosts can write into the store. Raises `Failure`."""
    if others and (store.is_of_one_host or store.has_local_artifacts):
        raise Failure(
            f"the cluster has workers on {', '.join(sorted(others))}, which cannot write into "
            f"{tracking.shown_uri(store.uri)}: let them all track on a server (--tracking-uri, docs/deploy.md)"
        )


class _Preparation(WorkerPlugin):
    """What a worker gets once, when it joins; each command has one of its own."""

    def __init__(self, dataset: Dataset, execution: Execution, environment: Mapping[str, str], client: str) -> None:
        self.name = f"aepretrain {client} {uuid.uuid4().hex}"
        self._dataset, self._execution, self._environment = dataset, execution, environment

    def setup(self, worker: Worker) -> None:  # noqa: ARG002  # as Dask calls it
        for name, value in self._environment.items():
            os.environ.setdefault(name, value)
        adopt(self._dataset, self._execution.data_dir)
        load_plugins(self._execution)


def _forget_those_of(clients: Collection[str], dask_scheduler: Scheduler) -> None:
    """Run in the scheduler: remove the preparations of these clients for workers that join from now on."""
    for name in list(dask_scheduler.worker_plugins):
        if name.startswith("aepretrain ") and name.split()[1] in clients:
            del dask_scheduler.worker_plugins[name]


def _forget_those_of_dead_clients(dask_scheduler: Scheduler) -> None:
    """Remove also the preparations of commands that were killed."""
    names = [name for name in dask_scheduler.worker_plugins if name.startswith("aepretrain ")]
    _forget_those_of({name.split()[1] for name in names} - set(dask_scheduler.clients), dask_scheduler)


def _is_wanted() -> bool:
    """Whether a command still waits for the jobs of this worker's thread.

    The scheduler cancels the tasks of a client that is gone, and a worker that has lost its scheduler closes. In both
    cases Dask lets the thread go on.
    """
    worker = get_worker()
    task = worker.state.tasks.get(worker.get_current_task())
    return task is not None and task.state != "cancelled" and worker.status not in CLOSING


def _train(token: str, jobs: Sequence[Job]) -> list[Record | Failure]:
    """`perform` in a worker's thread, with its news sent to the command that made the pool of this token.

    When no command waits for it any more, it stops, and its runs end as KILLED.
    """
    if get_worker().state.nthreads != 1:  # it may have joined since the workers were counted
        raise Failure(THREADS)
    training.prepare_process(jobs[0].execution.threads)
    sent_s = checked_s = -math.inf

    def report(event: Event) -> None:
        nonlocal sent_s
        if event.kind == "epoch":
            if time.monotonic() - sent_s < EPOCH_INTERVAL_S:
                return
            sent_s = time.monotonic()
        get_worker().log_event(token, pickle.dumps(event))

    def check_stop() -> None:
        nonlocal checked_s
        if time.monotonic() - checked_s >= CHECK_INTERVAL_S:
            checked_s = time.monotonic()
            if not _is_wanted():
                raise KeyboardInterrupt

    try:
        return perform(_on_checked_device(jobs, report), report, check_stop)
    except KeyboardInterrupt:  # Dask would take it for a signal to itself
        raise Failure("stopped") from None


_checked: dict[str, str] = {}
"""The devices that this worker trains on, by those that were asked for."""


def _on_checked_device(jobs: Sequence[Job], report: Listener) -> list[Job]:
    """The jobs on the device that this worker trains on, which is checked before its first training.

    Raises `Failure` where the device was asked for by name and fails the check; the next stack checks it again.
    """
    asked = jobs[0].execution

    def warn(line: str) -> None:
        report(Event("warning", jobs[0].spec, message=f"on {socket.gethostname()}, {line}"))

    if asked.device not in _checked:
        _checked[asked.device] = with_checked_device(asked, jobs[0].store, warn).device
    return [replace(job, execution=replace(job.execution, device=_checked[asked.device])) for job in jobs]


class _News:
    """The events of workers. If a training begins a second time, its worker has died."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._begun: set[TrainingSpec] = set()

    def take(self, event: tuple[float, bytes]) -> None:
        """Called by Dask, in a thread of its own, with the time and a pickled event."""
        self._events.put(pickle.loads(event[1]))  # noqa: S301  # from our own workers

    def read(self) -> list[Event]:
        """The events since the last call."""
        events: list[Event] = []
        while not self._events.empty():
            event = self._events.get()
            if event.kind == "started" and event.spec in self._begun:
                events.append(Event("retried", event.spec))
            if event.kind == "started":
                self._begun.add(event.spec)
            events.append(event)
        return events
