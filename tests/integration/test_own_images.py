"""From class folders of colour pictures to verdict, prediction and web service, by commands alone; and from Python."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from aepretrain import api
from aepretrain.config import Execution, Settings
from examples.shapes import CLASSES, write_pictures
from tests.conftest import ROOT
from tests.integration.test_serving import ask, served

pytestmark = pytest.mark.integration

PLAN = """
question: Does pretraining help?
smallest_effect: 3 images
alpha: 0.05
datasets: ["folder:drawn"]
networks: {fc: 0-7}
augmentations: [none]
objectives: [pixel-mask]
labels: [30, all]
updates: 20
comparisons: [finetune - scratch]
families: [labels]
settings: {ae-epochs: 1, cls-epochs: 1, split: stratified}
"""


class Reader:
    """Types commands in a folder of its own, which has pictures and nothing else."""

    def __init__(self, folder: Path, size: tuple[int, int]) -> None:
        self.folder = folder
        self.uri = f"sqlite:///{folder}/mlflow.db"
        write_pictures(folder / "drawn", size, 40)

    def run(self, *words: str) -> str:
        """What a command prints."""
        done = subprocess.run(
            [sys.executable, "-m", "aepretrain", *words, "--tracking-uri", self.uri],
            cwd=self.folder,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def test_sides_that_no_layer_divides(tmp_path: Path) -> None:
    reader = Reader(tmp_path, (51, 38))
    cell = ("--dataset", "folder:./drawn/", "--augmentation", "none", "--epochs", "1")
    assert "folder:drawn (n = 1 seed" in reader.run("grid", *cell, "--network", "fc,conv")
    predicted = reader.run("predict", "drawn/ring/0001.png")
    assert any(name in predicted for name in CLASSES)


def test_from_pictures_to_a_verdict_and_a_service_by_commands(tmp_path: Path) -> None:
    reader = Reader(tmp_path, (32, 32))
    cell = ("--dataset", "folder:./drawn/", "--augmentation", "none", "--epochs", "1")
    assert "folder:drawn (n = 1 seed" in reader.run("grid", *cell, "--network", "fc,conv")
    reader.run("study", "all", *cell, "--network", "conv", "--updates", "10", "--seeds", "0-1")
    (tmp_path / "plan.yaml").write_text(PLAN)
    reader.run("run", "plan.yaml")
    verdict = reader.run("report", "plan.yaml")
    assert re.search(r"At equal settings: finetune − scratch .* in \d of 2 tests", verdict), verdict
    assert (tmp_path / "results" / "report.html").stat().st_size > 10_000
    assert "folder:drawn" in reader.run("report", *cell[:2], "--split", "random", "--epochs", "1", "--out", "grid")
    assert "Robustness" in (tmp_path / "grid" / "report.md").read_text()

    predicted = reader.run("predict", "drawn/ring/0001.png", "drawn/bar/0002.png")
    assert [line.split("│")[1].strip() for line in predicted.splitlines() if ".png" in line] == [
        "drawn/ring/0001.png",
        "drawn/bar/0002.png",
    ]
    assert any(name in predicted for name in CLASSES)
    reader.run("onnx", "--out", "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == list(CLASSES)
    pixels_HWC = np.asarray(Image.open(tmp_path / "drawn" / "ring" / "0001.png"), dtype=np.float32) / 255
    images_NCHW = np.ascontiguousarray(np.moveaxis(pixels_HWC, 2, 0))[None]
    (probs_NK,) = session.run(["probabilities"], {"images": images_NCHW})
    best = f"{100 * probs_NK.max():.2f} %"
    assert best in next(line for line in predicted.splitlines() if "ring/0001" in line)

    promoted = reader.run("promote")
    assert "aepretrain-folder-drawn is the champion" in promoted
    with served("models:/aepretrain-folder-drawn@champion", reader.uri, tmp_path) as address:
        answer = ask(address, images_NCHW.tolist())
        assert answer.status_code == 200, answer.text
        assert np.abs(np.array(answer.json()["predictions"]) - probs_NK).max() < 1e-5


def test_the_same_from_python(tmp_path: Path) -> None:
    write_pictures(tmp_path / "drawn", (32, 32), 40)
    plan, uri = tmp_path / "plan.yaml", f"sqlite:///{tmp_path}/mlflow.db"
    plan.write_text(PLAN.replace("folder:drawn", f"folder:{tmp_path}/drawn"))
    execution = Execution(device="cpu", jobs=2)
    planned = api.run_plan(plan, tracking_uri=uri, execution=execution, show=False)
    assert {record.identity["dataset"] for record in planned.records} == {"folder:drawn"}
    report = api.make_report(plans=[plan], tracking_uri=uri)
    (results,) = report.plans
    assert len(results.results) == 2
    assert all(one.verdict is not None for one in results.results)
    settings = Settings(dataset=f"folder:{tmp_path}/drawn", ae_epochs=1, cls_epochs=1)
    grid = api.run_grid(
        networks=["fc"], augmentations=["none"], settings=settings, tracking_uri=uri, execution=execution, show=False
    )
    assert grid.table.dataset == "folder:drawn"
    answer = api.predict(tmp_path / "drawn" / "disc", tracking_uri=uri, dataset="folder:drawn")
    assert answer.class_names == CLASSES
    assert answer.probs_NK.shape == (40, 3)
