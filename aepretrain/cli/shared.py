"""What the commands share: the store they use, the run that ``mlflow run`` opened for them, how results are shown."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aepretrain.config import Execution
from aepretrain.files import atomic_write
from aepretrain.redaction import redact

if TYPE_CHECKING:
    from aepretrain import report, tracking

out_option = click.option(
    "--out", default="results", show_default=True, help="Folder for the table as Markdown, CSV, JSON and figure."
)


def adopted_run_id() -> str | None:
    """The run that ``mlflow run`` opened for this command, if it did; no worker shall take it for its own."""
    return os.environ.pop("MLFLOW_RUN_ID", None)


def open_store(options: dict[str, Any], run_id: str | None) -> "tracking.Store":
    """The store that the options name, else the project's own."""
    from aepretrain import tracking

    uri = options["tracking_uri"] or tracking.default_uri(Path.cwd())
    outage_s = options.get("outage_s", Execution.outage_s)
    return tracking.open_store(uri, os.environ.get("MLFLOW_EXPERIMENT_NAME"), run_id, outage_s)


def say_where(store: "tracking.Store") -> None:
    """Tell where the runs are and how to look at them."""
    from aepretrain import tracking

    click.echo(f"Runs are kept in {redact(store.uri)}; look at them with: {tracking.ui_hint(store.uri)}")


def show(grid: "report.Grid", folder: Path) -> None:
    """The grid on the terminal and as files."""
    from rich.console import Console
    from rich.table import Table

    from aepretrain import report

    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # a file has no width to keep to
    for title, (heading, *rows) in report.tables(grid):
        table = Table(*heading, title=title, title_justify="left")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    files = report.files(grid)
    write_files(folder, files)
    console.print(f"Written to {folder}: {', '.join(files)}", highlight=False)


def write_files(folder: Path, files: "Mapping[str, bytes]") -> None:
    """Write files of these names into a folder, each at once."""
    for name, content in files.items():
        with atomic_write(folder / name) as partial:
            partial.write_bytes(content)
