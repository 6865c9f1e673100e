"""The panels of the grid: what was compared, the answer's numbers, the source's, training and calibration."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice

import numpy as np

from aepretrain import figures
from aepretrain.records import Archive
from aepretrain.report.answer import Answer, sides
from aepretrain.report.answer_tables import answer_tables, calibration_table, grid_tables, reproduction_table
from aepretrain.report.explore import Link, paired_spec
from aepretrain.report.findings import counted, headline, range_text
from aepretrain.report.grid import Experiment, Grid, Score, title
from aepretrain.report.numbers import interval_text
from aepretrain.report.pairs import BySeed, paired, values_of
from aepretrain.report.panel import Panel, Picture
from aepretrain.report.query import Query, num_at_limit
from aepretrain.report.table import MISSING, Table, figure, table_of
from aepretrain.report.wording import doubts_text, family_text, findings_text, reproduction_sentence, verdict_finding

Curves = Mapping[tuple[str, ...], Sequence[Sequence[float]]]
"""By cell, each seed's values epoch by epoch."""

SPEED_LEVELS = (0.95, 0.97, 0.98)

COMPARED_TEXT = (
    "An autoencoder learns to reproduce images, without labels. Its encoder is then used for classification in one of "
    "three ways. Frozen: only a linear head is trained, on the codes of the pretrained encoder. Finetune: the "
    "pretrained encoder and a head are trained together. Scratch: the same encoder and head are trained from random "
    "weights, without pretraining. An experiment is a network (fc: fully connected, conv: convolutional) with training "
    "images as they are (none) or with a random rectangle of each image erased (erasing)."
    "\n\n"
    "One seed is one repetition of everything: another split into training and validation images, other initial "
    "weights, another order of the images. A training ends when its validation loss has not fallen for some epochs, or "
    "at a limit. The weights with the lowest validation loss are evaluated on the test images; test images are used "
    "for nothing else. Accuracy is the share of test images that are classified correctly; macro-F1 is the mean of the "
    "classes' F1 scores. The settings are under “How this was made”."
)
PIPELINE_CAPTION = (
    "Above: an autoencoder learns from images without labels; the code is what its encoder makes of an image. Below: "
    "three ways to a classifier. A grey box keeps its weights; blue ones were pretrained."
)
GRID_CAPTION = "Dots: one seed each. Bars: their mean with its 95 % interval."
SOURCE_CAPTION = " Hollow diamonds: the source's figures, one run each."
PAIRED_TEXT = (
    "Within a seed, finetune and scratch have the same split and the same order of images, and the autoencoder starts "
    "with the initial encoder of scratch. So each seed gives one difference. Below zero, finetune is worse. All "
    "differences, standard deviations and standard errors are in percentage points of accuracy."
    "\n\n"
    "The rule of the verdicts: a difference is found where the p-value of a two-sided sign-flip test, adjusted by "
    "Holm's method over {family}, is below 5 %. The 90 % interval of the mean difference is compared with "
    "± the smallest effect of interest. Found, and the interval lies within: different, but negligibly. Found, and it "
    "does not: better or worse, by the sign of the mean. The size is settled if the whole interval lies beyond the "
    "smallest effect, else unsettled. Not found, and the interval lies within: equivalent. Not found, and it does not: "
    "undecided; there may be a difference or none. Intervals are not adjusted, so the 95 % interval of an undecided "
    "difference may lie on one side of zero. Whether a size is negligible is decided for each experiment alone."
    "\n\n"
    "This rule and its words were changed on 28 November 2026, after the results of the project's first campaign "
    "(MNIST, seeds 0 to 39) had been seen. Earlier reports said of the first rule that it was fixed before any result "
    "was seen. That was wrong: the results of seed 0 were in the README half a day before the rule. The test, its "
    "level and the smallest effect are those of the first rule. What it called gain or loss is now better or worse."
    "\n\n"
    "The last row of the first table is the mean over experiments like these (random effects, Hartung-Knapp interval); "
    "it has no verdict. The last column has the number of seeds with which a test finds the smallest effect of "
    "interest with 80 % power, at the observed standard deviation. Relative error reduction is the share of scratch's "
    "errors that finetune avoids. The probability of improvement is that of a run of finetune over a run of scratch, "
    "of any two seeds; beside it is that of two runs of the same seed. Ties count half. The pairing correlation is the "
    "correlation of the two accuracies over seeds; above zero, pairing makes the interval narrower. Luck in plain "
    "words is the standard deviation of scratch over seeds."
    "\n\n"
    "The two-way interval and the bootstrap are for new test images too; the bootstrap is wider than necessary. Beside "
    "them are the parts of the standard error: from trainings, from images, and from the rest. McNemar's test compares "
    "single runs, unadjusted, as a diagnostic."
)
PAIRED_CAPTION = (
    "Dots: one seed each. Squares: their mean with its 95 % interval. Grey band: differences that count as negligible."
)
REPRODUCTION_TEXT = (
    "The source is the experiment report that this project started from. It is in Russian and unsigned; its table is "
    "quoted here in full. It does not say which images its figures come from, and leaves most settings open. By chance "
    "alone about one number in twenty lies outside. Accuracy and macro-F1 of a run measure nearly the same thing."
)
CURVES_TEXT = (
    "Validation loss by epoch: the median of the seeds that are still training, and a band with the middle half of "
    "them. A curve ends where fewer than half of the seeds continue. The tables have the epoch by which half of the "
    "seeds reach a validation accuracy, how many seeds reach it, and how many trainings ended at the limit of epochs."
)
CALIBRATION_TEXT = (
    "Negative log-likelihood is the mean of −log of the probability given to the true class. Expected calibration "
    "error (15 bins) is the gap between confidence and accuracy. Lower is better for both."
)


def grid_panels(answer: Answer) -> list[Panel]:
    """The panels of the comparisons."""
    grid, text = answer.grid, PAIRED_TEXT.format(family=family_text(answer))
    caption = GRID_CAPTION + (SOURCE_CAPTION if grid.has_source else "")
    said = "\n\n".join([findings_text(answer), doubts_text(answer)]) if answer.primary else ""
    panels = [
        compared_panel(),
        Panel(
            "The grid",
            grid_finding(grid),
            tables=grid_tables(answer),
            pictures=[Picture.of("grid", figure(grid), caption, _grid_numbers(grid))],
        ),
        Panel("Finetune against scratch", verdict_finding(answer), said, answer_tables(answer), method=text),
    ]
    if answer.reproduced:
        inside = sum(one.inside for one in answer.reproduced)
        panels.append(
            Panel(
                "The source's numbers",
                f"{inside} of the source's {len(answer.reproduced)} numbers lie where one run of ours would",
                reproduction_sentence(answer),
                [reproduction_table(answer)],
                method=REPRODUCTION_TEXT,
            )
        )
    return panels


def compared_panel() -> Panel:
    """What an autoencoder is, and how its encoder is used."""
    return Panel(
        "What was compared",
        "An encoder is used in three ways: frozen, fine-tuned, and from scratch",
        pictures=[Picture.of("pipeline", figures.pipeline(), PIPELINE_CAPTION)],
        method=COMPARED_TEXT,
    )


def grid_finding(grid: Grid) -> str:
    """Which variant has the highest mean accuracy how often, and how far the lowest lies below it."""
    rows = [{cell.variant: cell.scores[0].mean for cell in grid.row(one) if cell.scores[0]} for one in grid.experiments]
    full = [
        means for means in rows if len(means) == len(grid.variants) > 1 and min(means.values()) < max(means.values())
    ]
    if not full:
        return "Mean accuracies of the variants"
    best, num_best = Counter(max(one, key=one.__getitem__) for one in full).most_common(1)[0]
    worst, num_worst = Counter(min(one, key=one.__getitem__) for one in full).most_common(1)[0]
    said = f"{headline(best)} has the highest mean accuracy in {counted(num_best, len(rows))}"
    if num_worst < len(rows) or num_best < len(rows):
        return said
    gaps = [100 * (one[best] - one[worst]) for one in full]
    return f"{said}, and {worst} the lowest, {range_text(gaps)} points below"


def _grid_numbers(grid: Grid) -> str:
    rows = (
        f"{title(one)}: "
        + ", ".join(f"{cell.variant} {cell.scores[0].mean:.4f}" for cell in grid.row(one) if cell.scores[0])
        for one in grid.experiments
    )
    return f"Mean test accuracies. {'; '.join(rows)}."


def training_panels(answer: Answer, query: Query, archive: Archive) -> list[Panel]:
    """The panels on how trainings went."""
    losses, accuracies = (_cell_curves(query, archive, metric) for metric in ("val_loss", "val_accuracy"))
    tables = [_speed_table(answer.grid, accuracies), *_pretraining_tables(query)]
    return [
        Panel("Training", _speed_finding(query), tables=tables, pictures=[_curves(answer, losses)], method=CURVES_TEXT),
        Panel("Calibration", _calibration_finding(answer), tables=[calibration_table(answer)], method=CALIBRATION_TEXT),
    ]


def _speed_finding(query: Query) -> str:
    medians = [
        (np.median(values_of(finetune, "num_epochs")), np.median(values_of(scratch, "num_epochs")))
        for finetune, scratch in (sides(query.grid, one) for one in query.experiments)
        if len(finetune) and len(scratch)
    ]
    if not medians:
        return "How long the trainings took"
    fewer = sum(bool(finetune < scratch) for finetune, scratch in medians)
    return f"By the median, finetune ends after fewer epochs than scratch in {counted(fewer, len(medians))}"


def _calibration_finding(answer: Answer) -> str:
    pairs = [
        (answer.calibration[finetune].nll_S.mean(), answer.calibration[scratch].nll_S.mean())
        for one in answer.grid.experiments
        for finetune, scratch in [((*one, "finetune"), (*one, "scratch"))]
        if finetune in answer.calibration and scratch in answer.calibration
    ]
    if not pairs:
        return "How far the probabilities can be trusted"
    better = sum(bool(finetune < scratch) for finetune, scratch in pairs)
    which = f"lower for finetune than for scratch in {counted(better, len(pairs))}"
    return f"The negative log-likelihood of the true class is {which}, on average over seeds"


def paired_pictures(answer: Answer, link: Link) -> list[Picture]:
    """Each seed's difference between finetune and scratch; none where no seed has both."""
    if not answer.primary:
        return []
    sources = {
        title(experiment): source
        for experiment in answer.primary
        if (source := _source_difference(answer, experiment)) is not None
    }
    drawn = figures.paired_differences(
        "Finetune − scratch, test accuracy",
        {title(experiment): np.subtract(*paired(*sides(answer.grid, experiment))) for experiment in answer.primary},
        {title(experiment): one.difference for experiment, one in answer.primary.items()},
        answer.terms.smallest_effect,
        sources,
    )
    caption = PAIRED_CAPTION + (SOURCE_CAPTION if answer.grid.has_source else "")
    listed = (f"{title(one)} {interval_text(comparison.difference)}" for one, comparison in answer.primary.items())
    numbers = f"Mean differences in points (95 % interval): {'; '.join(listed)}."
    return [Picture.of("paired", drawn, caption, numbers, [paired_spec(answer, sources, link)])]


def _source_difference(answer: Answer, experiment: Experiment) -> float | None:
    finetune, scratch = (answer.grid.cells[(*experiment, variant)].source for variant in ("finetune", "scratch"))
    return finetune[0] - scratch[0] if finetune and scratch else None


def _cell_curves(query: Query, archive: Archive, metric: str) -> Curves:
    """The curves of each cell's seeds, all read in one query, which is faster in a large store."""
    records = [query.records[key] for key in query.grid.trainings["key"]]
    curves = iter(archive.curves(records, metric))
    return {name: list(islice(curves, len(cell.trainings))) for name, cell in query.grid.cells.items()}


def _curves(answer: Answer, losses: Curves) -> Picture:
    drawn = figures.learning_curves(
        {
            title(experiment): {cell.variant: losses[*experiment, cell.variant] for cell in answer.grid.row(experiment)}
            for experiment in answer.grid.experiments
        }
    )
    return Picture.of(
        "curves", drawn, "Lines: the median over seeds. Bands: the middle half of the seeds. Axes differ."
    )


def _speed_table(grid: Grid, accuracies: Curves) -> Table:
    rows = (
        {"experiment": title(cell[:-1]), "variant": cell[-1]}
        | {f"{100 * level:.0f} %": _speed_text(of_seeds, level) for level in SPEED_LEVELS}
        | _epochs_texts(grid.cells[cell].trainings, "cls_epochs")
        for cell, of_seeds in accuracies.items()
        if of_seeds
    )
    return table_of("Learning speed: epochs until half of the seeds reach a validation accuracy", rows)


def _speed_text(of_seeds: Sequence[Sequence[float]], level: float) -> str:
    """``4 (2 of 3)``: the median epoch; a seed that never reaches the level counts as later than all others."""
    reached = [
        next((epoch for epoch, accuracy in enumerate(of_seed, 1) if accuracy >= level), np.inf) for of_seed in of_seeds
    ]
    num, median = int(np.isfinite(reached).sum()), float(np.quantile(reached, 0.5, method="inverted_cdf"))
    count = f"{num} of {len(of_seeds)}"
    return f"{median:.0f} ({count})" if np.isfinite(median) else f"not by half ({count})"


def _epochs_texts(trainings: BySeed, limit: str) -> dict[str, str]:
    """The median number of epochs, and how many trainings ended at the limit of that name."""
    median = np.median(values_of(trainings, "num_epochs"))
    at_limit = f"{num_at_limit(trainings, limit)} of {len(trainings)}"
    return {"epochs (median)": f"{median:.0f}", "at the limit": at_limit}


def _pretraining_tables(query: Query) -> list[Table]:
    """The reconstruction losses, where the trainings of the autoencoders are there."""
    rows = [
        {
            "experiment": title(experiment),
            "seeds": str(len(trainings)),
            "loss on test images": Score.of(losses).text(5) if losses else MISSING,
            "best epoch (median)": f"{np.median(values_of(trainings, 'best_epoch')):.0f}",
        }
        | _epochs_texts(trainings, "ae_epochs")
        for experiment in query.experiments
        if len(trainings := query.of(experiment, "pretrain"))
        for losses in [values_of(trainings, "test_loss").tolist()]
    ]
    measure = {"mse": "mean squared error, pixels from 0 to 1", "bce": "binary cross-entropy"}
    name = f"The autoencoders ({measure.get(query.grid.settings.get('ae_loss', ''), 'reconstruction loss')})"
    return [table_of(name, rows)] if rows else []
