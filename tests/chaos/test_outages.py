"""A tracking server that is killed under a grid: for a while, and for good."""

import os
import re
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from aepretrain import tracking
from tests.chaos.conftest import (
    Commands,
    begun,
    check_store,
    members,
    stored,
    wait_for,
    workers,
)
from tests.commands import Command, start_mlflow, start_server
from tests.conftest import AT_FULL_LENGTH

pytestmark = pytest.mark.chaos

PASSWORD = "g3heim"  # noqa: S105  # of no account


class Server:
    """``mlflow server`` on a store of its own, as a process group that can be killed and started again.

    With a worker in a process started anew, as a user has it, or `quickly`, all forked from the process that tests.
    """

    def __init__(self, folder: Path, database: str, quickly: bool) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.database, self.quickly = folder, database, quickly
        self.process: Command | None = None

    @property
    def uri(self) -> str:
        """With a password, which this server does not ask for, and nobody may see."""
        return f"http://me:{PASSWORD}@127.0.0.1:{self.port}"

    def start(self) -> None:
        begin = start_server if self.quickly else partial(start_mlflow, "server")
        self.process = begin(
            *("--port", str(self.port), "--workers", "1", "--backend-store-uri", self.database),
            *("--artifacts-destination", str(self.folder / "served")),
            folder=self.folder,
            MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
        )
        wait_for(self.answers, 120)

    def answers(self) -> bool:
        with suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5).close()  # http
            return True
        return False

    def kill(self) -> None:
        """Kill it, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()


@pytest.fixture
def server(tmp_path: Path, template: Path, commands: Commands, full_length: bool) -> Iterator[Server]:
    database = tmp_path / "served.db"
    database.write_bytes(template.read_bytes())
    found = Server(tmp_path, f"sqlite:///{database}", quickly=not full_length)
    commands.environment["MLFLOW_TRACKING_URI"] = found.uri
    yield found
    found.kill()


@pytest.fixture
def behind(server: Server) -> tracking.Store:
    """The server's database, seen past the server."""
    return tracking.Store(server.database, "1")


def test_a_server_that_comes_back_has_everything_once(
    commands: Commands,
    options: tuple[str, ...],
    server: Server,
    behind: tracking.Store,
    expected: dict[str, Any],
    full_length: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    outage_s = 60 if full_length else 3
    server.start()
    command = commands.start("grid", *options)
    wait_for(lambda: begun(behind, 2), 120)
    server.kill()
    killed_ms = time.time() * 1000
    time.sleep(outage_s)
    back_ms = time.time() * 1000
    server.start()
    done = command.finish()
    assert (done.code, done.err) == (0, ""), done.out
    assert PASSWORD not in done.out
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    check_store(tracking.open_store(server.uri), expected)
    assert {run.info.status for run in behind.search({})} == {"FINISHED"}, "no training was begun a second time"
    during = [
        point
        for record in behind.records().values()
        for point in behind.client.get_metric_history(record.run_id, "loss/validation")
        if killed_ms < point.timestamp < back_ms
    ]
    assert during, "the trainings went on meanwhile"
    print(f"outage of {outage_s} s: {len(during)} epochs trained during it, lost: 0, twice: 0")


@pytest.mark.parametrize("upload", ["sync", "grid"])
def test_what_a_server_that_stays_away_did_not_take_is_uploaded_later(
    upload: str,
    commands: Commands,
    options: tuple[str, ...],
    full_length: bool,
    server: Server,
    behind: tracking.Store,
    expected: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    if upload == "grid" and not full_length:
        pytest.skip(AT_FULL_LENGTH)
    server.start()
    command = commands.start("grid", *options, "--outage-s", "2")
    wait_for(lambda: begun(behind, 2), 120)
    server.kill()
    done = command.finish()
    assert done.code == 1, done.out
    found = re.search(r"are kept in (\S+); upload them later with: aepretrain sync", done.complaint())
    assert found, done.err
    assert PASSWORD not in done.out + done.err
    kept = list(Path(found[1]).iterdir())
    assert 1 <= len(kept) <= 2
    assert all("http" not in (folder / "operations.jsonl").read_text() for folder in kept)
    server.start()
    uploaded = {folder.name.partition("-")[0] for folder in kept}
    if upload == "sync":
        done = commands.run("sync")
        assert (done.code, done.err) == (0, "")
        assert f"{len(kept)} training(s) uploaded" in done.out
        found_now = stored(behind)
        assert uploaded <= found_now.keys()
        assert all(found_now[key] == expected[key] for key in found_now), "the same bits as if it had been there"
    done = commands.run("grid", *options)
    assert (done.code, done.err) == (0, ""), done.out
    attempts = {record.attempt for record in behind.records().values() if record.key in uploaded}
    assert attempts == {1}, "what was uploaded is not trained again"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    check_store(tracking.open_store(server.uri), expected)


@pytest.mark.parametrize("away", [signal.SIGKILL, signal.SIGSTOP])
def test_told_to_stop_while_the_server_is_away_the_command_ends_within_5_s(
    away: int, commands: Commands, options: tuple[str, ...], full_length: bool, server: Server, behind: tracking.Store
) -> None:
    """Killed, the server refuses connections; stopped, it takes them and does not answer."""
    if away == signal.SIGKILL and not full_length:
        pytest.skip(AT_FULL_LENGTH)
    server.start()
    command = commands.start("grid", *options, "--epochs", "5000")
    wait_for(lambda: begun(behind, 2), 120)
    assert server.process is not None
    training = set(workers(command.pid))  # afterwards they could not be told from the fork server, which ends later
    os.killpg(server.process.pid, away)
    os.kill(command.pid, signal.SIGTERM)
    assert wait_for(command.poll) < 5
    assert wait_for(lambda: not training & members(command.pid).keys()) < 1
    assert "the same command goes on from there" in command.finish().complaint()
    assert command.finish().code == 143
    if away == signal.SIGSTOP:
        os.killpg(server.process.pid, signal.SIGCONT)
    else:
        server.process.kill()
        server.start()
    assert commands.run("sync").code == 0
    assert {run.info.status for run in behind.search({})} == {"KILLED"}
