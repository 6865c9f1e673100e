"""Does pretraining help when labels are few?"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from aepretrain import figures, stats
from aepretrain.config import LABELS, TrainingSpec
from aepretrain.errors import UsageError
from aepretrain.report.answer import Terms, draw_for
from aepretrain.report.findings import number_text, of_text
from aepretrain.report.grid import Experiment, title
from aepretrain.report.numbers import interval_text, p_text
from aepretrain.report.pairs import BySeed, paired, values_of
from aepretrain.report.panel import CURVES_CAPTION, Panel, Picture
from aepretrain.report.query import PROBE_NAMES, Query, score_of
from aepretrain.report.table import MISSING, Table, table_of
from aepretrain.report.wording import verdict_words
from aepretrain.runner import Finished, Study
from aepretrain.stats import Kind, Verdict
from aepretrain.studies.specs import change, pretrainings
from aepretrain.variants import CLASSIFIERS

if TYPE_CHECKING:
    from aepretrain.data import Dataset

UPDATES = 5_000
"""Steps of every training, unless the settings have others: few labels are not to mean little training."""

Curve = Mapping[int, Mapping[str, BySeed]]
"""Trainings by the number of labels and the variant."""

Curves = Mapping[Experiment, Curve]

LABEL_VARIANTS = ("frozen", "finetune", "scratch", "pixels")

TEXT = (
    "Classifiers with few labels, while the autoencoder was pretrained on all images. Labelled images are "
    "class-balanced; within a seed, the smaller sets are parts of the larger ones. Each classifier is trained for the "
    "same number of steps, whatever the number of labels. It is validated about every 100 steps, or once an epoch "
    "where an epoch is longer, on a fifth as many further images, at least 10."
    "\n\n"
    "Verdicts are about the weights with the best validation loss. These may be the first that were validated, after "
    "very little training: the column best after has their median share of all steps. The last weights are beside "
    "them, without a verdict. Where the two differ in sign, neither says that pretraining helps or harms in general. "
    "The p-values of finetune − scratch are adjusted by Holm's method over the planned numbers of labels of one "
    "experiment. The rule is that of the primary comparison, and it too holds only for a number of seeds that was "
    "fixed before the results were seen. In the project's first campaign it was not: earlier reports called its 20 "
    "seeds of fc planned, but that number was written down after results with few labels had been seen. Differences "
    "are in percentage points. Beside a mean is its standard deviation over seeds (±)."
)
CAPTION = f"Above: test accuracy at the best validation loss, by the number of labels. {CURVES_CAPTION}"


def plan(finished: Finished, dataset: "Dataset | None") -> Iterator[TrainingSpec]:
    """Classifiers at each number of labels of which the dataset has enough images of each class."""
    for pretraining, _ in pretrainings(finished):
        updates = pretraining.settings.updates or UPDATES
        for labels in LABELS:
            if dataset is None or _are_there(dataset, pretraining, labels):
                for variant in (*CLASSIFIERS, "pixels"):
                    yield change(pretraining, variant, labels=labels, updates=updates)


def _are_there(dataset: "Dataset", spec: TrainingSpec, labels: int) -> bool:
    """Whether every class has enough images."""
    from aepretrain.data import labelled, split  # which imports PyTorch, and a report needs none

    try:
        return not labels or bool(labelled(dataset, split(dataset, spec.settings.split, spec.seed), labels, spec.seed))
    except UsageError:
        return False


STUDY = Study("labels", ("pretrain",), plan)


def panel(query: Query, terms: Terms) -> Panel:
    """A curve and three tables for each experiment that has trainings with few labels."""
    curves = {
        one: {labels: _of_labels(query, one, labels) for labels in query.labels(one)} for one in query.experiments
    }
    curves = {one: of_labels for one, of_labels in curves.items() if of_labels}
    missing = query.not_run("labels", [one for one in query.experiments if one not in curves])
    if not curves:
        return Panel("Few labels", "The study of few labels was not run", missing)
    compared = {one: _verdicts(one, of_labels, terms.smallest_effect) for one, of_labels in curves.items()}
    tables = []
    for one, of_labels in curves.items():
        tables.append(_labels_table(one, of_labels, compared[one]))
        tables.append(_accuracy_table(one, of_labels, "best validation loss", "test_accuracy"))
        tables.append(_accuracy_table(one, of_labels, "last weights", "last_test_accuracy"))
    steps = ", ".join(f"{num:,}" for num in sorted({query.updates(one) for one in curves}))
    pictures = [Picture.of("labels", _figure(curves, compared, terms.smallest_effect), CAPTION)]
    method = f"{TEXT}\n\nHere: {steps} steps."
    return Panel("Few labels", _finding(compared), missing, tables, pictures, method)


def _finding(compared: Mapping[Experiment, Mapping[int, Verdict]]) -> str:
    kinds = [one.kind for of_sizes in compared.values() for one in of_sizes.values()]
    if all(kind is Kind.NONE for kind in kinds):
        return "There is no verdict by the number of labels yet"
    better, worse = kinds.count(Kind.BETTER), kinds.count(Kind.WORSE)
    tests = of_text(better, len(kinds), "test")
    return (
        f"By the number of labels, finetune was found better than scratch in {tests}, and worse in {number_text(worse)}"
    )


def _figure(curves: Curves, compared: Mapping[Experiment, Mapping[int, Verdict]], negligible: float) -> Figure:
    return figures.curves_and_differences(
        {
            title(one): {
                variant: {
                    _num_labels(trainings): stats.mean_interval(values_of(trainings), 0.95)
                    for of_variants in of_labels.values()
                    if len(trainings := of_variants[variant])
                }
                for variant in LABEL_VARIANTS
            }
            for one, of_labels in curves.items()
        },
        {
            title(one): {
                _num_labels(curves[one][labels]["scratch"]): verdict.difference for labels, verdict in of_sizes.items()
            }
            for one, of_sizes in compared.items()
        },
        negligible,
        PROBE_NAMES,
        "labels to train on",
        in_decades=True,
    )


def _of_labels(query: Query, experiment: Experiment, labels: int) -> dict[str, BySeed]:
    return {
        variant: query.of(experiment, variant, labels=labels, updates=query.updates(experiment))
        for variant in LABEL_VARIANTS
    }


def _num_labels(trainings: BySeed) -> int:
    """The number of labelled training images, which is the same for all seeds."""
    return int(values_of(trainings, "num_labels")[0])


def _verdicts(experiment: Experiment, curve: Curve, smallest_effect: float) -> dict[int, Verdict]:
    """Finetune minus scratch by the number of labels, adjusted over all planned numbers; missing ones have p = 1."""
    differences = {}
    for labels, of_variants in curve.items():
        finetune_S, scratch_S = paired(of_variants["finetune"], of_variants["scratch"])
        if len(finetune_S):
            differences[labels] = finetune_S - scratch_S
    return stats.family_verdicts(
        differences,
        lambda labels: draw_for(f"labels {labels}", experiment),
        smallest_effect,
        num_tests=max(len(LABELS), len(differences)),
    )


def _labels_table(experiment: Experiment, curve: Curve, compared: Mapping[int, Verdict]) -> Table:
    rows = []
    for labels, of_variants in curve.items():
        if labels not in compared:
            rows.append({"labels": _labels_text(labels), "seeds": MISSING})
            continue
        finetune, scratch, verdict = of_variants["finetune"], of_variants["scratch"], compared[labels]
        first_S, second_S = paired(finetune, scratch, ("last_test_accuracy", "last_test_accuracy"))
        rows.append(
            {
                "labels": _labels_text(labels),
                "verdict (best validation loss)": verdict_words(verdict, is_interim=False),
                "seeds": str(verdict.num_seeds),
                "best validation loss (95 % interval)": interval_text(verdict.difference),
                "best after, finetune / scratch": f"{_best_after(finetune)} / {_best_after(scratch)}",
                "p, Holm": p_text(verdict.adjusted_p),
                "last weights (95 % interval)": interval_text(stats.mean_interval(first_S - second_S, 0.95)),
            }
        )
    return table_of(f"{title(experiment)}: finetune − scratch by the number of labels, in points", rows)


def _best_after(trainings: BySeed) -> str:
    """The median share of its steps after which a training had its best weights."""
    return f"{100 * np.median(values_of(trainings, 'best_epoch') / values_of(trainings, 'num_epochs')):.0f} %"


def _accuracy_table(experiment: Experiment, curve: Curve, weights: str, metric: str) -> Table:
    rows = (
        {"labels": _labels_text(labels)}
        | {PROBE_NAMES.get(variant, variant): score_of(of_variants[variant], metric) for variant in LABEL_VARIANTS}
        for labels, of_variants in curve.items()
    )
    return table_of(f"{title(experiment)}: test accuracy by the number of labels, {weights}", rows)


def _labels_text(labels: int) -> str:
    return f"{labels:,}" if labels else "all"
