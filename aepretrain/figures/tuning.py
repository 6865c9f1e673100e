"""The trials of tuned arms."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter

from aepretrain.figures.style import INK

NUM_COLUMNS = 3
MARKERS = (("o", "#440154"), ("s", "#31688E"), ("^", "#35B779"), ("D", "#E69F00"), ("v", "#D55E00"))
"""Marker and colour of each weight decay, from the smallest on; they repeat where there are more."""

Point = tuple[float, float, float]
"""Learning rate, weight decay and validation loss of a trial."""


def trials(arms: Mapping[str, Sequence[Point]], choices: Mapping[str, Point]) -> Figure:
    """Validation loss against learning rate, a panel for each arm.

    Weight decays have a marker each; a ring is around the choice. Axes of learning rates are the same in all panels,
    axes of losses are not.
    """
    num_columns = min(NUM_COLUMNS, len(arms))
    num_rows = math.ceil(len(arms) / num_columns)
    figure = Figure(figsize=(max(4.2, 2.9 * num_columns), 0.9 + 2.3 * num_rows), layout="constrained")
    panels = list(figure.subplots(num_rows, num_columns, squeeze=False).flat)
    decays = sorted({decay for points in arms.values() for _, decay, _ in points})
    looks = {decay: MARKERS[place % len(MARKERS)] for place, decay in enumerate(decays)}
    rates = [rate for points in arms.values() for rate, _, _ in points]
    for axes, (name, points) in zip(panels, arms.items(), strict=False):
        _draw_arm(axes, points, choices[name], looks)
        axes.set_xlim(min(*rates, 1e-4) / 1.3, max(*rates, 1e-2) * 1.3)
        axes.set_title(name, fontsize=9, parse_math=False)
    for axes in panels[len(arms) :]:
        axes.set_visible(False)
    figure.supxlabel("learning rate", fontsize=9)
    figure.supylabel("lowest validation loss, mean over tuning seeds (nats)", fontsize=9)
    handles = [
        Line2D([], [], ls="", marker=marker, color=colour, label=f"decay {decay:g}")
        for decay, (marker, colour) in looks.items()
    ]
    ring = Line2D([], [], ls="", marker="o", ms=11, mfc="none", mec=INK, mew=1.3, label="choice")
    figure.legend(
        handles=[*handles, ring],
        loc="outside upper center",
        ncols=3 if num_columns == 1 else 6,
        frameon=False,
        fontsize=9,
    )
    return figure


def _draw_arm(axes: Axes, points: Sequence[Point], choice: Point, looks: Mapping[float, tuple[str, str]]) -> None:
    for rate, decay, loss in points:
        marker, colour = looks[decay]
        axes.plot(rate, loss, marker, ms=5.5, color=colour, mec="white", mew=0.5)
    axes.plot(choice[0], choice[2], "o", ms=11, mfc="none", mec=INK, mew=1.3)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([1e-4, 1e-3, 1e-2]))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.margins(y=0.15)
    axes.tick_params(labelsize=8)
    axes.grid(color="#e5e5e5", lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
