"""The store that a call uses, and the run that ``mlflow run`` has opened for a call."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from aepretrain import tracking
from aepretrain.config import Execution, Settings
from aepretrain.errors import UsageError


def open_store(
    tracking_uri: str | None, run_id: str | None = None, outage_s: float = Execution.outage_s
) -> tracking.Store:
    """The store of a URI, else of ``MLFLOW_TRACKING_URI``, else the project's ``mlflow.db``. Raises `Failure`.

    An experiment's id is that of the environment's store, so in another one it means nothing.
    """
    name, experiment_id = (os.environ.get(f"MLFLOW_EXPERIMENT_{one}") or None for one in ("NAME", "ID"))
    uri, of_environment = (tracking.absolute_uri(store_uri(one)) for one in (tracking_uri, None))
    return tracking.open_store(uri, name, run_id, outage_s, experiment_id if uri == of_environment else None)


def find_store(tracking_uri: str | None, outage_s: float) -> tracking.Store | None:
    """The same store for reading only; None where it is not there yet."""
    return tracking.find_store(store_uri(tracking_uri), outage_s)


def store_uri(tracking_uri: str | None) -> str:
    """The address of that store, checked. Raises `StoreError` for what is no address."""
    given = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    return tracking.absolute_uri(given or tracking.default_uri(Path.cwd()))


def other_uri(uri: str) -> str | None:
    """A store's address for the option of a command, without passwords; None for the project's own store."""
    is_own = uri == tracking.absolute_uri(tracking.default_uri(Path.cwd()))
    return None if is_own else tracking.shown_uri(uri)


def where(tracking_uri: str | None = None) -> str:
    """A sentence that says where runs are kept and how to look at them, without passwords."""
    uri = store_uri(tracking_uri)
    return f"Runs are kept in {tracking.shown_uri(uri)}; look at them with: aepretrain ui{store_option(uri)}"


def store_option(uri: str) -> str:
    """How a command names a store, without passwords, after a space; nothing for the project's own store."""
    other = other_uri(uri)
    return f" --tracking-uri {shlex.quote(other)}" if other else ""


def sync(*, tracking_uri: str | None = None) -> int:
    """The number of finished trainings that were uploaded from this machine, where the server was away.

    Runs whose process has died are ended as KILLED. Every training does both when it starts.
    """
    return tracking.recover(open_store(tracking_uri))


def check_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Some fields of `Settings` with checked values. Raises `UsageError`."""
    unknown = settings.keys() - {one.name for one in fields(Settings)}
    if unknown:
        raise UsageError(f"{', '.join(sorted(unknown))}: no such setting")
    checked = Settings(**settings).stored()
    return {name: checked[name] for name in settings}


BUNDLE_OR_STORE = "bundle and tracking_uri are both given: trainings are read from one of them"


def read_bundle(folder: str | Path, argument: str = "bundle") -> tracking.Bundle:
    """The bundle in a folder, an `argument` of the call.

    Raises `UsageError` where there is no folder, `Failure` where the bundle is not readable.
    """
    if not os.path.isdir(folder):
        raise UsageError(f"{argument}={str(folder)!r} is not a folder")
    return tracking.read_bundle(Path(folder))


def log_result(store: tracking.Store, run_id: str | None, kind: str, note: str, files: Mapping[str, bytes]) -> None:
    """Write a result into the run that ``mlflow run`` has opened, if there is one, and end it."""
    if run_id is None:
        return
    run = tracking.Run(store, run_id)
    with tracking.ending(run):
        run.tag(kind=kind)
        run.log_files(files)
        run.describe(note)
        run.end("FINISHED")
