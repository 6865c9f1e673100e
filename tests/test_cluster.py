"""Which workers of a Dask cluster are for cells; a real cluster is in tests/integration/test_dask.py."""

import sys
from types import SimpleNamespace
from typing import Any, NoReturn, cast
from unittest import mock

import pytest
from click.testing import CliRunner
from distributed import Client

from aepretrain import runner, tracking
from aepretrain.cli.commands import cli
from aepretrain.config import Execution
from aepretrain.data import Dataset
from aepretrain.errors import Failure
from aepretrain.runner import dask
from aepretrain.runner.dask import Cluster, check_hosts


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


def prepared(name: str, scheduler: Any) -> Cluster:
    """A client of a scheduler that keeps what it is given for workers that join."""
    client = mock.Mock(spec=Client, status="running", id=name)
    client.register_plugin.side_effect = lambda plugin: scheduler.worker_plugins.update({plugin.name: plugin})
    client.run_on_scheduler.side_effect = lambda function, **given: function(dask_scheduler=scheduler, **given)
    scheduler.clients[name] = client
    return Cluster(client, {})


def test_the_dataset_is_sent_once_for_a_command_and_forgotten_with_it(digits: Dataset) -> None:
    scheduler = SimpleNamespace(worker_plugins={"another program's": None}, clients={})
    one, other = prepared("Client-1", scheduler), prepared("Client-2", scheduler)
    for cluster in (one, one, other):  # as a study does, which trains in several pools
        with cluster.pool(Execution(), digits):
            pass
    registered = list(scheduler.worker_plugins)
    assert [name.split()[:2] for name in registered[1:]] == [["aepretrain", "Client-1"], ["aepretrain", "Client-2"]]
    one.forget()
    assert list(scheduler.worker_plugins) == [registered[0], registered[2]], "another command's stays"
    del scheduler.clients["Client-2"]  # killed: it forgets nothing
    with prepared("Client-3", scheduler).pool(Execution(), digits):
        assert [name.split()[1] for name in scheduler.worker_plugins] == ["program's", "Client-3"]


def test_what_could_not_be_prepared_is_not_taken_for_prepared(digits: Dataset) -> None:
    scheduler = SimpleNamespace(worker_plugins={}, clients={})
    cluster = prepared("Client-1", scheduler)
    with (
        mock.patch.object(cluster._client, "register_plugin", side_effect=ModuleNotFoundError("no module")),
        pytest.raises(Failure, match="cannot be prepared"),
        cluster.pool(Execution(), digits),
    ):
        pass
    with cluster.pool(Execution(), digits):
        assert len(scheduler.worker_plugins) == 1


def unreachable() -> NoReturn:
    raise OSError("Timed out")


def test_a_lost_scheduler_is_told_in_a_line() -> None:
    for client in (
        SimpleNamespace(status="closed"),
        SimpleNamespace(status="running", scheduler_info=unreachable),
    ):
        with pytest.raises(Failure, match="the cluster's scheduler is lost; what is finished is kept"):
            Cluster(cast(Client, client), {}).num_workers()


def test_a_scheduler_that_is_lost_while_workers_are_prepared_is_told_so(digits: Dataset) -> None:
    cluster = prepared("Client-1", SimpleNamespace(worker_plugins={}, clients={}))
    client = cast(Any, cluster._client)

    def lose(_: object) -> NoReturn:
        client.status = "closed"
        raise OSError("closed")

    client.register_plugin.side_effect = lose
    with pytest.raises(Failure, match="scheduler is lost"), cluster.pool(Execution(), digits):
        pass


def test_a_cluster_without_a_worker_is_told_with_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask, "FIRST_WORKER_S", -1)
    with pytest.raises(Failure, match=r"^the cluster has no worker with GPU=0\.5$"):
        cluster({"GPU": 0.5}, worker(1)).wait_for_worker()


def test_without_dask_a_cluster_is_refused_with_the_way_to_install_it(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(runner, "dask")
    monkeypatch.setitem(sys.modules, "aepretrain.runner.dask", None)
    result = CliRunner().invoke(cli, ["grid", "--cluster", "tcp://127.0.0.1:1", "--tracking-uri", uri])
    assert isinstance(result.exception, Failure)
    assert str(result.exception).startswith('a cluster needs Dask, the extra "dask" of this package')


def test_the_first_worker_is_waited_for() -> None:
    answers = iter([{}, {"tcp://10.0.0.1:1": worker(1)}])
    client = SimpleNamespace(status="running", scheduler_info=lambda: {"workers": next(answers)})
    cluster = Cluster(cast(Client, client), {})
    cluster.wait_for_worker()
    assert cluster.num_workers() == 1
