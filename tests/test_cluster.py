"""Which workers of a Dask cluster are for cells; a real cluster is in tests/integration/test_server.py."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from distributed import Client

from aepretrain.spec import Failure
from aepretrain.suite.cluster import Cluster


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
