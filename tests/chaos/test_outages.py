"""A tracking server that is killed under a grid: for a while, and for good."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from aepretrain import tracking
from tests.chaos.conftest import (
    OPTIONS,
    Commands,
    begun,
    check_store,
    kill_group,
    stored,
    wait_for,
    wait_for_workers_to_end,
)

pytestmark = pytest.mark.chaos


class Server:
    """``mlflow server`` on a store of its own, as a process group that can be killed and started again."""

    def __init__(self, folder: Path, database: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.database = folder, database
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "server", "--port", str(self.port), "--workers", "1"),
                *("--backend-store-uri", self.database, "--artifacts-destination", str(self.folder / "served")),
            ],
            cwd=self.folder,
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for(self.answers, 120)

    def answers(self) -> bool:
        with suppress(OSError):
            urllib.request.urlopen(f"{self.uri}/health", timeout=5).close()  # noqa: S310  # http
            return True
        return False

    def kill(self) -> None:
        assert self.process is not None
        kill_group(self.process.pid)
        self.process.wait()


@pytest.fixture
def server(tmp_path: Path, template: Path, commands: Commands) -> Iterator[Server]:
    database = tmp_path / "served.db"
    database.write_bytes(template.read_bytes())
    found = Server(tmp_path, f"sqlite:///{database}")
    found.start()
    commands.environment["MLFLOW_TRACKING_URI"] = found.uri
    yield found
    found.kill()


@pytest.fixture
def behind(server: Server) -> tracking.Store:
    """The server's database, seen past the server."""
    return tracking.Store(server.database, "1")


def test_a_server_that_comes_back_has_everything_once(
    commands: Commands,
    server: Server,
    behind: tracking.Store,
    expected: dict[str, Any],
    full_length: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    outage_s = 60 if full_length else 5
    process = commands.start("grid", *OPTIONS)
    wait_for(lambda: begun(behind, 2), 120)
    server.kill()
    killed_ms = time.time() * 1000
    time.sleep(outage_s)
    back_ms = time.time() * 1000
    server.start()
    out, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, ""), out
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    check_store(tracking.open_store(server.uri), expected)
    assert {run.info.status for run in behind.search({})} == {"FINISHED"}, "no training was begun a second time"
    during = [
        point
        for record in behind.records().values()
        for point in behind.client.get_metric_history(record.run_id, "val_loss")
        if killed_ms < point.timestamp < back_ms
    ]
    assert during, "the trainings went on meanwhile"
    print(f"outage of {outage_s} s: {len(during)} epochs trained during it, lost: 0, twice: 0")


def test_what_a_server_that_stays_away_did_not_take_is_uploaded_later(
    commands: Commands,
    server: Server,
    behind: tracking.Store,
    expected: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    process = commands.start("grid", *OPTIONS, "--outage-s", "2")
    wait_for(lambda: begun(behind, 2), 120)
    server.kill()
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 1, out
    assert len(errors.strip().splitlines()) == 1
    found = re.search(r"are kept in (\S+); upload them later with: aepretrain sync", errors)
    assert found, errors
    kept = list(Path(found[1]).iterdir())
    assert 1 <= len(kept) <= 2
    assert all("http" not in (folder / "operations.jsonl").read_text() for folder in kept)
    server.start()
    code, out, errors = commands.run("sync")
    assert (code, errors) == (0, "")
    assert f"{len(kept)} training(s) uploaded" in out
    uploaded = {folder.name.partition("-")[0] for folder in kept}
    found_now = stored(behind)
    assert uploaded <= found_now.keys()
    assert all(found_now[key] == expected[key] for key in found_now), "the same bits as if it had been there"
    code, out, errors = commands.run("grid", *OPTIONS)
    assert (code, errors) == (0, ""), out
    assert out.count(" reused: ") == len(found_now), "what was uploaded is not trained again"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    check_store(tracking.open_store(server.uri), expected)


def test_told_to_stop_while_the_server_is_away_workers_stop_within_5_s(
    commands: Commands, server: Server, behind: tracking.Store
) -> None:
    process = commands.start("grid", *OPTIONS, "--epochs", "5000")
    wait_for(lambda: begun(behind, 2), 120)
    server.kill()
    os.kill(process.pid, signal.SIGTERM)
    assert wait_for_workers_to_end(process.pid) < 5
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, len(errors.strip().splitlines())) == (143, 1), errors
    server.start()
    assert commands.run("sync")[0] == 0
    assert {run.info.status for run in behind.search({})} == {"KILLED"}
