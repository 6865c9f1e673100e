"""The whole answer as one page: one HTML file without external parts, and the same as Markdown."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jinja2

from aepretrain.config import Settings
from aepretrain.records import Archive, Record
from aepretrain.report.answer import Answer, Terms
from aepretrain.report.answer_tables import answer_tables, grid_tables
from aepretrain.report.explore import as_json, script
from aepretrain.report.findings import range_text
from aepretrain.report.glossary import explained, glossary_of
from aepretrain.report.grid import Experiment, Grid
from aepretrain.report.grid_panels import compared_panel, grid_panels, training_panels
from aepretrain.report.opening import Opening, grid_opening, plan_opening
from aepretrain.report.panel import Panel, Picture, slug, smaller
from aepretrain.report.planned import PlanResults
from aepretrain.report.planned_panels import plan_panels
from aepretrain.report.planned_tables import main_tables, pooled_tables
from aepretrain.report.planned_wording import answer_paragraphs, standing
from aepretrain.report.provenance import provenance_panel
from aepretrain.report.query import Query
from aepretrain.report.table import LONGEST_SHOWN, markdown_table, markdown_text
from aepretrain.report.tuning_panel import tuning_panel
from aepretrain.report.wording import limits_text, reproduction_sentence, sentences
from aepretrain.variants import CLASSIFIERS

LIMITS = (
    "A comparison without a verdict is a description: its interval is not adjusted for the number of comparisons.",
    "“Undecided” does not mean equal: there may be a difference or none.",
    "A verdict is about means over seeds. A single run may come out the other way, as the dots of the figures show.",
    "Nothing is said about other networks, data, amounts of labels or objectives than those on this page.",
)
SHOWN_TEXT = (
    "Reconstructions of the autoencoder, maps of codes, and the classifiers' errors on the "
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
        "code_maps": "codes of validation images in two dimensions by t-SNE (neighbours "
        "stay together, distances between groups mean nothing)"
    },
    **dict.fromkeys(CLASSIFIERS, OF_CLASSIFIERS),
}
"""The run figures on the page, by variant, with their captions; a plugin's variant is a classifier."""

MakePanel = Callable[[Query, Terms], Panel]
"""Makes the panel of a study; where the study was not run, the panel says how to run it."""


@dataclass(frozen=True)
class Page:
    """The openings of a page, one for each question, and its panels."""

    openings: Sequence[Opening]
    panels: Sequence[Panel]


def build_page(
    answer: Answer | None,
    records: Mapping[str, Record],
    archive: Archive,
    shown: Sequence[Record],
    studies: Sequence[MakePanel] = (),
    plans: Sequence[PlanResults] = (),
    place: Mapping[str, Any] | None = None,
) -> Page:
    """The page, its panels in order; without an answer only those of the plans.

    `records` are the archive's by key, those of studies too. `shown` are the runs whose own figures are on the page.
    `place` has options of the commands that the page suggests (`place_of`).
    """
    own = answer.terms.plan if answer is not None else None
    of_plans = [
        panel for of in plans for panel in plan_panels(of, archive, place or {}, is_of_grid=of.plan.name == own)
    ]
    everything = plans[0].trainings if plans else records
    tuning = [one for one in [tuning_panel(everything.values())] if one]
    openings = [plan_opening(of) for of in _further(answer, plans)]
    if answer is None:
        panels = [*why_panels(of_plans), *of_plans, *tuning, limits_panel(answer, plans)]
        return Page(openings, [compared_panel(), *panels, provenance_panel(None, None, archive, plans)])
    query = Query(answer.grid, records, place or {})
    question = next((of.plan.question for of in plans if of.plan.name == answer.terms.plan), "")
    panels = [
        *grid_panels(answer),
        *of_plans,
        *training_panels(answer, query, archive),
        *(make_panel(query, answer.terms) for make_panel in studies),
        *tuning,
    ]
    first, *others = panels
    return Page(
        [*openings, grid_opening(answer, archive, records, question)],
        [
            first,
            *why_panels(panels),
            *others,
            limits_panel(answer, plans),
            *_shown_panels(answer.grid, shown, archive),
            provenance_panel(answer, query, archive, plans),
        ],
    )


def why_panels(panels: Sequence[Panel]) -> list[Panel]:
    """What controls, checkpoints and diagnostics say together; none where they say nothing."""
    points = [(one.why, one.topic) for one in panels if one.why]
    return [Panel("Why?", "What is known about the reasons", points=points)] if points else []


def limits_panel(answer: Answer | None, plans: Sequence[PlanResults]) -> Panel:
    """What the answer is limited to."""
    said = [limits_text(answer), answer.terms.standing] if answer is not None and answer.primary else []
    said += [standing(part) for of in _further(answer, plans) for part in of.parts]
    points = [(one, "") for one in [*said, *LIMITS] if one]
    return Panel("Limits", "What this does not say", points=points)


def _shown_panels(grid: Grid, shown: Sequence[Record], archive: Archive) -> list[Panel]:
    """The figures of the shown runs, by experiment in the order of `OWN_PICTURES`; no panel where there are none."""
    order = {variant: place for place, variant in enumerate(OWN_PICTURES)}

    def place_of_run(record: Record) -> tuple[int, int, int]:
        experiment = grid.experiments.index(_experiment_of(record, grid))
        return experiment, order.get(record.cell[2], len(order)), record.seed

    known = sorted((one for one in shown if _experiment_of(one, grid) in grid.experiments), key=place_of_run)
    pictures = [one for record in known for one in _own_pictures(record, archive)]
    shares = [1 - record.metrics["test_accuracy"] for record in known if "test_accuracy" in record.metrics]
    finding = "What autoencoders give back"
    if shares:
        finding = f"The shown classifiers get {range_text([100 * one for one in shares])} % of the test images wrong"
    return [Panel("Single runs", finding, method=SHOWN_TEXT, more=pictures)] if pictures else []


def _experiment_of(record: Record, grid: Grid) -> Experiment:
    """The row of a training; of one without pretraining the first of its rows."""
    objective = record.setting("objective")
    first = grid.settings.get("objective", Settings.objective)
    return *record.cell[:2], *([] if objective in (None, first) else [objective])


def _own_pictures(record: Record, archive: Archive) -> list[Picture]:
    """The figures that the archive has; a bundle has those of the runs that were shown when it was made."""
    run = f"{'-'.join(record.cell)}-s{record.seed}"
    return [
        Picture(f"{run}-{name}", smaller(archive.artifact(record, path)), f"{run}: {what}.")
        for name, what in OWN_PICTURES.get(record.cell[2], OF_CLASSIFIERS).items()
        if archive.has_artifact(record, path := f"figures/{name}.png")
    ]


def page_files(answer: Answer | None, page: Page, plans: Sequence[PlanResults] = ()) -> dict[str, bytes]:
    """The page as HTML and as Markdown with its pictures, and the answer alone (`answer.md`), by file name."""
    return files_of(page, _short(answer, plans))


def files_of(page: Page, short: str) -> dict[str, bytes]:
    """A page as HTML and as Markdown with its pictures, and the answer alone, by file name."""
    pictures = {f"report/{one.name}.png": one.content for one in _pictures(page)}
    texts = {"report.html": _html(page), "report.md": _markdown(page), "answer.md": short}
    return {name: text.encode() for name, text in texts.items()} | pictures


def _pictures(page: Page) -> list[Picture]:
    """All pictures of a page, each once: that of an opening may be a panel's too."""
    own = [one.picture for one in page.openings if one.picture]
    of_panels = [one for panel in page.panels for one in (*panel.pictures, *panel.more)]
    return list({one.name: one for one in [*of_panels, *own]}.values())


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


def _html(page: Page) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("aepretrain.report", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    glossary = glossary_of(page)
    return environment.get_template("page.html").render(
        page=page,
        title=page.openings[0].question,
        script=script() if any(one.specs for one in _pictures(page)) else "",
        as_json=as_json,
        longest_shown=LONGEST_SHOWN,
        slug=slug,
        anchors={panel.topic: f"part-{place}" for place, panel in enumerate(page.panels, start=1)},
        glossary=glossary,
        explained=partial(explained, glossary=glossary),
    )


def _markdown(page: Page) -> str:
    parts: list[str] = []
    for place, opening in enumerate(page.openings):
        parts += [f"{'##' if place else '#'} {markdown_text(opening.question)}", markdown_text(opening.sentence)]
        parts += [_markdown_picture(opening.picture)] if opening.picture else []
        for card in opening.cards:
            parts.append(f"**{markdown_text(card.title)}.** {markdown_text(card.finding)}.")
            parts.append("\n".join(f"- {markdown_text(line)}" for line in card.lines))
        parts.append(" · ".join(f"{markdown_text(name)}: {markdown_text(value)}" for name, value in opening.facts))
    for panel in page.panels:
        parts += [f"## {markdown_text(panel.topic)}", f"**{markdown_text(panel.finding)}.**"]
        parts += map(markdown_text, panel.paragraphs)
        parts.append("\n".join(f"- {markdown_text(_with_topic(*one))}" for one in panel.points))
        parts += map(_markdown_picture, panel.pictures)
        parts += map(markdown_table, panel.tables)
        parts += map(_markdown_picture, panel.more)
        parts += map(markdown_text, panel.method_paragraphs)
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown_picture(picture: Picture) -> str:
    return f"![{markdown_text(picture.caption)}](report/{picture.name}.png)"


def _with_topic(text: str, topic: str) -> str:
    return f"{text} ({topic})" if topic else text
