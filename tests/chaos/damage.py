"""What tests of damage share: a store that was filled once, and copies of it to be damaged."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from aepretrain import suite, tracking
from aepretrain.spec import CLASSIFIERS, Execution, Settings, TrainingSpec
from tests.conftest import Once

SETTINGS = Settings(dataset="digits", ae_epochs=1, cls_epochs=1)
OPTIONS = ("--network", "fc", "--dataset", "digits", "--epochs", "1")
"""The same settings as a command's options."""

MOVE = (
    "UPDATE experiments SET artifact_location = replace(artifact_location, ?, ?)",
    "UPDATE runs SET artifact_uri = replace(artifact_uri, ?, ?)",
)


@pytest.fixture(scope="package")
def original(template: Path, once: Once) -> Path:
    """A folder with the store of one seed's four trainings of ``fc``."""

    def train(folder: Path) -> None:
        folder.mkdir()
        shutil.copy(template, folder / "mlflow.db")
        store = tracking.open_store(f"sqlite:///{folder}/mlflow.db")
        store.client.create_experiment("own", artifact_location=(folder / "artifacts").as_uri())
        store = tracking.open_store(store.uri, "own")
        with pytest.MonkeyPatch.context() as patched:  # exporting models takes seconds
            patched.setattr("aepretrain.suite.training.log_model", lambda *_: None)
            for variant in CLASSIFIERS:
                spec = TrainingSpec(variant=variant, network="fc", settings=SETTINGS)
                suite.run_single(spec, store, Execution(), lambda _: None)

    return once("original", train)


@pytest.fixture
def copied(original: Path) -> Callable[[Path], str]:
    """Copies that store, with its artifacts, into a folder; gives its URI."""

    def copy(folder: Path) -> str:
        shutil.copytree(original / "artifacts", folder / "artifacts")
        with (
            closing(sqlite3.connect(original / "mlflow.db")) as ours,
            closing(sqlite3.connect(folder / "mlflow.db")) as its,
        ):
            ours.backup(its)
            for statement in MOVE:
                its.execute(statement, (str(original), str(folder)))
            its.commit()
        return f"sqlite:///{folder}/mlflow.db"

    return copy
