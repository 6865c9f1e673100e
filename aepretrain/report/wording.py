"""The answer in words. No sentence here says more than the rule of `stats.verdict` gives."""

from collections.abc import Mapping

from aepretrain import stats
from aepretrain.report.answer import Answer, Plan, Reproduced
from aepretrain.report.grid import DATASET_TITLES, EXPERIMENTS, METRIC_NAMES, Experiment
from aepretrain.report.numbers import in_points
from aepretrain.report.table import MISSING
from aepretrain.stats import Comparison, Verdict


def sentences(answer: Answer) -> str:
    """The verdict in two sentences, for those who read no further."""
    dataset = DATASET_TITLES.get(answer.grid.dataset, answer.grid.dataset)
    if not answer.primary:
        return f"There is no verdict on {dataset}: no seed has both finetune and scratch."
    experiments = [*EXPERIMENTS, *(one for one in answer.primary if one not in EXPERIMENTS)]
    found = "; ".join(f"{_in_words(one)} {_finding(answer, one)}" for one in experiments)
    differences = f"finetune − scratch in percentage points of test accuracy: {found}."
    verdicts = [one.verdict for one in answer.primary.values()]
    if all(verdict is Verdict.NONE for verdict in verdicts):
        return f"So far there is no verdict on {dataset}; {differences}"
    gains, losses = (_count_text(verdicts.count(one)) for one in (Verdict.GAIN, Verdict.LOSS))
    start = f"{'So far, against' if answer.is_interim else 'Against'} training from scratch on {dataset}"
    return (
        f"{start}, fine-tuning a pretrained encoder shows a gain in {gains} of the "
        f"four experiments and a loss in {losses}; {differences} {_scope(answer)}"
    )


def _count_text(num: int) -> str:
    return ("none", "one", "two", "three", "all")[num]


def _in_words(experiment: Experiment) -> str:
    network, augmentation = experiment
    return f"{network} {'without erasing' if augmentation == 'none' else f'with {augmentation}'}"


def _finding(answer: Answer, experiment: Experiment) -> str:
    """The difference with its verdict and the number of seeds."""
    if experiment not in answer.primary:
        return MISSING
    comparison = answer.primary[experiment]
    seeds = "" if comparison.num_seeds < comparison.min_seeds else f", {comparison.num_seeds} seeds"
    return (
        f"{in_points(comparison.difference.value)} ({verdict_words(comparison, is_interim=answer.is_interim)}{seeds})"
    )


def _scope(answer: Answer) -> str:
    """What the verdicts are about, and how often the rule errs."""
    chance = f"at most {100 * stats.ALPHA:.0f} %"
    effect, num = answer.plan.smallest_effect, answer.num_images
    about = f"these {num:,} test images and new trainings on the same training images"
    images = f"{round(effect * num, 1):g} of {num:,} images"
    negligible = f"differences within ±{100 * effect:g} points ({images}) count as negligible"
    if answer.is_interim:
        return (
            f"This is an interim look, at fewer seeds than the planned {planned_text(answer.unreached)}: the "
            f"chance of any false gain or loss among the four experiments is {chance} only at the planned seeds; it is "
            f"about {about}, and {negligible}."
        )
    provided = "" if answer.is_as_planned else ", provided that the number of seeds was fixed before looking"
    return (
        f"The verdicts are about {about}, by a rule that finds any false gain or loss among the four experiments with "
        f"a chance of {chance}{provided}; {negligible}."
    )


def planned_text(num_seeds: Mapping[str, int]) -> str:
    """``40 (fc) and 20 (conv)``; nothing where no number of seeds was planned."""
    return " and ".join(f"{num} ({network})" for network, num in num_seeds.items())


def whole_plan_text(plan: Plan) -> str:
    """What was planned for the grid and for few labels."""
    with_labels = planned_text(plan.num_label_seeds)
    parts = [planned_text(plan.num_seeds), f"with few labels {with_labels}" if with_labels else ""]
    return "; ".join(filter(None, parts)) or "not stated"


def verdict_words(comparison: Comparison, *, is_interim: bool) -> str:
    """The verdict, or why there is none."""
    if comparison.num_seeds < comparison.min_seeds:
        unit = "seed" if comparison.num_seeds == 1 else "seeds"
        return f"no verdict: {comparison.num_seeds} {unit}, at least {comparison.min_seeds} needed"
    if comparison.adjusted_p is None:
        return "not judged: not among the four"
    return f"{'interim: ' if is_interim else ''}{comparison.verdict}"


def reproduction_sentence(answer: Answer) -> str:
    """How many of the published numbers could be of a run of ours, and which could not; nothing where there is none."""
    if not answer.reproduced:
        return ""
    outside = [one for one in answer.reproduced if not one.inside]
    cells = dict.fromkeys(map(_name, outside))
    named = "; ".join(
        f"{_in_words(cell[:2])}, {cell[2]} ({', '.join(_metric_text(one) for one in outside if _name(one) == cell)})"
        for cell in cells
    )
    num = len(answer.reproduced)
    return (
        f"Inside the interval into which one run of ours falls with a probability of 95 %: {num - len(outside)} of "
        f"{num} published numbers{f'; outside: {named}' if named else ''}."
    )


def _name(one: Reproduced) -> tuple[str, str, str]:
    return one.cell.network, one.cell.augmentation, one.cell.variant


def _metric_text(one: Reproduced) -> str:
    return f"{METRIC_NAMES[one.metric]} {'above' if one.published > one.interval.high else 'below'}"
