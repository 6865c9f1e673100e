"""Names of files and messages of others are printed as text: no markup, no emoji's name, no control character."""

import io
import sys

import pytest
from rich.console import Console

from aepretrain.cli import main
from aepretrain.cli.printing import echo, print_table
from aepretrain.display import say
from aepretrain.redaction import in_a_line, printable, redact
from tests.names import NAMES, NOT_UTF8

TEXTS = {**NAMES, "closing markup": "[/x]", "link": "[link=file:x]", "style": "[red]", "not UTF-8": NOT_UTF8}

SHOWN = {"newline": "new\\nline", "escape": "\\x1b[31mred", "not UTF-8": "\\udcff\\udcfe"}
"""Names that hold control characters, as they are printed."""


@pytest.mark.parametrize("name", TEXTS)
def test_a_name_is_printed_as_it_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text, shown = TEXTS[name], SHOWN.get(name, TEXTS[name])
    assert printable(text) == shown
    console = Console(file=io.StringIO(), force_terminal=True, width=20)
    say(console, f"written to {text}: {text}/x", "yellow")
    assert f"written to {shown}: {shown}/x" in console.file.getvalue()  # type: ignore[attr-defined]  # it is a StringIO
    echo(text)
    assert capsys.readouterr().out == text.replace("\x1b", "\\x1b").replace(NOT_UTF8, shown) + "\n", "a line is a line"
    print_table([[text, "digit"], [text, "7"]], title=text)
    printed = capsys.readouterr().out
    assert printed.count(shown) == 3
    assert len(printed.splitlines()) == 6


@pytest.mark.parametrize("name", TEXTS)
def test_a_name_in_an_error_is_printed_as_it_is(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["aepretrain", "report", "--", f"nowhere/{TEXTS[name]}/plan.yaml"])
    with pytest.raises(SystemExit) as stop:
        main()
    shown = {"newline": "new line"}.get(name, SHOWN.get(name, TEXTS[name]))  # what breaks a line is a space there
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"aepretrain: nowhere/{shown}/plan.yaml: there is no such file\n"


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:////home/anna@corp/mlflow.db",
        "file:///home/anna@corp/mlartifacts",
        "/home/me:pw@corp/x",
        "/data/Basic training/mlflow.db",
    ],
)
def test_a_path_holds_no_password(text: str) -> None:
    assert redact(text) == text
    assert in_a_line(f"{text} is gone") == f"{text} is gone"


def test_a_message_of_several_lines_becomes_one() -> None:
    assert in_a_line("  not\n   good:\r\n\r\nsee a  b \x1b[2J\n") == "not good: see a  b \\x1b[2J"
