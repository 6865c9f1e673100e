"""The answer in words. No sentence here says more than the rule of `stats.judge` gives."""

import math
from collections.abc import Mapping, Sequence

from aepretrain import stats
from aepretrain.config import GRID_NETWORKS
from aepretrain.report.answer import Answer, Reproduced
from aepretrain.report.findings import number_text, of_text
from aepretrain.report.grid import METRIC_NAMES, Experiment
from aepretrain.report.numbers import in_points, signed
from aepretrain.report.table import MISSING
from aepretrain.report.undecidable import undecidable_text
from aepretrain.stats import Kind, Verdict


def family_text(answer: Answer) -> str:
    """``the four experiments``, which are judged together."""
    num = len(answer.family)
    return f"the {number_text(num)} experiment{'s' if num != 1 else ''}"


def sentences(answer: Answer) -> str:
    """The answer in paragraphs: what was found, the numbers, what the answer is limited to, and the plan."""
    dataset = answer.grid.dataset_title
    if not answer.primary:
        return f"There is no verdict on {dataset}: no seed has both finetune and scratch."
    paragraphs = (
        findings_text(answer),
        _numbers(answer),
        doubts_text(answer),
        limits_text(answer),
        answer.terms.standing,
    )
    return "\n\n".join(filter(None, paragraphs))


def doubts_text(answer: Answer) -> str:
    """Where the data cannot decide, and what could; empty where they can."""
    return undecidable_text(answer.undecidable, len(answer.family), "experiment")


def findings_text(answer: Answer) -> str:
    """How many differences were found, whether they are large enough to count, and how large the means are."""
    kinds = [one.kind for one in answer.verdicts.values()]
    if all(kind is Kind.NONE for kind in kinds):
        return f"So far there is no verdict on {answer.grid.dataset_title}."
    better, worse = kinds.count(Kind.BETTER), kinds.count(Kind.WORSE)
    which, where = "better than", f"{number_text(better)} of {family_text(answer)}, and worse in {number_text(worse)}"
    if len(answer.family) == 1:
        which = "better than" if better else "worse than" if worse else "neither better nor worse than"
        where = family_text(answer)
    found = (
        f"{'So far, on' if answer.is_interim else 'On'} {answer.grid.dataset_title}, fine-tuning a pretrained encoder "
        f"was found {which} training from scratch in {where}."
    )
    return " ".join(filter(None, (found, _unsettled(answer), _sizes(answer))))


def verdict_finding(answer: Answer) -> str:
    """How often each verdict was given in the primary comparison, as a headline."""
    if not answer.verdicts:
        return "No seed has both finetune and scratch"
    kinds = [one.kind for one in answer.verdicts.values()]
    if all(kind is Kind.NONE for kind in kinds):
        return "There is no verdict yet: more seeds are needed"
    kinds += [Kind.NONE] * (len(answer.family) - len(kinds))
    there = [kind for kind in Kind if kind in kinds]
    first = f"{there[0]} in {of_text(kinds.count(there[0]), len(kinds), 'experiment')}"
    others = [f"{kind} in {number_text(kinds.count(kind))}" for kind in there[1:]]
    start = "So far, fine-tuning" if answer.is_interim else "Fine-tuning"
    return f"{start} against training from scratch: {', '.join([first, *others])}"


def lay_sentence(judged: Sequence[tuple[Verdict, int | None]], noun: str, group: str, *, is_interim: bool) -> str:
    """What verdicts on finetune − scratch mean, for people who know no statistics.

    Each comes with its number of test images, where that is known.
    ``A pretrained network was found to read more digits correctly than one that starts from random weights in none of
    four experiments, fewer in three, and about as many in one. Where fewer, about 10 to 11 of 10,000.``
    """
    kinds = [one.kind for one, _ in judged]
    num_open = sum(kind in (Kind.UNDECIDED, Kind.NONE) for kind in kinds)
    start, other = "So far, a" if is_interim else "A", "than one that starts from random weights"
    if num_open == len(kinds):
        start = "So far, it" if is_interim else "It"
        return f"{start} is not known whether a pretrained network reads more or fewer {noun}s correctly {other}."
    alike = sum(kind in (Kind.EQUIVALENT, Kind.NEGLIGIBLE) for kind in kinds)
    parts = [
        f"more {noun}s correctly {other} in {of_text(kinds.count(Kind.BETTER), len(kinds), group)}",
        f"fewer in {number_text(kinds.count(Kind.WORSE))}",
        *([f"about as many in {number_text(alike)}"] if alike else []),
    ]
    still_open = f"; {number_text(num_open)} {'is' if num_open == 1 else 'are'} open" if num_open else ""
    said = f"{start} pretrained network was found to read {', '.join(parts[:-1])}, and {parts[-1]}{still_open}."
    sizes = [_sizes_in_images(judged, *one) for one in ((Kind.BETTER, "more"), (Kind.WORSE, "fewer"))]
    return " ".join([said, *filter(None, sizes)])


def _sizes_in_images(judged: Sequence[tuple[Verdict, int | None]], kind: Kind, which: str) -> str:
    """``Where fewer, about 10 to 11 of 10,000, perhaps too few to matter.``, for each number of test images."""
    texts = []
    for num_images in sorted({num for one, num in judged if one.kind is kind and num}):
        found = [one for one, num in judged if one.kind is kind and num == num_images]
        counts = [_whole(abs(one.difference.value) * num_images) for one in found]
        ends = " to ".join(dict.fromkeys(f"{max(1, one):,}" for one in (min(counts), max(counts))))
        num_unsettled = sum(not one.size_settled for one in found)
        doubt = {0: "", len(found): ", perhaps too few to matter"}.get(
            num_unsettled, ", some perhaps too few to matter"
        )
        texts.append(f"about {ends} of {num_images:,}{doubt}")
    return f"Where {which}, {'; '.join(texts)}." if texts else ""


def _unsettled(answer: Answer) -> str:
    """In how many of the experiments with "better" or "worse" the size is unsettled; empty for none."""
    found = [one for one in answer.verdicts.values() if one.kind in (Kind.BETTER, Kind.WORSE)]
    num = sum(not one.size_settled for one in found)
    which = f"{number_text(num)} of these" if num < len(found) else {1: "this one", 2: "both"}.get(num, "all of these")
    return f"Whether the difference is large enough to count is unsettled in {which}." if num else ""


def _sizes(answer: Answer) -> str:
    """How many mean differences are smaller than the smallest relevant one, and the pooled difference."""
    effect, judged = answer.terms.smallest_effect, [answer.verdicts[one] for one in answer.judged_experiments]
    small = sum(abs(one.difference.value) < effect for one in judged)
    num = len(answer.family)
    judged_text = f"the {number_text(num)}" if len(judged) == num else "the experiments with a verdict"
    points = f"{100 * effect:.3g}"
    smaller = f"smaller than {points} points of test accuracy in {number_text(small)} of {judged_text}"
    if num == 1:
        smaller = f"{'smaller than' if small else 'at least'} {points} points of test accuracy"
    images = f" ({round(effect * answer.num_images, 1):g} of {answer.num_images:,} images)" if answer.num_images else ""
    counts = f"{points} points{images} is the smallest difference that counts as relevant"
    text = f"The mean difference is {smaller}; {counts}."
    pooled = answer.pooled(0.95)
    if pooled is None:
        return text
    value, low, high = (signed(100 * one, 2) for one in (pooled.value, pooled.low, pooled.high))
    return f"{text} {pooled_text(answer).capitalize()}, it is {value} points (95 % interval {low} to {high})."


def pooled_text(answer: Answer) -> str:
    """``pooled over the four experiments``."""
    return f"pooled over the {number_text(len(answer.pooled_experiments))} experiments"


def _numbers(answer: Answer) -> str:
    listed = "; ".join(f"{_in_words(one)} {_finding(answer, one)}" for one in answer.family)
    return f"Finetune − scratch in percentage points of test accuracy: {listed}."


def _in_words(experiment: Experiment) -> str:
    network, augmentation, *objective = experiment
    how = "without erasing" if augmentation == "none" else f"with {augmentation}"
    return " ".join([network, how, *(f"(objective {name})" for name in objective)])


def _finding(answer: Answer, experiment: Experiment) -> str:
    """The difference with its verdict and the number of seeds."""
    if experiment not in answer.primary:
        return MISSING
    comparison, verdict = answer.primary[experiment], answer.verdicts[experiment]
    seeds = "" if verdict.kind is Kind.NONE else f", {comparison.num_seeds} seeds"
    return f"{in_points(comparison.difference.value)} ({verdict_words(verdict, is_interim=answer.is_interim)}{seeds})"


def limits_text(answer: Answer) -> str:
    """What was run, what the verdicts are about, and how often the rule errs."""
    images = f"these {answer.num_images:,} test images" if answer.num_images else "the test images that were used"
    about = (
        f"The answer is limited to {what_was_run(answer)}. It is about {images}, and about new trainings on the same "
        "training images."
    )
    if all(one.kind is Kind.NONE for one in answer.verdicts.values()):
        return about
    which, among = ("a", "") if len(answer.family) == 1 else ("any", f" among {family_text(answer)}")
    chance = f'the chance of {which} false "better" or "worse"{among} is at most {100 * stats.ALPHA:.0f} %'
    if answer.is_interim:
        return (
            f"{about} This is an interim look, at fewer seeds than the planned {planned_text(answer.unreached)}: "
            f"{chance} only at the planned seeds."
        )
    is_fixed = answer.is_as_planned and not answer.terms.is_exploratory
    provided = "" if is_fixed else f", provided that {_what_is_fixed(answer)} fixed before looking"
    return f"{about} By the rule used, {chance}{provided}."


def _what_is_fixed(answer: Answer) -> str:
    """What must be fixed before a look for the error rate to hold; the experiments too, where no plan has them."""
    return "the number of seeds was" if answer.grid.asked else "the experiments and the number of seeds were"


def what_was_run(answer: Answer) -> str:
    """``a plain autoencoder, the two small networks fc and conv, the learning rate 0.001 and MNIST``."""
    settings = answer.grid.settings
    networks = list(dict.fromkeys(experiment[0] for experiment in answer.primary))
    kind = "two small networks" if set(networks) == set(GRID_NETWORKS) else f"network{'s' if len(networks) > 1 else ''}"
    objective = settings.get("objective", "reconstruct")
    plain = settings.get("ae_target", "input") == "input"
    autoencoder = "a plain autoencoder" if plain else "an autoencoder that restores what was erased"
    others = dict.fromkeys(name for experiment in answer.primary for name in experiment[2:])
    parts = [
        autoencoder if objective == "reconstruct" else f"pretraining with the objective {objective}",
        *(f"pretraining with the objective {name}" for name in others),
        f"the {kind} {' and '.join(filter(None, [', '.join(networks[:-1]), networks[-1]]))}",
        f"the learning rate {settings['lr']:g}" if "lr" in settings else "",
    ]
    return f"{', '.join(filter(None, parts))} and {answer.grid.dataset_title}"


def planned_text(num_seeds: Mapping[str, int]) -> str:
    """``40 (fc) and 20 (conv)``; empty where no number of seeds was planned."""
    return " and ".join(f"{num} ({network})" for network, num in num_seeds.items())


def verdict_words(verdict: Verdict, *, is_interim: bool) -> str:
    """The verdict, or why there is none."""
    if verdict.kind is Kind.NONE:
        unit = "seed" if verdict.num_seeds == 1 else "seeds"
        return f"no verdict: {verdict.num_seeds} {unit}, at least {verdict.min_seeds} needed"
    return f"{'interim: ' if is_interim else ''}{verdict.words}"


def plain_words(verdict: Verdict, num_images: int, run_std: float, noun: str = "image") -> str:
    """A verdict without terms of statistics; `run_std` is the standard deviation of accuracy over single runs.

    ``Of 10,000 digits, about 7 fewer are read correctly; luck alone moves a single run by about 17.``
    """
    said = f"Of {num_images:,} {noun}{'' if num_images == 1 else 's'}, {_change(verdict, num_images)}"
    if math.isnan(run_std):
        return f"{said}."
    moved = _whole(run_std * num_images)
    return f"{said}; luck alone moves a single run by {f'about {moved:,}' if moved else 'less than 1'}."


def _change(verdict: Verdict, num_images: int) -> str:
    """``about 7 fewer are read correctly``, as far as the verdict says so."""
    match verdict.kind:
        case Kind.NONE:
            return "it is not known whether more or fewer are read correctly, because there are too few runs"
        case Kind.UNDECIDED:
            return "it is not known whether more or fewer are read correctly"
        case Kind.EQUIVALENT:
            return "about as many are read correctly"
    num, which = _whole(abs(verdict.difference.value) * num_images), "more" if verdict.direction > 0 else "fewer"
    counted = f"about {num:,} {which} {'is' if num == 1 else 'are'}" if num else f"slightly {which} are"
    doubt = "" if verdict.size_settled else ", perhaps too few to matter"
    return f"{counted} read correctly{', too few to matter' if verdict.kind is Kind.NEGLIGIBLE else doubt}"


def _whole(num: float) -> int:
    """Rounded twice, as in `numbers.signed`: a half comes out alike from two computations."""
    return round(round(num, 6))


def reproduction_sentence(answer: Answer) -> str:
    """How many of the source's numbers lie in our intervals, and which do not; empty where the source has none."""
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
        "One run of ours falls into its prediction interval with a probability of 95 %. Of the source's "
        f"{num} numbers, {num - len(outside)} lie inside these intervals{f'. Outside: {named}' if named else ''}."
    )


def _name(one: Reproduced) -> tuple[str, str, str]:
    return one.cell.network, one.cell.augmentation, one.cell.variant


def _metric_text(one: Reproduced) -> str:
    return f"{METRIC_NAMES[one.metric]} {'above' if one.source > one.interval.high else 'below'}"
