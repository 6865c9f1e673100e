"""The champion behind `mlflow models serve`, asked over HTTP; the server cannot import this package."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from aepretrain import runner, serving, tracking
from aepretrain.config import Execution, Settings, TrainingSpec
from aepretrain.data import Dataset
from aepretrain.records import Record
from aepretrain.training.checkpoints import ALLOWED
from tests.conftest import ROOT

pytestmark = pytest.mark.integration

LONGEST_START_S = 300

PICTURES = sorted(one.name for one in (ROOT / "docs" / "pictures").iterdir())


@pytest.fixture
def record(store: tracking.Store, small: Settings) -> Record:
    """A convolutional classifier that has learned something; its run has its model."""
    settings = replace(small, cls_epochs=10, lr=0.01)
    spec = TrainingSpec(variant="scratch", network="conv", augmentation="none", seed=0, settings=settings)
    run_id = runner.run_single(spec, store, Execution(device="cpu"), lambda _: None).record.run_id
    return store.record(run_id)


@pytest.fixture
def address(store: tracking.Store, record: Record, tmp_path: Path) -> Iterator[str]:
    """Where the champion is served."""
    promotion = serving.promote(store, record, "digits", "for a test")
    with served(promotion.uri, store.uri, tmp_path) as address:
        yield address


@contextmanager
def served(model: str, store_uri: str, folder: Path) -> Iterator[str]:
    """Where a model of a store's registry is served, by a server that runs in a new folder in this one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    programs = Path(sys.executable).parent
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"MLFLOW_TRACKING_URI": store_uri, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [programs / "mlflow", "models", "serve", "-m", model, "--env-manager", "local", "-p", str(port)],
            cwd=elsewhere,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # it starts further processes, which end with the group
        )
        try:
            wait_until_served(f"http://127.0.0.1:{port}/ping", process, folder / "server.log")
            yield f"http://127.0.0.1:{port}/invocations"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_until_served(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until_s = time.monotonic() + LONGEST_START_S
    while True:
        try:
            requests.get(address, timeout=5).raise_for_status()
        except requests.RequestException:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until_s, log.read_text()
            time.sleep(0.2)
        else:
            return


def ask(address: str, inputs: Any) -> requests.Response:
    """The answer to a JSON request, which may hold NaN."""
    headers = {"Content-Type": "application/json"}
    return requests.post(address, data=json.dumps({"inputs": inputs}), headers=headers, timeout=60)


def test_the_served_champion_gives_the_numbers_of_the_model_in_this_process(
    address: str, store: tracking.Store, record: Record, digits: Dataset
) -> None:
    model = serving.load_classifier(store, record)
    images_NCHW = digits.test_images_NCHW.numpy()[:5].astype(np.float32) / np.float32(255)
    for num in (1, 5):
        answer = ask(address, images_NCHW[:num].tolist())
        assert answer.status_code == 200, answer.text
        probs_NK = np.array(answer.json()["predictions"])
        expected_NK = serving.apply(model, images_NCHW[:num])
        assert probs_NK.shape == (num, 10)
        assert np.abs(probs_NK - expected_NK).max() < 1e-6
        assert expected_NK.max(1).min() > 0.5, "it has learned something, so wrong numbers would be far off"
    assert ask(address, [[1, 2, 3]]).status_code == 400, "what is no image is refused"
    for wrong_NCHW in (255 * images_NCHW, -images_NCHW, images_NCHW * np.nan):
        answer = ask(address, wrong_NCHW.tolist())
        assert answer.status_code == 400
        assert answer.json()["stack_trace"].endswith(f"RuntimeError: {ALLOWED}\n")
