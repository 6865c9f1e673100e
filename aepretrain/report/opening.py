"""The first screen of a page: the question, a sentence for everybody, one picture, and a card for each family."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from aepretrain import __version__
from aepretrain.config import OF_DIGITS, format_seeds
from aepretrain.records import Archive, Record
from aepretrain.report.answer import Answer
from aepretrain.report.grid import title
from aepretrain.report.grid_panels import paired_pictures
from aepretrain.report.judged import pool, poolable
from aepretrain.report.judged_wording import counts_text, name_text
from aepretrain.report.numbers import in_points, interval_text, signed
from aepretrain.report.panel import Picture
from aepretrain.report.planned import PlanResults, Result
from aepretrain.report.planned_panels import map_pictures
from aepretrain.report.planned_wording import condition_text, labels_text, place_text
from aepretrain.report.wording import lay_sentence, verdict_finding, verdict_words
from aepretrain.stats import Kind

QUESTION = "Does pretraining an autoencoder help classification?"

MOST_LINES = 4
"""A card lists the differences of at most so many tests."""


@dataclass(frozen=True)
class Card:
    """What was found in one family of tests."""

    title: str
    finding: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Opening:
    """A question and what was found, as far as it fits on one screen."""

    question: str
    sentence: str
    picture: Picture | None
    cards: Sequence[Card]
    facts: Sequence[tuple[str, str]]
    """Names and values: seeds, dates, version, plan."""


def grid_opening(answer: Answer, archive: Archive, records: Mapping[str, Record], question: str = "") -> Opening:
    """The opening of a grid's answer; `question` is that of its plan."""
    judged = [(verdict, answer.num_images) for verdict in answer.verdicts.values() if verdict.kind is not Kind.NONE]
    noun = "digit" if answer.grid.dataset in OF_DIGITS else "image"
    sentence = f"There is no verdict on {answer.grid.dataset_title} yet: more seeds are needed."
    if judged and answer.num_images:
        said = lay_sentence(judged, noun, "experiment", is_interim=answer.is_interim)
        sentence = f"{answer.grid.dataset_title}: {said}"
    elif judged:
        sentence = f"{verdict_finding(answer)}."
    lines = [
        f"{title(one)}: {in_points(answer.primary[one].difference.value)}, "
        f"{verdict_words(verdict, is_interim=answer.is_interim)}"
        for one, verdict in answer.verdicts.items()
    ]
    pooled = answer.pooled(0.95)
    lines += [f"pooled, not judged: {interval_text(pooled)}"] if pooled else []
    card = Card("Finetune − scratch, in points of test accuracy", verdict_finding(answer), lines)
    pictures = paired_pictures(answer, lambda key: _address(archive, records[key]))
    keys = list(answer.grid.trainings["key"])
    of_networks = answer.grid.trainings.groupby("network", sort=False)["seed"]
    seeds = "; ".join(f"{name} {format_seeds(sorted(set(of)))}" for name, of in of_networks)
    facts = _facts(seeds, [records[key] for key in keys if key in records], answer.terms.plan)
    return Opening(question or QUESTION, sentence, next(iter(pictures), None), [card], facts)


def _address(archive: Archive, record: Record) -> str:
    link = archive.link(record)
    return link if link.startswith("http") else ""


def plan_opening(of: PlanResults) -> Opening:
    """The opening of a plan: its first comparison in words, its map, and a card for each family that has results."""
    judged = [
        (one.verdict, of.num_images[one.planned.dataset])
        for one in of.of(of.plan.compared[0])
        if one.verdict.kind is not Kind.NONE and one.planned.dataset in of.num_images
    ]
    sentence = "There is no verdict yet: more seeds are needed."
    if judged:
        noun = "digit" if {one.planned.dataset for one in of.results} <= set(OF_DIGITS) else "image"
        is_interim = any(one.is_interim for one in of.of(of.plan.compared[0]))
        sentence = lay_sentence(judged, noun, "comparison", is_interim=is_interim)
    cards = [
        _card(part, name, results)
        for part in of.parts
        for name, results in part.families.items()
        if any(one.comparison for one in results)
    ]
    seeds = "; ".join(f"{name} {format_seeds(seeds)}" for name, seeds in of.plan.networks.items())
    facts = _facts(f"{seeds} (planned)", list(of.records.values()), of.plan.name)
    return Opening(of.plan.question, sentence, next(map_pictures(of), None), cards, facts)


def _card(of: PlanResults, name: str, results: Sequence[Result]) -> Card:
    """The verdicts of a family, with its differences, or their range where there are many; pooled ones too."""
    known = [one for one in results if one.comparison]
    lines = [
        f"{place_text(of.plan, one.planned)}, {condition_text(of.plan, one.planned)}: "
        f"{in_points(one.verdict.difference.value)}, {verdict_words(one.verdict, is_interim=one.is_interim)}"
        for one in known
    ]
    if len(known) > MOST_LINES:
        points = [100 * one.verdict.difference.value for one in known]
        lines = [f"mean differences from {signed(min(points), 1)} to {signed(max(points), 1)} points"]
    groups = poolable(results, lambda one: (one.planned.objective, one.planned.labels))
    lines += [
        f"pooled, not judged ({objective}, {labels_text(labels)} labels): {interval_text(pool(group, 0.95))}"
        for (objective, labels), group in groups.items()
    ]
    tuned = ", each arm tuned" if of.is_tuned else ""
    finding = counts_text(results)
    return Card(f"{name_text(name)}{tuned}", finding[0].upper() + finding[1:], lines)


def _facts(seeds: str, records: Sequence[Record], plan: str) -> list[tuple[str, str]]:
    days = sorted(f"{datetime.fromtimestamp(one.end_ms / 1000, UTC):%Y-%m-%d}" for one in records if one.end_ms)
    facts = [
        ("Plan", plan or "none: the results are exploratory"),
        ("Seeds", seeds),
        ("Trainings", f"{len(records):,}"),
        ("Trained", " to ".join(dict.fromkeys([days[0], days[-1]])) if days else ""),
        ("Made by", f"aepretrain {__version__}"),
    ]
    return [(name, value) for name, value in facts if value]
