"""What tests share: a store of their own, small settings, images, where MNIST lies, a signal that stops."""

import os
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from aepretrain import augment, data, networks, objectives, tracking, variants
from aepretrain.config import DataRequest, Settings
from aepretrain.data import Dataset, with_digest

ROOT = Path(__file__).parent.parent


def _holds_mnist(folder: Path) -> bool:
    """Whether MNIST's four files are there, packed or not. What is in them is checked when they are loaded."""
    return len({path.name.removesuffix(".gz") for path in (folder / "MNIST" / "raw").glob("*-ubyte*")}) == 4


_DATA_DIRS = [
    Path(os.environ.get("AEPRETRAIN_DATA_DIR") or "data").resolve(),
    ROOT / "data",
    ROOT.parent / "shared" / "data",
]
HAS_MNIST = any(map(_holds_mnist, _DATA_DIRS))
MNIST_DIR = next(filter(_holds_mnist, _DATA_DIRS), ROOT / "data")
"""The folder with MNIST, looked for where the program looks. No test downloads it."""

needs_mnist = pytest.mark.skipif(not HAS_MNIST, reason="MNIST's files are not at hand")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--chaos", action="store_true", help="only what is marked chaos, at full length")
    parser.addoption(
        "--no-skips",
        action="store_true",
        help="what is skipped has failed, but for GPUs and full length",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--chaos"):
        config.option.markexpr = "chaos"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    strict = item.config.getoption("--no-skips") and item.get_closest_marker("gpu") is None
    if strict and report.skipped and isinstance(report.longrepr, tuple) and AT_FULL_LENGTH not in report.longrepr[2]:
        report.outcome, report.longrepr = "failed", f"--no-skips: {report.longrepr[2]}"
    return report


AT_FULL_LENGTH = "at full length only"
"""Why a test is skipped that is too long for every change."""


@pytest.fixture(scope="session")
def full_length(pytestconfig: pytest.Config) -> bool:
    """Whether chaos is to last as long as its promises say, not only as long as every change can wait for."""
    return bool(pytestconfig.getoption("--chaos"))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the MLflow or data settings of whoever runs it."""
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "AEPRETRAIN_"))]:
        monkeypatch.delenv(name)
    for name, value in tracking.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    torch.set_num_threads(1)


@pytest.fixture
def own_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    for registry in (networks.NETWORKS, data.DATASETS, augment.AUGMENTATIONS, objectives.OBJECTIVES, variants.VARIANTS):
        monkeypatch.setattr(registry, "_things", dict(registry._things))
        monkeypatch.setattr(registry, "_digests", dict(registry._digests))
    monkeypatch.setattr(data, "_loaded", dict(data._loaded))


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """scikit-learn's digits, all of them."""
    return data.load(DataRequest("digits"), None)


@pytest.fixture(scope="session")
def images(digits: Dataset) -> Dataset:
    """A small dataset: 600 training and 100 test images of real MNIST where it is at hand, else of the digits."""
    whole = data.load(DataRequest("mnist"), str(MNIST_DIR)) if HAS_MNIST else digits
    parts = whole.images_NCHW[:600], whole.labels_N[:600], whole.test_images_NCHW[:100], whole.test_labels_N[:100]
    return with_digest(whole.name, whole.source, *parts)


Once = Callable[[str, Callable[[Path], object]], Path]
"""From a name and what writes a file or folder of that name, its path."""


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Has something made by the first of the testing processes that needs it, a file or a folder; gives its path."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # where pytest-xdist gives each process a folder of its own

    def make(name: str, write: Callable[[Path], object]) -> Path:
        path, done = folder / name, folder / f"{name}.done"
        with FileLock(f"{path}.lock"):
            if not done.exists():
                assert not path.exists(), "making it has failed in another process"
                write(path)
                done.touch()
        return path

    return make


@pytest.fixture(scope="session")
def template(once: Once) -> Path:
    """An empty, migrated SQLite store, made once, for migrating takes seconds."""
    return once("template.db", lambda path: tracking.open_store(f"sqlite:///{path}"))


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
