"""The command that opens MLflow's UI, and its server."""

import os
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aepretrain import api, tracking
from aepretrain.errors import Failure, UsageError
from aepretrain.tracking import StoreError, ui


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that a browser is asked for, on a machine with a screen."""
    addresses: list[str] = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(webbrowser, "open", addresses.append)
    return addresses


@pytest.fixture
def taken() -> Iterator[Callable[[], int]]:
    """Takes a free port and gives its number."""
    sockets = []

    def take() -> int:
        sockets.append(socket.create_server((ui.HOST, 0)))
        return int(sockets[-1].getsockname()[1])

    yield take
    for one in sockets:
        one.close()


def test_the_page_is_that_of_the_experiment(uri: str) -> None:
    store = tracking.open_store(uri)
    page = f"/#/experiments/{store.experiment_id}/runs?workflowType=machine_learning"
    assert tracking.page_of_trainings(store) == page
    other = tracking.open_store(uri, "mine")
    assert tracking.page_of_trainings(store, "mine") == page.replace(store.experiment_id, other.experiment_id)
    assert tracking.page_of_trainings(store, "none") == "/#/experiments"


def test_without_a_store_nothing_is_made(tmp_path: Path, opened: list[str]) -> None:
    with pytest.raises(Failure, match=r"there is no store sqlite:///.*/no.db yet: it is made by the first training"):
        api.open_ui(tracking_uri=f"sqlite:///{tmp_path}/no.db")
    assert os.listdir(tmp_path) == opened == []


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_what_is_no_port_is_refused(port: int, uri: str) -> None:
    with pytest.raises(UsageError, match=rf"port={port} is not allowed: it must be from 1 to 65535"):
        api.open_ui(port=port, tracking_uri=uri)


def test_a_port_that_is_taken(taken: Callable[[], int], uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = taken()
    with pytest.raises(UsageError, match=rf"port={first} is not free: name another one"), tracking.serve(uri, first):
        pass
    monkeypatch.setattr(ui, "PORT", first)
    assert first < ui._free_port(None) <= first + ui.NUM_PORTS, "the next free one"
    monkeypatch.setattr(ui, "NUM_PORTS", 1)
    with pytest.raises(UsageError, match=rf"all ports from {first} to {first} are not free"):
        ui._free_port(None)


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("import sys; print('one'); sys.exit('two')", "MLflow's server has ended: two"),
        ("pass", "MLflow's server has ended: it printed nothing"),
        ("import time; print('slow', flush=True); time.sleep(99)", "MLflow's server does not answer: slow"),
    ],
)
def test_a_server_that_does_not_come(
    script: str, problem: str, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!{sys.executable}\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(ui, "LONGEST_START_S", 2.0)
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(*arguments: object, **options: object) -> object:
        started.append(popen(*arguments, **options))  # type: ignore[call-overload]  # as it was called
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    with pytest.raises(StoreError, match=problem), tracking.serve(uri):
        pass
    assert started[0].poll() is not None, "it is ended"


def test_a_servers_own_page_is_opened(uri: str, opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    store = tracking.open_store(uri)
    page = tracking.page_of_trainings(store)
    server = "http://user:secret@host:5000"
    monkeypatch.setattr(api.open_ui.__globals__["tracking"], "page_of_trainings", lambda *_: page)
    monkeypatch.setitem(api.open_ui.__globals__, "find_store", lambda *_: tracking.Store(server, "", 0))
    api.open_ui(tracking_uri=server)
    assert opened == [f"http://host:5000{page}"], "without the password"
    with pytest.raises(UsageError, match="port=5001 is not allowed: http://host:5000 is a server that runs already"):
        api.open_ui(port=5001, tracking_uri=server)


@pytest.mark.usefixtures("uri")
def test_no_browser_takes_the_terminal(opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    show = api.open_ui.__globals__["_show"]
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    show("http://a", browser=True)
    assert opened == []
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    show("http://b", browser=False)
    show("http://c", browser=True)
    assert opened == ["http://c"]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("signals", "code"),
    [([signal.SIGINT], 0), ([signal.SIGTERM], 0), ([signal.SIGTERM, signal.SIGTERM], 128 + signal.SIGTERM)],
    ids=["Ctrl-C", "a stop", "a stop from two sides, as coreutils' timeout sends it"],
)
def test_the_ui_answers_until_it_is_stopped(signals: list[signal.Signals], code: int, uri: str, tmp_path: Path) -> None:
    tracking.open_store(uri)
    before = sorted(os.listdir(tmp_path))
    port = ui._free_port(None)
    command = [sys.executable, "-m", "aepretrain", "ui", "--tracking-uri", uri, "--port", str(port)]
    experiment = tracking.open_store(uri).experiment_id
    page = f"http://127.0.0.1:{port}/#/experiments/{experiment}/runs?workflowType=machine_learning"
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"MLflow's UI: {page} (Ctrl-C ends it)\n"
        assert ui._answers(f"http://127.0.0.1:{port}")
        for one in signals:
            process.send_signal(one)
            time.sleep(0.1)
        assert process.wait(10) == code
    assert not ui._answers(f"http://127.0.0.1:{port}"), "its server has ended, too"
    assert sorted(os.listdir(tmp_path)) == before, "it writes nothing here"
