"""What is compared, as a picture: the autoencoder, and three ways to a classifier."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from aepretrain.figures.style import INK, PALE, colour_of

WIDTH, HEIGHT = 1.5, 0.62
"""Of a box, in units of which the picture is 10 wide."""

OPEN, LEARNT, FIXED = "#ffffff", "#cfe8f7", "#d9d9d9"
"""Colours of boxes: others; what pretraining has learnt; what keeps its weights."""


def pipeline() -> Figure:
    """The autoencoder above; below it frozen, finetune and scratch, each with its encoder and its head."""
    figure = Figure(figsize=(8.2, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(0, 10.4), ylim=(-0.6, 5.6))
    axes.set_axis_off()
    _row(
        axes,
        5,
        "pretraining,\nwithout labels",
        [("image", OPEN), ("encoder", LEARNT), ("code", OPEN), ("decoder", LEARNT), ("image\nagain", OPEN)],
    )
    axes.annotate(
        "objectives: the image as it is; or the clean image from one that is partly hidden or noisy",
        (2.0, 4.32),
        color=PALE,
        fontsize=9,
    )
    ways = {
        "frozen": ("pretrained\nencoder, fixed", FIXED, "linear head\nlearns"),
        "finetune": ("pretrained\nencoder, learns on", LEARNT, "head\nlearns"),
        "scratch": ("random\nencoder, learns", OPEN, "head\nlearns"),
    }
    for place, (name, (encoder, fill, head)) in enumerate(ways.items()):
        boxes = [("image", OPEN), (encoder, fill), (head, OPEN), ("class", OPEN)]
        _row(axes, 3 - 1.35 * place, name, boxes, colour_of(name))
    return figure


def _row(axes: Axes, height: float, name: str, boxes: list[tuple[str, str]], colour: str = INK) -> None:
    """A name, and boxes with arrows between them."""
    axes.annotate(name, (0, height), color=colour, va="center", fontsize=11, fontweight="bold")
    for place, (text, fill) in enumerate(boxes):
        left = 2.0 + 1.72 * place
        axes.add_patch(
            FancyBboxPatch(
                (left, height - HEIGHT / 2), WIDTH - 0.25, HEIGHT, boxstyle="round,pad=0.08", ec=colour, fc=fill
            )
        )
        axes.annotate(text, (left + (WIDTH - 0.25) / 2, height), color=INK, ha="center", va="center", fontsize=8)
        if place:
            axes.annotate(
                "", (left - 0.08, height), (left - 0.39, height), arrowprops={"arrowstyle": "->", "color": colour}
            )
