"""What figures of many trainings show, read from the drawing itself."""

import itertools
import math

import numpy as np
import pytest
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from aepretrain import figures
from aepretrain.stats import Estimate


def points(drawn: ArrayLike) -> list[list[float]]:
    found: list[list[float]] = np.asarray(drawn, float).tolist()
    return found


def marks(axes: Axes, marker: str) -> list[tuple[float, float]]:
    """Where marks of this kind stand; what stands in the legend alone has no data."""
    lines = [line for line in axes.lines if line.get_marker() == marker]
    return [(x, y) for line in lines for x, y in points(line.get_xydata())]


def test_paired_differences_are_in_points_with_the_sources_as_a_hollow_mark() -> None:
    means = {"a": Estimate(0.002, 0.001, 0.003), "b": Estimate(-0.004, -math.inf, math.inf)}
    differences = {"a": np.array([0.001, 0.003]), "b": np.array([-0.004])}
    figure = figures.paired_differences("of two", differences, means, 0.001, {"a": -0.0005})
    (axes,) = figure.axes
    assert sorted(x for x, _ in marks(axes, "o")) == pytest.approx([-0.4, 0.1, 0.3])
    assert [x for x, _ in marks(axes, "s")] == pytest.approx([0.2, -0.4])
    assert [x for x, _ in marks(axes, "D")] == pytest.approx([-0.05])
    hollow = [line for line in axes.lines if line.get_marker() == "D"]
    assert all(line.get_markerfacecolor() == "none" for line in hollow)
    intervals = [[x for x, _ in points(line.get_xydata())] for line in axes.lines if line.get_marker() == "None"]
    assert pytest.approx([0.1, 0.3]) in intervals, "the interval of a"
    band = axes.patches[0].get_extents().transformed(axes.transData.inverted())
    assert band.intervalx == pytest.approx([-0.1, 0.1]), "differences that are negligible"


def test_a_learning_curve_is_the_median_of_those_still_training_and_ends_where_most_have_stopped() -> None:
    losses = [[1.0, 0.5], [2.0, 0.7, 0.3], [4.0, 0.9, 0.2, 0.1]]
    (axes, *_) = figures.learning_curves({"a": {"scratch": losses}}).axes
    (line,) = axes.lines
    medians = [[1, 2.0], [2, 0.7], [3, 0.25]]
    assert np.array(points(line.get_xydata())) == pytest.approx(np.array(medians)), (
        "one of three goes on to the fourth epoch"
    )
    band = points(axes.collections[0].get_paths()[0].to_polygons()[0])
    assert sorted({y for x, y in band if x == 1}) == pytest.approx([1.5, 3.0]), "quarters of 1, 2 and 4"


def test_the_grid_has_a_dot_for_each_seed_and_the_sources_numbers_as_hollow_marks() -> None:
    accuracies = {"a": {"frozen": [0.9], "finetune": [0.97, 0.98], "scratch": [0.96, 0.95, 0.97]}}
    figure = figures.grid_accuracy("all", accuracies, {"a": {"frozen": 0.91, "scratch": 0.955}})
    frozen, whole = figure.axes
    assert [y for _, y in marks(frozen, "o")] == [0.9]
    assert sorted(y for _, y in marks(whole, "o")) == [0.95, 0.96, 0.97, 0.97, 0.98]
    assert ([y for _, y in marks(frozen, "D")], [y for _, y in marks(whole, "D")]) == ([0.91], [0.955])


def test_names_of_many_experiments_do_not_meet() -> None:
    names = [
        f"{network}\n{augmentation}" for network in ("fc", "conv", "residual") for augmentation in ("none", "erasing")
    ]
    cell: dict[str, list[float]] = {variant: [0.5] for variant in ("frozen", "finetune", "scratch")}
    figure = figures.grid_accuracy("six", dict.fromkeys(names, cell), {name: {} for name in names})
    figure.draw_without_rendering()
    for axes in figure.axes:
        boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
        assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
