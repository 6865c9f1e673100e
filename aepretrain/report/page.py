"""The whole answer as one page: HTML that needs nothing else, and the same as Markdown."""

from collections.abc import Iterable, Sequence

import jinja2

from aepretrain.records import Archive, Record
from aepretrain.report.answer import Answer, Plan
from aepretrain.report.answer_tables import answer_tables, grid_tables
from aepretrain.report.controls import controls_panel
from aepretrain.report.evaluations import robustness_panel, similarity_panel
from aepretrain.report.grid import Grid, title
from aepretrain.report.grid_panels import grid_panels
from aepretrain.report.labels import labels_panel
from aepretrain.report.panel import Panel, Picture
from aepretrain.report.provenance import made_panel
from aepretrain.report.query import Found
from aepretrain.report.table import LONG_TABLE, markdown_table, markdown_text
from aepretrain.report.wording import reproduction_sentence, sentences
from aepretrain.variants import CLASSIFIERS

TITLE = "Does pretraining an autoencoder help classification?"
SHOWN_TEXT = (
    "What the autoencoder gives back, how codes lie before and after finetuning, and where classifiers err on the test "
    "images. Of each classifier the seed with the lowest validation loss is shown, with the pretraining it started "
    "from; test images select nothing. Codes are mapped by aepretrain study similarity: those of the shown seed, or if "
    "it has none, of the lowest seed that has."
)
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


def build_page(answer: Answer, records: Iterable[Record], archive: Archive, shown: Sequence[Record]) -> list[Panel]:
    """The panels of the page, in order.

    `records` are the archive's, those of studies among them, and `shown` the runs whose own pictures stand in it.
    """
    found = Found(answer.grid, list(records))
    return [
        *grid_panels(answer, found, archive),
        *study_panels(found, answer.plan),
        *_shown_panels(answer.grid, shown, archive),
        made_panel(answer, found, archive),
    ]


def study_panels(found: Found, plan: Plan) -> list[Panel]:
    """A panel for each study; where it was not run, the panel says how to run it."""
    return [
        controls_panel(found),
        labels_panel(found, plan),
        robustness_panel(found, plan.smallest_effect),
        similarity_panel(found),
    ]


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
    return environment.get_template("page.html").render(
        title=TITLE, sentences=sentences(answer), panels=panels, long_table=LONG_TABLE
    )


def _markdown(answer: Answer, panels: Sequence[Panel]) -> str:
    parts = [f"# {TITLE}", markdown_text(sentences(answer))]
    for panel in panels:
        parts += [f"## {markdown_text(panel.heading)}", *map(markdown_text, panel.paragraphs)]
        parts += [f"![{markdown_text(one.caption)}](report/{one.name}.png)" for one in panel.pictures]
        parts += map(markdown_table, panel.tables)
    return "\n\n".join(part for part in parts if part) + "\n"
