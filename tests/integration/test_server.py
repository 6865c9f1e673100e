"""A grid on MLflow's server with PostgreSQL, users and proxied artifacts, as deploy/ has it."""

import json
from pathlib import Path
from typing import Any

import pytest

from aepretrain import runner, tracking
from aepretrain.tracking import StoreError
from tests.commands import aepretrain
from tests.integration.conftest import GRID, PASSWORDS, aepretrain_anew, credentials, everything, log_in

pytestmark = pytest.mark.integration

OWN = ("grid", *GRID, "--augmentation", "none", "--seeds", "0,1")


@pytest.mark.parametrize("password", [None, "wrong"])
def test_without_the_password_nothing_is_opened(
    password: str | None, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    if password:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "trainer")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    with pytest.raises(StoreError) as error:
        tracking.open_store(server)
    assert str(error.value).startswith(f"the tracking store {server} cannot be opened: ")
    assert "You are not authenticated" in str(error.value)
    assert "wrong" not in str(error.value)


def test_four_workers_store_on_the_server_what_they_store_in_sqlite(
    server: str, served: Path, expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_server = {"MLFLOW_TRACKING_URI": server, "MLFLOW_EXPERIMENT_NAME": "served", **credentials("trainer")}
    remote = aepretrain_anew(tmp_path, on_server, *OWN, "--jobs", "4")
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

    on_server["XDG_STATE_HOME"] = str(tmp_path / "state")
    compared = aepretrain("compare", "--out", "compared", folder=tmp_path, **on_server)
    assert (compared.code, compared.err) == (0, "")
    tables = [json.loads((tmp_path / name / "grid.json").read_text()) for name in ("results", "compared")]
    assert tables[0] == tables[1]
    assert PASSWORDS["trainer"] not in remote.stdout + compared.out

    log_in(monkeypatch, "reader")
    shown = {record.seed for record in runner.select(store.records().values()) if record.cell[2] == "scratch"}
    (other,) = {0, 1} - shown  # whose model nobody has exported, and the reader may not
    as_reader = on_server | credentials("reader") | {"MLFLOW_EXPERIMENT_NAME": "reading"}
    read = aepretrain(*OWN[:-1], str(other), "--out", "read", folder=tmp_path, **as_reader)
    assert (read.code, read.err) == (0, ""), read.out
    assert read.out.count(" reused: ") == 4
    reported = aepretrain("report", "--out", "read", folder=tmp_path, **as_reader)
    assert (reported.code, reported.err) == (0, ""), reported.out
    (parent,) = (run for run in runs if run.data.tags["aepretrain.kind"] == "grid")
    assert not store.client.list_artifacts(parent.info.run_id, "results/report"), "it is the trainer's"
