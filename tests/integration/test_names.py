"""The whole way in folders of any name; what is printed as a command is pasted into a shell and finds the same runs."""

import json
import os
import re
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import mlflow
import numpy as np
import pytest
import requests
from mlflow import MlflowClient
from PIL import Image

from aepretrain.data import Dataset
from tests.chaos.conftest import wait_for
from tests.commands import Done, aepretrain, start_server
from tests.integration.services import free_port
from tests.names import DECODED, NAMES

pytestmark = pytest.mark.integration

GRID = ("grid", "--dataset", "digits", "--network", "fc", "--augmentation", "none", "--epochs", "1", "--jobs", "1")
FOLDERS = ("checkout", "out", "pictures", "bundle", "other")

CASES = {
    "all names, one in the other": [name for kind, name in NAMES.items() if kind not in DECODED],
    "names that MLflow decodes": [NAMES[kind] for kind in DECODED],
}
"""Names of folders, one in the other, for each of `FOLDERS`. `tests/test_addresses.py` tries the names one by one."""


def pasted(line: str) -> list[str]:
    """The arguments that a shell gives to ``aepretrain`` or ``mlflow`` for this line; mlflow's address stands first."""
    program = 'mlflow() { printf "%s\\0" "$MLFLOW_TRACKING_URI" "$@"; }; aepretrain() { printf "%s\\0" "$@"; }\n' + line
    done = subprocess.run(["/bin/bash", "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.split("\0")[:-1]


def answers(address: str) -> bool:
    """Whether a server answers at this address."""
    with suppress(requests.ConnectionError):
        return requests.get(address, timeout=5).ok
    return False


def printed(done: Done, pattern: str) -> str:
    """The only text in a line of the output that the pattern finds."""
    (found,) = set(re.findall(pattern, done.out))
    return str(found)


def stray(folder: Path, ours: Sequence[Path]) -> list[Path]:
    """All below this folder that neither holds our folders nor lies in one."""
    return [
        path
        for path in folder.rglob("*")
        if not any(path.is_relative_to(one) or one.is_relative_to(path) for one in ours)
    ]


@pytest.mark.parametrize("case", CASES)
def test_the_whole_way(case: str, tmp_path: Path, template: Path, digits: Dataset) -> None:
    folders = [tmp_path.joinpath(name, *CASES[case]) for name in FOLDERS]
    checkout, out, pictures, bundle, other = folders
    for folder in folders:
        folder.mkdir(parents=True)
    (checkout / "MLproject").touch()
    for folder in (checkout, other):  # migrating takes seconds
        (folder / "mlflow.db").write_bytes(template.read_bytes())
    environment = {"MLFLOW_EXPERIMENT_NAME": "own"}  # the template's has its artifacts beside the template
    picture = pictures / f"{CASES[case][-1]}.png"
    Image.fromarray(digits.test_images_NCHW[0, 0].numpy()).resize((56, 56)).save(picture)

    def run(*arguments: str | Path, folder: Path = checkout) -> Done:
        done = aepretrain(*map(str, arguments), folder=folder, **environment)
        assert done.code == 0, done
        assert re.findall(r"[\x00-\x09\x0b-\x1f\x7f]", done.out + done.err) == []
        return done

    trained = run(*GRID, "--out", out, "--data-dir", pictures)
    table = json.loads((out / "grid.json").read_text())
    run("compare", "--out", "--help me")
    assert json.loads((checkout / "--help me" / "grid.json").read_text()) == table
    run("report", "--out", out)
    assert "report.html" in os.listdir(out)
    assert run("predict", picture).out.count(" %") == 3
    assert "1 pictures" in run("encode", pictures, "--out", out / "codes.parquet").out
    run("export", bundle)
    imported = run("import", bundle, "--tracking-uri", "sqlite:///mlflow.db", folder=other)
    assert "4 of 4 trainings" in imported.out
    assert stray(tmp_path, folders) == []

    kept, shown = "(?<=Runs are kept in ).*(?=; look at them)", "(?<=look at them with: ).*"
    of_other = run("compare", "--tracking-uri", printed(imported, kept))
    assert pasted(printed(of_other, shown)) == ["ui", "--tracking-uri", printed(imported, kept)]
    for folder, done, num in ((checkout, trained, 4), (other, imported, 3)):
        assert pasted(printed(done, shown)) == ["ui"]
        client = MlflowClient(tracking_uri=printed(done, kept))
        weights = {path.parent.parent.name: path for path in folder.glob("mlartifacts/*/artifacts/weights.pt")}
        assert len(weights) == num, "a bundle has those of classifiers only"
        for run_id, path in weights.items():
            assert client.get_run(run_id).data.tags["aepretrain.done"] == "true"
            assert Path(client.download_artifacts(run_id, "weights.pt")).read_bytes() == path.read_bytes()

    if case == "names that MLflow decodes":
        refused = aepretrain("promote", folder=checkout, **environment).refusal()
        assert "MLflow cannot load a model from" in refused
        return
    promoted = run("promote")
    uri, *serve = pasted(printed(promoted, "(?<=Serve it with: ).*"))
    assert uri == printed(trained, kept)
    assert serve[:3] == ["models", "serve", "-m"]
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        model = mlflow.pyfunc.load_model(serve[3])
    finally:
        mlflow.set_tracking_uri(before)
    assert model.predict(np.zeros((2, 1, 28, 28), np.float32)).shape == (2, 10)

    port = str(free_port())
    server = start_server(
        *("--backend-store-uri", printed(imported, kept), "--port", port, "--workers", "1"),
        folder=tmp_path,
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
    )
    try:
        wait_for(lambda: server.poll() is not None or answers(f"http://127.0.0.1:{port}/health"), 120)
        for run_id, path in weights.items():
            address = f"http://127.0.0.1:{port}/get-artifact?path=weights.pt&run_uuid={run_id}"
            assert requests.get(address, timeout=60).content == path.read_bytes()
    finally:
        server.kill()
