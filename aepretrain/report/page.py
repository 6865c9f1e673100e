"""The whole answer as one page: one HTML file without external parts, and the same as Markdown."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jinja2

from aepretrain.config import Settings
from aepretrain.records import Archive, Record
from aepretrain.report.answer import Answer, Terms
from aepretrain.report.answer_tables import answer_tables, grid_tables
from aepretrain.report.grid import Experiment, Grid, title
from aepretrain.report.grid_panels import COMPARED, grid_panels, training_panels
from aepretrain.report.panel import Panel, Picture
from aepretrain.report.planned import PlanResults
from aepretrain.report.planned_panels import plan_panels
from aepretrain.report.planned_tables import main_tables, pooled_tables
from aepretrain.report.planned_wording import answer_paragraphs
from aepretrain.report.provenance import provenance_panel
from aepretrain.report.query import Query
from aepretrain.report.table import LONG_TABLE, markdown_table, markdown_text
from aepretrain.report.tuning_panel import tuning_panel
from aepretrain.report.wording import reproduction_sentence, sentences
from aepretrain.variants import CLASSIFIERS

TITLE = "Does pretraining an autoencoder help classification?"
SHOWN_TEXT = (
    "Reconstructions of the autoencoder, maps of codes before and after finetuning, and the classifiers' errors on the "
    "test images. For each classifier the seed with the lowest validation loss is shown, with its pretraining; test "
    "images select nothing. Maps of codes come from aepretrain study similarity. They are of the shown seed, or of the "
    "lowest seed that has a map."
)
OF_CLASSIFIERS = {
    "confusion_matrix": "test images by true and predicted class",
    "confused_images": "the errors with the highest confidence, true → predicted class with its probability",
}
OWN_PICTURES = {
    "pretrain": {"reconstructions": "validation images and their reconstructions"},
    "similarity": {
        "code_maps": "codes of validation images in two dimensions by t-SNE, before and after finetuning (neighbours "
        "stay together, distances between groups mean nothing)"
    },
    **dict.fromkeys(CLASSIFIERS, OF_CLASSIFIERS),
}
"""The run figures on the page, by variant, with their captions; a plugin's variant is a classifier."""

MakePanel = Callable[[Query, Terms], Panel]
"""Makes the panel of a study; where the study was not run, the panel says how to run it."""


def build_page(
    answer: Answer | None,
    records: Mapping[str, Record],
    archive: Archive,
    shown: Sequence[Record],
    studies: Sequence[MakePanel] = (),
    plans: Sequence[PlanResults] = (),
    place: Mapping[str, Any] | None = None,
) -> list[Panel]:
    """The panels of the page, in order; without an answer only those of the plans.

    `records` are the archive's by key, those of studies too. `shown` are the runs whose own figures are on the page.
    `place` has options of the commands that the page suggests (`place_of`).
    """
    of_plans = [panel for of in plans for panel in plan_panels(of, archive, place or {})]
    everything = plans[0].trainings if plans else records
    tuning = [one for one in [tuning_panel(everything.values())] if one]
    if answer is None:
        return [COMPARED, *of_plans, *tuning, provenance_panel(None, None, archive, plans)]
    query = Query(answer.grid, records, place or {})
    return [
        *grid_panels(answer),
        *of_plans,
        *training_panels(answer, query, archive),
        *(make_panel(query, answer.terms) for make_panel in studies),
        *tuning,
        *_shown_panels(answer.grid, shown, archive),
        provenance_panel(answer, query, archive, plans),
    ]


def _shown_panels(grid: Grid, shown: Sequence[Record], archive: Archive) -> list[Panel]:
    """A panel for each experiment, with the figures of its shown runs in the order of `OWN_PICTURES`."""
    order = {variant: place for place, variant in enumerate(OWN_PICTURES)}
    panels: list[Panel] = []
    for experiment in grid.experiments:
        of_experiment = [record for record in shown if _experiment_of(record, grid) == experiment]
        of_experiment.sort(key=lambda record: (order.get(record.cell[2], len(order)), record.seed))
        pictures = [one for record in of_experiment for one in _own_pictures(record, archive)]
        if pictures:
            panels.append(Panel(f"The shown runs: {title(experiment)}", "" if panels else SHOWN_TEXT, (), pictures))
    return panels


def _experiment_of(record: Record, grid: Grid) -> Experiment:
    """The row of a training; of one without pretraining the first of its rows."""
    objective = record.setting("objective")
    first = grid.settings.get("objective", Settings.objective)
    return *record.cell[:2], *([] if objective in (None, first) else [objective])


def _own_pictures(record: Record, archive: Archive) -> list[Picture]:
    """The figures that the archive has; a bundle has those of the runs that were shown when it was made."""
    run = f"{'-'.join(record.cell)}-s{record.seed}"
    return [
        Picture(f"{run}-{name}", archive.artifact(record, path), f"{run}: {what}.")
        for name, what in OWN_PICTURES.get(record.cell[2], OF_CLASSIFIERS).items()
        if archive.has_artifact(record, path := f"figures/{name}.png")
    ]


def page_files(answer: Answer | None, panels: Sequence[Panel], plans: Sequence[PlanResults] = ()) -> dict[str, bytes]:
    """The page as HTML and as Markdown with its pictures, and the answer alone (`answer.md`), by file name."""
    return files_of(TITLE, answer_text(answer, plans).split("\n\n"), panels, _short(answer, plans))


def files_of(title: str, paragraphs: Sequence[str], panels: Sequence[Panel], short: str) -> dict[str, bytes]:
    """A page as HTML and as Markdown with its pictures, and the answer alone, by file name."""
    pictures = {f"report/{one.name}.png": one.content for panel in panels for one in panel.pictures}
    texts = {
        "report.html": _html(title, paragraphs, panels),
        "report.md": _markdown(title, paragraphs, panels),
        "answer.md": short,
    }
    return {name: text.encode() for name, text in texts.items()} | pictures


def answer_text(answer: Answer | None, plans: Sequence[PlanResults] = ()) -> str:
    """The answer of the grid, and of each plan that the grid is not taken from, in paragraphs."""
    of_plans = [one for of in _further(answer, plans) for one in answer_paragraphs(of)]
    return "\n\n".join([*([sentences(answer)] if answer else []), *of_plans])


def _further(answer: Answer | None, plans: Sequence[PlanResults]) -> list[PlanResults]:
    """The plans whose results are not in the answer of the grid."""
    return [of for of in plans if answer is None or of.plan.name != answer.terms.plan]


def _short(answer: Answer | None, plans: Sequence[PlanResults]) -> str:
    """The answer for a README: its sentences, the primary comparisons, and the grid; then each further plan."""
    texts = []
    if answer is not None:
        shown = [answer_tables(answer)[0], grid_tables(answer)[0]]
        said = [markdown_text(one) for one in sentences(answer).split("\n\n")]
        texts += [*said, *map(markdown_table, shown), markdown_text(reproduction_sentence(answer))]
    for of in _further(answer, plans):
        question, *said = map(markdown_text, answer_paragraphs(of))
        name = of.plan.compared[0]
        shown = [table for part in of.parts for table in (*main_tables(part), *pooled_tables(part, name))]
        texts += [f"**{question}**", *said, *map(markdown_table, shown)]
    return "\n\n".join(filter(None, texts)) + "\n"


def _html(title: str, paragraphs: Sequence[str], panels: Sequence[Panel]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("aepretrain.report", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("page.html").render(
        title=title, sentences=paragraphs, panels=panels, long_table=LONG_TABLE
    )


def _markdown(title: str, paragraphs: Sequence[str], panels: Sequence[Panel]) -> str:
    parts = [f"# {markdown_text(title)}", *map(markdown_text, paragraphs)]
    for panel in panels:
        parts += [f"## {markdown_text(panel.heading)}", *map(markdown_text, panel.paragraphs)]
        parts += [f"![{markdown_text(one.caption)}](report/{one.name}.png)" for one in panel.pictures]
        parts += map(markdown_table, panel.tables)
    return "\n\n".join(part for part in parts if part) + "\n"
