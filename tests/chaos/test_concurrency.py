"""Several processes on one store at once: nothing lost, nothing trained twice, no complaint."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aepretrain import tracking
from tests.chaos.conftest import OPTIONS, Commands, check_store
from tests.conftest import ROOT

pytestmark = pytest.mark.chaos


def test_two_grids_at_once_on_a_store_that_does_not_exist_train_each_cell_once(
    commands: Commands, expected: dict[str, Any], tmp_path: Path
) -> None:
    """The same grid, and half of it, whose parent is another."""
    uri = commands.environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path}/new.db"
    half = ("--augmentation", "erasing")
    processes = [commands.start("grid", *OPTIONS, *more, "--jobs", "1") for more in ((), half, ())]
    printed = [process.communicate(timeout=500) for process in processes]
    for process, (out, errors) in zip(processes, printed, strict=True):
        assert (process.returncode, errors) == (0, ""), out
    store = tracking.open_store(uri)
    check_store(store, expected)
    assert len(list(store.search({"kind": "training"}))) == len(expected), "no cell was even begun twice"


WRITER = """
import sys
from aepretrain import tracking

uri, number, num_batches = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
store = tracking.open_store(uri)
run = tracking.Run(store, store.client.create_run(store.experiment_id).info.run_id)
with tracking.Sender(store) as sender:
    run = run.journaled(f"writer{number}", sender)
    for batch in range(num_batches):
        run.log_metrics({f"m{i}": number * 1000 + batch + i / 16 for i in range(10)}, batch)
    run.finish()
"""


def test_8_processes_that_make_a_store_and_write_lose_no_number(tmp_path: Path, full_length: bool) -> None:
    num_processes, num_batches = (8, 200) if full_length else (4, 50)
    uri = f"sqlite:///{tmp_path}/new.db"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, uri, str(number), str(num_batches)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(num_processes)
    ]
    errors = [process.communicate(timeout=500)[1] for process in processes]
    assert "database is locked" not in "".join(errors)
    assert [process.returncode for process in processes] == [0] * num_processes, errors
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
