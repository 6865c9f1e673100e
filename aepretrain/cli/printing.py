"""Options and printing that several commands share."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aepretrain.redaction import printable

if TYPE_CHECKING:
    from rich.console import Console

    from aepretrain.api import Results

out_option = click.option(
    "--out", default="results", show_default=True, help="Folder for the table as Markdown, CSV, JSON and figure."
)


def adopted_run_id() -> str | None:
    """The run that ``mlflow run`` has opened for this command, if any; removed, so that no worker writes to it."""
    return os.environ.pop("MLFLOW_RUN_ID", None) or None


def echo(text: object, *, err: bool = False) -> None:
    """Print text as it is, line by line; control characters in it are shown, not obeyed."""
    click.echo("\n".join(map(printable, str(text).split("\n"))), err=err)


def _wide_console() -> "Console":
    """A console for tables; a file gets 160 columns, since it has no width of its own."""
    from rich.console import Console

    console = Console(markup=False, emoji=False)  # names of files are text
    return console if console.is_terminal else Console(width=160, markup=False, emoji=False)


def print_preview(plan: Path, request: Mapping[str, Any]) -> None:
    """Print what is missing of a part of a plan, which is chosen by the arguments of `run_plan`."""
    from aepretrain import api

    preview = api.preview_plan(plan, **{name: request[name] for name in request if name not in ELSEWHERE})
    print_table(preview.table)
    echo(preview.summary)


ELSEWHERE = ("cluster", "resources")
"""Options of a run that change nothing about what is missing."""


def print_table(rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """Print rows of which the first is the heading."""
    from rich.table import Table

    (heading, *rest), title = [list(map(printable, row)) for row in rows], title and printable(title)
    table = Table(*heading, title=title, title_justify="left")
    for row in rest:
        table.add_row(*row)
    _wide_console().print(table)


def print_tables(results: "Results", out: str) -> None:
    """Print the table of classifiers, and the names of its files."""
    for title, rows in results.tables:
        print_table(rows, title)
    echo(f"Written to {out}: {', '.join(results.written)}")
