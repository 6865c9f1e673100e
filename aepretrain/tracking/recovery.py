"""What processes that died, or a store that was away, have left behind on this host."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mlflow.entities import Run as StoredRun

from aepretrain.tracking.availability import StoreError, Unavailable, may_pass, one_line
from aepretrain.tracking.journal import Journal, journals_folder
from aepretrain.tracking.runs import end_orphan, has_locks_here
from aepretrain.tracking.store import TAG, Store


def recover(store: Store) -> int:
    """Upload what complete journals hold, and end as KILLED the runs that no process of this host is at any more.

    Gives the number of trainings uploaded. What a living process is at, whose lock is held, is left alone. Raises
    `Unavailable` where the store is away, and `StoreError` where it refuses a journal.
    """
    folder = journals_folder(store)
    num_uploaded = sum(_upload(store, Journal(one)) for one in sorted(folder.iterdir())) if folder.is_dir() else 0
    for orphan in list(store.search({}, "attributes.status = 'RUNNING'")):
        name = _lock_name(orphan)
        if name is not None and has_locks_here(store, orphan):
            with store.try_lock(name) as free:
                if free:
                    end_orphan(store, orphan)
    return num_uploaded


@contextmanager
def recovering(store: Store) -> Iterator[None]:
    """Recover after this block, in which processes may die or be stopped; not where the store is away."""
    try:
        yield
    except Unavailable:
        raise
    except BaseException:
        with suppress(Exception):  # the next start does it, and what has stopped the block is what counts
            recover(store)
        raise
    recover(store)


def _upload(store: Store, journal: Journal) -> bool:
    """Upload a journal, or remove it where its process died before it was complete; whether it was uploaded."""
    with store.try_lock(journal.key) as free:
        if not free or not journal.folder.is_dir():
            return False
        if not journal.is_complete:
            journal.remove()
            return False
        try:
            journal.send(store.client)
        except Exception as error:
            if isinstance(error, StoreError) or may_pass(error):
                raise
            raise StoreError(
                f"the tracking store refuses the results in {journal.folder}: {one_line(error)}; where they are not "
                "wanted any more, remove that folder"
            ) from error
        return True


def _lock_name(run: StoredRun) -> str | None:
    """The name of the lock that is held while a process is at a run; None where there is no such lock."""
    for tag, prefix in {"key": "", "grid": "grid-", "bundle": "import-"}.items():
        if f"{TAG}{tag}" in run.data.tags:
            return prefix + str(run.data.tags[f"{TAG}{tag}"])
    return None
