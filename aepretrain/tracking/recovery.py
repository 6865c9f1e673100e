"""Crash recovery: upload complete journals, and end the runs of processes that died on this host."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mlflow.entities import Run as StoredRun

from aepretrain.tracking.journal import Journal, journals_folder
from aepretrain.tracking.retry import StoreError, Unavailable, may_pass, one_line
from aepretrain.tracking.run_lifecycle import end_orphan, has_locks_here
from aepretrain.tracking.store import TAG, Store


def recover(store: Store) -> int:
    """Upload complete journals, and end as KILLED the runs that have lost their process on this host.

    Gives the number of finished trainings uploaded. Leaves alone what belongs to a living process, which holds a lock.
    Raises `Unavailable` if the store is away, and `StoreError` if it refuses a journal.
    """
    num_uploaded = 0
    for key in sorted({journal.key for journal in _journals(store)}):
        with store.try_lock(key) as free:
            if free:
                num_uploaded += upload_kept(store, key)
    for orphan in list(store.search({}, "attributes.status = 'RUNNING'")):
        name = _lock_name(orphan)
        if name is not None and has_locks_here(store, orphan):
            with store.try_lock(name) as free:
                if (
                    free and store.client.get_run(orphan.info.run_id).info.status == "RUNNING"
                ):  # has not ended meanwhile
                    end_orphan(store, orphan)
    return num_uploaded


def upload_kept(store: Store, key: str) -> int:
    """Upload the complete journals of a training, and remove the incomplete ones, whose process died.

    Gives the number of finished trainings among them. The caller holds the key's lock. Raises as `recover` does.
    """
    return sum(_upload(store, journal) for journal in _journals(store) if journal.key == key)


def _journals(store: Store) -> list[Journal]:
    folder = journals_folder(store)
    return [Journal(one) for one in sorted(folder.iterdir())] if folder.is_dir() else []


@contextmanager
def recovering(store: Store) -> Iterator[None]:
    """Recover after this block, in which processes may die or be stopped, unless the store is away.

    What cannot be recovered now is left to the next start.
    """
    is_away = False
    try:
        yield
    except Unavailable:
        is_away = True
        raise
    finally:
        if not is_away:
            with suppress(Exception):
                recover(store)


def _upload(store: Store, journal: Journal) -> bool:
    """Upload a complete journal, or remove an incomplete one; gives whether a finished training was uploaded."""
    try:
        state = journal.final_state()
        if state is None:
            journal.remove()
        else:
            journal.send(store.client)
    except Exception as error:
        if isinstance(error, Unavailable) or may_pass(error):
            raise
        raise StoreError(
            f"the results in {journal.folder} cannot be uploaded: {one_line(error)}; if you do not need them, "
            "remove that folder"
        ) from error
    return state == "FINISHED"


def _lock_name(run: StoredRun) -> str | None:
    """The name of the lock that a run's process holds; None if it holds none."""
    for tag, prefix in {"key": "", "grid": "grid-", "bundle": "import-"}.items():
        if f"{TAG}{tag}" in run.data.tags:
            return prefix + str(run.data.tags[f"{TAG}{tag}"])
    return None
