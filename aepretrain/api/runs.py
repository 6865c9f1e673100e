"""The runs of trainings in a store, finished or not: list, show and delete them; remove what interrupted ones left."""

import shlex
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from aepretrain import tracking
from aepretrain.api.stores import open_store
from aepretrain.api.texts import size_text, time_text
from aepretrain.display import duration_text
from aepretrain.errors import Failure, UsageError
from aepretrain.tracking import Leftover, Store, TrainingRun

MIN_DIGITS = 4
"""The fewest digits of a run id that name a run."""

SHOWN_DIGITS = 8


@dataclass(frozen=True)
class Runs:
    """Trainings of a store in any state, in the order of their start."""

    runs: tuple[TrainingRun, ...]

    @property
    def table(self) -> list[list[str]]:
        """A row a training as text, after a heading."""
        rows = [
            [one.run_id[:SHOWN_DIGITS], one.name, one.state, time_text(one.started), _took(one), one.error]
            for one in self.runs
        ]
        return [["run", "training", "state", "started (UTC)", "took", "why"], *rows]

    @property
    def summary(self) -> str:
        """``12 trainings: 10 done, 2 failed``."""
        counts = Counter(one.state for one in self.runs)
        said = ", ".join(f"{num} {state}" for state, num in counts.most_common())
        return f"{len(self.runs)} training{'s' if len(self.runs) != 1 else ''}{f': {said}' if said else ''}"


@dataclass(frozen=True)
class RunDetails:
    """One training in any state."""

    run: TrainingRun

    @property
    def table(self) -> list[list[str]]:
        """Names and values as text, after a heading: the state, then settings, then figures."""
        run = self.run
        about = {"run": run.run_id, "state": run.state, "why": run.error, "started (UTC)": time_text(run.started)}
        about["took"] = _took(run)
        figures = {name: f"{value:g}" for name, value in sorted(run.metrics.items())}
        values = {**about, **dict(sorted(run.params.items())), **figures}
        return [["name", run.name], *([name, value] for name, value in values.items() if value)]


@dataclass(frozen=True)
class Leftovers:
    """What interrupted trainings left on this machine's disk, and whether it was removed."""

    leftovers: tuple[Leftover, ...]
    store: Store
    removed: bool

    @property
    def table(self) -> list[list[str]]:
        """A row a file or folder as text, after a heading."""
        rows = [[one.path.name, one.what, size_text(one.num_bytes), time_text(one.changed)] for one in self.leftovers]
        return [["name", "what it is", "size", "changed (UTC)"], *rows]

    @property
    def summary(self) -> str:
        """How much it is, and what becomes of it."""
        size = size_text(sum(one.num_bytes for one in self.leftovers))
        if not self.leftovers:
            return f"interrupted trainings left nothing in {self.store.folder}"
        if self.removed:
            return f"{size} removed from {self.store.folder}"
        address = shlex.quote(tracking.shown_uri(self.store.uri))
        return (
            f"{size} in {self.store.folder}; an interrupted training goes on from its snapshot, and begins anew "
            f"without it; remove all of it with: aepretrain runs clean --remove --tracking-uri {address}"
        )


def list_runs(*, state: str | None = None, tracking_uri: str | None = None) -> Runs:
    """All trainings of a store, or those in one state: ``done``, ``failed``, ``killed`` or ``running``.

    A training whose process has died without ending it stays ``running`` until the next start, or `sync`.
    """
    states = tuple(tracking.STATES.values())
    if state not in (None, *states):
        raise UsageError(f"state={state!r} is not allowed: it must be one of {', '.join(states)}")
    found = tracking.training_runs(open_store(tracking_uri))
    return Runs(tuple(one for one in found if state in (None, one.state)))


def show_run(run_id: str, *, tracking_uri: str | None = None) -> RunDetails:
    """A training in any state, which the first digits of its run id name.

    Raises `UsageError` where these name none or many.
    """
    return RunDetails(_find(run_id, list_runs(tracking_uri=tracking_uri).runs))


def delete_runs(run_ids: Sequence[str], *, tracking_uri: str | None = None) -> list[TrainingRun]:
    """Delete the runs of trainings; the first digits of each id name it. Gives the deleted ones.

    MLflow keeps them until ``mlflow gc`` and can restore them. None is deleted where one of them cannot be: raises
    `UsageError` for ids that name none or many runs, and `Failure` for one that is running.
    """
    store = open_store(tracking_uri)
    runs = list(tracking.training_runs(store))
    chosen = list({one.run_id: one for one in (_find(run_id, runs) for run_id in run_ids)}.values())
    for one in chosen:
        if one.state == "running":
            raise Failure(
                f"{one.name} is running: stop its command first; if that has died, aepretrain sync ends the run"
            )
    for one in chosen:
        store.client.delete_run(one.run_id)
    return chosen


def clean(*, remove: bool = False, tracking_uri: str | None = None) -> Leftovers:
    """What interrupted trainings left on this machine's disk; with `remove` it is removed.

    Raises `Failure` while a process on this machine trains into the store.
    """
    store = open_store(tracking_uri)
    if store.is_in_use:
        raise Failure(
            f"trainings into {tracking.shown_uri(store.uri)} are running on this machine: wait until they have ended"
        )
    found = tuple(tracking.leftovers(store))
    for one in found if remove else ():
        if one.path.is_dir():
            shutil.rmtree(one.path)
        else:
            one.path.unlink(missing_ok=True)
    return Leftovers(found, store, remove)


def _find(run_id: str, runs: Sequence[TrainingRun]) -> TrainingRun:
    found = [one for one in runs if one.run_id.startswith(run_id)] if len(run_id) >= MIN_DIGITS else []
    if len(found) != 1:
        which = "no training's run id begins with it" if not found else f"{len(found)} run ids begin with it"
        reason = which if len(run_id) >= MIN_DIGITS else f"give at least {MIN_DIGITS} digits of a run id"
        raise UsageError(f"run={run_id!r} names no run: {reason} (see aepretrain runs)")
    return found[0]


def _took(run: TrainingRun) -> str:
    return duration_text(run.took_s) if run.took_s is not None else ""
