"""Every option of every command, with values that are good, absurd or hostile.

The options are those that the commands declare, so that a new one is tried too.
"""

import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import click
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from aepretrain.cli.commands import cli
from tests.chaos.damage import OPTIONS
from tests.commands import anew, forked, mlflow_run, start
from tests.conftest import ROOT

pytestmark = pytest.mark.chaos

SHELL = (
    "$(touch marker)",
    "`touch marker`",
    "; touch marker",
    "| touch marker",
    "a && touch marker",
    "\ntouch marker\n",
)
ODD = (
    "",
    " ",
    "-",
    "--",
    "-1",
    "nan",
    "inf",
    "'",
    '"',
    "%s",
    "{0}",
    "[red]x[/]",
    "\r\n\t",
    "é",
    "\udcff",
    "😀" * 50,
    "x" * 5000,
)
PATHS = ("../../etc", "/dev/null", "/dev/null/x", "/proc/nowhere", "nowhere", ".", "a\nb", "-rf", "<script>")
ADDRESSES = (
    *("sqlite:///other.db", "sqlite:////dev/null", "sqlite:///nowhere/x.db", "http://127.0.0.1:9/", "http://a b/"),
    *(
        "http://[::1",
        "https://user:geheim@127.0.0.1:9",
        "postgresql://user:geheim@127.0.0.1:1/x",
        "gopher://x",
        "file:x",
    ),
)
NOWHERE = "http://127.0.0.1:9"
"""A proxy that is not there, so that nothing is downloaded."""

NUMBERS = ("0", "-1", "-0", "1e3", "1.5", "0x10", "٣", "1_0", str(2**31), str(2**63), str(10**30), "9" * 5000)
REALS = ("0", "-1", "1e-320", "1e308", "-inf", "0,5", "1e999", "0.5")
PAIRS = ("0.1,0.2", "0.2,0.1", "0.2", "0,0", "1,2,3", "nan,nan", "1e-300,1", "0.1 0.2", "inf,inf", "1e-9,1e9")

AT_MOST = {
    "epochs": ("1", "2"),
    "ae_epochs": ("1", "2"),
    "cls_epochs": ("1", "2"),
    "updates": ("1", "7"),
    "jobs": ("1", "2"),
    "threads": ("1", "2"),
    "network": ("fc",),
    "networks": ("fc", "fc,fc"),
    "augmentation": ("none", "erasing"),
    "augmentations": ("none", "erasing"),
    "dataset": ("digits", "mnist", "fashion-mnist", "kmnist"),
    "seeds": ("0", "1", "0-1"),
    "name": ("controls", "robustness", "similarity"),
}
"""Good values of what takes time to train, or would have been refused if it were longer."""

ANY_TEXT = st.text(st.characters(exclude_characters="\0/\\.", exclude_categories=["Cs"]), max_size=20)
"""What may stand in an argument, and names no folder elsewhere."""


def value_of(parameter: click.Parameter) -> st.SearchStrategy[str]:
    """Values for an option, half of them good or nearly so."""
    assert parameter.name is not None
    kind = parameter.type
    if parameter.name in AT_MOST:
        near: tuple[str, ...] = AT_MOST[parameter.name] + (NUMBERS if kind is click.INT else ())
    elif isinstance(kind, click.Choice):
        near = tuple(kind.choices)
    elif kind is click.INT:
        near = ("1", "10", "100", *NUMBERS)
    elif kind is click.FLOAT:
        near = REALS
    elif kind.name == "number,number":
        near = PAIRS
    elif parameter.name == "tracking_uri":
        near = ADDRESSES
    elif parameter.name == "plugins":
        near = ("json", "os;touch marker", "..x", "no.such.module")
    else:
        near = PATHS
    return st.one_of(st.sampled_from(near), st.sampled_from(near), st.sampled_from(SHELL + ODD), ANY_TEXT)


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """A command with small settings, and then up to four of its options, which have the last word."""
    name = draw(st.sampled_from(sorted(cli.commands)))
    parameters = cli.commands[name].params
    known = {flag for parameter in parameters for flag in parameter.opts}
    small = [option for one in OPTIONS[::2] if one in known for option in (one, OPTIONS[OPTIONS.index(one) + 1])]
    if name in ("compare", "report", "export", "import"):
        small = []
    elif "--jobs" in known:
        small += ["--augmentation", "none", "--jobs", "1"]
    positional = [draw(value_of(one)) for one in parameters if isinstance(one, click.Argument)]
    given_ones = []
    for option in draw(
        st.lists(st.sampled_from([one for one in parameters if isinstance(one, click.Option)]), max_size=4)
    ):
        given_ones += [draw(st.sampled_from(option.opts)), draw(value_of(option))]
    return [name, *positional, *small, *given_ones]


def states(folder: Path) -> dict[str, tuple[str, bool]]:
    """By id, the status of every run in the stores of a folder, and whether it is marked as done."""
    found: dict[str, tuple[str, bool]] = {}
    for path in folder.glob("*.db"):
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
            done = {run for (run,) in connection.execute("SELECT run_uuid FROM tags WHERE key = 'aepretrain.done'")}
            for run, status in connection.execute("SELECT run_uuid, status FROM runs"):
                found[run] = status, run in done
    return found


def test_any_command_line_ends_in_order(copied: Callable[[Path], str], tmp_path: Path, full_length: bool) -> None:
    uri, codes = copied(tmp_path), dict.fromkeys((0, 1, 2), 0)

    @settings(
        max_examples=600 if full_length else 20,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(command_lines())
    def try_one(arguments: list[str]) -> None:
        before = states(tmp_path)
        how = anew if "--threads" in arguments else forked  # OpenMP's threads do not outlive a fork
        command = start(partial(how, *arguments), tmp_path, MLFLOW_TRACKING_URI=uri, https_proxy=NOWHERE)
        if arguments[0] == "ui":  # it lasts until Ctrl-C
            while command.poll() is None and not command.has_printed():
                time.sleep(0.1)
            if command.poll() is None:
                os.killpg(command.pid, signal.SIGINT)
        done = command.finish()
        assert done.code in codes, done
        assert "Traceback" not in done.out + done.err, done.err
        assert done.code == 0 or done.err.strip(), "silence"
        assert "geheim" not in done.out + done.err
        after = states(tmp_path)
        assert all(after[run] == state for run, state in before.items() if state[0] != "FAILED")
        assert done.code != 2 or after == before, "what is refused leaves no run"
        assert {status for status, _ in after.values()} <= {"FINISHED", "FAILED"}
        assert not any(is_done for status, is_done in after.values() if status == "FAILED")
        assert not list(tmp_path.rglob("marker"))
        codes[done.code] += 1

    try_one()
    print(f"command lines: {sum(codes.values()):,} tried; exit codes {codes}")
    assert codes[0] > 0
    assert codes[2] > 0
    assert codes[1] > 0 or not full_length, "twenty are too few for it"


@pytest.mark.project
@pytest.mark.parametrize(
    ("name", "values"),
    [
        (
            "main",
            {
                "network": "fc; touch marker",
                "seeds": "$(touch marker)",
                "dataset": "`touch marker`",
                "augmentation": 'none" | touch marker "',
                "lr": "1 && touch marker",
                "erase_scale": "0.1\n; touch marker",
                "batch_size": "' ; touch marker; '",
                "patience": "\ntouch marker\n",
                "jobs": "&touch marker&",
            },
        ),
        (
            "scratch",
            {"network": "fc", "dataset": "digits", "epochs": "1", "plugin": "; touch marker", "data-dir": "a b;'c"},
        ),
    ],
)
def test_values_of_mlflow_run_reach_no_shell(name: str, values: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "mlflow.db*", "mlartifacts", "mlruns", "docs"))
    given_ones = [text for parameter, value in values.items() for text in ("-P", f"{parameter}={value}")]
    done = mlflow_run("-e", name, *given_ones, folder=folder)
    assert done.code != 0
    assert "aepretrain: " in done.err, done.err
    assert not list(tmp_path.rglob("marker"))
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        assert connection.execute("SELECT DISTINCT status FROM runs").fetchall() == [("FAILED",)]
