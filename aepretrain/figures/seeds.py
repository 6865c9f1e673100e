"""Figures over seeds: every training, means with intervals, and differences."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

from aepretrain.figures.style import COLOURS, DIFFERENCE, INK, PALE, colour_of, new_figure

IN_A_ROW = 4
"""How many panels stand side by side."""

if TYPE_CHECKING:  # SciPy takes a second to import, which those who draw a training's own figures do not need
    from aepretrain.stats import Estimate

    OfExperiments = Mapping[str, Mapping[str, Mapping[int, Estimate]]]
    """By experiment, variant and a number."""


def grid_accuracy(
    title: str,
    accuracies: Mapping[str, Mapping[str, Sequence[float]]],
    source: Mapping[str, Mapping[str, float]],
) -> Figure:
    """Test accuracy by experiment and variant: a dot a seed, their mean's interval, a hollow mark for the source.

    `accuracies` maps experiment and variant to one accuracy a seed, `source` to one number. The frozen variant has a
    panel of its own, because its accuracies are far below the others. Plugins' variants are in the other panel.
    """
    further = [name for name in dict.fromkeys(one for of in accuracies.values() for one in of) if name not in COLOURS]
    width = 8.2 * max(1, len(accuracies) / 4)  # so that the names of experiments do not meet
    figure = Figure(figsize=(width, 4.6), layout="constrained")
    figure.suptitle(title, color=INK, parse_math=False)
    panels = figure.subplots(1, 2, width_ratios=(1, 2))
    for axes, variants in zip(panels, (("frozen",), ("finetune", "scratch", *further)), strict=True):
        for index, variant in enumerate(variants):
            shift = (index - (len(variants) - 1) / 2) * min(0.36, 0.8 / len(variants))
            for place, experiment in enumerate(accuracies):
                _draw_cell(axes, place + shift, variant, accuracies[experiment][variant])
                if variant in source[experiment]:
                    axes.plot(
                        place + shift + 0.16, source[experiment][variant], "D", ms=5, mfc="none", mec=colour_of(variant)
                    )
            axes.plot([], [], "o", color=colour_of(variant), label=variant)
        if any(source.values()):
            axes.plot([], [], "D", ms=5, mfc="none", mec=INK, label="source, one run")
        axes.set_xticks(range(len(accuracies)), list(accuracies), parse_math=False)
        axes.set_xlim(-0.5, len(accuracies) - 0.5)
        axes.grid(axis="y", color="#dddddd", lw=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3)
    panels[0].set_ylabel("test accuracy")
    return figure


def _draw_cell(axes: Axes, place: float, variant: str, accuracies: Sequence[float]) -> None:
    """The seeds as dots, side by side in their order; right of them the mean with its 95 % interval."""
    from aepretrain.stats import mean_interval

    if not accuracies:
        axes.annotate("missing", (place, 0.5), xycoords=("data", "axes fraction"), rotation=90, color=PALE, ha="center")
        return
    colour, num = colour_of(variant), len(accuracies)
    spread = np.linspace(-0.05, 0.05, num) if num > 1 else np.zeros(1)
    axes.plot(place - 0.05 + spread, accuracies, "o", ms=4, alpha=0.6, color=colour, mec="none")
    if num > 1:
        mean = mean_interval(np.array(accuracies), 0.95)
        axes.plot([place + 0.05] * 2, [mean.low, mean.high], color=colour, lw=1.5)
        axes.plot([place + 0.025, place + 0.075], [mean.value] * 2, color=colour, lw=2.5)


def accuracies(
    title: str, of_experiments: Mapping[str, Mapping[str, Sequence[float]]], names: Mapping[str, str]
) -> Figure:
    """Test accuracy by experiment and variant: a dot for each seed, a bar for their mean with its 95 % interval.

    `of_experiments` maps experiment and variant to one accuracy for each seed, `names` variants to other words.
    """
    figure, axes = new_figure(title, 8.2, 4.2)
    for place, of_variants in enumerate(of_experiments.values()):
        for index, (variant, of_seeds) in enumerate(of_variants.items()):
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


def curves_and_differences(
    curves: "OfExperiments",
    differences: "Mapping[str, Mapping[int, Estimate]]",
    negligible: float,
    names: Mapping[str, str],
    x_label: str,
    *,
    in_decades: bool,
) -> Figure:
    """Test accuracy against a number above, finetune − scratch below, a block of two panels for each experiment.

    `curves` maps experiment, variant and the number to a mean accuracy with its interval, `differences` experiment and
    number to a mean difference; `names` maps variants to what they are called. The numbers' axis is logarithmic where
    they are `in_decades`.
    """
    num_columns, num_blocks = min(IN_A_ROW, len(curves)), -(-len(curves) // IN_A_ROW)
    figure = Figure(figsize=(_width_in(num_columns), 5.2 * num_blocks), layout="constrained")
    panels = figure.subplots(2 * num_blocks, num_columns, squeeze=False, height_ratios=(3, 2) * num_blocks)
    for place, (experiment, of_variants) in enumerate(curves.items()):
        upper, lower = (panels[2 * (place // IN_A_ROW) + part, place % IN_A_ROW] for part in (0, 1))
        for index, (variant, estimates) in enumerate(of_variants.items()):
            shift = index - (len(of_variants) - 1) / 2
            _draw_estimates(upper, estimates, colour_of(variant), names.get(variant, variant), shift, in_decades)
        lower.axhspan(-100 * negligible, 100 * negligible, color="#e8e8e8", lw=0)
        lower.axhline(0, color=PALE, lw=0.8)
        in_points = {
            num: replace(one, value=100 * one.value, low=100 * one.low, high=100 * one.high)
            for num, one in differences[experiment].items()
        }
        _draw_estimates(lower, in_points, DIFFERENCE, "finetune − scratch", 0, in_decades)
        numbers = sorted({num for estimates in of_variants.values() for num in estimates})
        lower.sharex(upper)
        upper.tick_params(labelbottom=False)
        for axes in (upper, lower):
            axes.set_xscale("log" if in_decades else "linear")
            axes.set_xticks(numbers, [f"{num:,}" for num in numbers], rotation=45 if in_decades else 0)
            axes.xaxis.set_minor_locator(NullLocator())
            axes.spines[["top", "right"]].set_visible(False)
        upper.set_ylabel("test accuracy")
        upper.set_title(experiment, parse_math=False)
        upper.legend(frameon=False)
        lower.set(ylabel="finetune − scratch\n(percentage points)", xlabel=x_label)
    for axes in panels[-2:, 1 + (len(curves) - 1) % IN_A_ROW :].flat if len(curves) > IN_A_ROW else ():
        axes.set_visible(False)
    return figure


def curves(of_experiments: "OfExperiments", x_label: str, y_label: str) -> Figure:
    """A mean with its interval against a number, by variant, a panel for each experiment."""
    figure, panels = _panels(len(of_experiments), 3.3)
    for axes, (experiment, of_variants) in zip(panels, of_experiments.items(), strict=True):
        for index, (variant, estimates) in enumerate(of_variants.items()):
            shift = index - (len(of_variants) - 1) / 2
            _draw_estimates(axes, estimates, colour_of(variant), variant, shift, in_decades=False)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.set_title(experiment, parse_math=False)
        axes.legend(frameon=False)
    return figure


def _width_in(num_columns: int) -> float:
    return 0.6 + (4.1 if num_columns < 3 else 2.9) * num_columns


def _panels(num: int, height_in: float) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels of this height, `IN_A_ROW` side by side."""
    num_columns, num_rows = min(IN_A_ROW, num), -(-num // IN_A_ROW)
    figure = Figure(figsize=(_width_in(num_columns), height_in * num_rows), layout="constrained")
    panels = list(figure.subplots(num_rows, num_columns, squeeze=False).flat)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[num:]:
        axes.set_visible(False)
    return figure, panels[:num]


LAYERS = "#333388"
"""Of the last layer; earlier ones are paler. No variant has it."""


def similarities(of_experiments: Mapping[str, Mapping[str, Sequence[Sequence[float]]]], reference: str) -> Figure:
    """CKA of pairs of encoders by layer, a panel for each experiment and a row for each pair: a dot for each seed.

    `of_experiments` maps experiment and pair to one value a seed for each layer. The mean of the pair `reference`
    stands in each layer as a line behind all.
    """
    figure, panels = _panels(len(of_experiments), 3.4)
    for axes, (experiment, of_pairs) in zip(panels, of_experiments.items(), strict=True):
        num_layers = max(map(len, of_pairs.values()))
        shades = np.linspace(0.55 if num_layers > 1 else 0, 0, num_layers)
        colours = [tuple(np.array(to_rgb(LAYERS)) * (1 - shade) + shade) for shade in shades]
        for layer, colour in enumerate(colours):
            axes.axvline(float(np.mean(of_pairs[reference][layer])), color=colour, lw=1, ls="--", zorder=0)
            for place, layers in enumerate(of_pairs.values()):
                height = place + (layer - (num_layers - 1) / 2) * min(0.24, 0.8 / num_layers)
                axes.plot(layers[layer], [height] * len(layers[layer]), "o", ms=4, alpha=0.6, color=colour, mec="none")
                axes.plot([float(np.mean(layers[layer]))] * 2, [height - 0.1, height + 0.1], color=colour, lw=2)
            axes.plot([], [], "o", color=colour, label=f"layer {layer + 1}")
        axes.set_yticks(range(len(of_pairs)), list(of_pairs) if axes in panels[::IN_A_ROW] else [], parse_math=False)
        axes.set_ylim(len(of_pairs) - 0.5, -0.5)
        axes.set_xlabel("CKA")
        axes.set_title(experiment, parse_math=False)
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=num_layers, fontsize=8)
    return figure


def _draw_estimates(
    axes: Axes, of_numbers: "Mapping[int, Estimate]", colour: str, name: str, shift: float, in_decades: bool
) -> None:
    """Means as a line over the numbers, with their intervals where several seeds give one; moved sideways by a bit."""
    numbers, estimates = np.array(list(of_numbers), dtype=float), list(of_numbers.values())
    places = numbers * 1.07**shift if in_decades else numbers + 0.6 * shift
    values = [one.value for one in estimates]
    ends = np.abs([(one.value - one.low, one.high - one.value) for one in estimates]).reshape(-1, 2).T
    ends = np.where(np.isfinite(ends), ends, 0)
    axes.errorbar(places, values, ends, fmt="o-", ms=3.5, lw=1.2, color=colour, capsize=2, label=name)


def paired_differences(
    title: str,
    differences: Mapping[str, NDArray[np.float64]],
    means: "Mapping[str, Estimate]",
    negligible: float,
    source: Mapping[str, float],
    first: str = "finetune",
) -> Figure:
    """An estimation plot (Ho et al. 2019): each seed's difference as a dot, its mean with the interval beside them.

    Differences are shares of the test images, shown in percentage points, one row for each experiment. `first` names
    the first side.
    """
    figure, axes = new_figure(title, 8.2, 1.2 + 0.95 * len(differences))
    axes.axvspan(-100 * negligible, 100 * negligible, color="#e8e8e8", lw=0, label="negligible")
    axes.axvline(0, color=PALE, lw=0.8)
    for place, (experiment, differences_S) in enumerate(differences.items()):
        spread = np.linspace(-0.12, 0.12, len(differences_S)) if len(differences_S) > 1 else np.zeros(1)
        axes.plot(100 * differences_S, place - 0.18 + spread, "o", ms=4, alpha=0.6, color=DIFFERENCE, mec="none")
        mean = means[experiment]
        if np.isfinite(mean.low):
            axes.plot([100 * mean.low, 100 * mean.high], [place + 0.12] * 2, color=INK, lw=2)
        axes.plot(100 * mean.value, place + 0.12, "s", ms=6, color=INK)
        if experiment in source:
            axes.plot(100 * source[experiment], place + 0.32, "D", ms=6, mfc="none", mec=INK, mew=1.5)
    axes.plot([], [], "o", ms=4, color=DIFFERENCE, label="one seed")
    axes.plot([], [], "s-", color=INK, label="mean, 95 % interval")
    if source:
        axes.plot([], [], "D", mfc="none", mec=INK, label="source, one run")
    labels = [f"{experiment}\nn = {len(differences_S)}" for experiment, differences_S in differences.items()]
    axes.set_yticks(range(len(differences)), labels, parse_math=False)
    axes.set_ylim(len(differences) - 0.5, -0.5)
    axes.set_xlabel(f"difference of test accuracies (percentage points; right: {first} is better)", parse_math=False)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.4, -0.11 - 0.16 / len(differences)), ncols=4)
    return figure


def learning_curves(losses: Mapping[str, Mapping[str, Sequence[Sequence[float]]]]) -> Figure:
    """Validation loss by epoch, a panel for each experiment: the median over seeds and the middle half as a band.

    `losses` maps experiment and variant to each seed's losses. An epoch's median is that of the seeds still training;
    a curve ends where fewer than half of them are.
    """
    figure, panels = _panels(len(losses), 3.3)
    for axes, (experiment, of_variants) in zip(panels, losses.items(), strict=True):
        for variant, of_seeds in of_variants.items():
            if of_seeds:
                _draw_band(axes, variant, of_seeds)
        if not any(of_variants.values()):
            axes.annotate("missing", (0.5, 0.5), xycoords="axes fraction", color=PALE, ha="center")
        axes.set(xlabel="epoch", ylabel="validation loss (nats)", yscale="log")
        axes.set_title(experiment, parse_math=False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(axis="y", color="#dddddd", lw=0.6)
        if any(of_variants.values()):
            axes.legend(frameon=False)
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
