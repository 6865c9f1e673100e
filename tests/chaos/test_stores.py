"""Stores that are none, or not any more: one line, and not a byte of theirs is changed."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from aepretrain import tracking
from tests.chaos.damage import OPTIONS
from tests.commands import aepretrain

pytestmark = pytest.mark.chaos

COMMANDS = (("compare",), ("report",), ("export", "bundle"), ("scratch", *OPTIONS), ("grid", *OPTIONS))


def written(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    return path


def contents(folder: Path) -> dict[Path, bytes]:
    """All files but locks, and what SQLite keeps beside a database while it is open."""
    passing = (".locks", "-wal", "-shm")
    files = [
        path for path in folder.rglob("*") if path.is_file() and not str(path.relative_to(folder)).endswith(passing)
    ]
    return {path: path.read_bytes() for path in files if ".locks" not in str(path)}


def foreign(folder: Path) -> Iterator[tuple[Path, str]]:
    """Files that are no store of MLflow's, each with what is said of it."""
    text = folder / "text.db"
    text.write_text("This is a text, of some length.\n" * 100)
    yield text, "file is not a database"
    (folder / "folder.db").mkdir()
    yield folder / "folder.db", "unable to open"
    yield written(folder / "other.db", "CREATE TABLE recipes (name TEXT)"), "is not an MLflow store"
    with_one = written(folder / "one.db", "CREATE TABLE metrics (name TEXT)", "CREATE TABLE users (name TEXT)")
    yield with_one, "is not an MLflow store"
    migrated = written(folder / "migrated.db", "CREATE TABLE alembic_version (version_num TEXT)")
    yield migrated, "is not an MLflow store"
    cut = folder / "cut.db"
    cut.write_bytes(b"SQLite format 3\0" + bytes(20))
    yield cut, "cannot be opened"


def test_what_is_no_store_is_left_as_it_is(tmp_path: Path) -> None:
    for path, told in foreign(tmp_path):
        before = contents(tmp_path)
        for arguments in COMMANDS:
            line = aepretrain(*arguments, "--tracking-uri", f"sqlite:///{path}", folder=tmp_path).refusal()
            assert told in line, (path, arguments)
            assert str(path) in line
        assert contents(tmp_path) == before, path


def tables(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        return [name for (name,) in found if not name.startswith("sqlite_")]


def test_a_store_that_lost_a_table_gives_no_wrong_table(
    copied: Callable[[Path], str], tmp_path: Path, full_length: bool
) -> None:
    (tmp_path / "whole").mkdir()
    uri = copied(tmp_path / "whole")
    right = aepretrain("compare", folder=tmp_path, MLFLOW_TRACKING_URI=uri)
    assert right.code == 0, right.err
    table = (tmp_path / "results" / "grid.json").read_text()
    needed = ["alembic_version", "experiments", "latest_metrics", "metrics", "params", "runs", "tags"]
    refused = []
    for name in tables(tmp_path / "whole" / "mlflow.db") if full_length else needed:
        shutil.rmtree(tmp_path / "results", ignore_errors=True)
        path = tmp_path / f"{name}.db"
        shutil.copy(tmp_path / "whole" / "mlflow.db", path)
        written(path, "PRAGMA foreign_keys = OFF", f"DROP TABLE {name}")
        before = tables(path)
        done = aepretrain("compare", folder=tmp_path, MLFLOW_TRACKING_URI=f"sqlite:///{path}")
        if done.code:
            done.refusal()
            refused.append(name)
            assert tables(path) == before
            assert not (tmp_path / "results").exists()
        else:
            assert (tmp_path / "results" / "grid.json").read_text() == table
    print(f"stores: each of {len(refused)} lost tables refused: {', '.join(refused)}")
    assert set(needed) <= set(refused)


def test_a_deleted_experiment_is_refused_and_stays_deleted(copied: Callable[[Path], str], tmp_path: Path) -> None:
    uri = copied(tmp_path)
    tracking.open_store(uri, "own").client.delete_experiment("2")
    before = tables(tmp_path / "mlflow.db")
    for arguments in COMMANDS:
        environment = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_EXPERIMENT_NAME": "own"}
        line = aepretrain(*arguments, folder=tmp_path, **environment).refusal()
        assert "mlflow experiments restore --experiment-id 2" in line
    assert tables(tmp_path / "mlflow.db") == before
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        assert connection.execute("SELECT lifecycle_stage FROM experiments WHERE experiment_id = 2").fetchone() == (
            "deleted",
        )


CHANGES = {
    "accuracy above 1": ("UPDATE latest_metrics SET value = 1.5 WHERE key = 'accuracy/test'", "test_accuracy is 1.5"),
    "accuracy unknown": ("UPDATE latest_metrics SET is_nan = 1 WHERE key = 'accuracy/test'", "test_accuracy is nan"),
    "no accuracy": ("DELETE FROM latest_metrics WHERE key = 'accuracy/test'", "test_accuracy is nan"),
    "no key": ("DELETE FROM tags WHERE key = 'aepretrain.key'", "KeyError"),
    "no options": ("UPDATE tags SET value = '{}' WHERE key = 'aepretrain.spec'", "KeyError"),
    "options that are no JSON": ("UPDATE tags SET value = 'x' WHERE key = 'aepretrain.spec'", "JSONDecodeError"),
    "no number of the attempt": ("UPDATE tags SET value = 'x' WHERE key = 'aepretrain.attempt'", "invalid literal"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_run_that_is_marked_done_but_is_no_training_is_named(
    name: str, copied: Callable[[Path], str], tmp_path: Path
) -> None:
    uri = copied(tmp_path)
    statement, told = CHANGES[name]
    written(tmp_path / "mlflow.db", statement)
    line = aepretrain("compare", folder=tmp_path, MLFLOW_TRACKING_URI=uri).refusal()
    assert told in line
    assert "mlflow runs delete --run-id" in line
    assert not (tmp_path / "results").exists()
