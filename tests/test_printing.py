"""What is printed: tables in terminals of every width, and characters that an output lacks."""

import io
import re
import sys
from collections.abc import Callable

import pytest
from rich.cells import cell_len

from aepretrain.cli import characters
from aepretrain.cli.printing import print_table

MEANS = "0.9155 ± 0.0013 / 0.9142 ± 0.0014 (n = 40)"
TABLES = {
    "one seed": [["#", "experiment", "1 frozen"], ["1", "fc, none", "0.9173 / 0.9160"]],
    "seeds": [["#", "experiment", "1 frozen", "2 finetune"], ["1", "fc, none", MEANS, MEANS]],
    "differences": [["experiment", "1 frozen"], *[["conv, erasing", "−0.0018 / +12345.6789"]] * 3],
    "pictures": [
        ["picture", "digit", "probability", "else", ""],
        ["数字/1.png", "7", "> 99.99 %", "1  0.01 %", "x"],
    ],
    "no rows": [["dataset", "network", "labels", "variant", "done", "missing", "time", "disk"]],
}

Printed = Callable[..., str]


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> Printed:
    """A table as an output with this encoding and width gets it; a terminal unless the width is None."""

    def run(rows: list[list[str]], width: int | None, encoding: str = "utf-8", title: str = "Title") -> str:
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
        characters.adapt(stream)
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", stream)
            patched.setenv("TERM", "xterm")
            patched.setenv("COLUMNS", str(width))
            patched.setenv("TTY_COMPATIBLE", str(int(width is not None)))
            print_table(rows, title)
            stream.flush()
            return re.sub(r"\x1b\[[\d;]*m", "", stream.buffer.getvalue().decode(encoding))

    return run


def words(text: str) -> list[str]:
    return re.sub("[│|┃]", " ", text).split()


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
@pytest.mark.parametrize("name", TABLES)
def test_no_number_is_cut_at_any_width(printed: Printed, name: str, width: int) -> None:
    rows = TABLES[name]
    shown = printed(rows, width)
    assert max(map(cell_len, shown.splitlines())) <= max(width, *map(cell_len, words(shown)))
    for word in words(" ".join(text for row in rows[1:] for text in row)):
        assert word in words(shown), shown


def test_a_narrow_terminal_gets_a_block_for_each_row(printed: Printed) -> None:
    rows = [["experiment", "1 frozen", ""], ["fc, none", MEANS, "last"], ["fc, erasing", MEANS, ""]]
    assert printed(rows, 60).splitlines() == [
        *("Title", "experiment: fc, none", f"1 frozen: {MEANS}", "last", ""),
        *("experiment: fc, erasing", f"1 frozen: {MEANS}", "", ""),
    ]


def test_a_path_that_is_longer_than_a_line_stays_in_one_piece(printed: Printed) -> None:
    path = "/folder" * 12
    assert f"picture: {path}\n" in printed([["picture", "digit"], [path, "7"]], 40)


def test_a_file_has_whole_rows(printed: Printed) -> None:
    shown = printed([["experiment", *"123456"], ["fc, none", *[MEANS] * 6]], None)
    assert shown.count(MEANS) == 6
    assert any(line.count(MEANS) == 6 for line in shown.splitlines())


@pytest.mark.parametrize("encoding", ["ascii", "cp437", "cp1252", "latin-1"])
def test_signs_stay_signs_where_the_output_lacks_them(printed: Printed, encoding: str) -> None:
    shown = printed([["a × b", "é"], ["−0.0018 ± 0.0010", "é → …"]], 80, encoding)
    assert re.search(r"-0\.0018 (±|\+/-) 0\.0010", shown)
    assert re.search(r"a [x×] b", shown)
    assert re.search(r"(é|\\xe9) -> (…|\.\.\.)", shown)
    widths = {len(line.rstrip("\r")) for line in shown.splitlines()[1:]}
    assert len(widths) == 1, "columns stand below each other"


def test_what_click_prints_is_ascii_too(monkeypatch: pytest.MonkeyPatch) -> None:
    import click

    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", newline="")
    characters.adapt(stream)
    monkeypatch.setattr(sys, "stdout", stream)
    click.echo("−1 ± 2 × 3, ü, \udcff")
    stream.flush()
    assert stream.buffer.getvalue() == b"-1 +/- 2 x 3, \\xfc, \\udcff\n"
