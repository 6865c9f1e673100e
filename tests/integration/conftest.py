"""The command as users start it, and what a grid stores, for comparisons."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from aepretrain import runner, tracking
from aepretrain.config import AUGMENTATIONS, Execution, Settings, grid_specs
from tests.chaos.conftest import stored
from tests.conftest import ROOT
from tests.grids import artifacts, inline
from tests.integration.newcomer import Reader
from tests.integration.services import ADMIN, mlflow_server, postgresql

PASSWORDS = {
    ADMIN: "a-password-of-the-administrator",
    "trainer": "another-password-of-one-who-trains",
    "reader": "a-third-password-of-one-who-reads",
}

LONGEST = ("test_readme.py", "test_dask.py", "test_server.py", "test_own_images.py", "test_extending.py")

GRID = ("--dataset", "digits", "--network", "fc", "--epochs", "4", "--device", "cpu")
"""Trainings of seconds."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest first: the process that began one of them last would work on alone."""
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


def credentials(user: str) -> dict[str, str]:
    return {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": PASSWORDS[user]}


def log_in(patch: pytest.MonkeyPatch, user: str) -> None:
    for name, value in credentials(user).items():
        patch.setenv(name, value)


@pytest.fixture(scope="session")
def expected(template: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `GRID` stores that is trained here, one training after the other, in SQLite.

    Seeds 0 and 1 without augmentation, seeds 2 and 3 with both, each a grid of its own: a server's store has what was
    trained before, in whichever experiment, and no test is to find what another has trained.
    """
    path = tmp_path_factory.mktemp("local") / "mlflow.db"
    path.write_bytes(template.read_bytes())
    store = tracking.open_store(f"sqlite:///{path}", "local")
    settings = Settings(dataset="digits", ae_epochs=4, cls_epochs=4)
    torch.set_num_threads(1)  # as a worker has it; this is set up before what each test sets up
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking, "log_model", lambda *_: None)  # exporting takes seconds
        for augmentations, seeds in (("none",), (0, 1)), (AUGMENTATIONS, (2,)), (AUGMENTATIONS, (3,)):
            specs = grid_specs(("fc",), augmentations, seeds, settings)
            runner.run_grid(specs, store, Execution(device="cpu"), lambda _: None, lambda *_: None, make_pool=inline)
    return everything(store)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server keeps artifacts."""
    return tmp_path_factory.mktemp("server") / "artifacts"


@pytest.fixture(scope="session")
def server(served: Path) -> Iterator[str]:
    """Address of a server with an administrator and two who have no rights but their own."""
    from mlflow.server.auth.client import AuthServiceClient  # which takes seconds to import

    with postgresql() as login, mlflow_server(login, PASSWORDS[ADMIN], served) as address:
        with pytest.MonkeyPatch.context() as patch:
            log_in(patch, ADMIN)
            for user in ("trainer", "reader"):
                AuthServiceClient(address).create_user(user, PASSWORDS[user])
        yield address


def aepretrain_anew(
    folder: Path, environment: Mapping[str, str], *arguments: str, timeout_s: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run the command as users do, in a folder and an interpreter of its own; it sees this environment too."""
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
    return {**os.environ, "XDG_STATE_HOME": str(folder / "state"), **environment}


def everything(store: tracking.Store) -> dict[str, Any]:
    """What a store holds of each finished training, by key: numbers, epochs, predictions, weights, names of files."""
    found = stored(store)
    return {
        key: (*found[key], artifacts(store, record.run_id), record.identity) for key, record in store.records().items()
    }


@pytest.fixture(scope="module")
def cloned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A clone of the last commit. Its environment goes with it at the end, for it has 6 GB."""
    folder = tmp_path_factory.mktemp("newcomer") / "aepretrain"
    assert Reader(folder.parent).run(f"git clone --quiet '{ROOT}' '{folder}'").returncode == 0
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def reader(cloned: Path) -> Reader:
    """A reader with a fresh clone, in which only the environment and the caches of earlier tests are left."""
    found = Reader(cloned)
    assert found.run("git clean -dffxq --exclude .venv --exclude '.*_cache'").returncode == 0
    return found
