"""The figures of many trainings: every seed of every variant, their means, intervals and differences."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from aepretrain.figures.style import COLOURS, INK, PALE, colour_of, new_figure

if TYPE_CHECKING:  # SciPy takes a second to import, which those who draw a training's own figures do not need
    from aepretrain.stats import Estimate


def grid_accuracy(
    title: str,
    accuracies: Mapping[str, Mapping[str, Sequence[float]]],
    published: Mapping[str, Mapping[str, float]],
) -> Figure:
    """Test accuracy by experiment and variant: a dot for each seed, a bar for their mean, a hollow mark as published.

    `accuracies` maps experiment and variant to one accuracy for each seed, `published` likewise to one number. The
    frozen variants have a panel of their own, for on one axis they would press the others together; users' variants
    stand beside those that are trained whole.
    """
    further = [name for name in dict.fromkeys(one for of in accuracies.values() for one in of) if name not in COLOURS]
    figure = Figure(figsize=(8.2, 4.6), layout="constrained")
    figure.suptitle(title, color=INK, parse_math=False)
    panels = figure.subplots(1, 2, width_ratios=(1, 2))
    for axes, variants in zip(panels, (("frozen",), ("finetune", "scratch", *further)), strict=True):
        for index, variant in enumerate(variants):
            shift = (index - (len(variants) - 1) / 2) * min(0.36, 0.8 / len(variants))
            for place, experiment in enumerate(accuracies):
                _draw_cell(axes, place + shift, variant, accuracies[experiment][variant])
                if variant in published[experiment]:
                    source = published[experiment][variant]
                    axes.plot(place + shift + 0.13, source, "D", ms=5, mfc="none", mec=colour_of(variant))
            axes.plot([], [], "o", color=colour_of(variant), label=variant)
        if any(published.values()):
            axes.plot([], [], "D", ms=5, mfc="none", mec=INK, label="published")
        axes.set_xticks(range(len(accuracies)), list(accuracies), parse_math=False)
        axes.set_xlim(-0.5, len(accuracies) - 0.5)
        axes.grid(axis="y", color="#dddddd", lw=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3)
    panels[0].set_ylabel("test accuracy")
    return figure


def _draw_cell(axes: Axes, place: float, variant: str, accuracies: Sequence[float]) -> None:
    if not accuracies:
        axes.annotate("missing", (place, 0.5), xycoords=("data", "axes fraction"), rotation=90, color=PALE, ha="center")
        return
    mean = float(np.mean(accuracies))
    if len(accuracies) > 1:
        axes.plot([place - 0.08, place + 0.08], [mean, mean], color=colour_of(variant), lw=2)
    axes.plot([place] * len(accuracies), accuracies, "o", ms=5, alpha=0.7, color=colour_of(variant), mec="none")


def accuracies(
    title: str, of_experiments: Mapping[str, Mapping[str, Sequence[float]]], names: Mapping[str, str]
) -> Figure:
    """Test accuracy by experiment and variant: a dot for each seed, a bar for their mean.

    `of_experiments` maps experiment and variant to one accuracy for each seed, `names` variants to other words.
    """
    figure, axes = new_figure(title, 8.2, 4.2)
    for place, of_variants in enumerate(of_experiments.values()):
        for index, (variant, of_seeds) in enumerate(of_variants.items()):
            if of_seeds:
                _draw_cell(axes, place + (index - (len(of_variants) - 1) / 2) * 0.2, variant, of_seeds)
    for variant in dict.fromkeys(variant for of_variants in of_experiments.values() for variant in of_variants):
        axes.plot([], [], "o", color=colour_of(variant), label=names.get(variant, variant))
    axes.set_xticks(range(len(of_experiments)), list(of_experiments), parse_math=False)
    axes.set_xlim(-0.5, len(of_experiments) - 0.5)
    axes.set_ylabel("test accuracy")
    axes.grid(axis="y", color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=4)
    return figure


def label_curves(
    curves: "Mapping[str, Mapping[str, Mapping[int, Estimate]]]",
    differences: "Mapping[str, Mapping[int, Estimate]]",
    negligible: float,
    names: Mapping[str, str],
) -> Figure:
    """Test accuracy against labels above, finetune − scratch below, a column for each experiment.

    `curves` maps experiment, variant and the number of labelled training images to a mean accuracy with its interval,
    `differences` likewise to a mean difference; `names` maps variants to what they are called.
    """
    figure = Figure(figsize=(max(4.4, 4.1 * len(curves)), 6.4), layout="constrained")
    grid = figure.subplots(2, len(curves), squeeze=False, sharex="col", height_ratios=(3, 2))
    for (upper, lower), (experiment, of_variants) in zip(grid.T, curves.items(), strict=True):
        for variant, of_labels in of_variants.items():
            _draw_estimates(upper, of_labels, colour_of(variant), names.get(variant, variant))
        lower.axhspan(-100 * negligible, 100 * negligible, color="#e8e8e8", lw=0)
        lower.axhline(0, color=PALE, lw=0.8)
        in_points = {
            num: replace(one, value=100 * one.value, low=100 * one.low, high=100 * one.high)
            for num, one in differences[experiment].items()
        }
        _draw_estimates(lower, in_points, COLOURS["finetune"], "finetune − scratch")
        upper.set(xscale="log", ylabel="test accuracy")
        upper.set_title(experiment, parse_math=False)
        lower.set(
            ylabel="difference (points)", xlabel="labels to train on\n(a fifth as many, at least 10, to validate)"
        )
        for axes in (upper, lower):
            axes.spines[["top", "right"]].set_visible(False)
        upper.legend(frameon=False)
    return figure


def curves(of_experiments: "Mapping[str, Mapping[str, Mapping[int, Estimate]]]", x_label: str, y_label: str) -> Figure:
    """A mean with its interval against a number, by variant, a panel for each experiment."""
    num_rows = (len(of_experiments) + 1) // 2
    figure = Figure(figsize=(8.2, 3.3 * num_rows), layout="constrained")
    panels = list(figure.subplots(num_rows, 2, squeeze=False).flat)
    for axes, (experiment, of_variants) in zip(panels, of_experiments.items(), strict=False):
        for variant, estimates in of_variants.items():
            _draw_estimates(axes, estimates, colour_of(variant), variant)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.set_title(experiment, parse_math=False)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    for axes in panels[len(of_experiments) :]:
        axes.set_visible(False)
    return figure


PAIR_COLOURS = ("#CC79A7", "#D55E00", "#56B4E9", "#0072B2", "#E69F00", "#009E73", PALE)


def similarities(of_experiments: Mapping[str, Mapping[str, Sequence[Sequence[float]]]]) -> Figure:
    """CKA of pairs of encoders by layer, a panel for each experiment: a dot for each seed, a bar for their mean.

    `of_experiments` maps experiment and pair to one value a seed for each layer.
    """
    num_rows = (len(of_experiments) + 1) // 2
    figure = Figure(figsize=(8.2, 3.0 * num_rows + 0.7), layout="constrained")
    panels = list(figure.subplots(num_rows, 2, squeeze=False).flat)
    for axes, (experiment, of_pairs) in zip(panels, of_experiments.items(), strict=False):
        for index, (layers, colour) in enumerate(zip(of_pairs.values(), PAIR_COLOURS, strict=True)):
            for layer, of_seeds in enumerate(layers, 1):
                place, mean = layer + (index - 3) * 0.12, float(np.mean(of_seeds))
                axes.plot([place] * len(of_seeds), of_seeds, "o", ms=4, alpha=0.6, color=colour, mec="none")
                axes.plot([place - 0.05, place + 0.05], [mean, mean], color=colour, lw=2)
        num_layers = max(map(len, of_pairs.values()))
        axes.set(ylabel="CKA", ylim=(0, 1.04))
        axes.set_title(experiment, parse_math=False)
        axes.set_xticks(range(1, num_layers + 1), [f"layer {layer}" for layer in range(1, num_layers + 1)])
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(of_experiments) :]:
        axes.set_visible(False)
    names = next(iter(of_experiments.values()))
    for name, colour in zip(names, PAIR_COLOURS, strict=True):
        panels[0].plot([], [], "o", color=colour, label=name)
    figure.legend(frameon=False, loc="outside lower center", ncols=3)
    return figure


def _draw_estimates(axes: Axes, of_labels: "Mapping[int, Estimate]", colour: str, name: str) -> None:
    """Means as a line over the numbers of labels, their intervals as a band, where several seeds give one."""
    numbers, estimates = list(of_labels), list(of_labels.values())
    axes.plot(numbers, [one.value for one in estimates], "o-", ms=4, color=colour, label=name)
    axes.fill_between(
        numbers, [one.low for one in estimates], [one.high for one in estimates], color=colour, alpha=0.2, lw=0
    )


def paired_differences(
    title: str,
    differences: Mapping[str, NDArray[np.float64]],
    means: "Mapping[str, Estimate]",
    negligible: float,
    published: Mapping[str, float],
) -> Figure:
    """An estimation plot (Ho et al. 2019): each seed's difference as a dot, its mean with the interval beside them.

    Differences are shares of the test images, shown in percentage points, one row for each experiment.
    """
    figure, axes = new_figure(title, 8.2, 1.2 + 0.95 * len(differences))
    axes.axvspan(-100 * negligible, 100 * negligible, color="#e8e8e8", lw=0, label="negligible")
    axes.axvline(0, color=PALE, lw=0.8)
    for place, (experiment, differences_S) in enumerate(differences.items()):
        spread = np.linspace(-0.12, 0.12, len(differences_S)) if len(differences_S) > 1 else np.zeros(1)
        axes.plot(
            100 * differences_S, place - 0.16 + spread, "o", ms=4, alpha=0.6, color=COLOURS["finetune"], mec="none"
        )
        mean = means[experiment]
        if np.isfinite(mean.low):
            axes.plot([100 * mean.low, 100 * mean.high], [place + 0.2] * 2, color=INK, lw=2)
        axes.plot(100 * mean.value, place + 0.2, "s", ms=6, color=INK)
        if experiment in published:
            axes.plot(100 * published[experiment], place + 0.2, "D", ms=6, mfc="none", mec="#D55E00", mew=1.5)
    axes.plot([], [], "o", ms=4, color=COLOURS["finetune"], label="one seed")
    axes.plot([], [], "s-", color=INK, label="mean, 95 % interval")
    if published:
        axes.plot([], [], "D", mfc="none", mec="#D55E00", label="published")
    axes.set_yticks(range(len(differences)), list(differences), parse_math=False)
    axes.set_ylim(len(differences) - 0.5, -0.5)
    axes.set_xlabel("difference of test accuracies (percentage points; right: finetune is better)")
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.4, -0.16 - 0.16 / len(differences)), ncols=4)
    return figure


def learning_curves(losses: Mapping[str, Mapping[str, Sequence[Sequence[float]]]]) -> Figure:
    """Validation loss by epoch, a panel for each experiment: the median over seeds and the middle half as a band.

    `losses` maps experiment and variant to each seed's losses. An epoch's median is that of the seeds still training;
    a curve ends where fewer than half of them are.
    """
    num_rows = (len(losses) + 1) // 2
    figure = Figure(figsize=(8.2, 3.3 * num_rows), layout="constrained")
    panels = list(figure.subplots(num_rows, 2, squeeze=False).flat)
    for axes, (experiment, of_variants) in zip(panels, losses.items(), strict=False):
        for variant, of_seeds in of_variants.items():
            if of_seeds:
                _draw_band(axes, variant, of_seeds)
        if not any(of_variants.values()):
            axes.annotate("missing", (0.5, 0.5), xycoords="axes fraction", color=PALE, ha="center")
        axes.set(xlabel="epoch", ylabel="validation loss", yscale="log")
        axes.set_title(experiment, parse_math=False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        if any(of_variants.values()):
            axes.legend(frameon=False)
    for axes in panels[len(losses) :]:
        axes.set_visible(False)
    return figure


def _draw_band(axes: Axes, variant: str, of_seeds: Sequence[Sequence[float]]) -> None:
    longest = max(map(len, of_seeds))
    losses_SE = np.full((len(of_seeds), longest), np.nan)
    for losses_E, row_E in zip(of_seeds, losses_SE, strict=True):
        row_E[: len(losses_E)] = losses_E
    num_epochs = int(np.count_nonzero(np.count_nonzero(~np.isnan(losses_SE), axis=0) >= len(of_seeds) / 2))
    low_E, median_E, high_E = np.nanquantile(losses_SE[:, :num_epochs], (0.25, 0.5, 0.75), axis=0)
    epochs = np.arange(1, num_epochs + 1)
    axes.fill_between(epochs, low_E, high_E, color=colour_of(variant), alpha=0.25, lw=0)
    axes.plot(epochs, median_E, color=colour_of(variant), label=f"{variant} (n = {len(of_seeds)})")
