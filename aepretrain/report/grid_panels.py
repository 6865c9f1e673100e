"""The panels of the grid: what was compared, the verdict's numbers, the published ones, training and calibration."""

from collections.abc import Mapping, Sequence
from itertools import islice

import numpy as np

from aepretrain import figures
from aepretrain.records import Archive, Record
from aepretrain.report.answer import Answer, sides
from aepretrain.report.answer_tables import answer_tables, calibration_table, grid_tables, reproduction_table
from aepretrain.report.grid import Experiment, Grid, Score, title
from aepretrain.report.pairs import paired
from aepretrain.report.panel import Panel, Picture
from aepretrain.report.query import Found, num_at_limit, values_of
from aepretrain.report.table import Table, figure
from aepretrain.report.wording import reproduction_sentence

Curves = Mapping[tuple[str, str, str], Sequence[Sequence[float]]]
"""By cell, each seed's values epoch by epoch."""

SPEED_LEVELS = (0.95, 0.97, 0.98)

COMPARED_TEXT = (
    "An autoencoder learns, without labels, to reproduce images; its encoder is then used for classification in one of "
    "three ways. Frozen: only a linear head is trained, on what the pretrained encoder gives. Finetune: the pretrained "
    "encoder and a head are trained together. Scratch: the same encoder and head are trained from a random start, "
    "without pretraining. An experiment is a network (fc: fully connected, conv: convolutional) with training images "
    "as they are (none) or with a random rectangle of each erased (erasing)."
    "\n\n"
    "One seed is one repetition of everything: another split of the training images into those that train and those "
    "that validate, other initial weights, another order. A training ends when its validation loss has not fallen for "
    "some epochs, or at a limit; its weights with the lowest validation loss are judged on the test images, which "
    "decide nothing else. Accuracy is the share of test images that are classified rightly, macro-F1 the mean of the "
    "classes' F1 scores. The settings are at the end of this page."
)
GRID_TEXT = "Each cell is a way of using the encoder, each row an experiment."
GRID_CAPTION = "A dot for each seed; beside them a bar for their mean with its 95 % interval"
PUBLISHED_CAPTION = ", and a hollow diamond for the published figure of one run."
PAIRED_TEXT = (
    "Within a seed, finetune and scratch share the split and the order of the images, and the autoencoder began with "
    "the initial encoder of scratch, so each seed gives one difference: below zero, pretraining made it worse. "
    "Differences, their deviations and standard errors are in percentage points of accuracy."
    "\n\n"
    "The rule for the verdict was fixed beforehand. A difference is found where the p-value of a two-sided sign-flip "
    "test, adjusted by Holm's method over the four experiments, is below 5 %; it is negligible where the 90 % interval "
    "lies within the smallest effect of interest. Found and not negligible: gain or loss. Found and negligible: "
    "detectable but negligible. Negligible and not found: equivalent. Neither: inconclusive, which does not say that "
    "there is no difference. Intervals are not adjusted, so the 95 % interval of an "
    "inconclusive difference may lie on one side of zero; what is negligible is decided in each experiment by itself."
    "\n\n"
    "The last column of the first table has the seeds that a test would need to find the smallest effect of interest "
    "with 80 % power at the observed spread. Relative error reduction is the share of scratch's errors that finetune "
    "avoids. The pairing correlation is that of the two accuracies over seeds: above zero, pairing pays. The two-way "
    "interval counts the test images as drawn too, and so does the bootstrap, which is wider than it need be; beside "
    "them stands what trainings, images, and what is particular to a training and an image contribute. McNemar's test "
    "is within single runs, unadjusted: a diagnostic."
)
REPRODUCTION_TEXT = (
    "The source does not say on which images its figures were taken, and leaves most settings open. By chance alone "
    "about one number in twenty lies outside, and accuracy and macro-F1 of a run measure nearly the same thing."
)
CURVES_TEXT = (
    "Validation loss by epoch: the median over the seeds still training, and the band that holds the middle half of "
    "them. A curve ends where fewer than half of the seeds go on. Beneath: the epoch by which half of the seeds reach "
    "a validation accuracy, and how many ever do; how many trainings were still going on at the limit of epochs."
)
CALIBRATION_TEXT = (
    "What classifiers think of their own predictions: the mean negative logarithm of the probability given to the "
    "true class, and the gap between confidence and accuracy (expected calibration error, 15 bins). Lower is better."
)


def grid_panels(answer: Answer, found: Found, archive: Archive) -> list[Panel]:
    """What is to be said of the grid alone."""
    grid = answer.grid
    losses, accuracies = (_cell_curves(grid, archive, metric) for metric in ("val_loss", "val_accuracy"))
    caption = GRID_CAPTION + (PUBLISHED_CAPTION if grid.has_published else ".")
    panels = [
        Panel("What was compared", COMPARED_TEXT),
        Panel("The grid", GRID_TEXT, grid_tables(answer), [Picture.of("grid", figure(grid), caption)]),
        Panel("Finetune against scratch, seed by seed", PAIRED_TEXT, answer_tables(answer), _paired_pictures(answer)),
    ]
    if answer.reproduced:
        text = f"{reproduction_sentence(answer)} {REPRODUCTION_TEXT}"
        panels.append(Panel("The published numbers", text, [reproduction_table(answer)]))
    tables = [_speed_table(grid, accuracies), *_pretraining_tables(found)]
    return [
        *panels,
        Panel("Training", CURVES_TEXT, tables, [_curves(answer, losses)]),
        Panel("Calibration", CALIBRATION_TEXT, [calibration_table(answer)]),
    ]


def _paired_pictures(answer: Answer) -> list[Picture]:
    if not answer.primary:
        return []
    drawn = figures.paired_differences(
        "Finetune − scratch, test accuracy",
        {title(experiment): np.subtract(*paired(*sides(answer.grid, experiment))) for experiment in answer.primary},
        {title(experiment): one.difference for experiment, one in answer.primary.items()},
        answer.plan.smallest_effect,
        {
            title(experiment): published
            for experiment in answer.primary
            if (published := _published_difference(answer, experiment)) is not None
        },
    )
    caption = (
        "A dot for each seed, the mean with its 95 % interval beside them; the grey band holds the differences that "
        "count as negligible"
    ) + (", the hollow diamond is the published difference of single runs." if answer.grid.has_published else ".")
    return [Picture.of("paired", drawn, caption)]


def _published_difference(answer: Answer, experiment: Experiment) -> float | None:
    finetune, scratch = (answer.grid.cells[(*experiment, variant)].published for variant in ("finetune", "scratch"))
    return finetune[0] - scratch[0] if finetune and scratch else None


def _cell_curves(grid: Grid, archive: Archive, metric: str) -> Curves:
    """Of each cell the curves of its seeds; read at once, for a large store answers one question faster than twelve."""
    curves = iter(archive.curves([record for cell in grid.cells.values() for record in cell.records], metric))
    return {name: list(islice(curves, len(cell.records))) for name, cell in grid.cells.items()}


def _curves(answer: Answer, losses: Curves) -> Picture:
    drawn = figures.learning_curves(
        {
            title(experiment): {cell.variant: losses[*experiment, cell.variant] for cell in answer.grid.row(experiment)}
            for experiment in answer.grid.experiments
        }
    )
    return Picture.of("curves", drawn, "The median over seeds, and the middle half of them as a band. Axes differ.")


def _speed_table(grid: Grid, accuracies: Curves) -> Table:
    heading = [
        "experiment",
        "variant",
        *(f"{100 * level:.0f} %" for level in SPEED_LEVELS),
        "epochs (median)",
        "at the limit",
    ]
    rows = [
        [
            title(cell[:2]),
            cell[2],
            *(_speed_text(of_seeds, level) for level in SPEED_LEVELS),
            *_epochs_texts(grid.cells[cell].records, "cls_epochs"),
        ]
        for cell, of_seeds in accuracies.items()
        if of_seeds
    ]
    return "Learning speed: epochs until half of the seeds reach a validation accuracy", [
        heading,
        *rows,
    ]


def _speed_text(of_seeds: Sequence[Sequence[float]], level: float) -> str:
    """A seed that never reaches the level counts as later than all others, so the epoch may be unknown."""
    reached = [
        next((epoch for epoch, accuracy in enumerate(of_seed, 1) if accuracy >= level), np.inf) for of_seed in of_seeds
    ]
    num, median = int(np.isfinite(reached).sum()), float(np.quantile(reached, 0.5, method="inverted_cdf"))
    count = f"{num} of {len(of_seeds)}"
    return f"{median:.0f} ({count})" if np.isfinite(median) else f"not by half ({count})"


def _epochs_texts(records: Sequence[Record], limit: str) -> list[str]:
    """The median number of epochs, and how many trainings ended at the limit of that name."""
    epochs = [record.metrics["num_epochs"] for record in records]
    return [f"{np.median(epochs):.0f}", f"{num_at_limit(records, limit)} of {len(records)}"]


def _pretraining_tables(found: Found) -> list[Table]:
    """How well images are given back, where the trainings of the autoencoders are there."""
    heading = ["experiment", "seeds", "loss on test images", "best epoch (median)", "epochs (median)", "at the limit"]
    rows = []
    for experiment in found.experiments:
        by_seed = found.of(experiment, "pretrain")
        if by_seed:
            loss = Score.of(values_of(by_seed, "test_loss").tolist())
            best = f"{np.median(values_of(by_seed, 'best_epoch')):.0f}"
            epochs = _epochs_texts(list(by_seed.values()), "ae_epochs")
            rows.append([title(experiment), str(len(by_seed)), loss.text(5), best, *epochs])
    measure = {"mse": "mean squared error, pixels from 0 to 1", "bce": "binary cross-entropy"}
    name = f"The autoencoders ({measure.get(found.grid.settings.get('ae_loss', ''), 'reconstruction loss')})"
    return [(name, [heading, *rows])] if rows else []
