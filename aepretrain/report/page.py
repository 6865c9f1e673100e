"""The whole answer as one page: HTML that needs nothing else, and the same as Markdown."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice

import jinja2
import numpy as np

from aepretrain import figures, stats
from aepretrain.records import Archive, Record
from aepretrain.report.answer import Answer, sides
from aepretrain.report.grid import Grid, belongs
from aepretrain.report.pairs import paired
from aepretrain.report.panel import Panel, Picture
from aepretrain.report.studies import study_panels
from aepretrain.report.table import Table, figure, markdown_table, markdown_text
from aepretrain.report.wording import (
    answer_tables,
    calibration_table,
    grid_tables,
    planned_text,
    reproduction_sentence,
    reproduction_tables,
    sentences,
    title,
)
from aepretrain.spec import CLASSIFIERS, format_seeds

Curves = Mapping[tuple[str, str, str], Sequence[Sequence[float]]]
"""By cell, each seed's values epoch by epoch."""

SPEED_LEVELS = (0.95, 0.97, 0.98)

TITLE = "Does pretraining an autoencoder help classification?"


def build_page(answer: Answer, records: Collection[Record], archive: Archive, shown: Sequence[Record]) -> list[Panel]:
    """The panels of the page, in order.

    `records` are the archive's, those of studies among them, and `shown` the runs whose own pictures stand in it.
    """
    grid = answer.grid
    losses, accuracies = (_cell_curves(grid, archive, metric) for metric in ("val_loss", "val_accuracy"))
    return [
        Panel(
            "The grid",
            " ".join(filter(None, [GRID_TEXT, reproduction_sentence(answer)])),
            [*grid_tables(answer), *reproduction_tables(answer), calibration_table(answer)],
            [Picture.of("grid", figure(grid), GRID_CAPTION + (PUBLISHED_CAPTION if grid.has_published else "."))],
        ),
        Panel("Finetune against scratch, seed by seed", PAIRED_TEXT, answer_tables(answer), _paired_pictures(answer)),
        Panel("Learning curves", CURVES_TEXT, [_speed_table(accuracies)], [_curves(answer, losses)]),
        *study_panels(grid, records, answer.plan.smallest_effect),
        *_shown_panels(grid, shown, archive),
        Panel("How this was made", MADE_TEXT, [_settings(answer), _made(answer, records), _runs(answer, archive)]),
    ]


GRID_TEXT = (
    "Each cell is a way of using the encoder; rows are networks, trained on images as they are (none) or with random "
    "rectangles erased (erasing)."
)
GRID_CAPTION = "A dot for each seed; beside them a bar for their mean with its 95 % interval"
PUBLISHED_CAPTION = ", and a hollow diamond for the published figure of one run."
PAIRED_TEXT = (
    "Within a seed, finetune and scratch share the split and the order of the images, and the autoencoder began with "
    "the initial encoder of scratch, so each seed gives one difference. The p-value is that of a two-sided sign-flip "
    "test, adjusted by Holm's method over the four experiments; the rule for the verdict was fixed beforehand. What "
    "counts as equivalent or negligible is decided in each experiment by itself."
)
CURVES_TEXT = (
    "Validation loss by epoch: the median over the seeds still training, and the band that holds the middle half of "
    "them. A curve ends where fewer than half of the seeds go on."
)
SHOWN_TEXT = (
    "What the autoencoder gives back, how codes lie before and after finetuning, and where classifiers err on the test "
    "images. Of each classifier the seed with the lowest validation loss is shown, with the pretraining it started "
    "from; test images select nothing. Codes are mapped by aepretrain study similarity: those of the shown seed, or if "
    "it has none, of the lowest seed that has."
)
MADE_TEXT = "aepretrain report on the same runs, with the same options, makes this page again."
OF_CLASSIFIERS = {
    "confusion_matrix": "test images by true and predicted class",
    "confused_images": "the errors it is most confident of, true → predicted class and the probability given",
}
OWN_PICTURES = {
    "pretrain": {"reconstructions": "validation images and what the autoencoder gives back"},
    "similarity": {
        "code_maps": "validation images by their codes, brought into two dimensions by t-SNE, which keeps neighbours "
        "together (distances between groups mean nothing), before and after finetuning"
    },
    **dict.fromkeys(CLASSIFIERS, OF_CLASSIFIERS),
}
"""The figures of a run that stand in the page, by variant, and what they show; a user's variant is a classifier."""


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


def _published_difference(answer: Answer, experiment: tuple[str, str]) -> float | None:
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
    return Picture.of("curves", drawn, "The median over seeds, and the middle half of them as a band.")


def _speed_table(accuracies: Curves) -> Table:
    heading = ["experiment", "variant", *(f"{100 * level:.0f} %" for level in SPEED_LEVELS)]
    rows = [
        [title(cell[:2]), cell[2], *(_speed_text(of_seeds, level) for level in SPEED_LEVELS)]
        for cell, of_seeds in accuracies.items()
        if of_seeds
    ]
    name = "Learning speed: the epoch by which half of the seeds reach a validation accuracy, and how many ever do"
    return name, [heading, *rows]


def _speed_text(of_seeds: Sequence[Sequence[float]], level: float) -> str:
    """A seed that never reaches the level counts as later than all others, so the epoch may be unknown."""
    reached = [
        next((epoch for epoch, accuracy in enumerate(of_seed, 1) if accuracy >= level), np.inf) for of_seed in of_seeds
    ]
    num, median = int(np.isfinite(reached).sum()), float(np.quantile(reached, 0.5, method="inverted_cdf"))
    count = f"{num} of {len(of_seeds)}"
    return f"{median:.0f} ({count})" if np.isfinite(median) else f"not by half ({count})"


def _shown_panels(grid: Grid, shown: Sequence[Record], archive: Archive) -> list[Panel]:
    """A panel for each experiment, with the pictures of its shown runs in the order of `OWN_PICTURES`."""
    order = {variant: place for place, variant in enumerate(OWN_PICTURES)}
    panels: list[Panel] = []
    for experiment in grid.experiments:
        of_experiment = [record for record in shown if record.cell[:2] == experiment]
        of_experiment.sort(key=lambda record: (order.get(record.cell[2], len(order)), record.seed))
        pictures = [one for record in of_experiment for one in _own_pictures(record, archive)]
        if pictures:
            panels.append(Panel(f"The shown runs: {title(experiment)}", "" if panels else SHOWN_TEXT, (), pictures))
    return panels


def _own_pictures(record: Record, archive: Archive) -> list[Picture]:
    """Those figures that are there: a bundle keeps those of the runs that were shown when it was made."""
    run = f"{'-'.join(record.cell)}-s{record.seed}"
    return [
        Picture(f"{run}-{name}", archive.artifact(record, path), f"{run}: {what}.")
        for name, what in OWN_PICTURES.get(record.cell[2], OF_CLASSIFIERS).items()
        if archive.has_artifact(record, path := f"figures/{name}.png")
    ]


def _settings(answer: Answer) -> Table:
    return "Settings", [["option", "value"]] + [[name, str(value)] for name, value in answer.grid.settings.items()]


def _made(answer: Answer, everything: Iterable[Record]) -> Table:
    """What the runs say of themselves, each different value once; those of studies too."""
    of_grid = [record for cell in answer.grid.cells.values() for record in cell.records]
    of_studies = [one for one in everything if one.study is not None and belongs(one, answer.grid.settings)]
    rows = [["finished classifiers", _count(of_grid)]]
    for study in sorted({str(record.study) for record in of_studies}):
        rows.append([f"trainings of study {study}", _count([one for one in of_studies if one.study == study])])
    for name in ("commit", "dirty", "schema", "processor", "versions", "device", "threads", "stack", "host"):
        values = sorted({one.tags[name] for one in (*of_grid, *of_studies) if name in one.tags})
        rows.append([name, "; ".join(values) or "not recorded"])
    rows.append(["smallest effect of interest", f"{answer.plan.smallest_effect:g}"])
    rows.append(["planned seeds", planned_text(answer) or "not stated"])
    rows.append(["level of the family of tests", f"{stats.ALPHA:g}"])
    return "Runs", [["what", "value"], *rows]


def _count(records: Sequence[Record]) -> str:
    return f"{len(records)} (seeds {format_seeds(sorted({record.seed for record in records}))})"


def _runs(answer: Answer, archive: Archive) -> Table:
    rows = [
        [
            "-".join((cell.network, cell.augmentation, cell.variant)),
            str(record.seed),
            archive.link(record),
        ]
        for cell in answer.grid.cells.values()
        for record in cell.records
    ]
    return "Run ids", [["cell", "seed", "run"], *rows]


def page_files(answer: Answer, panels: Sequence[Panel]) -> dict[str, bytes]:
    """The page as files: HTML that opens without a network, Markdown with its pictures beside it, and its beginning."""
    pictures = {f"report/{one.name}.png": one.content for panel in panels for one in panel.pictures}
    texts = {"report.html": _html(answer, panels), "report.md": _markdown(answer, panels), "answer.md": _short(answer)}
    return {name: text.encode() for name, text in texts.items()} | pictures


def _short(answer: Answer) -> str:
    """The answer for a README: the verdict, the comparisons it comes from, and the grid."""
    shown = [answer_tables(answer)[0], grid_tables(answer)[0]]
    first, last = map(markdown_text, (sentences(answer), reproduction_sentence(answer)))
    texts = [first, *map(markdown_table, shown), last]
    return "\n\n".join(filter(None, texts)) + "\n"


def _html(answer: Answer, panels: Sequence[Panel]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("aepretrain.report", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("page.html").render(title=TITLE, sentences=sentences(answer), panels=panels)


def _markdown(answer: Answer, panels: Sequence[Panel]) -> str:
    parts = [f"# {TITLE}", markdown_text(sentences(answer))]
    for panel in panels:
        parts += [f"## {markdown_text(panel.heading)}", markdown_text(panel.text)]
        parts += [f"![{markdown_text(one.caption)}](report/{one.name}.png)" for one in panel.pictures]
        parts += map(markdown_table, panel.tables)
    return "\n\n".join(part for part in parts if part) + "\n"
