"""The figures of one training, from its evidence.

Shapes: N images, C channels, H and W pixels, K classes; in a mosaic R rows and L columns of images.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from aepretrain.figures.style import INK, PALE, new_figure
from aepretrain.records import CodeMaps, EpochResult, Evidence, Predictions, Reconstructions

MOST_NAMED = 20
"""With more classes, a figure has no room for each one's name and counts."""

LONGEST_NAME = 14
"""Longer names of classes are cut in figures."""


def training_figures(title: str, evidence: Evidence, classes: Sequence[str]) -> dict[str, Figure]:
    """The figures of one training by name, those for which it has evidence. `classes` are the names of the classes."""
    drawn = {"loss_curve": loss_curve(f"{title}: loss", evidence.history)} if evidence.history else {}
    if evidence.confusion_KK is not None:
        drawn["confusion_matrix"] = confusion_matrix(f"{title}: test images", evidence.confusion_KK, classes)
    if evidence.reconstructions is not None:
        drawn["reconstructions"] = reconstructions(f"{title}: validation images", evidence.reconstructions)
    if evidence.class_counts is not None:
        drawn["class_distribution"] = class_distribution(
            f"{title}: classes of the split", evidence.class_counts, classes
        )
    if evidence.code_maps is not None:
        drawn["code_maps"] = code_maps(f"{title}: codes of validation images", evidence.code_maps, classes)
    if evidence.filters_CHW is not None:
        drawn["filters"] = filters(f"{title}: filters of the first layer", {"": evidence.filters_CHW})
    return drawn


def loss_curve(title: str, history: Sequence[EpochResult]) -> Figure:
    """Training and validation loss against epochs, the best epoch marked."""
    figure, axes = new_figure(title, 6.4, 4.0)
    epochs = [result.epoch for result in history]
    axes.plot(epochs, [result.train_loss for result in history], "o-", ms=3, color=PALE, label="training")
    axes.plot(epochs, [result.val_loss for result in history], "o-", ms=3, color=INK, label="validation")
    best = min(history, key=lambda result: result.val_loss)
    axes.plot(best.epoch, best.val_loss, "o", ms=9, mfc="none", mec="#D55E00", label=f"best epoch ({best.epoch})")
    axes.set(xlabel="epoch", ylabel="loss")
    axes.set_xlim(0.5, max(epochs) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    return figure


def confusion_matrix(title: str, confusion_KK: NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """Counts of test images by true and predicted class; shades show the share of the true class on a root scale.

    With many classes the shades alone.
    """
    figure, axes = new_figure(title, 6.0, 5.6)
    share_KK = confusion_KK / np.maximum(confusion_KK.sum(axis=1, keepdims=True), 1)
    axes.imshow(np.sqrt(share_KK), cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(confusion_KK):
        if count and len(classes) <= MOST_NAMED:
            colour = "white" if share_KK[row, column] > 0.3 else INK
            axes.text(column, row, f"{count}", ha="center", va="center", color=colour, fontsize=9)
    axes.set(xlabel="predicted class", ylabel="true class")
    _name_classes(axes.xaxis, classes)
    _name_classes(axes.yaxis, classes)
    axes.tick_params(length=0)
    return figure


def _name_classes(axis: Axis, classes: Sequence[str]) -> None:
    """Name the classes along an axis; upright where the names are long. Of many classes only some numbers."""
    if len(classes) > MOST_NAMED:
        axis.set_major_locator(MaxNLocator(integer=True))
        return
    names = [_short(name) for name in classes]
    upright = isinstance(axis, XAxis) and max(map(len, names)) > 2
    axis.set_ticks(range(len(names)), names, rotation=90 if upright else 0, parse_math=False)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def reconstructions(title: str, images: Reconstructions) -> Figure:
    """One column for each image: the original, the network's input if that differs, and its output."""
    rows = {"original": images.original_NCHW, "input": images.seen_NCHW, "reconstruction": images.reconstructed_NCHW}
    if np.array_equal(images.original_NCHW, images.seen_NCHW):
        del rows["input"]
    num, _, height, _ = images.original_NCHW.shape
    figure, axes = new_figure(title, max(0.9 * num + 1.2, 5.0), 0.95 * len(rows) + 0.5)  # wide enough for the title
    gap = max(1, height // 10)
    _mosaic(axes, np.stack(list(rows.values())), 1.0, gap)
    axes.set_yticks([row * (height + gap) + height / 2 for row in range(len(rows))], list(rows))
    return figure


def filters(title: str, rows: Mapping[str, NDArray[np.floating[Any]]]) -> Figure:
    """First-layer filters [L, H, W] of several encoders, a row each; grey is 0, each filter has a scale of its own."""
    num, height, _ = next(iter(rows.values())).shape
    figure, axes = new_figure(title, 0.6 * num + 1.6, 0.62 * len(rows) + 0.5)
    scaled = []
    for row_LHW in rows.values():
        weights_LHW = row_LHW.astype(np.float32)  # twice the largest weight can be beyond float16
        scaled.append(0.5 + weights_LHW / (2 * np.abs(weights_LHW).max(axis=(1, 2), keepdims=True).clip(1e-12)))
    gap = max(1, height // 10)
    _mosaic(axes, np.stack(scaled)[:, :, None], 1.0, gap)
    axes.set_yticks([row * (height + gap) + height / 2 for row in range(len(rows))], list(rows))
    return figure


def _mosaic(axes: Axes, images_RLCHW: NDArray[np.generic], brightest: float, row_gap: int) -> None:
    """Draw images in rows and columns as one image, in pixel coordinates. Separate axes take ten times as long.

    Of images with 3 or 4 channels, the first three are drawn as red, green and blue; of others the first, in grey.
    """
    rows, columns, channels, height, width = images_RLCHW.shape
    drawn = 3 if channels >= 3 else 1
    column_gap = max(1, width // 10)
    gaps = ((0, 0), (0, 0), (0, 0), (0, row_gap), (0, column_gap))
    scaled = images_RLCHW[:, :, :drawn].astype(np.float32) / brightest
    padded = np.pad(scaled, gaps, constant_values=np.nan)  # what is missing is white, like the paper
    mosaic_HWC = padded.transpose(0, 3, 1, 4, 2).reshape(
        rows * (height + row_gap), columns * (width + column_gap), drawn
    )
    axes.imshow(np.nan_to_num(mosaic_HWC, nan=1.0) if drawn == 3 else mosaic_HWC[:, :, 0], cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


CONFUSED = 16
"""Number of wrongly classified images that are shown."""


def confused_images(
    title: str, images_NCHW: NDArray[np.uint8], predictions: Predictions, classes: Sequence[str]
) -> Figure:
    """The wrongly classified test images of highest confidence: true → predicted class, and confidence.

    `images_NCHW` are all test images, pixels from 0 to 255.
    """
    wrong_N = np.flatnonzero(predictions.predicted_N != predictions.labels_N)
    shown = wrong_N[np.argsort(predictions.nll_predicted_N[wrong_N], kind="stable")][:CONFUSED]
    figure, axes = new_figure(f"{title} ({len(wrong_N):,} of {len(images_NCHW):,} images wrong)", 8.2, 2.9)
    _, channels, height, width = images_NCHW.shape
    mistakes = [_mistake(classes, predictions, index) for index in shown]
    num_lines = 2 + any("\n" in mistake for mistake in mistakes)
    columns, row_gap = CONFUSED // 2, height * num_lines // 4  # there is room for so many lines
    shown_NCHW = np.full((CONFUSED, channels, height, width), np.nan)
    shown_NCHW[: len(shown)] = images_NCHW[shown]
    _mosaic(axes, shown_NCHW.reshape(2, columns, channels, height, width), 255, row_gap)
    for place, (index, mistake) in enumerate(zip(shown, mistakes, strict=True)):
        row, column = divmod(place, columns)
        confidence = np.exp(-predictions.nll_predicted_N[index].astype(np.float64))
        axes.text(
            column * (width + max(1, width // 10)) + width / 2,
            row * (height + row_gap) + height,
            f"{mistake}\n{_confidence_text(confidence)}",
            ha="center",
            va="top",
            parse_math=False,
        )
    return figure


def _mistake(classes: Sequence[str], predictions: Predictions, index: int) -> str:
    """``4 → 9``; long names in two lines."""
    names = [_short(classes[int(labels_N[index])]) for labels_N in (predictions.labels_N, predictions.predicted_N)]
    return (" → " if sum(map(len, names)) <= 6 else "\n→ ").join(names)


def _confidence_text(confidence: float) -> str:
    """A probability as text; none is shown as 100 %."""
    return "> 99.9 %" if confidence > 0.9995 else f"{100 * confidence:.1f} %"


MAP_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999", "#B3A100", "#882255", INK)
"""Colours of classes; the map also names them, because ten colours are hard to tell apart."""

MAP_NAMES = {"pretrain": "pretrained", "finetune": "after finetuning", "scratch": "from scratch"}


def code_maps(title: str, maps: CodeMaps, classes: Sequence[str]) -> Figure:
    """Codes of images as dots, a panel for each encoder, coloured by class, with the class's name at its medoid."""
    figure = Figure(figsize=(4.1 * len(maps.places_N2), 4.5), layout="constrained")
    figure.suptitle(title, color=INK, parse_math=False)
    panels = figure.subplots(1, len(maps.places_N2), squeeze=False)[0]
    for axes, (encoder, places_N2) in zip(panels, maps.places_N2.items(), strict=True):
        for label in np.unique(maps.labels_N):
            of_class_M2 = places_N2[maps.labels_N == label]
            axes.plot(*of_class_M2.T, "o", ms=2.5, mec="none", alpha=0.8, color=MAP_COLOURS[label % len(MAP_COLOURS)])
            outline = [withStroke(linewidth=3, foreground="white")]
            style: dict[str, Any] = {"ha": "center", "va": "center", "weight": "bold", "path_effects": outline}
            if len(classes) <= MOST_NAMED:
                axes.text(*_medoid(of_class_M2), _short(classes[label]), parse_math=False, **style)
        axes.set(title=MAP_NAMES.get(encoder, encoder), xticks=[], yticks=[])
        axes.spines[:].set_color("#dddddd")
    return figure


def _medoid(places_M2: NDArray[np.float32]) -> NDArray[np.float32]:
    """The point with the smallest sum of distances to the others."""
    distances_MM = np.linalg.norm(places_M2[:, None] - places_M2[None], axis=2)
    medoid: NDArray[np.float32] = places_M2[distances_MM.sum(1).argmin()]
    return medoid


def class_distribution(title: str, counts: Mapping[str, NDArray[np.int64]], classes: Sequence[str]) -> Figure:
    """The share of each class in each part of the split."""
    figure, axes = new_figure(title, 6.4, 4.0)
    width = 0.8 / len(counts)
    for index, (name, counts_K) in enumerate(counts.items()):
        places = np.arange(len(counts_K)) + (index - (len(counts) - 1) / 2) * width
        colour = (PALE, INK)[index % 2]
        label = f"{name} ({counts_K.sum():,} images)"
        axes.bar(places, 100 * counts_K / counts_K.sum(), width, color=colour, label=label)
    axes.set(xlabel="class", ylabel="share of images (%)")
    _name_classes(axes.xaxis, classes)
    figure.legend(frameon=False, loc="outside lower center", ncols=2)
    return figure
