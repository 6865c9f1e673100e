"""A server is asked as MLflow's own client asks it: certificates, credentials, proxies; and its version is checked."""

import http.server
import os
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from aepretrain.tracking import StoreError, open_store
from aepretrain.tracking.server import check_server
from tests.certificates import make_certificate
from tests.conftest import Once


@pytest.fixture(scope="session")
def certificate(once: Once) -> Path:
    return once("certificate.pem", make_certificate)


@contextmanager
def serving(version: str, status: int = 200, context: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[str]]]:
    """A server with this version of MLflow; gives its address, and what it was asked: path and authorization."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.path} {self.headers.get('Authorization')}")
            self.send_response(status)
            self.send_header("Content-Length", str(len(version)))
            self.end_headers()
            self.wfile.write(version.encode())

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that trusts it not hangs up
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http{'s' if context else ''}://127.0.0.1:{server.server_port}", asked
        server.shutdown()


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize("asks_client", [False, True])
def test_certificates_are_those_of_mlflows_client(
    asks_client: bool, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if asks_client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificate)
    with serving("3.17.2", context=context) as (address, asked):
        with pytest.raises(StoreError, match="self-signed certificate") as error:
            check_server(address)
        assert "MLFLOW_TRACKING_SERVER_CERT_PATH" in str(error.value)
        assert asked == []
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate))
        if asks_client:
            with pytest.raises(StoreError, match=r"certificate required|Connection reset|EOF"):
                check_server(address)
            monkeypatch.setenv("MLFLOW_TRACKING_CLIENT_CERT_PATH", str(certificate))
        check_server(address)
        monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
        with pytest.raises(StoreError, match="only one of these environment variables may be set"):
            check_server(address)
        monkeypatch.delenv("MLFLOW_TRACKING_SERVER_CERT_PATH")
        check_server(address)
        monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "false")
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", "/nonexistent.pem")
        with pytest.raises(StoreError, match=r"invalid path: /nonexistent\.pem"):
            check_server(address)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"MLFLOW_TRACKING_TOKEN": "t"}, "Bearer t"),
        ({"MLFLOW_TRACKING_USERNAME": "u", "MLFLOW_TRACKING_PASSWORD": "p"}, "Basic dTpw"),
        ({}, "None"),
    ],
)
def test_credentials_are_those_of_mlflows_client(
    environment: Mapping[str, str], expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with serving("3.17.2") as (address, asked):
        check_server(address)
        check_server(f"{address}/")
    assert asked == [f"/version {expected}"] * 2


@pytest.mark.parametrize(
    ("version", "status", "works"),
    [
        ("2.22.4", 200, False),
        ("1.30.0", 200, False),
        ("3.0.0", 200, True),
        ("3.18.0.dev0", 200, True),
        ("10.1", 200, True),
        ("<html>2.0 Welcome</html>", 200, True),
        ("2.22.4", 404, True),
        ("busy", 503, True),
    ],
)
def test_a_server_of_mlflow_2_is_refused_at_the_start(version: str, status: int, works: bool) -> None:
    with serving(version, status) as (address, _):
        if works:
            check_server(address)
        else:
            with pytest.raises(StoreError, match=f"has MLflow {version}, .*upgrade MLflow there to version 3"):
                check_server(address)


def test_without_a_home_a_server_needs_a_folder_for_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with serving("3.17.2") as (address, _):
        for home in ("/proc/nonexistent", str(tmp_path / "file")):
            monkeypatch.setenv("HOME", home)
            monkeypatch.delenv("XDG_STATE_HOME", raising=False)
            with pytest.raises(
                StoreError, match=r"nothing can be written to ~/\.local/state .*: set XDG_STATE_HOME to"
            ):
                open_store(address)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        with pytest.raises(StoreError, match="not in a valid JSON format"):  # it is no MLflow, but was asked
            open_store(address)


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_an_error_names_the_proxy_and_the_way_around_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in [one for one in os.environ if one.lower().endswith("_proxy")]:
        monkeypatch.delenv(other)
    with serving("3.17.2") as (address, asked):
        monkeypatch.setenv(name, "http://me:secret@127.0.0.1:9")
        with pytest.raises(StoreError, match="Connection refused; it was asked through the proxy") as error:
            check_server(address)
        assert "http://***@127.0.0.1:9; to ask it directly, set NO_PROXY=127.0.0.1" in str(error.value)
        assert "secret" not in str(error.value)
        assert "\n" not in str(error.value)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        check_server(address)
    assert len(asked) == 1
    with pytest.raises(StoreError) as error:
        check_server("http://127.0.0.1:9")
    assert str(error.value).endswith("cannot be opened: [Errno 111] Connection refused")
