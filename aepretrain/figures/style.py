"""Colours and frame of all figures, and their conversion to PNG."""

import io
import zlib

from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, PALE = "#222222", "#999999"
COLOURS = {
    "pretrain": "#CC79A7",
    "frozen": "#E69F00",
    "finetune": "#0072B2",
    "scratch": "#009E73",
    "random": "#56B4E9",
    "pixels": "#D55E00",
    "pca": INK,
}

DOTS_PER_INCH = 150

DIFFERENCE = "#555555"
"""Colour of differences between two variants."""


def colour_of(variant: str) -> str:
    """The colour of a variant. A plugin's variant always has the same of matplotlib's ten colours."""
    return COLOURS.get(variant, f"C{zlib.crc32(variant.encode()) % 10}")


def png(figure: Figure) -> bytes:
    """The figure as a PNG, at `DOTS_PER_INCH`."""
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=DOTS_PER_INCH)
    return image.getvalue()


def new_figure(title: str, width_in: float, height_in: float) -> tuple[Figure, Axes]:
    """A figure of one plain frame under a title."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, color=INK, parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
