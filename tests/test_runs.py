"""Listing, showing and deleting runs, and removing what interrupted trainings left."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from aepretrain import api
from aepretrain.cli.commands import cli
from aepretrain.errors import Failure, UsageError
from aepretrain.tracking import Store, journals_folder
from aepretrain.tracking.journal import Journal
from aepretrain.tracking.operations import Operation
from tests.runs import KEY, SPEC, begin, finish, stored


def shown(*arguments: str, uri: str, code: int = 0) -> str:
    done = CliRunner().invoke(cli, ["runs", *arguments, "--tracking-uri", uri])
    assert done.exit_code == code, done.output
    return done.output


def test_runs_are_listed_with_state_time_and_reason(store: Store, uri: str) -> None:
    failed, done = begin(store), finish(store)
    failed.fail(ValueError("its loss is not finite"))
    running = begin(store)
    listed = api.list_runs(tracking_uri=uri)
    assert [one.run_id for one in listed.runs] == [failed.run_id, done, running.run_id]
    assert [row[1:3] + row[5:] for row in listed.table[1:]] == [
        [SPEC.name, "failed", "its loss is not finite"],
        [SPEC.name, "done", ""],
        [SPEC.name, "running", ""],
    ]
    assert [row[4].lstrip("0123456789") for row in listed.table[1:]] == [" s", " s", ""]
    assert listed.summary == "3 trainings: 1 failed, 1 done, 1 running"
    assert [one.run_id for one in api.list_runs(state="done", tracking_uri=uri).runs] == [done]
    assert api.list_runs(state="killed", tracking_uri=uri).summary == "0 trainings"
    with pytest.raises(UsageError, match="state='lost' is not allowed: it must be one of done, failed"):
        api.list_runs(state="lost", tracking_uri=uri)
    text = shown(uri=uri)
    assert failed.run_id[:8] in text
    assert "3 trainings: 1 failed" in text


def test_a_run_is_shown_by_the_first_digits_of_its_id(store: Store, uri: str) -> None:
    done = finish(store, 0.75)
    rows = dict(api.show_run(done[:6], tracking_uri=uri).table)
    assert (rows["run"], rows["state"], rows["network"], rows["test_accuracy"]) == (done, "done", "fc", "0.75")
    assert "why" not in rows
    assert done in shown("show", done[:6], uri=uri)
    with pytest.raises(UsageError, match="give at least 4 digits"):
        api.show_run(done[:3], tracking_uri=uri)
    with pytest.raises(UsageError, match="no training's run id begins with it"):
        api.show_run("xxxx", tracking_uri=uri)


def test_digits_that_name_several_runs_name_none(store: Store, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(store)
    finish(store)
    monkeypatch.setattr(api.runs, "MIN_DIGITS", 0)
    with pytest.raises(UsageError, match="run='' names no run: 2 run ids begin with it"):
        api.show_run("", tracking_uri=uri)


def test_all_runs_are_deleted_or_none(store: Store, uri: str) -> None:
    first, second, running = finish(store), finish(store), begin(store)
    with pytest.raises(Failure, match=f"{SPEC.name} is running: stop its command first"):
        api.delete_runs([first, running.run_id], tracking_uri=uri)
    with pytest.raises(UsageError, match="run='zzzzzz' names no run"):
        api.delete_runs([first, "zzzzzz"], tracking_uri=uri)
    assert len(api.list_runs(tracking_uri=uri).runs) == 3
    assert shown("delete", second, second[:9], uri=uri) == f"deleted {SPEC.name} (run {second})\n"
    done = store.done(KEY)
    assert done is not None
    assert done.run_id == first
    store.client.restore_run(second)
    assert stored(store, second).info.lifecycle_stage == "active"


@pytest.fixture
def left(store: Store) -> list[Path]:
    """A snapshot, a half-written one, and the journal of a run that did not end."""
    snapshot, partial = store.folder / "a.snapshot", store.folder / "b.partial"
    snapshot.write_bytes(bytes(2_000_000))
    partial.write_bytes(bytes(1000))
    journal = Journal.begin(store, "key", "run")
    journal.append(Operation("tags", {"a": "b"}))
    return [snapshot, partial, journal.folder]


def test_what_interrupted_trainings_left_is_listed_before_it_is_removed(
    store: Store, uri: str, left: list[Path]
) -> None:
    complete = Journal.begin(store, "other", "run")
    complete.append(Operation("end", ["FINISHED", 0]))
    text = shown("clean", uri=uri)
    assert all(one.name[:8] in text for one in left)
    assert "2 MB in" in text
    assert f"aepretrain runs clean --remove --tracking-uri {uri}" in text
    assert all(one.exists() for one in left)
    found = api.clean(remove=True, tracking_uri=uri)
    assert {one.path for one in found.leftovers} == set(left)
    assert not any(one.exists() for one in left)
    assert complete.folder.exists(), "its results wait for the store"
    assert api.clean(tracking_uri=uri).summary == f"interrupted trainings left nothing in {store.folder}"


def test_nothing_is_removed_while_trainings_run(store: Store, uri: str, left: list[Path]) -> None:
    with store.lock("some key", lambda: None), pytest.raises(Failure, match="are running on this machine"):
        api.clean(remove=True, tracking_uri=uri)
    assert all(one.exists() for one in left)
    assert journals_folder(store).is_dir()
