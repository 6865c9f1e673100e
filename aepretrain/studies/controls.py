"""Does the frozen column mean anything? Is it the pretraining, or just more training?"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from aepretrain import figures, stats
from aepretrain.config import TrainingSpec
from aepretrain.report.answer import Terms
from aepretrain.report.findings import described, headline
from aepretrain.report.grid import Experiment, title
from aepretrain.report.pairs import BySeed, paired, values_of
from aepretrain.report.panel import Panel, Picture
from aepretrain.report.query import PROBE_NAMES, Query, difference_of, num_at_limit, score_of
from aepretrain.report.table import Table, table_of
from aepretrain.runner import Finished, Study
from aepretrain.stats import Estimate
from aepretrain.studies.specs import change, pretrainings
from aepretrain.variants import GRID_VARIANTS, PROBES

if TYPE_CHECKING:
    from aepretrain.data import Dataset

TEXT = (
    "The first table compares the frozen column with the same head without the autoencoder: on the network's random "
    "encoder, on the raw pixels, and on principal components of the training images, as many as the code has features. "
    "The second table has the differences. The first table counts the heads that ended at the limit of epochs; they "
    "might have improved further."
    "\n\n"
    "The third table gives scratch as many epochs as pretraining and finetuning took together in the same seed, "
    "without patience. With the best validation weights, more epochs change the result only where the best epoch comes "
    "later; the last column counts these seeds. The difference to the last weights mixes budget and choice of weights, "
    "because finetune always has its best validation weights. In the fourth table the autoencoder restores what was "
    "erased instead of reproducing its input."
    "\n\n"
    "Differences are in percentage points, paired by seed, over the n seeds that have both sides. Intervals are 95 % "
    "intervals, without adjustment and without a verdict. Beside a mean is its standard deviation over seeds (±)."
)
CAPTION = "Test accuracy of a linear head. Dots: one seed each. Bars: their mean with its 95 % interval."


def plan(finished: Finished, _dataset: "Dataset | None") -> Iterator[TrainingSpec]:
    """The probes, scratch with the epochs of pretraining and finetuning together, and clean targets under erasing."""
    for pretraining, record in pretrainings(finished):
        for probe in PROBES:
            yield replace(pretraining, variant=probe)
        finetune = finished.get(replace(pretraining, variant="finetune"))
        if finetune is not None:
            epochs = round(record.metrics["num_epochs"] + finetune.metrics["num_epochs"])
            yield change(pretraining, "scratch", patience=0, cls_epochs=epochs)
        if pretraining.augmentation == "erasing" and pretraining.settings.ae_target == "input":
            for variant in ("pretrain", "frozen", "finetune"):
                yield change(pretraining, variant, ae_target="clean")


STUDY = Study("controls", GRID_VARIANTS, plan, follows_results=True)


def panel(query: Query, _terms: Terms) -> Panel:
    """Probes, scratch with as much training, and clean targets, as far as they were trained."""
    probes = _trained({one: {probe: query.of(one, probe) for probe in PROBES} for one in query.experiments})
    budgets = {one: scratch for one in query.experiments if len(scratch := query.fair_budget(one))}
    clean = _trained(
        {
            one: {variant: query.of(one, variant, ae_target="clean") for variant in ("frozen", "finetune")}
            for one in query.experiments
            if one[1] != "none" and query.grid.settings.get("ae_target") == "input"
        }
    )
    trained = {*probes, *budgets, *clean}
    missing = query.not_run("controls", [one for one in query.experiments if one not in trained])
    if not trained:
        return Panel("Controls", "The controls were not run", missing)
    tables, pictures = [], []
    if probes:
        tables += [_probe_table(query, probes), _probe_differences(query, probes)]
        pictures.append(_probe_picture(query, probes))
    if budgets:
        tables.append(_budget_table(query, budgets))
    if clean:
        tables.append(_clean_table(query, clean))
    text = "\n\n".join([_unfinished(query, probes), missing])
    return Panel("Controls", _finding(query, probes), text, tables, pictures, TEXT, why=_why(query, probes, budgets))


def _unfinished(query: Query, probes: Mapping[Experiment, Mapping[str, BySeed]]) -> str:
    """How many frozen heads ended at the limit of epochs; empty for none."""
    heads = [query.of(one, "frozen") for one in probes]
    num = sum(num_at_limit(one, "cls_epochs") for one in heads if len(one))
    if not num:
        return ""
    return (
        f"{num} of {sum(map(len, heads))} frozen heads ended at the limit of epochs, and might have improved further."
    )


def _finding(query: Query, probes: Mapping[Experiment, Mapping[str, BySeed]]) -> str:
    said = _against(query, probes, "pixels")
    return headline(said) if said else "What scratch does with more training, and the autoencoder's target"


def _against(query: Query, probes: Mapping[Experiment, Mapping[str, BySeed]], probe: str) -> str:
    """The frozen codes against what stands in for them."""
    found = {title(one): mean for one in probes if (mean := _mean(query.of(one, "frozen"), probes[one][probe]))}
    second = {"pixels": "raw pixels", "random": "those of a random encoder"}[probe]
    return described(found, "frozen codes", second, total=len(query.experiments))


def _why(query: Query, probes: Mapping[Experiment, Mapping[str, BySeed]], budgets: Mapping[Experiment, BySeed]) -> str:
    """What the codes are worth to a linear head, and what is left of a difference where scratch trains as long."""
    longer = {
        title(one): mean for one, scratch in budgets.items() if (mean := _mean(query.of(one, "finetune"), scratch))
    }
    found = (
        _against(query, probes, "random"),
        _against(query, probes, "pixels"),
        described(
            longer,
            "fine-tuned networks",
            "networks from scratch with as many epochs in all (best validation loss)",
            total=len(query.experiments),
        ),
    )
    return " ".join(f"{headline(one)}." for one in found if one)


def _mean(first: BySeed, second: BySeed) -> Estimate | None:
    first_S, second_S = paired(first, second)
    return stats.mean_interval(first_S - second_S, 0.95) if len(first_S) else None


def _trained(of_experiments: Mapping[Experiment, Mapping[str, BySeed]]) -> dict[Experiment, Mapping[str, BySeed]]:
    """The experiments of which some variant was trained."""
    return {one: variants for one, variants in of_experiments.items() if any(map(len, variants.values()))}


def _probe_table(query: Query, probes: Mapping[Experiment, Mapping[str, BySeed]]) -> Table:
    rows = (
        {"experiment": title(one), "frozen": _score_text(query.of(one, "frozen"))}
        | {PROBE_NAMES[probe]: _score_text(trainings) for probe, trainings in of_probes.items()}
        for one, of_probes in probes.items()
    )
    return table_of("The same head with and without the autoencoder, test accuracy", rows)


def _score_text(trainings: BySeed) -> str:
    """Test accuracy, and how many trainings ended at the limit of epochs."""
    num = num_at_limit(trainings, "cls_epochs")
    return f"{score_of(trainings)}{f', {num} at the limit' if num else ''}"


def _probe_differences(query: Query, probes: Mapping[Experiment, Mapping[str, BySeed]]) -> Table:
    rows = (
        {"experiment": title(one)}
        | {f"frozen − {PROBE_NAMES[name]}": difference_of(query.of(one, "frozen"), of_probes[name]) for name in PROBES}
        for one, of_probes in probes.items()
    )
    return table_of("Frozen minus each of them, test accuracy", rows)


def _budget_table(query: Query, budgets: Mapping[Experiment, BySeed]) -> Table:
    rows = []
    for one, scratch in budgets.items():
        finetune, last = query.of(one, "finetune"), "last_test_accuracy"
        longer_S, usual_S = paired(scratch, query.of(one, "scratch"), ("best_epoch", "best_epoch"))
        row = {
            "experiment": title(one),
            "finetune": score_of(finetune),
            "scratch as long, best validation": score_of(scratch),
            "scratch as long, last weights": score_of(scratch, last),
            "finetune − scratch as long, best validation": difference_of(finetune, scratch),
            "finetune − scratch as long, last weights": difference_of(finetune, scratch, last),
            "later best epoch": f"{np.count_nonzero(longer_S > usual_S)} of {len(longer_S)}",
        }
        rows.append(row)
    return table_of("Scratch with the epochs of pretraining and finetuning together, test accuracy", rows)


def _clean_table(query: Query, clean: Mapping[Experiment, Mapping[str, BySeed]]) -> Table:
    rows = (
        {
            "experiment": title(one),
            "variant": variant,
            "target as erased": score_of(query.of(one, variant)),
            "target clean": score_of(restored),
            "clean − as erased": difference_of(restored, query.of(one, variant)),
        }
        for one, of_variants in clean.items()
        for variant, restored in of_variants.items()
    )
    return table_of("The autoencoder's target under erasing, test accuracy", rows)


def _probe_picture(query: Query, probes: Mapping[Experiment, Mapping[str, BySeed]]) -> Picture:
    accuracies = {
        "\n".join(one): {
            variant: values_of(trainings).tolist()
            for variant, trainings in {"frozen": query.of(one, "frozen"), **of_probes}.items()
        }
        for one, of_probes in probes.items()
    }
    drawn = figures.accuracies("Heads on fixed encoders", accuracies, PROBE_NAMES)
    return Picture.of("controls", drawn, CAPTION)
