"""PostgreSQL and MLflow's server as processes of their own, on loopback, as docs/deploy.md has them."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chaos.conftest import wait_for
from tests.conftest import ROOT

DEPLOY = ROOT / "deploy"
ADMIN = "admin"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _program(name: str) -> str:
    """A program of PostgreSQL's server; Debian has them apart, one folder for each version."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    if not found:
        pytest.fail("these tests need PostgreSQL's server: apt-get install postgresql")  # asked for, so no skip
    return str(found[-1])


@contextmanager
def postgresql() -> Iterator[dict[str, str]]:
    """An empty database that asks for a password; gives libpq's variables that lead to it.

    PostgreSQL refuses to run as root, who lends it the user that Debian's package has made for it.
    """
    user = "postgres" if os.geteuid() == 0 else None
    as_user: dict[str, Any] = {"user": user, "group": user, "extra_groups": []} if user else {}
    password = secrets.token_hex(16)
    with tempfile.TemporaryDirectory() as name:  # not pytest's, which other users cannot enter
        folder = Path(name)
        (folder / "password").write_text(password)
        for path in (folder, folder / "password"):
            if user:
                shutil.chown(path, user, user)
        how = ("--auth=scram-sha-256", f"--pwfile={folder}/password", "--username=mlflow", "--no-sync")
        data = f"{folder}/data"
        made = subprocess.run(
            [_program("initdb"), *how, data],
            **as_user,
            cwd="/",
            capture_output=True,
            check=False,
        )
        assert made.returncode == 0, made.stderr
        port = free_port()
        listening = ("-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}", "-p", str(port))
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [_program("postgres"), "-D", data, *listening],
                **as_user,
                cwd="/",
                stdout=log,
                stderr=log,
            )
        login = {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "mlflow", "PGPASSWORD": password}
        try:
            wait_for(lambda: _ready(login), 60)
            login["PGDATABASE"] = "mlflow"
            made = subprocess.run([_program("createdb"), "mlflow"], env=os.environ | login, check=False)
            assert made.returncode == 0
            yield login
        finally:
            server.send_signal(signal.SIGINT)  # disconnect everybody and end
            server.wait(60)


def _ready(login: Mapping[str, str]) -> bool:
    asked = subprocess.run([_program("pg_isready"), "--quiet"], env=os.environ | login, check=False)
    return asked.returncode == 0


@contextmanager
def mlflow_server(login: Mapping[str, str], password: str, artifacts: Path) -> Iterator[str]:
    """The server with the very command of deploy/compose.yaml, but for host, port, artifacts and number of workers.

    Gives its address.
    """
    port = free_port()
    own = {"--host": "127.0.0.1", "--port": str(port), "--artifacts-destination": str(artifacts), "--workers": "2"}
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["server"]
    program, *options = service["command"]
    assert program == "mlflow"
    split = [option.partition("=") for option in options]
    command = [name + (f"={own.get(name, value)}" if value else "") for name, _, value in split]
    environment = {
        **login,
        "MLFLOW_AUTH_CONFIG_PATH": str(DEPLOY / "basic_auth.ini"),
        "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN,
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16),
    }
    assert environment.keys() - {"PGPORT"} <= service["environment"].keys()
    environment |= {name: value for name, value in service["environment"].items() if value in ("true", "false")}
    artifacts.mkdir()
    with (artifacts.parent / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command],
            cwd=artifacts.parent,
            env=os.environ | environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_for(lambda: server.poll() is not None or _answers(port), 400)
        assert server.poll() is None, (artifacts.parent / "server.log").read_text()[-3000:]
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _answers(port: int) -> bool:
    with suppress(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
        return True
    return False
