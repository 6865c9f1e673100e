"""The command as people type it: help, bad input, the whole way, and what an interruption leaves."""

import errno
import hashlib
import inspect
import json
import multiprocessing.process
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple, NoReturn

import click
import pytest
import yaml
from click.shell_completion import ShellComplete
from click.testing import CliRunner
from mlflow.artifacts import load_text

from aepretrain import api, data, runner, tracking
from aepretrain.cli import main, program
from aepretrain.cli.command import LAST, SECTIONS, Command
from aepretrain.cli.commands import cli
from aepretrain.config import AUGMENTATIONS, GRID_NETWORKS, STUDIES, Execution, Settings, parse_seeds
from aepretrain.data import mnist
from aepretrain.variants import GRID_VARIANTS
from tests.commands import mlflow_run
from tests.conftest import ROOT
from tests.grids import inline

COMMANDS = [
    "grid",
    *GRID_VARIANTS,
    "study",
    "tune",
    "compare",
    "report",
    "export",
    "import",
    "sync",
    "ui",
    "predict",
    "encode",
    "onnx",
    "promote",
]


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_imports_nothing_slow_and_shows_defaults(name: str) -> None:
    code = (
        "import sys; from aepretrain.cli import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'mlflow', 'numpy', 'rich', 'sklearn', 'optuna'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *([name] if name else []), "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert ("[default: " in done.stdout) == bool(name)


def test_commands_that_compute_nothing_import_no_pytorch(uri: str, tmp_path: Path) -> None:
    settings = Settings(dataset="digits", ae_epochs=1, cls_epochs=1)
    api.train("scratch", network="fc", settings=settings, tracking_uri=uri, show=False)
    code = """if True:
        import sys
        from aepretrain.cli.commands import cli
        for command in ("compare", "report", "results --csv table.csv", "runs", "export exported", "import exported"):
            assert not cli.main(command.split(), standalone_mode=False), command
            assert "torch" not in sys.modules, command
        """
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "table.csv").exists()


@pytest.mark.parametrize(
    "program", [[Path(sys.executable).parent / "aepretrain"], [sys.executable, "-m", "aepretrain"]]
)
def test_this_checkout_is_what_runs_from_every_folder(program: list[str | Path], tmp_path: Path) -> None:
    def printed(*command: str | Path, **environment: str) -> str:
        done = subprocess.run(
            command, cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    assert printed(sys.executable, "-c", "import aepretrain; print(aepretrain.__path__[0])").strip() == str(
        ROOT / "aepretrain"
    ), "this environment belongs to another checkout: source ./environment.sh"
    assert printed(*program, "--help").startswith("Usage: aepretrain [OPTIONS] COMMAND")
    assert "_AEPRETRAIN_COMPLETE=bash_complete" in printed(*program, _AEPRETRAIN_COMPLETE="bash_source")


@pytest.mark.parametrize("name", ["12:30", "new\nline", "line\n"])
def test_a_folder_that_cannot_hold_an_environment_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    shutil.copy(ROOT / "environment.sh", tmp_path / name)
    shutil.copy(ROOT / "requirements.txt", tmp_path / name)
    script = ["/bin/bash", "-c", "set -euo pipefail; source ./environment.sh; echo it goes on"]
    done = subprocess.run(script, cwd=tmp_path / name, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "in a folder with a colon or a line break in its name: rename " in done.stderr
    assert sorted(os.listdir(tmp_path / name)) == ["environment.sh", "requirements.txt"]


BAD = [
    (["grid", "--network", "lenet"], 2, "--network='lenet' is not known: it must be one of fc, conv"),
    (["grid", "--augmentation", "flip"], 2, "--augmentation='flip'"),
    (["grid", "--seeds", "3-1"], 2, "runs backwards"),
    (["grid", "--seeds", "x"], 2, "--seeds='x'"),
    (["grid", "--jobs", "0"], 2, "--jobs=0"),
    (["grid", "--outage-s", "-1"], 2, "--outage-s=-1.0"),
    (["grid", "--epochs", "-3"], 2, ": --epochs=-3 is not"),
    (["grid", "--epochs", "abc"], 2, "--epochs"),
    (["grid", "--epochs", "0"], 2, ": --epochs=0 is not allowed: it must be an integer from 1"),
    (["grid", "--epochs", "5", "--ae-epochs", "0"], 2, ": --ae-epochs=0 is not allowed"),
    (["scratch", "--network", "fc", "--epochs", "0"], 2, ": --epochs=0 is not allowed"),
    (["compare", "--epochs", "0"], 2, ": --epochs=0 is not allowed"),
    (["grid", "--erase-scale", "0.2"], 2, "two numbers"),
    (["scratch"], 2, "--network"),
    (["report", "--smallest-effect", "0"], 2, "--smallest-effect='0'"),
    (
        ["grid", "--dataset", "digits", "--labels", "3000"],
        2,
        "--labels=3000 is not allowed for digits with seed 0: of 1,283 images, 300 of class 0 are needed",
    ),
    (["scratch", "--network", "fc", "--dataset", "folder:nowhere"], 1, "there is no folder nowhere"),
    (["grid", "--dataset", "folder:"], 2, "--dataset='folder:' is not allowed: it must be mnist, "),
    (
        ["grid", "--dataset", "digits", "--image-size", "3x5"],
        2,
        "network 'conv': it needs images of 4×4 pixels or more",
    ),
    (["grid", "--dataset", "digits", "--image-size", "3by5"], 2, "--image-size='3by5' is not allowed: it must be rows"),
    (
        ["grid", "--dataset", "digits", "--unlabelled", "more"],
        2,
        "--unlabelled='more' is not allowed: it must be folder:",
    ),
    (["predict", "--dataset", "folder:nowhere", "file"], 1, "file: is no picture that can be read"),
    (["report", "nowhere.yaml"], 2, "nowhere.yaml: there is no such file"),
    (
        ["report", "--lr", "0.1", str(ROOT / "plans" / "when.yaml")],
        2,
        "--lr=0.1: a report of plans has the settings of",
    ),
    (
        ["report", "--smallest-effect", "0.1", str(ROOT / "plans" / "when.yaml")],
        2,
        "--smallest-effect='0.1': a report of plans",
    ),
    (["report", "--bundle", "nowhere"], 2, "--bundle='nowhere' is not a folder"),
    (["report", "--bundle", "."], 1, "no readable bundle in ."),
    (["report"], 1, "no finished classifier"),
    (["export", "bundle"], 1, "nothing is finished"),
    (["import", "nowhere"], 2, "folder='nowhere' is not a folder"),
    (["import", "."], 1, "no readable bundle in ."),
    (["scratch", "--network", "fc", "--batch-size", "0"], 2, "--batch-size=0"),
    (["scratch", "--network", "fc", "--lr", "nan"], 2, "--lr=nan"),
    (["scratch", "--network", "fc", "--seed", "-1"], 2, "--seed=-1"),
    (["scratch", "--network", "fc", "--split", "half"], 2, "half"),
    (["scratch", "--network", "fc", "--device", "abacus"], 2, "--device='abacus'"),
    (["scratch", "--network", "fc", "--dataset", "digits", "--data-dir", "file"], 2, "is not a folder"),
    (
        ["pretrain", "--network", "fc", "--ae-loss", "bce", "--normalize", "mnist"],
        2,
        "--ae-loss='bce' needs targets in [0, 1]: use it with --normalize='none' and --erase-value from",
    ),
    (["pretrain", "--network", "fc", "--cls-epochs", "3"], 2, "--cls-epochs"),
    (["study", "nonsense"], 2, "nonsense"),
    (["study", "labels", "--labels", "3"], 2, "--labels=3"),
    (["scratch", "--network", "fc", "--updates", "-1"], 2, "--updates=-1"),
    (["grid", "--cluster", "nonsense"], 2, "--cluster='nonsense'"),
    (["grid", "--resources", "GPU=1"], 2, "without a cluster"),
    (["study", "all", "--cluster", "tcp://127.0.0.1:1", "--resources", "GPU=0"], 2, "--resources='GPU=0'"),
    (["nonsense"], 2, "nonsense"),
    (["compare", "--tracking-uri", "sqlite:////nowhere/mlflow.db"], 1, "no folder /nowhere"),
    (
        ["compare", "--tracking-uri", "mlflow.db"],
        1,
        "it must begin with sqlite:/// or http://, like sqlite:///mlflow.db",
    ),
    (["grid", "--tracking-uri", "localhost:5000"], 1, "like http://localhost:5000"),
    (["grid", "--tracking-uri", "sqlite:///what?/mlflow.db"], 1, "write a ? in the path as %3F"),
    (["grid", "--dry-run", "--out", "here"], 2, "--out is not allowed with --dry-run: nothing is trained or written"),
    (["grid", "--dry-run", "--fallback-dataset", "digits"], 2, "--fallback-dataset is not allowed with --dry-run"),
    (["study", "all", "--dry-run", "--cluster", "tcp://127.0.0.1:1"], 2, "--cluster is not allowed with --dry-run"),
    (["study", "controls", "--dry-run", "--tuned"], 2, "only the study labels has tuned settings"),
    (["run", str(ROOT / "plans" / "when.yaml"), "--dry-run", "--tracking-uri", "mlflow.db"], 1, "sqlite:///mlflow.db"),
    (["compare"], 1, "no finished classifier"),
    (["results"], 2, "name a file with --csv, --parquet or --json"),
    (["runs", "--state", "lost"], 2, "'lost' is not one of 'done', 'failed', 'killed', 'running'"),
    (["runs", "--state", "done", "clean"], 2, "--state is not for runs clean"),
    (["runs", "show", "abcd"], 2, "run='abcd' names no run: no training's run id begins with it"),
    (["runs", "delete", "abc"], 2, "run='abc' names no run: give at least 4 digits of a run id"),
    (
        ["results", "--csv", "nowhere/all.csv"],
        2,
        "--csv='nowhere/all.csv' is not allowed: it must be a file",
    ),
    (["results", "--csv", "all.csv", "--lr", "0.5"], 1, "there is no finished training in sqlite:///"),
    (["predict"], 2, "IMAGE"),
    (["predict", "nowhere.png"], 1, "nowhere.png: cannot be read: No such file"),
    (["predict", "."], 1, ".: is a folder, not a picture"),
    (["predict", "file"], 1, "file: is no picture that can be read"),
    (["encode", "nowhere"], 2, "folder='nowhere' is not a folder"),
    (["encode", "."], 1, "there is no picture in ."),
    (["onnx"], 1, "no finished classifier"),
    (["onnx", "--out", "nowhere/model.onnx"], 2, "--out='nowhere/model.onnx'"),
    (["promote"], 1, "no finished classifier"),
    (["promote", "--name", "a/b"], 2, "--name='a/b'"),
    (["promote", "--run", "last"], 2, "--run='last' is not a run id"),
]


class Printed(NamedTuple):
    """What a command leaves: its exit code and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def here(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Printed]:
    """``aepretrain`` in this process, which spares its imports, in an empty folder, without a network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr(mnist.MNIST, "mirrors", ["file:///nowhere/"])
    data._loaded.clear()

    def run(*arguments: str) -> Printed:
        monkeypatch.setattr(sys, "argv", ["aepretrain", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        return Printed(stop.value.code, *capfd.readouterr())  # type: ignore[arg-type]  # main exits with a number

    return run


@pytest.mark.parametrize(("arguments", "code", "message"), BAD, ids=[" ".join(bad[0]) for bad in BAD])
def test_bad_input_is_one_line_and_writes_nothing(
    arguments: Sequence[str], code: int, message: str, here: Callable[..., Printed], uri: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    printed = here(*arguments)
    assert printed.code == code
    assert message in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert "Traceback" not in printed.err + printed.out
    store = tracking.Store(uri, "1")
    assert list(store.client.search_runs([one.experiment_id for one in store.client.search_experiments()])) == []
    assert not (tmp_path / "results").exists()


def test_an_empty_run_id_is_none_and_a_wrong_one_is_refused(
    here: Callable[..., Printed], uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "log_model", lambda *_: None)  # exporting takes seconds
    client = tracking.Store(uri, "1").client
    training = ("scratch", "--network", "fc", "--dataset", "digits", "--epochs", "1")
    monkeypatch.setenv("MLFLOW_RUN_ID", client.create_run("0", run_name="of somebody").info.run_id)
    refused = here(*training)
    assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert "was not opened by `mlflow run`" in refused.err
    monkeypatch.setenv("MLFLOW_RUN_ID", "")
    assert here(*training).code == 0
    (own,) = client.search_runs(["0"])
    assert own.info.run_name == "of somebody", "nothing was written to it"


@pytest.mark.parametrize(
    ("name", "line"),
    [(None, "the operating system refused a call: Input/output error"), ("a", "a: Input/output error")],
)
def test_an_error_of_the_system_is_one_line(
    name: str | None, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> NoReturn:
        raise OSError(errno.EIO, os.strerror(errno.EIO), name)

    monkeypatch.setattr(cli, "main", fail)
    with pytest.raises(SystemExit, match=r"^1$"):
        main()
    assert capsys.readouterr().err == f"aepretrain: {line}\n"


def test_the_whole_way(here: Callable[..., Printed], uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "log_model", lambda *_: None)  # exporting takes seconds
    options = ["--dataset", "digits", "--network", "fc", "--augmentation", "none", "--epochs", "2"]
    done = here("grid", *options, "--seeds", "0-1", "--jobs", "2")
    assert done.code == 0, done.err
    assert "[8/8]" in done.out
    assert "NOT MNIST" in done.out
    assert f"Runs are kept in {uri}; look at them with: aepretrain ui" in done.out
    *_, report, seeds = done.out.splitlines()
    assert report == "The report with its statistics: aepretrain report"
    assert seeds.startswith("A difference can be found with 6 seeds or more, and this grid has 2: ")
    assert "--seeds 0-5 " in seeds
    table = json.loads((tmp_path / "results" / "grid.json").read_text())
    assert [cell["num_seeds"] for cell in table["cells"]] == [2] * 3
    store = tracking.open_store(uri)
    (parent,) = store.search({"kind": "grid"})
    assert json.loads(load_text(f"{parent.info.artifact_uri}/results/grid.json")) == table
    assert parent.data.tags["mlflow.note.content"] == (tmp_path / "results" / "grid.md").read_text()

    again = here("grid", *options, "--seeds", "0-1")
    assert again.code == 0
    assert again.out.count(" reused: ") == 8
    assert json.loads((tmp_path / "results" / "grid.json").read_text()) == table

    compared = here("compare", "--out", "elsewhere")
    assert compared.code == 0, compared.err
    assert json.loads((tmp_path / "elsewhere" / "grid.json").read_text()) == table

    single = here("frozen", "--network", "fc", "--dataset", "digits", "--epochs", "1")
    assert single.code == 0, single.err
    assert "fc-none-pretrain-s0 is not done yet: it is trained first, as a run of its own" in single.out
    mixed = here("compare")
    assert mixed.code == 2
    assert "cls_epochs: " in mixed.err
    assert here("compare", "--epochs", "2").code == 0


def test_mnist_is_never_swapped_unless_asked(
    here: Callable[..., Printed], uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "log_model", lambda *_: None)  # exporting takes seconds
    monkeypatch.setattr(runner, "local_pool", inline)  # likewise a server of workers
    options = ["grid", "--network", "fc", "--augmentation", "none", "--epochs", "1"]
    missing = here(*options)
    assert missing.code == 1
    assert "MNIST is not in" in missing.err
    asked = here(*options, "--jobs", "1", "--fallback-dataset", "digits")
    assert asked.code == 0, asked.err
    assert "NO NUMBER BELOW IS AN MNIST RESULT" in asked.err
    assert "NOT MNIST" in asked.out
    runs = list(tracking.open_store(uri).search({"kind": "training"}))
    assert {run.data.params["dataset"] for run in runs} == {"digits"}
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (raw / f"{name}-ubyte").write_bytes(b"damaged")
    damaged = here(*options, "--fallback-dataset", "digits")
    assert damaged.code == 1
    assert "is damaged or another file" in damaged.err
    assert len(damaged.err.strip().splitlines()) == 1


def wait_for(condition: object, timeout_s: float = 180) -> None:
    assert callable(condition)
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.2)


def start_grid(uri: str, folder: Path) -> "subprocess.Popen[str]":
    """A grid of long trainings in a session of its own, when two of its runs have begun."""
    options = ["--dataset", "digits", "--network", "fc", "--epochs", "4000", "--patience", "0", "--jobs", "2"]
    environment = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = subprocess.Popen(
        [sys.executable, "-m", "aepretrain", "grid", *options],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    store = tracking.open_store(uri)
    wait_for(lambda: len(list(store.search({"kind": "training"}, "metrics.`loss/validation` > 0"))) >= 2)
    return process


def test_a_grid_that_is_stopped_ends_its_runs(uri: str, tmp_path: Path) -> None:
    """As users start it and with Ctrl-C; tests/chaos/test_kills.py has SIGTERM too."""
    process = start_grid(uri, tmp_path)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the same command goes on from there" in errors
    assert "Traceback" not in errors
    store = tracking.open_store(uri)
    assert {run.info.status for run in store.search({"kind": "training"})} == {"KILLED"}
    assert [run.info.status for run in store.search({"kind": "grid"})] == ["KILLED"]


@pytest.mark.project
def test_workers_end_with_a_parent_that_was_killed(uri: str, tmp_path: Path) -> None:
    process = start_grid(uri, tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)  # ends when the last process that holds the pipes has ended

    def all_gone() -> bool:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    wait_for(all_gone, timeout_s=20)
    states = [run.info.status for run in tracking.open_store(uri).search({"kind": "training"})]
    assert set(states) == {"KILLED"}, "the workers ended their runs themselves"


@pytest.mark.usefixtures("own_registries")
def test_a_users_network_trains_in_worker_processes(
    here: Callable[..., Printed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiprocessing.process, "ORIGINAL_DIR", str(tmp_path))  # as if this process had begun there
    monkeypatch.setattr(tracking, "log_model", lambda *_: None)  # exporting takes seconds
    (tmp_path / "mine.py").write_text(
        """
from torch import nn
from aepretrain.networks import Network, register

class Small(Network):
    frozen_head, trained_head = "first", "second"

    def __init__(self, image_shape, num_classes):
        super().__init__(image_shape, num_classes)
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.ReLU())
        self.decoder = nn.Sequential(nn.Linear(32, 784), nn.Unflatten(1, (1, 28, 28)))
        self.first, self.second = nn.Linear(32, 10), nn.Linear(32, 10)

register("small", Small)
"""
    )
    done = here(
        *("grid", "--plugin", "mine", "--network", "small", "--augmentation", "none"),
        *("--dataset", "digits", "--epochs", "2", "--jobs", "2"),
    )
    assert done.code == 0, done.err
    assert re.search(r"small, none +│ 0\.\d{4}", done.out)


@pytest.mark.usefixtures("own_registries")
def test_a_plugin_that_ends_the_program_later_is_named(
    here: Callable[..., Printed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    text = "import sys\nfrom aepretrain.data import register\n\nregister('ending', lambda data_dir: sys.exit(0))\n"
    (tmp_path / "ending_data.py").write_text(text)
    done = here("scratch", "--network", "fc", "--plugin", "ending_data", "--dataset", "ending")
    assert done.code == 1
    assert done.err == f"aepretrain: {tmp_path}/ending_data.py, line 4, ends the program: SystemExit: 0\n"


def entry_points() -> dict[str, dict[str, object]]:
    return yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]  # type: ignore[no-any-return]


def test_mlproject_has_every_command() -> None:
    reading = {"compare", "report", "encode", "onnx", "promote"}
    assert set(entry_points()) == {"main", *GRID_VARIANTS, *STUDIES, "studies", "run", "tune", *reading}


@pytest.mark.parametrize("names", [("pretrain", "frozen", "finetune"), (*STUDIES, "studies")])
def test_entry_points_that_differ_in_a_word(names: tuple[str, ...]) -> None:
    """What holds of one that is run by ``mlflow run`` holds of all."""
    words = {"studies": "all"}
    commands = {str(entry_points()[name]["command"]).replace(f" {words.get(name, name)} ", " … ") for name in names}
    assert len(commands) == 1


PLANNED = ("run", "tune")


@pytest.mark.parametrize("name", ["main", *GRID_VARIANTS, *STUDIES, "studies", *PLANNED, "report", "encode", "onnx"])
def test_mlproject_and_command_line_have_the_same_defaults(name: str) -> None:
    entry = entry_points()[name]
    commands = {"main": "grid", "studies": "study", **dict.fromkeys(STUDIES, "study")}
    options = {option.name: option for option in cli.commands[commands.get(name, name)].params}
    text = str(entry["command"])
    assert isinstance(entry["parameters"], dict)
    arguments = {one.name for one in options.values() if isinstance(one, click.Argument)} & set(entry["parameters"])
    assert all(re.search(rf" {name} {{{one}}}", text) for one in arguments)
    for parameter, given in entry["parameters"].items():
        if parameter in arguments:
            continue
        flag = "--" + parameter.replace("_", "-")
        assert f"{flag} {{{parameter}}}" in text
        option = next(one for one in options.values() if flag in one.opts)
        assert isinstance(option, click.Option)
        assert option.required == ("default" not in given)
        default = str(option.default) if isinstance(option.default, Path) else option.default
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
        if isinstance(option.show_default, str):
            assert str(given["default"]) == option.show_default, parameter
        elif not option.required:
            assert given["default"] == shown, parameter
    assert set(re.findall(r"{(\w+)}", text)) == set(entry["parameters"])


CALLS: dict[str, Callable[..., object]] = {
    "grid": api.run_grid,
    "run": api.run_plan,
    "tune": api.tune,
    "study": api.run_study,
    **dict.fromkeys(GRID_VARIANTS, api.train),
    "compare": api.compare,
    "results": api.load_results,
    "runs": api.list_runs,
    "report": api.make_report,
    "export": api.export,
    "import": api.import_,
    "sync": api.sync,
    "ui": api.open_ui,
    "predict": api.predict,
    "encode": api.encode,
    "onnx": api.export_onnx,
    "promote": api.promote,
}


def arguments_of(call: Callable[..., object]) -> dict[str, object]:
    """The arguments of a call that commands have as options, with defaults; settings and execution by their fields."""
    arguments: dict[str, object] = {}
    for name, one in inspect.signature(call).parameters.items():
        if one.kind is inspect.Parameter.VAR_KEYWORD:
            arguments |= dict.fromkeys((field.name for field in fields(Settings)), None)
        elif name in ("settings", "execution"):
            arguments |= vars(Settings() if name == "settings" else Execution())
        else:
            arguments[name] = one.default
    return {name: value for name, value in arguments.items() if name not in ("run_id", "show", "variant")}


@pytest.mark.parametrize("name", CALLS)
def test_options_and_arguments_have_the_same_names_and_defaults(name: str) -> None:
    """But for `out`: a command writes a file unless told otherwise, a call writes none."""
    assert CALLS.keys() == cli.commands.keys()
    renamed = {"folder": "images"} if name == "encode" else {}
    options = {renamed.get(str(one.name), str(one.name)): one for one in cli.commands[name].params}
    arguments = arguments_of(CALLS[name])
    missing = arguments.keys() - options.keys()
    if name in GRID_VARIANTS:  # workers, and settings of a stage that the variant does not have
        assert missing == {"jobs", "stack"} | {
            "pretrain": {"cls_epochs", "cls_lr", "labels", "updates", "encoder_lr", "head_first"},
            "frozen": {"encoder_lr", "head_first"},
            "scratch": {
                *("ae_epochs", "ae_lr", "ae_target", "ae_loss", "objective", "unlabelled"),
                *("encoder_lr", "head_first"),
            },
        }.get(name, set())
    else:
        assert missing == ({"objective"} if "objectives" in options else set()), "they name several"
    assert options.keys() - arguments.keys() <= {"dry_run"} | (set() if name == "run" else {"epochs", "plan"})
    for argument in arguments.keys() & options.keys() - {"out"}:
        option, default = options[argument], arguments[argument]
        if option.required:
            assert default is inspect.Parameter.empty or name == "encode", argument
            continue
        shown = option.to_info_dict()["default"]
        given = {"networks": GRID_NETWORKS, "augmentations": AUGMENTATIONS}.get(argument, default)
        if argument == "seeds" and name != "run":
            assert parse_seeds(shown) == default
        elif argument.endswith("_epochs") and name not in ("compare", "results", "report", "export"):
            assert (shown, options["epochs"].to_info_dict()["default"]) == (None, default)
        elif argument == "objectives":
            assert (shown, default) == (Settings.objective, None), "that of the settings"
        elif argument in ("networks", "augmentations") and name != "run":
            assert tuple(shown.split(",")) == given == default
        else:
            assert shown == (default or None) or shown == default, argument


def test_every_command_names_options_as_they_are_typed() -> None:
    assert {name for name, one in cli.commands.items() if not isinstance(one, Command)} == {"runs"}, "a group"


def test_help_tells_the_defaults_of_the_spec() -> None:
    shown = CliRunner().invoke(cli, ["grid", "--help"], terminal_width=200).output
    for flag, default in {"--epochs": "50", "--lr": "0.001", "--erase-scale": "0.1, 0.15", "--patience": "10"}.items():
        assert re.search(rf"{flag} .*\[default: {default}\]", shown), flag


def test_the_readmes_answer_is_that_of_the_committed_report() -> None:
    answer = (ROOT / "docs" / "answer.md").read_text()
    assert answer in (ROOT / "README.md").read_text()
    assert answer.splitlines()[0] in (ROOT / "docs" / "report.md").read_text().splitlines()


@pytest.mark.project
def test_the_committed_report_is_that_of_the_committed_evidence(tmp_path: Path) -> None:
    plans = re.findall(r"plans/[\w-]+\.yaml", (ROOT / "docs" / "update.sh").read_text())
    assert plans
    given = [
        "report",
        *(str(ROOT / plan) for plan in plans),
        "--bundle",
        str(ROOT / "evidence"),
        "--out",
        str(tmp_path),
    ]
    done = CliRunner().invoke(cli, given)
    assert done.exit_code == 0, done.output
    for name in ("answer.md", "report.md"):
        assert (tmp_path / name).read_text() == (ROOT / "docs" / name).read_text()
    pictures = [{one.name for one in (folder / "report").iterdir()} for folder in (tmp_path, ROOT / "docs")]
    assert pictures[0] == pictures[1]


@pytest.mark.project
def test_pictures_with_the_answer_are_not_older_than_the_answer() -> None:
    stamp = (ROOT / "docs" / "images" / "answer.sha256").read_text().strip()
    assert stamp == hashlib.sha256((ROOT / "docs" / "answer.md").read_bytes()).hexdigest(), "run docs/update.sh"


def test_the_answer_stands_only_where_it_is_made() -> None:
    """Whatever says a verdict is made by docs/update.sh; the statistics and the changelog explain the words."""
    made = {"report.md", "answer.md", "statistics.md", "CHANGELOG.md"}
    words = re.compile("size unsettled|different, but negligibly|finetune − scratch [+−]?0", re.IGNORECASE)
    readme, _, rest = (ROOT / "README.md").read_text().partition("<!-- answer")
    texts = {"README.md": readme + rest.partition("<!-- end of answer")[2]}
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md")]:
        texts.setdefault(path.name, path.read_text())
    assert {name for name, text in texts.items() if words.search(text)} <= made


ODD = "a b; 'c' \"d\" $(e) `f` & g\nh"


@pytest.mark.project
@pytest.mark.parametrize(
    "name",
    ["finetune", "scratch", "compare", "report", "main", "studies", "promote", "onnx", "encode"],
)
def test_mlflow_run(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The entry points through ``mlflow run``, in this environment; all share one project folder and store.

    Of those that differ in a word, as the test above shows, one is run: ``finetune``, and ``studies`` for all four.
    """
    folder = tmp_path_factory.getbasetemp() / "project"
    if not folder.exists():
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "mlflow.db*", "mlartifacts", "mlruns"))
    reading = name in ("compare", "report", "promote", "onnx", "encode")
    cell = [] if reading else ["-P", "network=fc"] + ([] if name == "main" else ["-P", "augmentation=none"])
    work = [] if reading else ["-P", "dataset=digits", "-P", "epochs=2"]
    work += ["-P", "folder=docs/pictures"] if name == "encode" else []
    work += ["-P", "updates=20"] if name == "studies" else []  # which MLproject does not list
    work += ["-P", f"out={ODD}"] if name == "report" else []  # likewise
    done = mlflow_run("-e", name, *cell, *work, folder=folder)
    assert done.code == 0, done
    if name in ("main", "compare", "report"):
        assert "NOT MNIST" in " ".join(done.out.split()), "a title may have two lines"
    if name == "report":
        assert (folder / ODD / "report.html").is_file(), "what a shell would take for its own arrives as it is"
    store = tracking.open_store(f"sqlite:///{folder}/mlflow.db")
    assert not list(store.search({}, "attributes.status != 'FINISHED'"))


def test_what_git_checks_before_a_commit_is_what_every_change_is_checked_for() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    checks, _, _ = (ROOT / "run_tests.sh").read_text().partition("if [[")
    programs = [line for line in checks.splitlines() if line.startswith(".venv/bin/")]
    assert [hook["entry"] for hook in hooks] == [line.removesuffix(" .") for line in programs]


def test_help_has_every_command_in_one_section() -> None:
    listed = [name for names in cli.sections.values() for name in names]
    assert sorted(listed) == sorted(cli.commands)
    shown = CliRunner().invoke(cli, ["--help"], terminal_width=80).output
    assert all(f"{title}:" in shown for title in cli.sections)
    assert shown.count("...") == 1, "beside ARGS; each command's sentence fits into a line"


def test_help_has_the_options_of_a_grid_in_sections() -> None:
    shown = CliRunner().invoke(cli, ["grid", "--help"]).output
    titles = re.findall(r"^(\w.*):$", shown, re.MULTILINE)
    assert titles == [*SECTIONS, LAST]
    first = re.findall(r":\n  (--[\w-]+)", shown)
    assert first == ["--network", "--dataset", "--erase-scale", "--epochs", "--mask-share", "--jobs", "--plugin"]
    known = {name for names in SECTIONS.values() for name in names}
    left = {one.name for one in cli.commands["grid"].params} - known
    assert left == {"plugins", "tracking_uri", "out", "fallback_dataset", "dry_run"}
    assert known <= {one.name for command in cli.commands.values() for one in command.params}, "none is of no command"
    assert "\nOptions:\n" in CliRunner().invoke(cli, ["sync", "--help"]).output, "few need no sections"


TYPED = {
    "gr": ["grid"],
    "grid --netw": ["--network"],
    "grid --network fc,": ["fc,conv", "fc,resnet8"],
    "grid --augmentation erasing,n": ["erasing,none"],
    "grid --objective p": ["pixel-mask", "patch-mask"],
    "frozen --dataset fa": ["fashion-mnist"],
    "scratch --split s": ["stratified"],
    "grid --device c": ["cpu", "cuda"],
    "study r": ["robustness"],
    "grid --seeds 0": [],
}
"""What may be typed in a shell before the tabulator key, and what the shell then offers."""


@pytest.mark.parametrize("typed", TYPED)
def test_what_a_shell_completes(typed: str) -> None:
    *words, last = typed.split()
    done = ShellComplete(cli, {}, "aepretrain", "_AEPRETRAIN_COMPLETE").get_completions(words, last)
    assert [one.value for one in done] == TYPED[typed]


SHELLS = {
    "bash": """
        eval "$(_AEPRETRAIN_COMPLETE=bash_source aepretrain)"
        COMP_WORDS=(aepretrain grid --network fc,); COMP_CWORD=3
        _aepretrain_completion aepretrain; printf '%s\\n' "${COMPREPLY[@]}"
    """,
    "zsh": """
        autoload -U compinit; compinit -u -D; eval "$(_AEPRETRAIN_COMPLETE=zsh_source aepretrain)"
        compadd() { print -l ${(P)${@[-1]}} }
        words=(aepretrain grid --network fc,); CURRENT=4; _aepretrain_completion
    """,
    "fish": """
        _AEPRETRAIN_COMPLETE=fish_source aepretrain | source; complete -C "aepretrain study r"
    """,
}
"""Scripts that ask each shell for its completions, as the documentation sets it up.

click's script for fish cuts a completion at its first comma.
"""


@pytest.mark.integration
@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes(shell: str, tmp_path: Path) -> None:
    assert shutil.which(shell), f"{shell} is missing: .ci/run installs it"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    done = subprocess.run([shell, "-c", SHELLS[shell]], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == (["robustness"] if shell == "fish" else ["fc,conv", "fc,resnet8"]), done


def test_without_a_command_help_is_an_error_of_usage(here: Callable[..., Printed]) -> None:
    printed = here()
    assert (printed.code, printed.out) == (2, "")
    assert printed.err.startswith("Usage: aepretrain")


def test_an_output_that_nobody_reads_ends_the_command_without_a_word() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run([sys.executable, "-m", "aepretrain", "--help"], stdout=writing, stderr=subprocess.PIPE)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_an_error_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> NoReturn:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(cli, "main", fail)
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        program._run()
