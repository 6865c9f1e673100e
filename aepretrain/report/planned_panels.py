"""The panels of a plan: its question and verdicts, the map, the checkpoints, and the encoders."""

import shlex
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from matplotlib.figure import Figure

from aepretrain import figures
from aepretrain.config import command_text
from aepretrain.figures import Point
from aepretrain.records import Archive
from aepretrain.report.diagnostics import diagnostics_panel
from aepretrain.report.explore import map_specs
from aepretrain.report.findings import counted
from aepretrain.report.judged_wording import counts_text, name_text
from aepretrain.report.numbers import interval_text
from aepretrain.report.pairs import values_of
from aepretrain.report.panel import Panel, Picture
from aepretrain.report.planned import CHECKPOINTS, PlanResults, Result
from aepretrain.report.planned_tables import (
    checkpoint_tables,
    family_tables,
    pooled_tables,
    undecidable_tables,
    words_table,
)
from aepretrain.report.planned_wording import (
    condition_text,
    dataset_text,
    doubts,
    effect_text,
    labels_text,
    picture_name,
    place_text,
    standing,
    summary,
    title,
)
from aepretrain.stats import Kind

OBJECTIVES_TEXT = (
    "What the autoencoder must learn is its objective. reconstruct: the image as it is, back again. pixel-mask, "
    "patch-mask and gaussian-noise: the clean image, from one of which pixels or patches are hidden, or to which noise "
    "is added. Hiding pixels also regularises a classifier. So finetune is compared with scratch, and with scratch "
    "whose training images are corrupted in the same way: only a gain over both is one of pretraining."
)
RULE_TEXT = (
    "A difference is found where the p-value of a two-sided sign-flip test, adjusted by Holm's method over the "
    "family's planned tests, is below {alpha:g} %. Tests without trainings count with p = 1. The 90 % interval of the "
    "mean difference, compared with ±{effect}, says whether the size is negligible, settled or unsettled. "
    "Verdicts are at equal settings and about the weights with the best validation loss. The probability of "
    "improvement is that of a run of the first over a run of the second, of any two seeds. A result is exploratory "
    "where a training that it counts was not started under the plan."
)
TUNED_TEXT = (
    "Here each arm has the learning rate and weight decay that tuning chose for it (see Tuning). These tests are "
    "corrected apart from those at equal settings. All else is as there."
)
NOT_TUNED_TEXT = (
    "The plan also compares arms at their best settings, for {networks}. These comparisons are judged when all arms "
    "are tuned: {tune}, then {run}"
)
POOLED_TEXT = (
    "Pooled are experiments with seeds enough for a verdict: random effects, Hartung-Knapp interval. τ is the standard "
    "deviation of the experiments' true effects, I² the share of variation that is not chance. Pooled differences have "
    "no verdict."
)
MAP_CAPTION = (
    "{name} against the number of labels: means over seeds with 95 % intervals, moved sideways so that they do not "
    "overlap. Filled: better or worse. Hollow: all other verdicts. Grey band: differences that count as negligible. "
    "Vertical axes differ. What is not trained yet has no point."
)
ROWS_CAPTION = (
    "{name}: means over seeds with 95 % intervals. Filled: better or worse. Hollow: all other verdicts. Grey band: "
    "differences that count as negligible. Axes differ."
)
CHECKPOINTS_TEXT = (
    "The verdicts are about the weights with the best validation loss. Here are the same differences at the epoch with "
    "the best validation accuracy and at the last epoch, and, for the weights with the best validation loss, on the "
    "validation images: a second set of images, on which both sides chose their epoch in the same way. Trainings from "
    "before these figures were recorded have none."
)
UNKNOWN_CHECKPOINTS = "The figures of further checkpoints are not known yet"
CHECKPOINTS_CAPTION = (
    "{name} by checkpoint, and on validation images: means over seeds with 95 % intervals. Grey band: differences that "
    "count as negligible. Axes differ."
)


def plan_panels(
    of: PlanResults, archive: Archive, place: Mapping[str, Any], *, is_of_grid: bool = False
) -> list[Panel]:
    """The panels of a plan, in order; what is not trained yet is called missing.

    `place` has options of the commands that the page suggests. With `is_of_grid` the page shows the same comparisons as
    those of its grid, and here they are folded.
    """
    panels = [[_verdicts_panel(one, archive, place, is_folded=is_of_grid), _checkpoints_panel(one)] for one in of.parts]
    return [*chain.from_iterable(panels), diagnostics_panel(of, archive)]


def _verdicts_panel(of: PlanResults, archive: Archive, place: Mapping[str, Any], *, is_folded: bool) -> Panel:
    pooled = pooled_tables(of)
    explained = [TUNED_TEXT] if of.is_tuned else [OBJECTIVES_TEXT, _rule(of, place), POOLED_TEXT if pooled else ""]
    texts = [summary(of), doubts(of), standing(of)]
    words = words_table(of)
    tables = [*family_tables(of), *pooled, *([words] if len(words[1]) > 1 else []), *undecidable_tables(of, archive)]
    pictures = list(map_pictures(of))
    main = of.of(of.plan.compared[0])
    start = "So far, " if any(one.is_interim for one in main) else ""
    finding = f"{start}{name_text(of.plan.compared[0])}: {counts_text(main)}"
    explanation = "\n\n".join(explained)
    topic, text = f"Plan {title(of)}", "\n\n".join(texts)
    if is_folded:
        return Panel(topic, finding, text, tables, method=explanation, more=pictures, num_shown=0)
    others = pictures if of.is_tuned else pictures[1:]  # the first is in the page's opening
    return Panel(topic, finding, text, tables, others[:1], explanation, others[1:])


def _rule(of: PlanResults, place: Mapping[str, Any]) -> str:
    """How verdicts are found, and which comparisons are not judged yet."""
    rule = RULE_TEXT.format(alpha=100 * of.plan.alpha, effect=effect_text(of))
    if of.plan.tuned is None or of.tuned is not None:
        return rule
    path = shlex.quote(of.plan.path)
    tune, run = (command_text(f"aepretrain {words}", place) for words in (f"tune {path}", f"run {path} --tuned"))
    return f"{rule}\n\n{NOT_TUNED_TEXT.format(networks=', '.join(of.plan.tuned.networks), tune=tune, run=run)}"


def map_pictures(of: PlanResults) -> Iterator[Picture]:
    """A figure for each comparison: curves over the number of labels, or rows where the plan has only one number."""
    for number, name in enumerate(of.plan.compared, start=1):
        results = [one for one in of.of(name) if one.comparison]
        if not results:
            continue
        listed = (
            f"{place_text(of.plan, one.planned)}, {condition_text(of.plan, one.planned)} "
            f"{interval_text(one.verdict.difference)}"
            for one in results
        )
        numbers = f"Mean differences in points (95 % interval): {'; '.join(listed)}."
        is_map = len(of.plan.labels) > 1
        drawn = _curves(of, name) if is_map else _rows(of, name)
        caption = (MAP_CAPTION if is_map else ROWS_CAPTION).format(name=name_text(name))
        specs = map_specs(of, name) if is_map else ()
        yield Picture.of(f"map-{picture_name(of)}-{number}", drawn, caption, numbers, specs)


def _curves(of: PlanResults, name: str) -> Figure:
    places = _label_places(of)
    panels: dict[str, dict[str, dict[float, Point]]] = {}
    for one in sorted(of.of(name), key=lambda one: places[one.planned.labels]):
        of_objective = panels.setdefault(place_text(of.plan, one.planned), {}).setdefault(one.planned.objective, {})
        if one.comparison:
            of_objective[places[one.planned.labels]] = _point(one)
    ticks = {place: labels_text(labels) for labels, place in places.items()}
    return figures.effect_map(name_text(name), panels, ticks, _negligible(of, name))


def _label_places(of: PlanResults) -> dict[int, float]:
    """Where each number of labels stands on the axis; all labels where the trainings say how many these are."""
    few = [num for num in of.plan.labels if num]
    counts = [values_of(side, "num_labels") for one in of.results if not one.planned.labels for side in (one.first,)]
    known = max((float(count[0]) for count in counts if len(count)), default=10.0 * max(few))
    return {num: float(num) or known for num in of.plan.labels}


def _rows(of: PlanResults, name: str) -> Figure:
    panels = {
        title: {row: {name: _point(one)} if one.comparison else {} for row, one in rows.items()}
        for title, rows in _by_place(of, name).items()
    }
    return figures.forest(name_text(name), panels, [name], _negligible(of, name))


def _by_place(of: PlanResults, name: str) -> Mapping[str, Mapping[str, Result]]:
    """The results of a comparison by panel and row: rows are conditions, or places where there is one condition."""
    panels: dict[str, dict[str, Result]] = {}
    for one in of.of(name):
        place, condition = place_text(of.plan, one.planned), condition_text(of.plan, one.planned)
        if len(of.plan.objectives) == len(of.plan.labels) == 1:
            place, condition = dataset_text(one.planned.dataset), f"{one.planned.network}, {one.planned.augmentation}"
        panels.setdefault(place, {})[condition] = one
    return panels


def _negligible(of: PlanResults, name: str) -> dict[str, float]:
    """The smallest effect of each panel of a comparison, where it is known: a panel is about one dataset."""
    datasets = {place: next(iter(rows.values())).planned.dataset for place, rows in _by_place(of, name).items()}
    return {place: of.effects[dataset] for place, dataset in datasets.items() if dataset in of.effects}


def _point(result: Result) -> Point:
    return Point(result.verdict.difference, result.verdict.kind in (Kind.BETTER, Kind.WORSE))


def _checkpoints_panel(of: PlanResults) -> Panel:
    """The differences of all comparisons by checkpoint, and a figure of each comparison."""
    pictures = [
        Picture.of(
            f"checkpoints-{picture_name(of)}-{number}",
            figures.forest(name_text(name), _checkpoint_points(of, name), list(CHECKPOINTS), _negligible(of, name)),
            CHECKPOINTS_CAPTION.format(name=name_text(name)),
        )
        for number, name in enumerate(of.plan.compared, start=1)
        if any(one.comparison for one in of.of(name))
    ]
    finding, tables = _checkpoints_finding(of), checkpoint_tables(of) if pictures else ()
    topic = f"Checkpoints, plan {title(of)}"
    why = f"{finding}." if finding != UNKNOWN_CHECKPOINTS else ""
    return Panel(topic, finding, "", tables, pictures[:1], CHECKPOINTS_TEXT, pictures[1:], why)


def _checkpoints_finding(of: PlanResults) -> str:
    """In how many places the sign of the plan's first comparison is the same at each checkpoint and on both images."""
    name = of.plan.compared[0]
    means = [[one.difference(figure) for figure in CHECKPOINTS.values()] for one in of.of(name)]
    known = [[mean.value > 0 for mean in of_place if mean] for of_place in means if all(of_place)]
    if not known:
        return UNKNOWN_CHECKPOINTS
    alike = sum(len(set(signs)) == 1 for signs in known)
    where = counted(alike, len(known), "test")
    return f"{name_text(name)} has the same sign at three checkpoints and on validation images in {where}"


def _checkpoint_points(of: PlanResults, name: str) -> dict[str, dict[str, dict[str, Point]]]:
    return {
        title: {
            row: {
                series: Point(mean)
                for series, figure in CHECKPOINTS.items()
                if (mean := one.difference(figure)) is not None
            }
            for row, one in rows.items()
        }
        for title, rows in _by_place(of, name).items()
    }
