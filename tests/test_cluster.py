"""Which workers of a Dask cluster are for cells; a real cluster is in tests/integration/test_server.py."""

from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import pytest
from distributed import Client

from aepretrain import tracking
from aepretrain.data import Dataset
from aepretrain.spec import Execution, Failure
from aepretrain.suite.cluster import Cluster, check_hosts


def cluster(resources: dict[str, float], *workers: dict[str, Any]) -> Cluster:
    """A cluster of workers as Dask's scheduler tells of them."""
    told = {f"tcp://10.0.0.{i}:1": worker for i, worker in enumerate(workers)}
    return Cluster(cast(Client, SimpleNamespace(status="running", scheduler_info=lambda: {"workers": told})), resources)


def worker(num_threads: int, **resources: float) -> dict[str, Any]:
    return {"nthreads": num_threads, "resources": resources}


def test_workers_that_offer_less_than_is_asked_for_are_not_counted() -> None:
    workers = worker(1, GPU=0.5), worker(1, GPU=0.25), worker(1), worker(8)
    assert cluster({"GPU": 0.5}, *workers).num_workers() == 1
    assert cluster({}, *workers[:3]).num_workers() == 3


def test_workers_with_several_threads_are_refused() -> None:
    with pytest.raises(Failure, match="several threads: start all with --nthreads 1"):
        cluster({}, worker(1), worker(2)).num_workers()


def test_workers_on_other_hosts_need_a_store_that_they_reach(store: tracking.Store) -> None:
    check_hosts([], store)
    with pytest.raises(Failure, match=r"workers on far, near, which cannot write into .*track on a server"):
        check_hosts(["near", "far"], store)
    database = tracking.Store("postgresql://me:g3heim@db/mlflow", store.experiment_id)
    with mock.patch.object(tracking.Store, "client", store.client), pytest.raises(Failure) as error:
        check_hosts(["far"], database)  # whose files would lie on each worker's own disk
    assert "g3heim" not in str(error.value)


def prepared(calls: list[str]) -> Cluster:
    """A cluster that notes the plugins that its scheduler is given and told to forget."""
    client = mock.Mock(spec=Client, status="running")
    client.register_plugin.side_effect = lambda plugin: calls.append(f"+{plugin.name}")
    client.unregister_worker_plugin.side_effect = lambda name: calls.append(f"-{name}")
    return Cluster(client, {})


def test_the_dataset_is_sent_once_for_a_command_and_forgotten_with_it(digits: Dataset) -> None:
    calls: list[str] = []
    one, other = prepared(calls), prepared(calls)
    for cluster in (one, one, other):  # as a study does, which trains in several pools
        with cluster.pool(Execution(), digits):
            pass
    assert len(calls) == 2
    assert calls[0] != calls[1], "another command's stays"
    one.forget()
    assert calls[2:] == [calls[0].replace("+", "-")]
