"""The version of a database's tables, which MLflow would migrate without asking."""

import shlex
from functools import lru_cache
from pathlib import Path

import mlflow
from mlflow.store.db.utils import _get_latest_schema_revision
from sqlalchemy import NullPool, create_engine, inspect, text

from aepretrain.tracking.address import shown_uri
from aepretrain.tracking.retry import StoreError

MIGRATIONS = Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions"
"""A file for each version of the tables that this MLflow knows, named by it."""


def check_schema(uri: str) -> None:
    """Raise `StoreError` where another version of MLflow made the tables of a database, before anything changes them.

    A database without a run is left to MLflow: its creation may have been interrupted.
    """
    with create_engine(uri, poolclass=NullPool).connect() as connection:
        if not {"alembic_version", "runs"} <= set(inspect(connection).get_table_names()):
            return
        version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        has_runs = connection.execute(text("SELECT run_uuid FROM runs")).first() is not None
    if not has_runs or version == _newest():
        return
    shown = shown_uri(uri)
    if any(MIGRATIONS.glob(f"{version}_*.py")):
        raise StoreError(
            f"the tracking store {shown} was made by an older MLflow, and its tables must be changed for MLflow "
            f"{mlflow.__version__}, which cannot be undone: stop what uses it, make a copy of the database, then run: "
            f"mlflow db upgrade {shlex.quote(shown)}"
        )
    raise StoreError(
        f"the tracking store {shown} was made by a newer MLflow than {mlflow.__version__}, which cannot use it: "
        "update aepretrain and MLflow here, or choose another store with --tracking-uri"
    )


@lru_cache(maxsize=1)
def _newest() -> str:
    return str(_get_latest_schema_revision())  # type: ignore[no-untyped-call]  # MLflow has no types here
