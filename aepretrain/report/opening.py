"""The first screen of a page: the question, a sentence for everybody, one picture, and a card for each family."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from aepretrain import __version__, stats
from aepretrain.config import OF_DIGITS, format_seeds
from aepretrain.records import Archive, Record
from aepretrain.report.answer import Answer
from aepretrain.report.findings import headline
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

QUESTION = "Does pretraining an autoencoder help classification?"

NO_SEEDS = stats.family_verdicts({0: np.empty(0)}, lambda _: np.random.default_rng(0), 0.001)[0]
"""The verdict on an experiment without seeds."""

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
    judged = [(verdict, answer.num_images or None) for verdict in answer.verdicts.values()]
    judged += [(NO_SEEDS, None)] * (len(answer.family) - len(judged))
    noun = "digit" if answer.grid.dataset in OF_DIGITS else "image"
    said = lay_sentence(judged, noun, "experiment", is_interim=answer.is_interim)
    sentence = f"{answer.grid.dataset_title}: {said}" if answer.verdicts else f"{verdict_finding(answer)}."
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
    plan = f"{answer.terms.plan}{' (exploratory)' if answer.terms.is_exploratory else ''}" if answer.terms.plan else ""
    facts = _facts(seeds, [records[key] for key in keys if key in records], plan)
    return Opening(question or QUESTION, sentence, next(iter(pictures), None), [card], facts)


def _address(archive: Archive, record: Record) -> str:
    link = archive.link(record)
    return link if link.startswith("http") else ""


def plan_opening(of: PlanResults) -> Opening:
    """The opening of a plan: its first comparison in words, its map, and a card for each family that has results."""
    name = of.plan.compared[0]
    results = of.of(name)
    is_interim = any(one.is_interim for one in results)
    if not any(one.comparison for one in results):
        sentence = "Nothing of this question is finished yet."
    elif name == "finetune - scratch":
        noun = "digit" if {one.planned.dataset for one in results} <= set(OF_DIGITS) else "image"
        judged = [(one.verdict, of.num_images.get(one.planned.dataset)) for one in results]
        sentence = lay_sentence(judged, noun, "comparison", is_interim=is_interim)
    else:
        sentence = f"{'So far: ' if is_interim else ''}{name_text(name)} {counts_text(results)}."
    cards = [
        _card(part, name, results)
        for part in of.parts
        for name, results in part.families.items()
        if any(one.comparison for one in results)
    ]
    seeds = "; ".join(f"{name} {format_seeds(seeds)}" for name, seeds in of.plan.networks.items())
    plan = f"{of.plan.name}{' (in part exploratory)' if of.is_exploratory else ''}"
    facts = _facts(f"{seeds} (planned)", list(of.records.values()), plan)
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
    groups = poolable(results, lambda one: (one.planned.name, one.planned.objective, one.planned.labels))
    lines += [
        f"pooled, not judged ({name_text(compared)}, {objective}, {labels_text(labels)} labels): "
        f"{interval_text(pool(group, 0.95))}"
        for (compared, objective, labels), group in groups.items()
    ]
    tuned = ", each arm tuned" if of.is_tuned else ""
    start = "so far, " if any(one.is_interim for one in results) else ""
    return Card(f"{name_text(name)}{tuned}", headline(f"{start}{counts_text(results)}"), lines)


def _facts(seeds: str, records: Sequence[Record], plan: str) -> list[tuple[str, str]]:
    days = sorted(f"{datetime.fromtimestamp(one.end_ms / 1000, UTC):%Y-%m-%d}" for one in records if one.end_ms)
    facts = [
        ("Plan", plan or "none: the results are exploratory"),
        ("Seeds", seeds),
        ("Classifiers", f"{len(records):,}"),
        ("Trained", " to ".join(dict.fromkeys([days[0], days[-1]])) if days else ""),
        ("Made by", f"aepretrain {__version__}"),
    ]
    return [(name, value) for name, value in facts if value]
