"""Differences of two arms over many conditions: the map, forest plots, and diagnostics of encoders."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from aepretrain.figures.style import INK, PALE, colour_of

if TYPE_CHECKING:  # see `figures.seeds`
    from aepretrain.stats import Estimate

OBJECTIVES = {
    "reconstruct": ("#555555", "o"),
    "pixel-mask": ("#D55E00", "s"),
    "patch-mask": ("#0072B2", "^"),
    "gaussian-noise": ("#CC79A7", "D"),
}
"""Colour and marker of each objective."""

SERIES = (("#222222", "o"), ("#D55E00", "^"), ("#0072B2", "v"), ("#009E73", "s"))
"""Colours and markers of the series of a forest plot, in their order."""

BAND = "#e8e8e8"


@dataclass(frozen=True)
class Point:
    """A mean difference with its interval, as a share of the images."""

    estimate: "Estimate"
    is_filled: bool = True
    """Whether the verdict is better or worse."""


def objective_style(objective: str) -> tuple[str, str]:
    """Colour and marker of an objective. A plugin's objective always has the same."""
    return OBJECTIVES.get(objective, (to_hex(f"C{zlib.crc32(objective.encode()) % 10}"), "P"))


def effect_map(
    title: str,
    panels: Mapping[str, Mapping[str, Mapping[float, Point]]],
    ticks: Mapping[float, str],
    negligible: Mapping[str, float],
) -> Figure:
    """Differences in percentage points against the number of labels, a panel for each title, a line for each objective.

    `panels` maps a panel's title, an objective and a place on the logarithmic axis to a point; `ticks` names places.
    `negligible` has each panel's smallest effect that matters, where it is known.
    Points are moved sideways. A marker is filled where the verdict is better or worse.
    """
    figure, all_axes = _grid_of_panels(title, list(panels), 3.1)
    objectives = list(dict.fromkeys(name for of_panel in panels.values() for name in of_panel))
    for axes, (name, of_panel) in zip(all_axes, panels.items(), strict=True):
        if name in negligible:
            axes.axhspan(-100 * negligible[name], 100 * negligible[name], color=BAND, lw=0, zorder=0)
        axes.axhline(0, color=PALE, lw=0.8, zorder=1)
        for objective, points in of_panel.items():
            shift = objectives.index(objective) - (len(objectives) - 1) / 2
            moved = {place * 1.2**shift: point for place, point in points.items()}
            _draw_line(axes, moved, *objective_style(objective))
        if not any(of_panel.values()):
            axes.annotate("missing", (0.5, 0.6), xycoords="axes fraction", color=PALE, ha="center")
        axes.set_xscale("log")
        axes.set_xlim(min(ticks) / 1.8, max(ticks) * 1.8)
        axes.set_xticks(list(ticks), list(ticks.values()))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("labels")
    for axes in all_axes[::2]:
        axes.set_ylabel("percentage points")
    handles = [
        all_axes[0].plot([], [], "-", marker=marker, color=colour, label=name)[0]
        for name in objectives
        for colour, marker in [objective_style(name)]
    ]
    handles.append(all_axes[0].plot([], [], "o", color=INK, label="better or worse")[0])
    handles.append(all_axes[0].plot([], [], "o", color=INK, mfc="white", label="other verdicts")[0])
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
    return figure


def _draw_line(axes: Axes, points: Mapping[float, Point], colour: str, marker: str) -> None:
    axes.plot(
        list(points), [100 * one.estimate.value for one in points.values()], color=colour, lw=1, alpha=0.6, zorder=2
    )
    for place, one in points.items():
        low, high = 100 * one.estimate.low, 100 * one.estimate.high
        if np.isfinite(low):
            axes.plot([place, place], [low, high], color=colour, lw=1.6, zorder=3)
        face = colour if one.is_filled else "white"
        axes.plot(place, 100 * one.estimate.value, marker, ms=6, color=colour, mfc=face, mew=1.4, zorder=4)


def forest(
    title: str,
    panels: Mapping[str, Mapping[str, Mapping[str, Point]]],
    series: Sequence[str],
    negligible: Mapping[str, float],
) -> Figure:
    """Differences in percentage points as rows, a panel for each title: a row for each condition, a marker each series.

    `panels` maps a panel's title, a row and a series to a point; a series that is missing is left out. `negligible` has
    each panel's smallest effect that matters, where it is known.
    """
    num_rows = max(map(len, panels.values()))
    height_in = 1.0 + num_rows * (0.22 + 0.09 * len(series))
    figure, all_axes = _grid_of_panels(title, list(panels), height_in)
    are_alike = len({tuple(rows) for rows in panels.values()}) == 1
    for index, (axes, (name, rows)) in enumerate(zip(all_axes, panels.items(), strict=True)):
        if name in negligible:
            axes.axvspan(-100 * negligible[name], 100 * negligible[name], color=BAND, lw=0, zorder=0)
        axes.axvline(0, color=PALE, lw=0.8, zorder=1)
        for place, points in enumerate(rows.values()):
            if place % 2:
                axes.axhspan(place - 0.5, place + 0.5, color="#f7f7f7", lw=0, zorder=-1)
            if not points:
                _call_missing(axes, place)
            for number, one in enumerate(series):
                if one in points:
                    height = place + (number - (len(series) - 1) / 2) * 0.8 / max(len(series), 2)
                    _draw_bar(axes, height, points[one], *SERIES[number])
        labels = [""] * len(rows) if index % 2 and are_alike else list(rows)
        axes.set_yticks(range(len(rows)), labels, parse_math=False)
        axes.set_ylim(num_rows - 0.5, -0.5)
        axes.set_xlabel("percentage points")
        if not any(rows.values()):
            axes.set_xticks([])  # those of an empty panel stand so close that their numbers meet
    if len(series) > 1:
        handles = [
            all_axes[0].plot([], [], marker, ms=5, color=colour, label=name)[0]
            for name, (colour, marker) in zip(series, SERIES, strict=False)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _call_missing(axes: Axes, place: float) -> None:
    axes.annotate(
        "missing", (0.98, place), xycoords=("axes fraction", "data"), color=PALE, ha="right", va="center", fontsize=9
    )


def _draw_bar(axes: Axes, height: float, point: Point, colour: str, marker: str) -> None:
    low, high = 100 * point.estimate.low, 100 * point.estimate.high
    if np.isfinite(low):
        axes.plot([low, high], [height, height], color=colour, lw=1.4, zorder=2)
    face = colour if point.is_filled else "white"
    axes.plot(100 * point.estimate.value, height, marker, ms=5, color=colour, mfc=face, mew=1.2, zorder=3)


def _grid_of_panels(title: str, titles: Sequence[str], height_in: float) -> tuple[Figure, list[Axes]]:
    """A figure with a title, and panels of this height with theirs, two in a row where there are several."""
    num_columns = min(2, len(titles))
    num_rows = -(-len(titles) // 2)
    figure = Figure(figsize=(9.2 if num_columns == 2 else 6.2, height_in * num_rows + 0.7), layout="constrained")
    figure.suptitle(title, color=INK, parse_math=False)
    panels = list(figure.subplots(num_rows, num_columns, squeeze=False).flat)
    for axes, name in zip(panels, titles, strict=False):
        axes.set_title(name, color=INK, parse_math=False)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(titles) :]:
        axes.set_visible(False)
    return figure, panels[: len(titles)]


@dataclass(frozen=True)
class Encoders:
    """Trained encoders of one kind, as a row of the diagnostics."""

    title: str
    colour: str
    is_filled: bool
    figures: Mapping[str, Sequence[float]]
    """By figure, one value a seed."""


def objective_encoders(
    title: str, objective: str, figures: Mapping[str, Sequence[float]], *, is_filled: bool
) -> Encoders:
    """Encoders that were pretrained with an objective, in its colour."""
    return Encoders(title, objective_style(objective)[0], is_filled, figures)


def scratch_encoders(title: str, figures: Mapping[str, Sequence[float]]) -> Encoders:
    """Encoders from random weights, in scratch's colour."""
    return Encoders(title, colour_of("scratch"), False, figures)


def encoder_diagnostics(panels: Mapping[str, Sequence[Encoders]], names: Mapping[str, str]) -> Figure:
    """Small multiples: a row of panels for each title, a column for each figure in `names`; a dot a seed, a bar a mean.

    `names` maps figures to the labels of their axes.
    """
    num_kinds = max(map(len, panels.values()))
    figure = Figure(figsize=(9.2, (0.8 + 0.2 * num_kinds) * len(panels) + 0.3), layout="constrained")
    all_axes = figure.subplots(len(panels), len(names), squeeze=False, sharex="col")
    for row, (title, kinds) in zip(all_axes, panels.items(), strict=True):
        for axes, name in zip(row, names, strict=True):
            for place, kind in enumerate(kinds):
                values = kind.figures.get(name, ())
                if not len(values):
                    _call_missing(axes, place)
                    continue
                spread = np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else np.zeros(1)
                face = kind.colour if kind.is_filled else "none"
                axes.plot(values, place + spread, "o", ms=3.5, alpha=0.7, color=kind.colour, mfc=face, mew=0.9)
                axes.plot([float(np.mean(values))] * 2, [place - 0.38, place + 0.38], color=kind.colour, lw=2)
            labels = [kind.title if axes is row[0] else "" for kind in kinds]
            axes.set_yticks(range(len(kinds)), labels, parse_math=False)
            axes.set_ylim(len(kinds) - 0.5, -0.5)
            axes.grid(axis="x", color="#dddddd", lw=0.6)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
        row[0].set_title(title, loc="left", color=INK, parse_math=False)
    for axes, name in zip(all_axes[-1], names.values(), strict=True):
        axes.set_xlabel(name)
    return figure
