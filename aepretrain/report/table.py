"""Tables as text and Markdown; the grid as such, as CSV, as JSON and as a figure. Nothing is written here."""

import csv
import html
import io
import json
from collections.abc import Iterable
from typing import Any

from matplotlib.figure import Figure

from aepretrain import figures
from aepretrain.report.grid import Cell, Grid, title
from aepretrain.report.numbers import signed

MISSING = "missing"

Table = tuple[str, list[list[str]]]
"""A title, and rows of text of which the first is the heading."""

LONG_TABLE = 26
"""Tables of so many rows are folded up."""


def cell_text(cell: Cell) -> str:
    """``0.9775 / 0.9773``, with deviations and n where there are several seeds."""
    if cell.scores is None:
        return MISSING
    num = len(cell.records)
    return f"{cell.scores[0]} / {cell.scores[1]}" + (f" (n = {num})" if num > 1 else "")


def published_text(cell: Cell) -> str:
    """The published accuracy and macro-F1."""
    return "none" if cell.published is None else "{:.4f} / {:.4f}".format(*cell.published)


def difference_text(cell: Cell) -> str:
    """Ours minus the published accuracy and macro-F1, with true minus signs."""
    if cell.differences is None:
        return "none" if cell.published is None else MISSING
    return " / ".join(map(signed, cell.differences))


def tables(grid: Grid) -> list[Table]:
    """The tables that show the grid, each with its title and its rows of text, the first being the heading."""
    heading = ["#", "experiment", *(f"{number} {variant}" for number, variant in enumerate(grid.variants, 1))]
    shown = [(grid.title, cell_text)]
    if grid.has_published:
        shown += [("Published, one run each", published_text), ("Ours minus published", difference_text)]
    return [
        (
            name,
            [heading]
            + [
                [str(number), title(experiment), *map(text, grid.row(experiment))]
                for number, experiment in enumerate(grid.experiments, 1)
            ],
        )
        for name, text in shown
    ]


def markdown(grid: Grid) -> str:
    """The grid as Markdown, with its settings."""
    settings = ", ".join(f"{name} {value}" for name, value in grid.settings.items())
    return "\n\n".join(map(markdown_table, tables(grid))) + f"\n\nSettings: {markdown_text(settings)}.\n"


def markdown_table(table: Table) -> str:
    """A table as Markdown, under its title; a long one is folded up."""
    name, (heading, *rows) = table
    lines = [_markdown_row(heading), _markdown_row(["---"] * len(heading)), *map(_markdown_row, rows)]
    if len(rows) < LONG_TABLE:
        return "\n".join([f"**{markdown_text(name)}**", "", *lines])
    summary = f"<summary>{html.escape(name)} ({len(rows)} rows)</summary>"
    return "\n".join([f"<details>{summary}", "", *lines, "", "</details>"])


def _markdown_row(texts: Iterable[str]) -> str:
    return "| " + " | ".join(markdown_text(text).replace("|", "\\|") for text in texts) + " |"


def markdown_text(text: str) -> str:
    """Text that stays text in Markdown: on one line, and without tags of HTML."""
    return " ".join(text.split()).replace("<", "&lt;")


def rows(grid: Grid) -> list[dict[str, Any]]:
    """One flat row for each cell; what is missing is None."""
    return [_flat(cell) for cell in grid.cells.values()]


def _flat(cell: Cell) -> dict[str, Any]:
    accuracy, macro_f1 = cell.scores or (None, None)
    published, differences = cell.published or (None, None), cell.differences or (None, None)
    return {
        "network": cell.network,
        "augmentation": cell.augmentation,
        "variant": cell.variant,
        "num_seeds": len(cell.records),
        "seeds": " ".join(str(record.seed) for record in cell.records),
        "accuracy": accuracy and accuracy.mean,
        "accuracy_deviation": accuracy and accuracy.deviation,
        "macro_f1": macro_f1 and macro_f1.mean,
        "macro_f1_deviation": macro_f1 and macro_f1.deviation,
        "published_accuracy": published[0],
        "published_macro_f1": published[1],
        "accuracy_minus_published": differences[0],
        "macro_f1_minus_published": differences[1],
        "run_ids": " ".join(record.run_id for record in cell.records),
    }


def files(grid: Grid) -> dict[str, bytes]:
    """The grid as files, by name: Markdown, CSV, JSON and a figure."""
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(rows(grid)[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows(grid))
    content = {"title": grid.title, "dataset": grid.dataset, "settings": dict(grid.settings), "cells": rows(grid)}
    return {
        "grid.md": markdown(grid).encode(),
        "grid.csv": table.getvalue().encode(),
        "grid.json": (json.dumps(content, indent=2) + "\n").encode(),
        "grid.png": figures.png(figure(grid)),
    }


def figure(grid: Grid) -> Figure:
    """Every seed's test accuracy, experiment by experiment, beside the published one."""
    return figures.grid_accuracy(
        grid.title.replace("Test accuracy / macro-F1", "Test accuracy"),
        {
            "\n".join(experiment): {
                cell.variant: [record.metrics["test_accuracy"] for record in cell.records]
                for cell in grid.row(experiment)
            }
            for experiment in grid.experiments
        },
        {
            "\n".join(experiment): {cell.variant: cell.published[0] for cell in grid.row(experiment) if cell.published}
            for experiment in grid.experiments
        },
    )
