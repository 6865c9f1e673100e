"""Tables as text and Markdown; the grid as CSV, JSON and figure."""

import html
import json
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from aepretrain import figures
from aepretrain.report.grid import Cell, Grid, setting_text, title
from aepretrain.report.numbers import signed
from aepretrain.report.pairs import paired, values_of

MISSING = "missing"

Table = tuple[str, list[list[str]]]
"""A title, and rows of text of which the first is the heading."""

Row = Mapping[str, str]
"""A row's texts by the heading of their column."""

LONGEST_SHOWN = 9
"""A table of more rows is folded."""


def table_of(name: str, rows: Iterable[Row]) -> Table:
    """A table with the headings of all rows; a text that a row lacks is empty."""
    rows = list(rows)
    heading = list(dict.fromkeys(column for row in rows for column in row)) or [MISSING]
    return name, [heading, *([row.get(column, "") for column in heading] for row in rows)]


def cell_text(cell: Cell) -> str:
    """``0.9775 / 0.9773``, with standard deviations and n where there are several seeds."""
    num = len(cell.trainings)
    if not num:
        return MISSING
    return " / ".join(str(score or MISSING) for score in cell.scores) + (f" (n = {num})" if num > 1 else "")


def source_text(cell: Cell) -> str:
    """The source's accuracy and macro-F1."""
    return "none" if cell.source is None else "{:.4f} / {:.4f}".format(*cell.source)


def difference_text(cell: Cell) -> str:
    """Ours minus the source's accuracy and macro-F1, with true minus signs."""
    if cell.source is None:
        return "none"
    if not len(cell.trainings):
        return MISSING
    return " / ".join(MISSING if one is None else signed(one) for one in cell.differences)


def tables(grid: Grid) -> list[Table]:
    """The tables of a grid: ours, and where the source has figures, the source's and the differences."""
    shown = [(grid.title, cell_text)]
    if grid.has_source:
        shown += [("The source, one run each", source_text), ("Ours minus the source", difference_text)]
    return [
        table_of(
            name,
            (
                {"#": str(number), "experiment": title(one)}
                | {f"{place} {cell.variant}": text(cell) for place, cell in enumerate(grid.row(one), 1)}
                for number, one in enumerate(grid.experiments, 1)
            ),
        )
        for name, text in shown
    ]


def markdown(grid: Grid) -> str:
    """The grid as Markdown, with its settings."""
    settings = ", ".join(f"{name} {setting_text(value)}" for name, value in grid.settings.items())
    return "\n\n".join(map(markdown_table, tables(grid))) + f"\n\nSettings: {markdown_text(settings)}.\n"


def markdown_table(table: Table) -> str:
    """A table as Markdown, under its title; a long one is folded."""
    name, (heading, *rows) = table
    lines = [_markdown_row(heading), _markdown_row(["---"] * len(heading)), *map(_markdown_row, rows)]
    if len(rows) <= LONGEST_SHOWN:
        return "\n".join([f"**{markdown_text(name)}**", "", *lines])
    summary = f"<summary>{html.escape(name)} ({len(rows)} rows)</summary>"
    return "\n".join([f"<details>{summary}", "", *lines, "", "</details>"])


def _markdown_row(texts: Iterable[str]) -> str:
    return "| " + " | ".join(markdown_text(text).replace("|", "\\|") for text in texts) + " |"


def markdown_text(text: str) -> str:
    """Text on one line and without HTML tags."""
    return " ".join(text.split()).replace("<", "&lt;")


def listing(grid: Grid) -> str:
    """The mean test accuracies as a Markdown list: MLflow's page of an experiment shows tables as one line."""
    lines = []
    for experiment in grid.experiments:
        cells = [grid.cells[*experiment, variant] for variant in grid.variants]
        means = (f"{cell.variant} {cell.scores[0].mean:.4f}" for cell in cells if cell.scores[0] is not None)
        lines.append(f"- {markdown_text(', '.join(experiment))}: {markdown_text(', '.join(means)) or 'nothing yet'}")
    return "\n".join([f"**{markdown_text(grid.title.replace(' / macro-F1', ''))}**", "", *lines]) + "\n"


def summary_metrics(grid: Grid) -> dict[str, float]:
    """The grid's figures as metrics of a run, by which MLflow compares grids.

    ``mean_accuracy/EXPERIMENT-VARIANT``, and for each other variant ``difference_from_scratch/EXPERIMENT-VARIANT``, the
    mean over the seeds that both have.
    """
    found = {}
    for cell in grid.cells.values():
        name, scratch = "-".join((*cell.experiment, cell.variant)), grid.cells[*cell.experiment, "scratch"]
        if cell.scores[0] is not None:
            found[f"mean_accuracy/{name}"] = cell.scores[0].mean
        first_S, second_S = paired(cell.trainings, scratch.trainings)
        if cell is not scratch and len(first_S):
            found[f"difference_from_scratch/{name}"] = float((first_S - second_S).mean())
    return found


def rows(grid: Grid) -> list[dict[str, Any]]:
    """One flat row for each cell; what is missing is None."""
    return [_flat(cell) for cell in grid.cells.values()]


def _flat(cell: Cell) -> dict[str, Any]:
    (accuracy, macro_f1), (accuracy_difference, macro_f1_difference) = cell.scores, cell.differences
    source_accuracy, source_macro_f1 = cell.source or (None, None)
    return {
        "network": cell.network,
        "augmentation": cell.augmentation,
        "objective": cell.objective,
        "variant": cell.variant,
        "num_seeds": len(cell.trainings),
        "seeds": " ".join(map(str, cell.trainings.index)),
        "accuracy": accuracy and accuracy.mean,
        "accuracy_std": accuracy and accuracy.std,
        "macro_f1": macro_f1 and macro_f1.mean,
        "macro_f1_std": macro_f1 and macro_f1.std,
        "source_accuracy": source_accuracy,
        "source_macro_f1": source_macro_f1,
        "accuracy_minus_source": accuracy_difference,
        "macro_f1_minus_source": macro_f1_difference,
        "run_ids": " ".join(cell.trainings["run_id"].dropna()),
    }


def files(grid: Grid) -> dict[str, bytes]:
    """The grid as files, by name: Markdown, CSV, JSON and a figure."""
    content = {"title": grid.title, "dataset": grid.dataset, "settings": dict(grid.settings), "cells": rows(grid)}
    return {
        "grid.md": markdown(grid).encode(),
        "grid.csv": pd.DataFrame(rows(grid)).to_csv(index=False).encode(),
        "grid.json": (json.dumps(content, indent=2) + "\n").encode(),
        "grid.png": figures.png(figure(grid)),
    }


def figure(grid: Grid) -> Figure:
    """Every seed's test accuracy by experiment, beside the source's."""
    return figures.grid_accuracy(
        grid.title.replace("Test accuracy / macro-F1", "Test accuracy"),
        {
            "\n".join(experiment): {cell.variant: values_of(cell.trainings).tolist() for cell in grid.row(experiment)}
            for experiment in grid.experiments
        },
        {
            "\n".join(experiment): {cell.variant: cell.source[0] for cell in grid.row(experiment) if cell.source}
            for experiment in grid.experiments
        },
    )
