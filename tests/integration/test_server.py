"""A grid on MLflow's server with PostgreSQL, users and proxied artifacts, as deploy/ has it."""

import json
from pathlib import Path
from typing import Any

import pytest

from aepretrain import suite, tracking
from tests.integration.conftest import GRID, PASSWORDS, aepretrain, credentials, everything, log_in

pytestmark = pytest.mark.integration

OWN = ("grid", *GRID, "--augmentation", "none", "--seeds", "0,1")


@pytest.mark.parametrize("password", [None, "wrong"])
def test_without_the_password_nothing_begins(password: str | None, server: str, tmp_path: Path) -> None:
    who = credentials("trainer") | {"MLFLOW_TRACKING_PASSWORD": password} if password else {}
    done = aepretrain(tmp_path, {"MLFLOW_TRACKING_URI": server, **who}, "grid", *GRID)
    assert done.returncode == 1, done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"aepretrain: the tracking store {server} cannot be opened: ")
    assert "You are not authenticated" in line
    assert "wrong" not in done.stdout + done.stderr


def test_four_workers_store_on_the_server_what_they_store_in_sqlite(
    server: str, served: Path, expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_server = {"MLFLOW_TRACKING_URI": server, "MLFLOW_EXPERIMENT_NAME": "served", **credentials("trainer")}
    remote = aepretrain(tmp_path, on_server, *OWN, "--jobs", "4")
    assert (remote.returncode, remote.stderr) == (0, ""), remote.stdout
    log_in(monkeypatch, "trainer")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    store = tracking.open_store(server, "served")
    found = everything(store)
    own = {key: cell for key, cell in expected.items() if cell[-1]["seed"] < 2}
    assert len(own) == 8
    assert {key: found[key] for key in own} == own
    runs = [run for run in store.search({}) if run.info.experiment_id == store.experiment_id]
    assert [run.info.status for run in runs] == ["FINISHED"] * 9

    kept = {path.relative_to(served) for path in served.rglob("*") if path.is_file()}
    for run in runs:
        assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
        assert any(run.info.run_id in path.parts for path in kept), "its artifacts are the server's"
    left = {path.name for path in tmp_path.rglob("*") if path.is_file() and path.parent != tmp_path / "results"}
    assert all(name.endswith(".lock") for name in left), "nothing is left where the workers were"

    again = aepretrain(tmp_path, on_server, *OWN, "--out", "again")
    assert again.stdout.count(" reused: ") == 8
    compared = aepretrain(tmp_path, on_server, "compare", "--out", "compared")
    assert (compared.returncode, compared.stderr) == (0, "")
    tables = [json.loads((tmp_path / name / "grid.json").read_text()) for name in ("results", "again", "compared")]
    assert tables[0] == tables[1] == tables[2]
    for done in (remote, again, compared):
        assert PASSWORDS["trainer"] not in done.stdout

    log_in(monkeypatch, "reader")
    shown = {record.seed for record in suite.select(store.records().values()) if record.cell[2] == "scratch"}
    (other,) = {0, 1} - shown  # whose model nobody has exported, and the reader may not
    as_reader = on_server | credentials("reader") | {"MLFLOW_EXPERIMENT_NAME": "reading"}
    read = aepretrain(tmp_path, as_reader, *OWN[:-1], str(other), "--out", "read")
    assert (read.returncode, read.stderr) == (0, ""), read.stdout
    assert read.stdout.count(" reused: ") == 4
    reported = aepretrain(tmp_path, as_reader, "report", "--out", "read")
    assert (reported.returncode, reported.stderr) == (0, ""), reported.stdout
    (parent,) = (run for run in runs if run.data.tags["aepretrain.kind"] == "grid")
    assert not store.client.list_artifacts(parent.info.run_id, "results/report"), "it is the trainer's"
