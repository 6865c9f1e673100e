"""What a plan's results are called and what is said of them, in words."""

import re
from datetime import UTC, datetime

from aepretrain.plans import Plan, PlannedComparison
from aepretrain.report import judged_wording
from aepretrain.report.grid import DATASET_TITLES
from aepretrain.report.judged_wording import counts_text, name_text, promise
from aepretrain.report.planned import PlanResults, Result
from aepretrain.report.table import MISSING
from aepretrain.report.undecidable import Undecidable, undecidable_text


def labels_text(labels: int) -> str:
    """``1,000``, or ``all`` for 0."""
    return f"{labels:,}" if labels else "all"


def file_name(plan: Plan) -> str:
    """The plan's name as a part of names of files."""
    return re.sub(r"[^\w-]+", "-", plan.name, flags=re.ASCII)


def title(of: PlanResults) -> str:
    """``when``, or ``when, each arm tuned``."""
    return f"{of.plan.name}{', each arm tuned' if of.is_tuned else ''}"


def picture_name(of: PlanResults) -> str:
    """What pictures of these results have in their names."""
    return f"{file_name(of.plan)}{'-tuned' if of.is_tuned else ''}"


def effect_text(of: PlanResults) -> str:
    """``0.1 points``, or ``10 images (0.1 points on MNIST)``: the smallest effect that matters."""
    shares = {dataset_text(dataset): share for dataset, share in of.effects.items()}
    return judged_wording.effect_text(of.plan.smallest_effect, shares)


def dataset_text(dataset: str) -> str:
    """A dataset's name for people."""
    return DATASET_TITLES.get(dataset, dataset)


def place_text(plan: Plan, planned: PlannedComparison) -> str:
    """``Fashion-MNIST, fc``: where a comparison is made; with the augmentation if the plan has several."""
    augmentation = [planned.augmentation] if len(plan.augmentations) > 1 else []
    return ", ".join([dataset_text(planned.dataset), planned.network, *augmentation])


def condition_text(plan: Plan, planned: PlannedComparison) -> str:
    """``pixel-mask, 100``: the objective and the number of labels, as far as the plan has several; else both."""
    objective = [planned.objective] if len(plan.objectives) > 1 or len(plan.labels) == 1 else []
    labels = [labels_text(planned.labels)] if len(plan.labels) > 1 else []
    return ", ".join([*objective, *labels])


def standing(of: PlanResults) -> str:
    """How many of the trainings that count were started under the plan, and what is exploratory."""
    if not of.records:
        return f"No pair of trainings of the plan {title(of)} is finished."
    which = " with tuned settings" if of.is_tuned else ""
    start = f"{of.num_started:,} of {len(of.records):,} counted trainings{which} were started under the plan "
    start += f"{of.plan.name}, "
    start += f"which was first seen on {time_text(of.seen)}" if of.seen else "and none says when it was first seen"
    if not of.is_exploratory:
        return f"{start}."
    elsewhere = sum(one.tags.get("plan", of.plan.digest) != of.plan.digest for one in of.records.values())
    others = f" Other plans started {elsewhere:,} of them." if elsewhere else ""
    if not of.num_started:
        return f"{start}; its results are exploratory.{others}"
    num = sum(one.is_exploratory for one in of.results)
    which = "its 1 result that counts" if num == 1 else f"its {num} results that count"
    return f"{start}; {which} other trainings {'is' if num == 1 else 'are'} exploratory.{others}"


def time_text(iso: str) -> str:
    """``2026-11-28 09:15 UTC`` from ISO time; a text that is none stays as it is."""
    try:
        return f"{datetime.fromisoformat(iso).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return iso


def summary(of: PlanResults) -> str:
    """How often each verdict was given, comparison by comparison, and how often the rule errs."""
    if not any(one.comparison for one in of.results):
        where = " with each arm tuned" if of.is_tuned else ""
        return f"So far there is no verdict{where}: no seed has both sides of a comparison."
    start = "So far, " if any(one.is_interim for one in of.results) else ""
    where = "with each arm tuned" if of.is_tuned else "at equal settings"
    counts = "; ".join(f"{name_text(name)} {counts_text(of.of(name))}" for name in of.plan.compared)
    said = f"{start}{where}: {counts}. {promise(of.results, of.plan.alpha, is_fixed=not of.is_exploratory)}".rstrip()
    return said[0].upper() + said[1:]


def doubts(of: PlanResults) -> str:
    """Where the data cannot decide, and what could; empty where they can."""
    found = [Undecidable({}, one.verdict, of.num_images.get(one.planned.dataset)) for one in of.undecidable]
    return undecidable_text(found, len(of.results), "test")


def answer_paragraphs(of: PlanResults) -> list[str]:
    """The plan's question, what was found, and what is known of when the plan was fixed."""
    return [
        of.plan.question,
        *(text for part in of.parts for text in (summary(part), doubts(part), standing(part)) if text),
    ]


def started_text(result: Result) -> str:
    """``40 of 40``, or ``0 of 40: exploratory``."""
    num = len(result.keys)
    if not num:
        return MISSING
    return f"{result.num_started} of {num}{': exploratory' if result.is_exploratory else ''}"
