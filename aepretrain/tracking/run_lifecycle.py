"""Begin a run, or reopen an earlier one, and end it whatever happens. Trainings are children of their grid's run."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from mlflow.entities import Run as StoredRun
from mlflow.entities import RunTag
from mlflow.utils.mlflow_tags import (
    MLFLOW_GIT_COMMIT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
    MLFLOW_USER,
)

from aepretrain import stopping
from aepretrain.config import SCHEMA, TrainingSpec, canonical_json
from aepretrain.tracking.provenance import git_state, user
from aepretrain.tracking.retry import Unavailable
from aepretrain.tracking.run_writer import DatasetReference, Run, our_tags, run_link
from aepretrain.tracking.store import TAG, Store


def open_training(
    store: Store,
    spec: TrainingSpec,
    key: str,
    dataset: DatasetReference,
    *,
    parent_run_id: str | None,
    run_id: str | None,
    **tags: object,
) -> Run:
    """Begin the run of a training: `run_id`, which ``mlflow run`` opened, or a new one.

    Ends as KILLED earlier runs of the key that are RUNNING but have lost their process. Those are the runs whose lock
    the caller holds now (`has_locks_here`), and those of the same parent on any host, as a grid trains a key in one
    worker at a time.
    """
    earlier = [one for one in store.search({"key": key}) if one.info.run_id != run_id]
    for one in earlier:
        is_of_parent = parent_run_id is not None and one.data.tags.get(MLFLOW_PARENT_RUN_ID) == parent_run_id
        if one.info.status == "RUNNING" and (is_of_parent or has_locks_here(store, one)):
            end_orphan(store, one)
    identity = spec.identity()
    ours = identity | {
        "kind": "training",
        "key": key,
        "spec": canonical_json(identity),
        "dataset_digest": dataset.digest,
        "schema": SCHEMA,
        "attempt": 1 + max((_attempt(one) for one in earlier), default=0),
    }
    run = _open(store, spec.name, parent_run_id, run_id, ours | tags)
    run.log_params(identity)
    run.log_dataset(dataset)
    return run


def open_grid(
    store: Store, name: str, key: str, *, run_id: str | None, again: bool, kind: str = "grid", **tags: object
) -> Run:
    """Begin the parent run of a grid, a study or a plan (its `kind`).

    It is `run_id`, which ``mlflow run`` opened, or the reopened run of an earlier start of the same, or, with `again`
    or if there is none, a new one. The caller holds the lock of its key.
    """
    earlier = [] if run_id or again else list(store.search({"grid": key, "kind": kind}))
    if earlier:
        return _reopen(store, earlier[-1])
    return _open(store, name, None, run_id, {"kind": kind, "grid": key, **tags})


def plan_seen(store: Store, digest: str) -> str:
    """When this store first saw a plan that has a run by now: ISO time in UTC, in seconds.

    That is the start of the plan's first run. Where a bundle brought trainings of the plan, it is the earliest time
    that they name.
    """
    return min(
        run.data.tags.get(f"{TAG}plan_seen") or datetime.fromtimestamp(run.info.start_time // 1000, UTC).isoformat()
        for run in store.search({"plan": digest})
    )


def open_import(store: Store, name: str, digest: str) -> Run:
    """Begin the parent run of a bundle's trainings: reopen that of an earlier import of the bundle, or make a new one.

    Ends what an earlier import, whose process was killed, left RUNNING. (On a server `recover` does not: those runs
    have the tags of another host.) The caller holds the import's lock.
    """
    earlier = list(store.search({"bundle": digest, "kind": "import"}))
    if not earlier:
        return _open(store, name, None, None, {"kind": "import", "bundle": digest})
    run = _reopen(store, earlier[-1])
    for one in list(
        store.search({}, f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run.run_id}'", "attributes.status = 'RUNNING'")
    ):
        end_orphan(store, one)
    return run


def has_locks_here(store: Store, run: StoredRun) -> bool:
    """Whether a run's process has its locks where this one has them, so that a free lock shows that it has died.

    Locks of an SQLite store lie beside it, whatever the host is called, as in containers, and wherever it was moved.
    """
    if store.is_of_one_host:
        return True
    host, folder = (run.data.tags.get(TAG + name) for name in ("host", "locks"))
    return bool(host == socket.gethostname() and folder == str(store.folder))


def end_orphan(store: Store, orphan: StoredRun) -> None:
    """End as KILLED a run that has lost its process."""
    run = Run(store, orphan.info.run_id)
    run.tag(error="its process ended without ending the run")
    run.end("KILLED")


@contextmanager
def ending(*runs: Run) -> Iterator[list[Run]]:
    """End these runs, and those added to the list it gives, if the block raises; the caller ends them otherwise.

    They end as FAILED, with the error as a tag, or as KILLED if the work was asked to stop. The caller takes out of the
    list what it has ended. What cannot be ended now, because the store or the disk takes nothing, the next start ends.
    """
    open_runs = list(runs)
    try:
        yield open_runs
    except Unavailable:
        raise
    except BaseException as error:
        is_killed = stopping.is_requested() or not isinstance(error, Exception)
        for run in open_runs:
            with suppress(Exception):
                if is_killed:
                    run.end("KILLED")
                else:
                    run.fail(error)
        raise


def point_to(store: Store, run_id: str, reused: str, metrics: Mapping[str, float]) -> None:
    """Let the run that ``mlflow run`` opened point to a finished one; it does not count as a training."""
    run = Run(store, run_id)
    run.tag(kind="pointer", reused=reused)
    run.log_metrics(metrics)
    run.describe(f"Already done: see {run_link(f'run {reused}', reused)}.")
    run.end("FINISHED")


def _open(store: Store, name: str, parent_run_id: str | None, run_id: str | None, ours: Mapping[str, object]) -> Run:
    tags = our_tags({**ours, **_circumstances(store)})
    if parent_run_id is not None:
        tags[MLFLOW_PARENT_RUN_ID] = parent_run_id
    if run_id is not None:
        store.client.update_run(run_id, status="RUNNING", name=name)
        store.client.log_batch(run_id, tags=[RunTag(*tag) for tag in tags.items()])
        return Run(store, run_id)
    tags |= {MLFLOW_USER: user(), MLFLOW_SOURCE_NAME: "aepretrain", MLFLOW_SOURCE_TYPE: "LOCAL"}
    if (commit := tags[f"{TAG}commit"]) != "unknown":
        tags[MLFLOW_GIT_COMMIT] = commit
    return Run(store, store.client.create_run(store.experiment_id, tags=tags, run_name=name).info.run_id)


def _reopen(store: Store, earlier: StoredRun) -> Run:
    """Reopen a parent run of an earlier start: it is RUNNING again, and belongs to this process."""
    run = Run(store, earlier.info.run_id)
    run.tag(**_circumstances(store))  # first: a RUNNING run belongs to the process that its tags name
    store.client.update_run(run.run_id, status="RUNNING")
    if f"{TAG}error" in earlier.data.tags:
        store.client.delete_tag(run.run_id, f"{TAG}error")
    return run


def _circumstances(store: Store) -> dict[str, object]:
    """The process that a run belongs to, as `recover` reads it, and the version of the code."""
    commit, dirty = git_state()
    return {"host": socket.gethostname(), "locks": store.folder, "pid": os.getpid(), "commit": commit, "dirty": dirty}


def _attempt(run: StoredRun) -> int:
    return int(run.data.tags.get(f"{TAG}attempt", 0))
