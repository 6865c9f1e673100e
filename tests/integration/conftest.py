"""The command as users start it, and what a grid stores, for comparisons."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aepretrain import tracking
from tests.chaos.conftest import stored
from tests.conftest import ROOT
from tests.test_suite import artifacts

GRID = ("--dataset", "digits", "--network", "fc", "--epochs", "3", "--device", "cpu")
"""8 trainings of seconds."""


def aepretrain(
    folder: Path, environment: Mapping[str, str], *arguments: str, timeout_s: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder; it sees this environment besides the test's."""
    return subprocess.run(
        [sys.executable, "-m", "aepretrain", *arguments],
        cwd=folder,
        env=as_user(folder, environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )


def as_user(folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a command whose own files are to lie in this folder."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(folder / "state"), **environment}


def everything(store: tracking.Store) -> dict[str, Any]:
    """What a store holds of each finished training, by key: numbers, epochs, predictions, weights, names of files."""
    found = stored(store)
    return {
        key: (*found[key], artifacts(store, record.run_id), record.identity) for key, record in store.records().items()
    }
