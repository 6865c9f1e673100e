"""A clock that is set back by an hour between two runs changes no table, no report and no resume."""

import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from aepretrain import tracking
from aepretrain.records import EPOCH_METRICS, Record
from tests.chaos.damage import OPTIONS
from tests.commands import aepretrain

pytestmark = pytest.mark.chaos

HOUR_MS = 3_600_000


def an_hour_ago(*arguments: str, folder: Path, uri: str) -> str:
    """A command for which it is an hour earlier. (Its model, which takes seconds to export, is left out.)"""
    time_s, time_ns = time.time, time.time_ns
    with pytest.MonkeyPatch.context() as patched:  # the command's process inherits it
        patched.setattr(time, "time", lambda: time_s() - HOUR_MS / 1000)
        patched.setattr(time, "time_ns", lambda: time_ns() - HOUR_MS * 10**6)
        patched.setattr(tracking, "log_model", lambda *_: None)
        done = aepretrain(*arguments, folder=folder, MLFLOW_TRACKING_URI=uri)
    assert done.code == 0, done.err
    return done.out


def table(folder: Path, uri: str, name: str) -> dict[str, object]:
    done = aepretrain("compare", "--out", name, folder=folder, MLFLOW_TRACKING_URI=uri)
    assert done.code == 0, done.err
    return json.loads((folder / name / "grid.json").read_text())  # type: ignore[no-any-return]


def comparable(record: Record) -> dict[str, float]:
    return {name: value for name, value in record.metrics.items() if not name.endswith("_s")}


def test_what_is_trained_an_hour_earlier_is_the_same_and_the_latest_attempt(
    copied: Callable[[Path], str], tmp_path: Path
) -> None:
    uri = copied(tmp_path)
    store = tracking.open_store(uri, "own")
    now = aepretrain("scratch", *OPTIONS, "--force", "true", folder=tmp_path, MLFLOW_TRACKING_URI=uri)
    assert now.code == 0, now.err  # what was copied may be more than an hour old
    before = table(tmp_path, uri, "before")
    (first,) = (one for one in store.records().values() if one.cell[2] == "scratch")
    printed = an_hour_ago("scratch", *OPTIONS, folder=tmp_path, uri=uri)
    assert f"is done already: test accuracy {first.metrics['test_accuracy']:.4f}" in printed
    an_hour_ago("scratch", *OPTIONS, "--force", "true", folder=tmp_path, uri=uri)
    (second,) = (one for one in store.records().values() if one.cell[2] == "scratch")
    starts = [store.client.get_run(one.run_id).info.start_time for one in (first, second)]
    assert starts[1] < starts[0], "the clock was set back"
    assert (first.attempt, second.attempt) == (2, 3), "the higher attempt counts, whatever the clock says"
    assert comparable(second) == comparable(first)
    assert second.tags["weights_sha256"] == first.tags["weights_sha256"]
    after = table(tmp_path, uri, "after")
    assert json.dumps(after) == json.dumps(before).replace(first.run_id, second.run_id)


SHIFTS = (
    "UPDATE runs SET start_time = start_time - ?, end_time = end_time - ? WHERE rowid % 2 = {half}",
    "UPDATE metrics SET timestamp = timestamp - ? + 0 * ? WHERE rowid % 2 = {half}",
    "UPDATE latest_metrics SET timestamp = timestamp - ? + 0 * ? WHERE rowid % 2 = {half}",
)


@pytest.mark.parametrize("half", [0, 1])
def test_stored_times_that_run_backwards_change_nothing(
    half: int, copied: Callable[[Path], str], tmp_path: Path
) -> None:
    uri = copied(tmp_path)
    store = tracking.open_store(uri, "own")
    records, before = store.records(), table(tmp_path, uri, "before")
    histories = [store.curves(list(records.values()), metric) for metric in sorted(EPOCH_METRICS)]
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        changed = [connection.execute(shift.format(half=half), (HOUR_MS, HOUR_MS)).rowcount for shift in SHIFTS]
        connection.commit()
    assert min(changed) > 0
    assert store.records() == records
    assert [store.curves(list(records.values()), metric) for metric in sorted(EPOCH_METRICS)] == histories
    assert table(tmp_path, uri, "after") == before
    resumed = aepretrain("scratch", *OPTIONS, folder=tmp_path, MLFLOW_TRACKING_URI=uri)
    assert "is done already" in resumed.out, resumed.err
    assert len(list(store.search({"kind": "training", "variant": "scratch"}))) == 1
