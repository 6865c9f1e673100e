"""No credential in what is printed or stored, and no markup from names: they stay text."""

import base64
import html
import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aepretrain import figures, networks, report, tracking
from aepretrain.errors import Failure, UsageError
from aepretrain.frame import frame
from aepretrain.records import EpochResult, Record
from aepretrain.redaction import redact
from aepretrain.report import Panel
from aepretrain.report.opening import Card, Opening
from aepretrain.stats import Estimate
from aepretrain.variants import CLASSIFIERS
from tests.answers import archive
from tests.chaos.damage import OPTIONS
from tests.commands import Done, aepretrain

pytestmark = pytest.mark.chaos

PASSWORD, TOKEN = "g3heim/p@ss", "t0ken-of-mine"  # that is the point
COMMANDS = (("compare",), ("report",), ("export", "bundle"), ("scratch", *OPTIONS), ("grid", *OPTIONS, "--jobs", "1"))


class Refusing(http.server.BaseHTTPRequestHandler):
    """A server that wants to know who asks, and answers with nothing else."""

    status, body = 401, b"who are you?"

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Talking(Refusing):
    """A server that answers with pages that are no MLflow."""

    status, body = 200, b"<html>Welcome!</html>"


class Echoing(Refusing):
    """A server that throws back what it was told, the credentials too."""

    status = 400  # what a server says with 500, MLflow does not repeat

    def do_GET(self) -> None:
        scheme, _, credential = self.headers.get("Authorization", "").partition(" ")
        if scheme == "Basic":
            credential = base64.b64decode(credential).decode()
        self.body = f"failed: {self.headers.get('Authorization')}, {credential}, http://{credential}@here".encode()
        super().do_GET()

    do_POST = do_GET


@contextmanager
def serving(handler: type[Refusing]) -> Iterator[int]:
    """The port of a server on this machine."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def keeps_quiet(done: Done, folder: Path) -> None:
    """See that neither what was printed nor any file has a credential or a part of one."""
    told = [done.out, done.err] + [path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file()]
    for text in told:
        for secret in (PASSWORD, "g3heim", TOKEN, "bWU6"):  # the last begins "me:…" in base64
            assert secret not in text, text


@pytest.mark.parametrize("handler", [Refusing, Talking, Echoing])
def test_servers_that_refuse_or_talk_nonsense_get_no_credential_out(handler: type[Refusing], tmp_path: Path) -> None:
    environment = {
        "MLFLOW_TRACKING_PASSWORD": PASSWORD,
        "MLFLOW_TRACKING_USERNAME": "me",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    with serving(handler) as port:
        for address in (f"http://127.0.0.1:{port}", f"http://me:{PASSWORD.replace('/', '%2F')}@127.0.0.1:{port}"):
            for arguments in COMMANDS[:4]:
                done = aepretrain(*arguments, "--tracking-uri", address, folder=tmp_path, **environment)
                assert f"127.0.0.1:{port}" in done.refusal()
                keeps_quiet(done, tmp_path)
        token = {"MLFLOW_TRACKING_TOKEN": TOKEN, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
        done = aepretrain("compare", "--tracking-uri", f"http://127.0.0.1:{port}", folder=tmp_path, **token)
        keeps_quiet(done, tmp_path)


@pytest.mark.parametrize(
    "address",
    [
        f"http://me:{PASSWORD}@127.0.0.1:9",
        f"https://me:{PASSWORD}@127.0.0.1:9/mlflow",
        f"http://me:{PASSWORD}@[::1",
        f"http://me:{PASSWORD}@no such host/",
        f"postgresql://me:{PASSWORD}@127.0.0.1:1/x",
        f"postgresql://127.0.0.1:1/x?user=me&password={PASSWORD}",
        f"mysql+pymysql://me:{PASSWORD}@127.0.0.1:1/x",
        f"mssql://me:{PASSWORD}@127.0.0.1:1/x",
        f"gopher://me:{PASSWORD}@127.0.0.1",
        f"sqlite:///{{folder}}/mlflow.db?password={PASSWORD}",
    ],
)
def test_addresses_that_cannot_be_reached_are_shown_without_credentials(address: str, tmp_path: Path) -> None:
    environment, address = {"MLFLOW_TRACKING_TOKEN": TOKEN}, address.format(folder=tmp_path)
    for done in (
        aepretrain("compare", "--tracking-uri", address, folder=tmp_path, **environment),
        aepretrain("scratch", *OPTIONS, folder=tmp_path, MLFLOW_TRACKING_URI=address, **environment),
    ):
        assert done.code in (0, 1), done
        assert "Traceback" not in done.out + done.err
        keeps_quiet(done, tmp_path)


def test_redaction_leaves_the_rest() -> None:
    shown = redact("see https://me:pw@host:5000/x?a=1&token=abc and http://host/y, sqlite:////tmp/mlflow.db")
    assert shown == "see https://***@host:5000/x?a=1&token=*** and http://host/y, sqlite:////tmp/mlflow.db"


def test_an_error_that_names_an_address_is_stored_without_its_password(store: tracking.Store) -> None:
    run = tracking.Run(store, store.client.create_run(store.experiment_id).info.run_id)
    with pytest.raises(Failure), tracking.ending(run):
        raise Failure(f"http://me:{PASSWORD}@host is gone")
    assert store.client.get_run(run.run_id).data.tags["aepretrain.error"] == "http://***@host is gone"


MARKUP = "<script>alert('1')</script> | $x_{$ & *y*"


def hostile(record: Record) -> Record:
    """A record whose every text is markup."""
    identity = dict(record.identity) | {"network": MARKUP, "dataset": MARKUP}
    tags = dict.fromkeys(("commit", "dirty", "schema", "device", "threads", "stack", "host"), MARKUP)
    return replace(record, identity=identity, tags=tags, metrics=dict(record.metrics) | {"training_s": 1.0})


def test_markup_in_names_stays_text() -> None:
    table = report.build_grid(frame(hostile(one) for one in archive(2, ("fc",)).records().values()))
    rows = [*report.tables(table), ("Settings", [[MARKUP, MARKUP], [MARKUP, MARKUP]])]
    answer = report.Answer(table, {}, {}, {}, {}, [], {}, 100, report.Terms(0.001))
    picture = report.Picture("grid", b"", MARKUP)
    panel = Panel(MARKUP, MARKUP, MARKUP, rows, [picture], MARKUP, [picture], MARKUP, points=[(MARKUP, MARKUP)])
    opening = Opening(MARKUP, MARKUP, picture, [Card(MARKUP, MARKUP, [MARKUP])], [(MARKUP, MARKUP)])
    files = report.page_files(answer, report.Page([opening], [panel]))
    page, text = files["report.html"].decode(), files["report.md"].decode()
    assert page.count("<script") == 1, "the page's own"
    assert html.escape(MARKUP, quote=False).split()[0] in page.replace("&#39;", "'")
    for markdown in (text, report.files(table)["grid.md"].decode()):
        assert "<script" not in markdown
        for block in re.findall(r"(?:^\|.*\n)+", markdown + "\n", re.MULTILINE):
            counts = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
            assert len(counts) == 1, block
    assert report.files(table)["grid.png"].startswith(b"\x89PNG")


def test_names_in_figures_are_no_formulas() -> None:
    estimate = Estimate(0.0, -0.1, 0.1)
    by_variant = {"scratch": {10: estimate}, "finetune": {10: estimate}}
    drawn = (
        figures.loss_curve(MARKUP, [EpochResult(1, 1.0, 1.0, None, 1.0, 1.0)]),
        figures.grid_accuracy(MARKUP, {MARKUP: {variant: [0.5] for variant in CLASSIFIERS}}, {MARKUP: {}}),
        figures.accuracies(MARKUP, {MARKUP: {"scratch": [0.5]}}, {}),
        figures.paired_differences(MARKUP, {MARKUP: np.zeros(2)}, {MARKUP: estimate}, 0.1, {}),
        figures.learning_curves({MARKUP: {"scratch": [[0.5]]}}),
        figures.curves_and_differences({MARKUP: by_variant}, {MARKUP: {10: estimate}}, 0.1, {}, "x", in_decades=True),
        figures.similarities({MARKUP: {MARKUP: [[0.5]]}}, MARKUP),
        figures.curves({MARKUP: by_variant}, "x", "y"),
    )
    for one in drawn:
        assert figures.png(one).startswith(b"\x89PNG")


def test_names_with_markup_are_refused_where_they_come_in() -> None:
    with pytest.raises(UsageError, match="is not allowed"):
        networks.register("<script>", networks.FullyConnected)
    record = next(iter(archive(1).records().values()))
    with pytest.raises(ValueError, match="is no name of a network"):
        hostile(record).checked()
    with pytest.raises(ValueError, match="is no name of a variant"):
        replace(record, identity={**record.identity, "variant": MARKUP}).checked()
