"""The figures of one training, from its evidence. Shapes: N images, R rows, C columns, H and W pixels, K classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from aepretrain.figures.style import INK, PALE, new_figure
from aepretrain.records import CodeMaps, EpochResult, Evidence, Predictions, Reconstructions


def training_figures(title: str, evidence: Evidence) -> dict[str, Figure]:
    """The figures of one training by name, those for which it has evidence."""
    drawn = {"loss_curve": loss_curve(f"{title}: loss", evidence.history)} if evidence.history else {}
    if evidence.confusion_KK is not None:
        drawn["confusion_matrix"] = confusion_matrix(f"{title}: test images", evidence.confusion_KK)
    if evidence.reconstructions is not None:
        drawn["reconstructions"] = reconstructions(f"{title}: validation images", evidence.reconstructions)
    if evidence.class_counts is not None:
        drawn["class_distribution"] = class_distribution(f"{title}: classes of the split", evidence.class_counts)
    if evidence.code_maps is not None:
        drawn["code_maps"] = code_maps(f"{title}: codes of validation images", evidence.code_maps)
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


def confusion_matrix(title: str, confusion_KK: NDArray[np.int64]) -> Figure:
    """Counts of test images by true and predicted class; shades show the share of the true class on a root scale."""
    figure, axes = new_figure(title, 6.0, 5.6)
    share_KK = confusion_KK / np.maximum(confusion_KK.sum(axis=1, keepdims=True), 1)
    axes.imshow(np.sqrt(share_KK), cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(confusion_KK):
        if count:
            colour = "white" if share_KK[row, column] > 0.3 else INK
            axes.text(column, row, f"{count}", ha="center", va="center", color=colour, fontsize=9)
    classes = range(len(confusion_KK))
    axes.set(xlabel="predicted class", ylabel="true class", xticks=classes, yticks=classes)
    axes.tick_params(length=0)
    return figure


def reconstructions(title: str, images: Reconstructions) -> Figure:
    """One column for each image: the original, the network's input if that differs, and its output."""
    rows = {"original": images.original_NHW, "input": images.seen_NHW, "reconstruction": images.reconstructed_NHW}
    if np.array_equal(images.original_NHW, images.seen_NHW):
        del rows["input"]
    num, height, _ = images.original_NHW.shape
    figure, axes = new_figure(title, 0.9 * num + 1.2, 0.95 * len(rows) + 0.5)
    _mosaic(axes, np.stack(list(rows.values())), 1.0, height // 10)
    axes.set_yticks([row * (height + height // 10) + height / 2 for row in range(len(rows))], list(rows))
    return figure


def filters(title: str, rows: Mapping[str, NDArray[np.floating[Any]]]) -> Figure:
    """First-layer filters [C, H, W] of several encoders, a row each; grey is 0, each filter has a scale of its own."""
    num, height, _ = next(iter(rows.values())).shape
    figure, axes = new_figure(title, 0.6 * num + 1.6, 0.62 * len(rows) + 0.5)
    scaled = []
    for row_CHW in rows.values():
        weights_CHW = row_CHW.astype(np.float32)  # twice the largest weight can be beyond float16
        scaled.append(0.5 + weights_CHW / (2 * np.abs(weights_CHW).max(axis=(1, 2), keepdims=True).clip(1e-12)))
    gap = max(1, height // 10)
    _mosaic(axes, np.stack(scaled), 1.0, gap)
    axes.set_yticks([row * (height + gap) + height / 2 for row in range(len(rows))], list(rows))
    return figure


def _mosaic(axes: Axes, images_RCHW: NDArray[np.generic], brightest: float, row_gap: int) -> None:
    """Draw images in rows and columns as one image, in pixel coordinates. Separate axes take ten times as long."""
    rows, columns, height, width = images_RCHW.shape
    column_gap = max(1, width // 10)
    gaps = ((0, 0), (0, 0), (0, row_gap), (0, column_gap))
    padded = np.pad(images_RCHW.astype(np.float32), gaps, constant_values=np.nan)
    mosaic_HW = padded.swapaxes(1, 2).reshape(rows * (height + row_gap), columns * (width + column_gap))
    axes.imshow(mosaic_HW, cmap="gray", vmin=0, vmax=brightest)
    axes.set(xticks=[], yticks=[])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


CONFUSED = 16
"""Number of wrongly classified images that are shown."""


def confused_images(title: str, images_NHW: NDArray[np.uint8], predictions: Predictions) -> Figure:
    """The wrongly classified test images of highest confidence: true → predicted class, and confidence.

    `images_NHW` are all test images, pixels from 0 to 255.
    """
    wrong_N = np.flatnonzero(predictions.predicted_N != predictions.labels_N)
    shown = wrong_N[np.argsort(predictions.nll_predicted_N[wrong_N], kind="stable")][:CONFUSED]
    figure, axes = new_figure(f"{title} ({len(wrong_N):,} of {len(images_NHW):,} images wrong)", 8.2, 2.9)
    _, height, width = images_NHW.shape
    columns, row_gap = CONFUSED // 2, height // 2  # there is room for two lines
    shown_NHW = np.full((CONFUSED, height, width), np.nan)
    shown_NHW[: len(shown)] = images_NHW[shown]
    _mosaic(axes, shown_NHW.reshape(2, columns, height, width), 255, row_gap)
    for place, index in enumerate(shown):
        row, column = divmod(place, columns)
        confidence = np.exp(-predictions.nll_predicted_N[index].astype(np.float64))
        axes.text(
            column * (width + width // 10) + width / 2,
            row * (height + row_gap) + height,
            f"{predictions.labels_N[index]} → {predictions.predicted_N[index]}\n{_confidence_text(confidence)}",
            ha="center",
            va="top",
        )
    return figure


def _confidence_text(confidence: float) -> str:
    """A probability as text; none is shown as 100 %."""
    return "> 99.9 %" if confidence > 0.9995 else f"{100 * confidence:.1f} %"


MAP_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999", "#B3A100", "#882255", INK)
"""Colours of ten classes. The map also shows the class numbers, because ten colours are hard to tell apart."""

MAP_NAMES = {"pretrain": "pretrained", "finetune": "after finetuning"}


def code_maps(title: str, maps: CodeMaps) -> Figure:
    """Codes of images as dots, a panel for each encoder, coloured by class, with the class number at its medoid."""
    figure = Figure(figsize=(8.2, 4.5), layout="constrained")
    figure.suptitle(title, color=INK, parse_math=False)
    panels = figure.subplots(1, len(maps.places_N2), squeeze=False)[0]
    for axes, (encoder, places_N2) in zip(panels, maps.places_N2.items(), strict=True):
        for label in np.unique(maps.labels_N):
            of_class_M2 = places_N2[maps.labels_N == label]
            axes.plot(*of_class_M2.T, "o", ms=2.5, mec="none", alpha=0.8, color=MAP_COLOURS[label % len(MAP_COLOURS)])
            outline = [withStroke(linewidth=3, foreground="white")]
            axes.text(*_medoid(of_class_M2), f"{label}", ha="center", va="center", weight="bold", path_effects=outline)
        axes.set(title=MAP_NAMES.get(encoder, encoder), xticks=[], yticks=[])
        axes.spines[:].set_color("#dddddd")
    return figure


def _medoid(places_M2: NDArray[np.float32]) -> NDArray[np.float32]:
    """The point with the smallest sum of distances to the others."""
    distances_MM = np.linalg.norm(places_M2[:, None] - places_M2[None], axis=2)
    medoid: NDArray[np.float32] = places_M2[distances_MM.sum(1).argmin()]
    return medoid


def class_distribution(title: str, counts: Mapping[str, NDArray[np.int64]]) -> Figure:
    """The share of each class in each part of the split."""
    figure, axes = new_figure(title, 6.4, 4.0)
    width = 0.8 / len(counts)
    for index, (name, counts_K) in enumerate(counts.items()):
        places = np.arange(len(counts_K)) + (index - (len(counts) - 1) / 2) * width
        colour = (PALE, INK)[index % 2]
        label = f"{name} ({counts_K.sum():,} images)"
        axes.bar(places, 100 * counts_K / counts_K.sum(), width, color=colour, label=label)
    axes.set(xlabel="class", ylabel="share of images (%)", xticks=range(len(counts_K)))
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    return figure
