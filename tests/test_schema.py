"""A database that another version of MLflow made is not changed without the user's say."""

from pathlib import Path

import pytest
from alembic import command
from mlflow.store.db.utils import _get_alembic_config, _upgrade_db
from mlflow.store.tracking.dbmodels.initial_models import Base
from sqlalchemy import NullPool, create_engine, text

from aepretrain import tracking
from aepretrain.tracking import Store, StoreError

OF_MLFLOW_2_22 = "0584bdc529eb"

A_RUN = (
    "INSERT INTO runs (run_uuid, name, user_id, experiment_id, status, lifecycle_stage, start_time, artifact_uri) "
    "VALUES ('r', 'r', 'u', 0, 'FINISHED', 'active', 1, 'a')"
)


def old_store(path: Path, *, with_run: bool) -> str:
    """The URI of a database as MLflow 2.22 makes it."""
    uri = f"sqlite:///{path}"
    engine = create_engine(uri, poolclass=NullPool)
    Base.metadata.create_all(engine)
    command.upgrade(_get_alembic_config(uri), OF_MLFLOW_2_22)  # type: ignore[no-untyped-call]  # MLflow has no types here
    if with_run:
        execute(uri, A_RUN)
    return uri


def execute(uri: str, statement: str) -> None:
    with create_engine(uri, poolclass=NullPool).begin() as connection:
        connection.execute(text(statement))


def test_a_store_of_an_older_mlflow_is_refused_until_the_user_upgrades_it(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    uri = old_store(path, with_run=True)
    before = path.read_bytes()
    for opened in (tracking.open_store, tracking.find_store):
        with pytest.raises(StoreError, match=r"was made by an older MLflow.* make a copy") as error:
            opened(uri)
        assert str(error.value).endswith(f": mlflow db upgrade {uri}")
    assert path.read_bytes() == before
    _upgrade_db(create_engine(uri, poolclass=NullPool))  # type: ignore[no-untyped-call]  # what that command does
    assert [run.info.run_id for run in tracking.open_store(uri).search({})] == ["r"]


def test_a_store_without_runs_is_made_ready(tmp_path: Path) -> None:
    uri = old_store(tmp_path / "mlflow.db", with_run=False)
    assert list(tracking.open_store(uri).search({})) == []


def test_a_store_of_a_newer_mlflow_is_refused_with_advice_that_helps(store: Store) -> None:
    store.client.create_run(store.experiment_id)
    execute(store.uri, "UPDATE alembic_version SET version_num = 'ffffffffffff'")
    for opened in (tracking.open_store, tracking.find_store):
        with pytest.raises(StoreError, match=r"made by a newer MLflow than 3\..*: update aepretrain and MLflow"):
            opened(store.uri)
