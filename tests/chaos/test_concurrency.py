"""Several processes on one store at once: nothing lost, nothing trained twice, no complaint."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from aepretrain import tracking
from tests.chaos.conftest import Commands, check_store
from tests.commands import start

pytestmark = pytest.mark.chaos


def test_grids_at_once_on_a_store_that_does_not_exist_train_each_cell_once(
    commands: Commands, options: tuple[str, ...], expected: dict[str, Any], full_length: bool, tmp_path: Path
) -> None:
    """The same grid twice, and (at full length) half of it, whose parent is another."""
    uri = commands.environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path}/new.db"
    half = ("--network", "fc", "--augmentation", "erasing")
    started = [
        commands.start("grid", *options, *more, "--jobs", "1") for more in (((), half, ()) if full_length else ((), ()))
    ]
    for command in started:
        done = command.finish()
        assert (done.code, done.err) == (0, ""), done.out
    store = tracking.open_store(uri)
    check_store(store, expected)
    assert len(list(store.search({"kind": "training"}))) == len(expected), "no cell was even begun twice"


def write(uri: str, number: int, num_batches: int) -> None:
    """A run with batches of 10 numbers, each a request of its own, past the journal, which would try again."""
    store = tracking.open_store(uri)
    run = tracking.Run(store, store.client.create_run(store.experiment_id).info.run_id)
    for batch in range(num_batches):
        run.log_metrics({f"m{i}": number * 1000 + batch + i / 16 for i in range(10)}, batch)
    run.finish()


def test_processes_that_make_a_store_and_write_lose_no_number(full_length: bool, tmp_path: Path) -> None:
    num_processes, num_batches = (8, 200) if full_length else (4, 40)
    uri = f"sqlite:///{tmp_path}/new.db"
    writers = [start(partial(write, uri, number, num_batches), tmp_path) for number in range(num_processes)]
    found = [writer.finish() for writer in writers]
    assert "database is locked" not in "".join(done.out + done.err for done in found)
    assert [done.code for done in found] == [0] * num_processes, found
    store = tracking.open_store(uri)
    assert len(store.client.search_experiments()) == 2, "MLflow's own, and ours once"
    runs = store.client.search_runs([store.experiment_id])
    assert len(runs) == num_processes
    numbers = set()
    for run in runs:
        assert run.info.status == "FINISHED"
        for i in range(10):
            points = store.client.get_metric_history(run.info.run_id, f"m{i}")
            assert [point.step for point in points] == list(range(num_batches))
            (number,) = {point.value - point.step - i / 16 for point in points}
            numbers.add(number)
    assert numbers == {number * 1000.0 for number in range(num_processes)}
    print(f"numbers: {num_processes * num_batches * 10:,} by {num_processes} processes, lost: 0")
