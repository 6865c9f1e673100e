"""MLflow's UI on a store: its server on this machine, and the page that lists the trainings."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from aepretrain import stopping
from aepretrain.errors import UsageError
from aepretrain.tracking.address import sqlite_file, without_credentials
from aepretrain.tracking.connect import EXPERIMENT
from aepretrain.tracking.relocation import ARTIFACTS
from aepretrain.tracking.retry import StoreError
from aepretrain.tracking.store import Store

HOST = "127.0.0.1"
PORT = 5000
"""MLflow's own port."""

NUM_PORTS = 100
"""How many ports are tried from this one on."""

LONGEST_START_S = 120.0

OPTIONS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""Environment of the server: without the processes of MLflow's GenAI part."""


@dataclass(frozen=True)
class Server:
    """A server that runs, and its address without a slash at the end."""

    address: str
    process: "subprocess.Popen[bytes]"


def page_of_trainings(store: Store, experiment: str | None = None) -> str:
    """What follows a server's address in that of the page with an experiment's runs.

    MLflow opens on another page, which is about language models. Where there is no such experiment, the page lists all.
    """
    found = store.client.get_experiment_by_name(experiment or EXPERIMENT)
    return f"/#/experiments/{found.experiment_id}/runs?workflowType=machine_learning" if found else "/#/experiments"


def server_of(uri: str) -> str | None:
    """The address of a store that is a server, without credentials; None for another store."""
    return without_credentials(uri) if uri.startswith("http") else None


@contextmanager
def serve(uri: str, port: int | None = None) -> Iterator[Server]:
    """MLflow's server on a store, which answers on this machine only, with one worker, while the block lasts.

    Without `port` it is the first free one from 5000 on. Raises `UsageError` where `port` is not free, and `StoreError`
    where the server ends or does not answer. The address of a database is passed in the environment, where no other
    user can read its password.
    """
    chosen = _free_port(port)
    file = sqlite_file(uri)
    with tempfile.TemporaryDirectory(prefix="aepretrain-ui-", ignore_cleanup_errors=True) as folder:
        artifacts = file.with_name(ARTIFACTS) if file is not None else Path.cwd() / ARTIFACTS
        command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(chosen), "--workers", "1"]
        log = Path(folder, "log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--artifacts-destination", str(artifacts)],
                cwd=folder,
                env={**OPTIONS, **os.environ, "MLFLOW_BACKEND_STORE_URI": uri},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        stopping.groups.add(process.pid)
        try:
            server = Server(f"http://{HOST}:{chosen}", process)
            _wait_for(server, log)
            yield server
        finally:
            _end(process)
            stopping.groups.discard(process.pid)


def _free_port(port: int | None) -> int:
    tried = range(PORT, PORT + NUM_PORTS) if port is None else [port]
    free = next((one for one in tried if _is_free(one)), None)
    if free is None:
        other = f"all ports from {tried[0]} to {tried[-1]} are" if port is None else f"port={port} is"
        raise UsageError(f"{other} not free: name another one")
    return free


def _is_free(port: int) -> bool:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: its last end does not matter
        try:
            one.bind((HOST, port))
        except (OSError, OverflowError):
            return False
    return True


def _wait_for(server: Server, log: Path) -> None:
    left_s = LONGEST_START_S
    while not _answers(server.address):
        if server.process.poll() is not None or left_s <= 0:
            last = log.read_text(errors="replace").strip().splitlines()[-1:]
            problem = "has ended" if server.process.poll() is not None else "does not answer"
            raise StoreError(f"MLflow's server {problem}: {last[0] if last else 'it printed nothing'}")
        stopping.sleep(0.2)
        stopping.check()
        left_s -= 0.2


def _answers(address: str) -> bool:
    connection = HTTPConnection(address.removeprefix("http://"), timeout=5)  # never through a proxy
    try:
        with closing(connection):
            connection.request("GET", "/health")
            return connection.getresponse().status == HTTPStatus.OK
    except (OSError, HTTPException):
        return False


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a server and its workers, which are in a session of their own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(3)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
