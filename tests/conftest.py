"""What tests share: a store of their own and small settings."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from aepretrain import data, tracking
from aepretrain.data import Dataset
from aepretrain.spec import Settings

ROOT = Path(__file__).parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--chaos", action="store_true", help="Run the tests marked chaos, and only those, at full length.")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--chaos"):
        config.option.markexpr = "chaos"


@pytest.fixture(scope="session")
def full_length(request: pytest.FixtureRequest) -> bool:
    """Whether tests that can be long or short are to be long."""
    return bool(request.config.getoption("--chaos"))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the MLflow or data settings of whoever runs it."""
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "AEPRETRAIN_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """scikit-learn's digits, all of them."""
    return data.load("digits", None)


@pytest.fixture(scope="session")
def images(digits: Dataset) -> Dataset:
    """A small dataset: 600 training and 100 test images of real MNIST where it is, else of the digits."""
    try:
        whole = data.load("mnist", str(ROOT.parent / "shared" / "data") if (ROOT.parent / "shared").is_dir() else None)
    except data.DatasetMissing:
        whole = digits
    return replace(
        whole,
        images_NHW=whole.images_NHW[:600],
        labels_N=whole.labels_N[:600],
        test_images_NHW=whole.test_images_NHW[:100],
        test_labels_N=whole.test_labels_N[:100],
    )


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty, migrated SQLite store, made once, for migrating takes seconds."""
    folder = tmp_path_factory.mktemp("template")
    tracking.open_store(f"sqlite:///{folder}/mlflow.db")
    return folder / "mlflow.db"


@pytest.fixture
def uri(tmp_path: Path, template: Path) -> str:
    """The URI of an empty store of the test's own."""
    from mlflow import MlflowClient

    path = tmp_path / "mlflow.db"
    path.write_bytes(template.read_bytes())
    client = MlflowClient(tracking_uri=f"sqlite:///{path}")
    client.create_experiment("own", artifact_location=(tmp_path / "artifacts").as_uri())
    return f"sqlite:///{path}"


@pytest.fixture
def store(uri: str) -> tracking.Store:
    """An empty store of the test's own, opened."""
    return tracking.open_store(uri, "own")


@pytest.fixture
def small() -> Settings:
    """Two epochs on the digits."""
    return Settings(dataset="digits", ae_epochs=2, cls_epochs=2)
