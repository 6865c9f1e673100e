"""Options and printing that several commands share."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from aepretrain.cli.characters import plain
from aepretrain.redaction import printable

if TYPE_CHECKING:
    from rich.console import Console

    from aepretrain.api import Preview, Results

out_option = click.option(
    "--out", default="results", show_default=True, help="Folder for the table as Markdown, CSV, JSON and figure."
)


def adopted_run_id() -> str | None:
    """The run that ``mlflow run`` has opened for this command, if any; removed, so that no worker writes to it."""
    return os.environ.pop("MLFLOW_RUN_ID", None) or None


def echo(text: object, *, err: bool = False) -> None:
    """Print text as it is, line by line; control characters in it are shown, not obeyed."""
    click.echo("\n".join(map(printable, str(text).split("\n"))), err=err)


def print_preview(preview: "Preview") -> None:
    """Print what would be trained."""
    print_table(preview.table)
    echo(preview.summary)


def print_table(rows: Sequence[Sequence[str]], title: str = "") -> None:
    """Print rows of which the first is the heading. In a terminal that is too narrow, each row is a block of lines."""
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, emoji=False, highlight=False)  # names of files are text

    def shown(text: str) -> str:
        return plain(printable(text), console.encoding)

    title, (heading, *rest) = shown(title), [list(map(shown, row)) for row in rows]
    table = Table(*heading, title=title or None, title_justify="left")
    for row in rest:
        table.add_row(*row)
    width = console.measure(table, options=console.options.update(max_width=sys.maxsize)).maximum
    if not console.is_terminal:  # a file has no width of its own
        console.width = width
    if width <= console.width:
        console.print(table)
    else:
        _print_blocks(console, heading, rest, title)


def _print_blocks(console: "Console", heading: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> None:
    """Print a line for each text, after its heading. It is broken between words only."""
    from rich.cells import cell_len

    if title:
        console.print(title, style="italic")
    for row in rows:
        for name, text in zip(heading, row, strict=True):
            line = f"{name}: {text}" if name else text
            console.print(line, soft_wrap=any(cell_len(word) > console.width for word in line.split()))
        console.print()


def print_tables(results: "Results", out: str) -> None:
    """Print the table of classifiers, and the names of its files."""
    for title, rows in results.tables:
        print_table(rows, title)
    echo(f"Written to {out}: {', '.join(results.written)}")
