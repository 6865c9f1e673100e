"""A store that was moved or copied to another folder: MLflow keeps the absolute paths of artifacts in the database."""

import os
import shlex
import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

from aepretrain.tracking.retry import StoreError
from aepretrain.tracking.store import TAG, is_locked

ARTIFACTS = "mlartifacts"
"""The folder beside an SQLite database that holds the artifacts, unless an experiment has another place for them."""

LOCKS = f"{TAG}locks"
"""The tag of runs and experiments that names the folder of the store's locks, which lies beside the database."""

PATHS = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
"""The column of each of MLflow's tables that holds paths of artifacts, as they are or as ``file:`` addresses."""


class Location(NamedTuple):
    """A place of artifacts below an earlier folder of the store, and the same place below the present one."""

    text: str
    """As it stands in the database."""
    earlier: Path
    present: Path
    part: Path

    @property
    def was_left_behind(self) -> bool:
        """Whether the artifacts are at the earlier place only."""
        return os.path.exists(self.earlier / self.part) and not os.path.exists(self.present / self.part)

    @property
    def is_ours(self) -> bool:
        """Whether it is in the folder `ARTIFACTS`, which belongs to the database."""
        return self.part.parts[:1] == (ARTIFACTS,)

    @property
    def new_text(self) -> str:
        """The present place in the form of the earlier one."""
        new = self.present / self.part
        return new.as_uri() if self.text.startswith("file:") else str(new)


def relocate(connection: sqlite3.Connection, locks: Path) -> None:
    """Let an SQLite store that was moved or copied have its artifacts where they are now.

    All locations below an earlier folder of the store become locations below the present one, except where somebody has
    put artifacts elsewhere. The earlier folders are those of the locks that runs and experiments name. `locks` is the
    present folder of locks, of which the caller holds the lock for opening. Raises `StoreError` before anything is
    changed where artifacts were left behind, or where a process uses the store under its earlier path.
    """
    folder = locks.parent
    texts = connection.execute(
        "SELECT value FROM tags WHERE key = :key UNION SELECT value FROM experiment_tags WHERE key = :key",
        {"key": LOCKS},
    )
    named = [text for (text,) in texts if text.endswith(locks.suffix) and text != str(locks)]
    if not named:
        return
    earlier = {Path(text).parent for text in named} - {folder}
    if is_locked(locks):
        raise StoreError(f"the tracking store was moved to {folder}, but a process still uses it: wait until it ends")
    moved = {table: list(_locations(connection, table, earlier, folder)) for table in PATHS}
    for one in moved["runs"]:
        if one.is_ours and one.was_left_behind:
            old, new = (shlex.quote(str(path)) for path in (one.earlier / ARTIFACTS, folder))
            raise StoreError(
                f"the tracking store was moved to {folder}, but artifacts are still in {one.earlier / ARTIFACTS}: "
                f"copy them with: cp -rn {old} {new}"
            )
    with connection:
        for table, locations in moved.items():
            connection.executemany(
                f"UPDATE {table} SET {PATHS[table]} = ? WHERE {PATHS[table]} = ?",  # noqa: S608  # names from above
                [(one.new_text, one.text) for one in locations if one.is_ours or not one.was_left_behind],
            )
        for table in ("tags", "experiment_tags"):
            connection.executemany(
                f"UPDATE {table} SET value = ? WHERE key = ? AND value = ?",  # noqa: S608  # names from above
                [(str(locks), LOCKS, text) for text in named],
            )


def _locations(
    connection: sqlite3.Connection, table: str, earlier: Collection[Path], folder: Path
) -> Iterator[Location]:
    """The places in a table that are below an earlier folder, and not below the present one."""
    for (text,) in connection.execute(f"SELECT DISTINCT {PATHS[table]} FROM {table}"):  # noqa: S608  # names from above
        if text and urlsplit(text).scheme in ("", "file"):
            old = Path(url2pathname(urlsplit(text).path) if text.startswith("file:") else text)
            above = [one for one in (folder, *earlier) if old.is_relative_to(one)]
            nearest = max(above, key=lambda one: len(one.parts), default=folder)
            if nearest != folder:
                yield Location(text, nearest, folder, old.relative_to(nearest))
