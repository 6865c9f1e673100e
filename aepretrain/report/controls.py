"""The panel of the controls: what the grid's columns have to be held against."""

from collections.abc import Mapping

import numpy as np

from aepretrain import figures
from aepretrain.report.grid import Experiment, title
from aepretrain.report.pairs import BySeed, paired
from aepretrain.report.panel import Panel, Picture, not_run
from aepretrain.report.query import PROBE_NAMES, Found, difference_of, num_at_limit, score_of, values_of
from aepretrain.report.table import Table
from aepretrain.variants import PROBES

CONTROLS_TEXT = (
    "The first table holds the frozen column against the same head without the autoencoder: on the network's encoder "
    "at its random start, on the pixels as they are, and on as many principal components of the training images as the "
    "code has features; the second has the differences. A head that ended at the limit of epochs, which the first "
    "table counts, might have become better still."
    "\n\n"
    "The third table gives scratch as many epochs, without patience, as pretraining and finetuning took together in "
    "the same seed. At the best validation loss more epochs change something only where the best one comes later, "
    "which the last column counts; the difference to the last weights mixes budget and choice of weights, for finetune "
    "is always taken at its best validation loss. The fourth table lets the autoencoder restore what was erased "
    "instead of reproducing its input."
    "\n\n"
    "Differences are in percentage points, paired by seed, over the n seeds that have both sides; intervals are of "
    "95 %, without adjustment and without a verdict. Beside a mean stands its standard deviation over seeds (±)."
)
PROBES_CAPTION = "Test accuracy of a linear head: a dot for each seed, a bar for their mean with its 95 % interval."


def controls_panel(found: Found) -> Panel:
    """Probes, scratch with as much training, and clean targets, as far as they were trained."""
    probes = _having({one: {probe: found.of(one, probe) for probe in PROBES} for one in found.experiments})
    budgets = {one: scratch for one in found.experiments if (scratch := found.fair_budget(one))}
    clean = _having(
        {
            one: {variant: found.of(one, variant, ae_target="clean") for variant in ("frozen", "finetune")}
            for one in found.experiments
            if one[1] != "none" and found.grid.settings.get("ae_target") == "input"
        }
    )
    trained = {*probes, *budgets, *clean}
    missing = not_run("controls", [one for one in found.experiments if one not in trained])
    if not trained:
        return Panel("Controls", missing)
    tables, pictures = [], []
    if probes:
        tables += [_probe_table(found, probes), _probe_differences(found, probes)]
        pictures.append(_probe_picture(found, probes))
    if budgets:
        tables.append(_budget_table(found, budgets))
    if clean:
        tables.append(_clean_table(found, clean))
    return Panel("Controls", f"{CONTROLS_TEXT}\n\n{missing}", tables, pictures)


def _having(of_experiments: Mapping[Experiment, Mapping[str, BySeed]]) -> dict[Experiment, Mapping[str, BySeed]]:
    """Those experiments of which something was trained."""
    return {one: of_variants for one, of_variants in of_experiments.items() if any(of_variants.values())}


def _probe_table(found: Found, probes: Mapping[Experiment, Mapping[str, BySeed]]) -> Table:
    rows = [["experiment", "frozen", *PROBE_NAMES.values()]]
    for one, of_probes in probes.items():
        heads = found.of(one, "frozen"), *of_probes.values()
        rows.append([title(one), *(f"{score_of(by_seed)}{_at_limit(by_seed)}" for by_seed in heads)])
    return "The same head with and without the autoencoder, test accuracy", rows


def _at_limit(by_seed: BySeed) -> str:
    """How many ended because there were no more epochs."""
    num = num_at_limit(by_seed.values(), "cls_epochs")
    return f", {num} at the limit" if num else ""


def _probe_differences(found: Found, probes: Mapping[Experiment, Mapping[str, BySeed]]) -> Table:
    rows = [["experiment", *(f"frozen − {name}" for name in PROBE_NAMES.values())]]
    for one, of_probes in probes.items():
        frozen = found.of(one, "frozen")
        rows.append([title(one), *(difference_of(frozen, by_seed) for by_seed in of_probes.values())])
    return "Frozen minus each of them, test accuracy", rows


def _budget_table(found: Found, budgets: Mapping[Experiment, BySeed]) -> Table:
    heading = [
        "experiment",
        "finetune",
        "scratch as long, best validation",
        "scratch as long, last weights",
        "finetune − scratch as long, best validation",
        "finetune − scratch as long, last weights",
        "later best epoch",
    ]
    rows = []
    for one, scratch in budgets.items():
        finetune = found.of(one, "finetune")
        scores = [score_of(finetune), score_of(scratch), score_of(scratch, "last_test_accuracy")]
        differences = [difference_of(finetune, scratch), difference_of(finetune, scratch, "last_test_accuracy")]
        longer, usual = paired(scratch, found.of(one, "scratch"), ("best_epoch", "best_epoch"))
        rows.append([title(one), *scores, *differences, f"{np.count_nonzero(longer > usual)} of {len(longer)}"])
    return "Scratch with the epochs of pretraining and finetuning together, test accuracy", [heading, *rows]


def _clean_table(found: Found, clean: Mapping[Experiment, Mapping[str, BySeed]]) -> Table:
    heading = ["experiment", "variant", "target as erased", "target clean", "clean − as erased"]
    rows = []
    for one, of_variants in clean.items():
        for variant, restored in of_variants.items():
            erased = found.of(one, variant)
            rows.append([title(one), variant, score_of(erased), score_of(restored), difference_of(restored, erased)])
    return "The autoencoder's target under erasing, test accuracy", [heading, *rows]


def _probe_picture(found: Found, probes: Mapping[Experiment, Mapping[str, BySeed]]) -> Picture:
    accuracies = {
        "\n".join(one): {
            variant: values_of(by_seed).tolist()
            for variant, by_seed in {"frozen": found.of(one, "frozen"), **of_probes}.items()
        }
        for one, of_probes in probes.items()
    }
    drawn = figures.accuracies("Heads on fixed encoders", accuracies, PROBE_NAMES)
    return Picture.of("controls", drawn, PROBES_CAPTION)
