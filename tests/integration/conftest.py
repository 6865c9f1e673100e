"""The command as users start it, and what a grid stores, for comparisons."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from mlflow.server.auth.client import AuthServiceClient

from aepretrain import tracking
from tests.chaos.conftest import stored
from tests.conftest import ROOT
from tests.integration.services import ADMIN, mlflow_server, postgresql
from tests.test_suite import artifacts

PASSWORDS = {ADMIN: "a-password-of-the-administrator", "trainer": "another-password-of-one-who-trains"}

GRID = ("--dataset", "digits", "--network", "fc", "--epochs", "3", "--device", "cpu")
"""8 trainings of seconds."""


def credentials(user: str) -> dict[str, str]:
    return {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": PASSWORDS[user]}


def log_in(patch: pytest.MonkeyPatch, user: str) -> None:
    for name, value in credentials(user).items():
        patch.setenv(name, value)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server keeps artifacts."""
    return tmp_path_factory.mktemp("server") / "artifacts"


@pytest.fixture(scope="session")
def server(served: Path) -> Iterator[str]:
    """Address of a server with two users, the administrator and one who has no rights but their own."""
    with postgresql() as login, mlflow_server(login, PASSWORDS[ADMIN], served) as address:
        with pytest.MonkeyPatch.context() as patch:
            log_in(patch, ADMIN)
            AuthServiceClient(address).create_user("trainer", PASSWORDS["trainer"])
        yield address


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
