"""Stores that were moved or copied: artifacts are found at the new place, and nothing is written at the old one."""

import shutil
import subprocess
from pathlib import Path

import pytest
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking._tracking_service import utils

from aepretrain import tracking
from aepretrain.tracking import Run, Store, StoreError
from tests.runs import KEY, begin, finish


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    """A folder with a store."""
    (tmp_path / "old").mkdir()
    shutil.copy(template, tmp_path / "old" / "mlflow.db")
    return tmp_path / "old"


def close() -> None:
    """Close all stores, as the end of a command does; else the last changes would be in a file beside the database."""
    tracking.store.client_of.cache_clear()
    for engine in SqlAlchemyStore._engine_map.values():
        engine.dispose()


def opened(folder: Path, experiment: str = "first", name: str = "mlflow.db") -> Store:
    """The store in a folder; new runs go to an experiment that the template does not have."""
    close()
    return tracking.open_store(f"sqlite:///{folder / name}", experiment)


def content(store: Store) -> bytes:
    """The artifact that `fill` has written."""
    record = store.done(KEY)
    assert record is not None
    return store.artifact(record, "results/a.txt")


def fill(store: Store) -> str:
    """A finished training with an artifact; its run id."""
    run_id = finish(store)
    Run(store, run_id).log_bytes("results/a.txt", b"a")
    close()
    return run_id


@pytest.mark.parametrize("name", ["a b", "100% [x]", "Größe 漢 🙂", "old/below", "."])
def test_a_moved_store_goes_on_at_its_new_place(name: str, folder: Path, tmp_path: Path) -> None:
    fill(opened(folder))
    new = tmp_path / name
    new.mkdir(exist_ok=True)
    for path in list(folder.iterdir()):
        if path != new:
            path.rename(new / path.name)
    for _ in range(2):  # at the second time it is at home
        assert content(opened(new)) == b"a"
        begin(opened(new)).log_bytes("results/b.txt", b"b")
    (found,) = {path.parents[3] for path in tmp_path.rglob("b.txt")}
    assert found == new / "mlartifacts"


def test_a_store_that_was_moved_twice_and_renamed_goes_on(folder: Path, tmp_path: Path) -> None:
    fill(opened(folder))
    folder.rename(tmp_path / "second")
    fill(opened(tmp_path / "second"))
    (tmp_path / "second").rename(folder)
    (folder / "mlflow.db").rename(folder / "runs.db")
    assert content(opened(folder, name="runs.db")) == b"a"
    assert not (tmp_path / "second").exists()


def test_a_store_without_runs_goes_on_where_it_was_moved_to(folder: Path, tmp_path: Path) -> None:
    opened(folder)
    folder.rename(tmp_path / "new")
    fill(opened(tmp_path / "new"))
    assert not folder.exists()


def test_a_copy_has_artifacts_of_its_own(folder: Path, tmp_path: Path) -> None:
    run_id = fill(opened(folder))
    shutil.copytree(folder, tmp_path / "copy")
    Run(opened(tmp_path / "copy"), run_id).log_bytes("results/a.txt", b"changed")
    assert content(opened(tmp_path / "copy")) == b"changed"
    assert content(opened(folder)) == b"a"


def test_a_copy_of_an_empty_store_has_artifacts_of_its_own(folder: Path, tmp_path: Path) -> None:
    opened(folder)
    close()
    (tmp_path / "new").mkdir()
    shutil.copy(folder / "mlflow.db", tmp_path / "new" / "mlflow.db")
    fill(opened(folder))
    before = set(folder.rglob("a.txt"))
    store = opened(tmp_path / "new")
    fill(store)
    assert content(store) == b"a"
    assert set(folder.rglob("a.txt")) == before
    assert list((tmp_path / "new").rglob("a.txt"))


def test_models_move_too(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utils, "_tracking_uri", f"sqlite:///{folder}/mlflow.db")  # where the registry looks for models
    run_id = fill(opened(folder))
    client = opened(folder).client
    model = client.create_logged_model(opened(folder).experiment_id, source_run_id=run_id)
    client.create_registered_model("model")
    client.create_model_version("model", f"models:/{model.model_id}", run_id, model_id=model.model_id)
    close()
    folder.rename(tmp_path / "new")
    client = opened(tmp_path / "new").client
    place = (tmp_path / "new" / "mlartifacts" / "models" / model.model_id / "artifacts").as_uri()
    assert client.get_logged_model(model.model_id).artifact_location == place
    assert client.get_model_version_download_uri("model", "1") == place


def test_a_database_without_its_artifacts_is_refused_with_the_command_that_brings_them(
    folder: Path, tmp_path: Path
) -> None:
    fill(opened(folder))
    new = tmp_path / "the new one"
    new.mkdir()
    shutil.copy(folder / "mlflow.db", new)
    before = (new / "mlflow.db").read_bytes()
    with pytest.raises(StoreError, match="artifacts are still in") as error:
        opened(new)
    assert (new / "mlflow.db").read_bytes() == before
    (new / "mlartifacts").mkdir()  # as an earlier version made it
    with pytest.raises(StoreError) as error:
        opened(new)
    subprocess.run(str(error.value).partition("with: ")[2], shell=True, check=True)  # noqa: S602  # as a user does it
    assert content(opened(new)) == b"a"


@pytest.mark.parametrize("goes_along", [True, False])
def test_an_experiment_with_a_place_of_its_own_has_its_artifacts_where_they_are(
    goes_along: bool, folder: Path, tmp_path: Path
) -> None:
    client = opened(folder).client
    client.create_experiment("inside", artifact_location=str(folder / "own"))
    client.create_experiment("outside", artifact_location=(tmp_path / "outside").as_uri())
    for name in ("inside", "outside"):
        run = opened(folder, name).client.create_run(opened(folder, name).experiment_id)
        Run(opened(folder, name), run.info.run_id).log_bytes("results/a.txt", b"a")
    fill(opened(folder))
    new = tmp_path / "new"
    shutil.copytree(folder, new, ignore=shutil.ignore_patterns(*[] if goes_along else ["own"]))
    for name, place in {
        "inside": new / "own" if goes_along else folder / "own",
        "outside": tmp_path / "outside",
    }.items():
        begin(opened(new, name)).log_bytes("results/b.txt", b"b")
        (path,) = tmp_path.rglob("b.txt")
        assert path.is_relative_to(place)
        path.unlink()


def test_a_store_that_is_in_use_at_its_old_path_is_not_changed(folder: Path, tmp_path: Path) -> None:
    store = opened(folder)
    fill(store)
    with store.lock(KEY, lambda: None):
        folder.rename(tmp_path / "new")
        with pytest.raises(StoreError, match="a process still uses it"):
            opened(tmp_path / "new")
    assert content(opened(tmp_path / "new")) == b"a"
