"""The panel of few labels: accuracy against the number of labelled images."""

from collections.abc import Mapping

import numpy as np

from aepretrain import figures, stats
from aepretrain.config import LABELS
from aepretrain.records import Record
from aepretrain.report.answer import Plan, draw_for
from aepretrain.report.grid import Experiment, title
from aepretrain.report.numbers import interval_text, p_text
from aepretrain.report.pairs import BySeed, paired
from aepretrain.report.panel import Panel, Picture, not_run
from aepretrain.report.query import PROBE_NAMES, Found, score_of, values_of
from aepretrain.report.table import MISSING, Table
from aepretrain.report.wording import verdict_words
from aepretrain.stats import Comparison

LABEL_VARIANTS = ("frozen", "finetune", "scratch", "pixels")

LABELS_TEXT = (
    "Classifiers that are given few labels, class-balanced and nested within a seed, while the autoencoder was "
    "pretrained on all images. Each is trained for the same number of steps, whatever the number of labels, and "
    "validated every 100 steps or as often as it has seen its images once, on a fifth as many further images, at least "
    "10."
    "\n\n"
    "Verdicts are about the weights with the best validation loss, and these may be the first that were validated "
    "(the column best after has the share of all steps, a median): what is compared there was trained very "
    "briefly. The last weights, with no verdict, stand beside them; where the two differ in sign, neither "
    "says that pretraining helps or harms in general. The p-values of finetune − scratch are adjusted by Holm's method "
    "over the planned numbers of labels of one experiment. The rule is that of the primary comparison, and as there a "
    "verdict is worth what it says only at a number of seeds that was fixed beforehand. Differences are in percentage "
    "points; beside a mean stands its standard deviation over seeds (±)."
)
LABELS_CAPTION = (
    "Above, test accuracy at the best validation loss against labels, mean and its 95 % interval over seeds; marks are "
    "moved apart sideways. Below, finetune − scratch, paired by seed; the grey band holds differences that count as "
    "negligible. Axes of differences differ from experiment to experiment."
)


def labels_panel(found: Found, plan: Plan) -> Panel:
    """A curve and a table for each experiment whose trainings with few labels are there."""
    curves = {
        one: {labels: _of_labels(found, one, labels) for labels in found.labels(one)} for one in found.experiments
    }
    curves = {one: of_labels for one, of_labels in curves.items() if of_labels}
    missing = not_run("labels", [one for one in found.experiments if one not in curves])
    if not curves:
        return Panel("Few labels", missing)
    compared = {one: _compared(one, of_labels, plan.smallest_effect) for one, of_labels in curves.items()}
    tables = []
    for one, of_labels in curves.items():
        tables.append(_labels_table(one, of_labels, compared[one], plan.num_label_seeds.get(one[0])))
        tables.append(_accuracy_table(one, of_labels, "best validation loss", "test_accuracy"))
        tables.append(_accuracy_table(one, of_labels, "last weights", "last_test_accuracy"))
    drawn = figures.curves_and_differences(
        {
            title(one): {
                variant: {
                    _num_labels(by_seed): stats.mean_interval(values_of(by_seed), 0.95)
                    for of_variants in of_labels.values()
                    if (by_seed := of_variants[variant])
                }
                for variant in LABEL_VARIANTS
            }
            for one, of_labels in curves.items()
        },
        {
            title(one): {
                _num_labels(curves[one][labels]["scratch"]): comparison.difference
                for labels, comparison in of_sizes.items()
            }
            for one, of_sizes in compared.items()
        },
        plan.smallest_effect,
        PROBE_NAMES,
        "labels to train on\n(and a fifth as many, at least 10, to validate)",
        in_decades=True,
    )
    steps = ", ".join(f"{num:,}" for num in sorted({found.updates(one) for one in curves}))
    text = f"{LABELS_TEXT}\n\nHere: {steps} steps.\n\n{missing}"
    return Panel("Few labels", text, tables, [Picture.of("labels", drawn, LABELS_CAPTION)])


def _of_labels(found: Found, experiment: Experiment, labels: int) -> dict[str, dict[int, Record]]:
    return {
        variant: found.of(experiment, variant, labels=labels, updates=found.updates(experiment))
        for variant in LABEL_VARIANTS
    }


def _num_labels(by_seed: BySeed) -> int:
    """The number of labelled training images, which is the same for all seeds."""
    return round(next(iter(by_seed.values())).metrics["num_labels"])


def _compared(
    experiment: Experiment, curve: Mapping[int, Mapping[str, BySeed]], smallest_effect: float
) -> dict[int, Comparison]:
    """Finetune minus scratch at each number of labels, judged over all that are planned; a missing one has p = 1."""
    compared = {}
    for labels, of_variants in curve.items():
        finetune_S, scratch_S = paired(of_variants["finetune"], of_variants["scratch"])
        if len(finetune_S):
            draw = draw_for(f"labels {labels}", experiment)
            compared[labels] = stats.compare(finetune_S, scratch_S, draw, smallest_effect)
    return stats.judge(compared, max(len(LABELS), len(compared)))


def _labels_table(
    experiment: Experiment,
    curve: Mapping[int, Mapping[str, BySeed]],
    compared: Mapping[int, Comparison],
    planned: int | None,
) -> Table:
    heading = [
        "labels",
        "seeds",
        "best validation loss (95 % interval)",
        "best after, finetune / scratch",
        "p, Holm",
        "verdict (best validation loss)",
        "last weights (95 % interval)",
    ]
    rows = []
    for labels, of_variants in curve.items():
        finetune, scratch = of_variants["finetune"], of_variants["scratch"]
        comparison = compared.get(labels)
        last = paired(finetune, scratch, ("last_test_accuracy", "last_test_accuracy"))
        rows.append(
            [_labels_text(labels), *[MISSING] * (len(heading) - 1)]
            if comparison is None
            else [
                _labels_text(labels),
                f"{comparison.num_seeds}{f' of {planned} planned' if planned else ''}",
                interval_text(comparison.difference),
                f"{_best_after(finetune)} / {_best_after(scratch)}",
                p_text(comparison.adjusted_p),
                verdict_words(comparison, is_interim=comparison.num_seeds < (planned or 0)),
                interval_text(stats.mean_interval(last[0] - last[1], 0.95)),
            ]
        )
    return f"{title(experiment)}: finetune − scratch by the number of labels, in points", [heading, *rows]


def _best_after(by_seed: BySeed) -> str:
    """The share of its steps after which the median training had its best weights."""
    return f"{100 * np.median(values_of(by_seed, 'best_epoch') / values_of(by_seed, 'num_epochs')):.0f} %"


def _accuracy_table(
    experiment: Experiment, curve: Mapping[int, Mapping[str, BySeed]], weights: str, metric: str
) -> Table:
    heading = ["labels", *(PROBE_NAMES.get(variant, variant) for variant in LABEL_VARIANTS)]
    rows = [
        [_labels_text(labels), *(score_of(of_variants[variant], metric) for variant in LABEL_VARIANTS)]
        for labels, of_variants in curve.items()
    ]
    return f"{title(experiment)}: test accuracy by the number of labels, {weights}", [heading, *rows]


def _labels_text(labels: int) -> str:
    return f"{labels:,}" if labels else "all"
