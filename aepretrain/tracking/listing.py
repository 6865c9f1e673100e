"""All runs of trainings in a store, finished or not; what interrupted trainings left on the disk."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlflow.entities import Run as StoredRun

from aepretrain.tracking.journal import Journal, journals_folder
from aepretrain.tracking.metric_names import our_name
from aepretrain.tracking.store import TAG, Store

STATES = {"FINISHED": "done", "FAILED": "failed", "KILLED": "killed", "RUNNING": "running"}
"""What MLflow's states mean for a training."""


@dataclass(frozen=True)
class TrainingRun:
    """The run of a training, in any state."""

    run_id: str
    name: str
    state: str
    """One of the values of `STATES`; in lower letters what MLflow says otherwise."""
    started: datetime
    """In UTC."""
    took_s: float | None
    """Seconds from its start to its end; None while it has not ended."""
    error: str
    """Why it has failed or was killed; empty where the run does not say."""
    params: dict[str, str]
    metrics: dict[str, float]


def training_runs(store: Store) -> Iterator[TrainingRun]:
    """All of them but deleted ones, in the order of their start. Raises `Unavailable`."""
    return map(_training_run, store.search({"kind": "training"}))


def _training_run(run: StoredRun) -> TrainingRun:
    info = run.info
    ended = info.end_time if info.status != "RUNNING" else None
    return TrainingRun(
        run_id=info.run_id,
        name=info.run_name,
        state=STATES.get(info.status, info.status.lower()),
        started=datetime.fromtimestamp(info.start_time / 1000, UTC),
        took_s=(ended - info.start_time) / 1000 if ended else None,
        error=run.data.tags.get(f"{TAG}error", ""),
        params=dict(run.data.params),
        metrics={our_name(name): value for name, value in run.data.metrics.items()},
    )


@dataclass(frozen=True)
class Leftover:
    """A file or folder that an interrupted training left."""

    path: Path
    what: str
    num_bytes: int
    changed: datetime
    """In UTC."""


def leftovers(store: Store) -> list[Leftover]:
    """What interrupted trainings left in this host's folder of a store that is not in use.

    Snapshots, half-written ones, and journals of runs that never ended. A complete journal is none: it waits for the
    store to take it.
    """
    snapshots = [(one, "snapshot of an interrupted training") for one in store.folder.glob("*.snapshot")]
    partial = [(one, "snapshot that was not completed") for one in store.folder.glob("*.partial")]
    journals = [(one, "journal of a run that did not end") for one in _incomplete_journals(store)]
    return [
        Leftover(path, what, _size(path), datetime.fromtimestamp(path.stat().st_mtime, UTC))
        for path, what in sorted(snapshots) + sorted(partial) + sorted(journals)
    ]


def _incomplete_journals(store: Store) -> Iterator[Path]:
    folder = journals_folder(store)
    for one in folder.iterdir() if folder.is_dir() else ():
        with suppress(ValueError):  # a damaged journal is left to its owner
            if Journal(one).final_state() is None:
                yield one


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return sum(one.stat().st_size for one in files)
