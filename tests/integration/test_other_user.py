"""Places where the command must work too.

Another user in a read-only installation, without a home, git, shared memory or a short TMPDIR; a server with a
certificate of its own.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.certificates import make_certificate
from tests.chaos.conftest import wait_for
from tests.commands import aepretrain, start_server
from tests.conftest import ROOT
from tests.integration.services import free_port

pytestmark = pytest.mark.integration

UNSHARED = """
mount -t tmpfs -o size=512k,mode=1777 tmpfs /dev/shm
exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all,+dac_read_search \
    --ambient-caps=+dac_read_search --bounding-set=-all,+dac_read_search "$@"
"""
"""Run a command as a user without a name of its own, who can read what root can, as Python may be in root's home."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users can enter, unlike pytest's."""
    if os.geteuid() != 0:
        pytest.skip("becoming another user takes rights that this user does not have")
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_the_journey_of_another_user_in_a_read_only_installation_without_a_home(folder: Path) -> None:
    installed, work = folder / "installed", folder / "work"
    temporary = work / ("t" * (98 - len(str(work))))
    assert len(str(temporary)) == 99
    shutil.copytree(ROOT / "aepretrain", installed / "aepretrain", ignore=shutil.ignore_patterns("__pycache__"))
    temporary.mkdir(parents=True)
    for path in installed.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    for path in (work, temporary):
        os.chown(path, 65534, 65534)
    shown = {"PATH": "/nonexistent", "HOME": "/nonexistent", "PYTHONPATH": installed, "TMPDIR": temporary}
    python = Path(sys.prefix).resolve() / "bin" / "python"

    def run(*arguments: str) -> str:
        environment = [f"{name}={value}" for name, value in shown.items()]
        command = ["/usr/bin/env", "-i", *environment, str(python), "-m", "aepretrain", *arguments]
        done = subprocess.run(
            ["/usr/bin/unshare", "--mount", "sh", "-c", UNSHARED, "sh", *command],
            cwd=work,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        return done.stdout

    options = ("--network", "conv", "--augmentation", "none", "--dataset", "digits", "--epochs", "1")
    assert "[4/4]" in run("grid", *options, "--jobs", "2")
    cells = json.loads((work / "results" / "grid.json").read_text())["cells"]
    assert sum(cell["num_seeds"] for cell in cells) == 3
    assert "4 trainings written to bundle/0001" in run("export", "bundle")
    made = {"mlflow.db", "mlflow.db.locks", "mlartifacts", "results", "bundle"}
    assert {path.name for path in work.iterdir()} == made | {temporary.name}
    assert [one.name for one in temporary.iterdir() if one.name.startswith(("aepretrain", "pymp", "matplotlib"))] == []


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")  # what is forked has the filters of the tests
def test_a_server_with_a_certificate_of_its_own_is_trained_on(tmp_path: Path, template: Path) -> None:
    certificate, database, port = tmp_path / "certificate.pem", tmp_path / "served.db", free_port()
    make_certificate(certificate)
    database.write_bytes(template.read_bytes())
    server = start_server(
        *("--port", str(port), "--workers", "1", "--backend-store-uri", f"sqlite:///{database}"),
        *("--artifacts-destination", str(tmp_path / "served")),
        *("--uvicorn-opts", f"--ssl-certfile {certificate} --ssl-keyfile {certificate}"),
        folder=tmp_path,
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
    )
    try:
        wait_for(lambda: server.poll() is not None or _listens(port), 120)
        given = {"MLFLOW_TRACKING_URI": f"https://127.0.0.1:{port}", "XDG_STATE_HOME": str(tmp_path / "state")}
        training = ("scratch", "--network", "fc", "--dataset", "digits", "--epochs", "1")
        refused = aepretrain(*training, folder=tmp_path, **given)
        assert "self-signed certificate" in refused.refusal()
        trusted = given | {"MLFLOW_TRACKING_SERVER_CERT_PATH": str(certificate)}
        done = aepretrain(*training, folder=tmp_path, **trusted)
        assert (done.code, done.err) == (0, ""), done.out
        again = aepretrain(*training, folder=tmp_path, **given, MLFLOW_TRACKING_INSECURE_TLS="true")
        assert (again.code, "is done already" in again.out) == (0, True), again.err
    finally:
        server.kill()


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False
