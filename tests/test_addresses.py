"""Addresses of stores: each name of a folder, each spelling, and what is no address."""

import os
import shlex
from functools import partial
from pathlib import Path

import pytest
from mlflow import MlflowClient

from aepretrain import api, tracking
from aepretrain.tracking import StoreError
from tests.names import DECODED, NAMES, NOT_UTF8
from tests.runs import begin

BESIDE = ["mlartifacts", "mlflow.db", "mlflow.db-shm", "mlflow.db-wal", "mlflow.db.locks"]
"""All that a store consists of."""

CODED = (*DECODED, "question mark", "newline", "escape")
"""Names that an address cannot hold as they are."""


@pytest.mark.parametrize("name", NAMES)
def test_a_checkout_of_any_name_has_its_store_in_it(
    name: str, tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / NAMES[name]
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "mlflow.db").write_bytes(template.read_bytes())
    store = tracking.open_store(tracking.default_uri(Path.cwd()), "own")
    run = begin(store)
    run.log_bytes("weights.pt", b"weights")
    with store.lock("a", lambda: None):
        assert (folder / "mlflow.db.locks" / "a.lock").exists()
    assert os.listdir(tmp_path) == [NAMES[name]]
    assert sorted(os.listdir(folder)) == BESIDE
    (weights,) = folder.glob("mlartifacts/*/artifacts/weights.pt")
    assert weights.read_bytes() == b"weights"

    monkeypatch.chdir(tmp_path)  # the store is not this folder's own, so it is named
    printed = api.where(store.uri)
    assert printed.isprintable() or "\u200d" in printed
    *_, pasted = shlex.split(printed.rpartition("look at them with: ")[2])
    assert name in CODED or pasted == f"sqlite:///{folder}/mlflow.db"
    client = MlflowClient(tracking_uri=pasted)
    assert client.get_run(run.run_id).info.artifact_uri == weights.parent.as_uri()
    assert Path(client.download_artifacts(run.run_id, "weights.pt")).read_bytes() == b"weights"
    assert os.listdir(tmp_path) == [NAMES[name]], "MLflow makes no folder either"


@pytest.mark.parametrize("name", NAMES)
def test_all_spellings_of_a_store_are_one(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / NAMES[name] / "in"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    (folder / "link.db").symlink_to("mlflow.db")
    (tmp_path / "beside").symlink_to(NAMES[name])
    one = tracking.default_uri(folder)
    for spelling in (
        one,
        "sqlite:///mlflow.db",
        "sqlite:///./mlflow.db",
        "sqlite:///mlflo%77.db",
        "sqlite:///%6dlflow%2Edb",
        "sqlite:///../in/mlflow.db",
        "sqlite:///link.db",
        f"sqlite:///{tmp_path}/beside/in/mlflow.db",
        "sqlite+pysqlite:///mlflow.db",
        "SQLite:///mlflow.db",
    ):
        assert tracking.absolute_uri(spelling) == one, spelling


def test_a_folder_beside_that_has_the_decoded_name_stays_empty(
    tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("job%2F7", "job/7"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "job%2F7" / "mlflow.db").write_bytes(template.read_bytes())
    monkeypatch.chdir(tmp_path / "job%2F7")
    store = tracking.open_store("sqlite:///mlflow.db", "own")
    begin(store).log_bytes("weights.pt", b"weights")
    assert list((tmp_path / "job" / "7").iterdir()) == []
    assert sorted(os.listdir()) == BESIDE

    as_typed = tracking.absolute_uri(f"sqlite:///{tmp_path}/job%2F7/mlflow.db")
    assert as_typed == f"sqlite:///{tmp_path}/job/7/mlflow.db", "SQLAlchemy decodes what is typed, so we do"


def test_servers_are_one_for_all_ways_to_write_their_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    def folders(*uris: str) -> int:
        return len({tracking.Store(uri, "1").folder for uri in uris})

    assert folders("http://host", "http://host/", "http://Host:80", "http://me:pw@host", "HTTP://HOST") == 1
    assert folders("postgresql://h/x", "postgresql://me:a%2Fb@h:5432/x", "postgresql+psycopg://h/x") == 1
    assert folders("http://host", "http://host:5000", "https://host", "http://host/a", "http://other") == 5


@pytest.mark.parametrize(
    ("uri", "proposed"),
    [
        ("mlflow.db", "sqlite:///mlflow.db"),
        ("./mlruns", "sqlite:///mlruns/mlflow.db"),
        ("/data/a b/mlflow.db", "sqlite:////data/a b/mlflow.db"),
        ("job%2F7/mlflow.db", "sqlite:///job%252F7%2Fmlflow.db"),
        ("file:///data/mlruns", "sqlite:////data/mlruns/mlflow.db"),
        ("sqlite:mlflow.db", "sqlite:///mlflow.db"),
        ("sqlite:/data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("sqlite://mlflow.db", "sqlite:///mlflow.db"),
        ("sqlite://", "sqlite:///mlflow.db"),
        ("sqlite:///:memory:", "sqlite:///mlflow.db"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("localhost:5000/mlflow", "http://localhost:5000/mlflow"),
        ("localhost", "http://localhost"),
        ("tracking.example.org:443", "http://tracking.example.org:443"),
        ("[::1]:5000", "http://[::1]:5000"),
        ("http:/host", "http://host"),
        ("https:host", "https://host"),
        ("me:g3heim@host:5000", "http://***@host:5000"),
    ],
)
def test_what_is_no_address_is_refused_with_the_one_that_may_be_meant(
    uri: str, proposed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for open_it in (tracking.open_store, tracking.find_store):
        with pytest.raises(StoreError) as error:
            open_it(uri)
        message = str(error.value)
        assert message.endswith(f"is no address of a store: it must begin with sqlite:/// or http://, like {proposed}")
        assert "g3heim" not in message
    assert os.listdir(tmp_path) == []


def test_options_in_an_address_are_refused_and_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "what?").mkdir()
    for uri in (f"sqlite:///{tmp_path}/what?/mlflow.db", f"sqlite:///{tmp_path}/mlflow.db?timeout=5"):
        with pytest.raises(StoreError, match=r"options after \? are not supported; write a \? in the path as %3F"):
            tracking.open_store(uri)
    assert os.listdir(tmp_path) == ["what?"]
    assert os.listdir(tmp_path / "what?") == []


def test_a_folder_whose_name_is_no_text_is_refused_and_stays_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / NOT_UTF8).mkdir()
    monkeypatch.chdir(tmp_path / NOT_UTF8)
    for refused in (partial(tracking.default_uri, Path.cwd()), partial(tracking.open_store, "sqlite:///mlflow.db")):
        with pytest.raises(StoreError, match="is not UTF-8; rename it"):
            refused()
    assert os.listdir() == []


def test_an_experiment_whose_artifacts_mlflow_would_put_elsewhere_is_refused(
    tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow keeps a folder of its own choice as a path, and later takes it for an address and decodes it."""
    (tmp_path / "job%2F7").mkdir()
    monkeypatch.chdir(tmp_path / "job%2F7")
    Path("mlflow.db").write_bytes(template.read_bytes())
    uri = tracking.default_uri(Path.cwd())
    client = MlflowClient(tracking_uri=uri)
    experiment_id = client.create_experiment("theirs")
    run_id = client.create_run(experiment_id, tags={"mlflow.project.entryPoint": "main"}).info.run_id
    for options in ({"experiment": "theirs"}, {"run_id": run_id}):
        with pytest.raises(StoreError, match=r"experiment 'theirs' .* MLflow would write .*/job/7/mlruns"):
            tracking.open_store(uri, **options)
    assert os.listdir(tmp_path) == ["job%2F7"]
