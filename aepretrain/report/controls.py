"""The panel of the controls: what the grid's columns have to be held against."""

from collections.abc import Mapping

from aepretrain import figures
from aepretrain.report.answer import Experiment
from aepretrain.report.found import PROBE_NAMES, Found, difference_of, score_of, values_of
from aepretrain.report.pairs import BySeed
from aepretrain.report.panel import Panel, Picture, not_run
from aepretrain.report.table import Table
from aepretrain.report.wording import title
from aepretrain.spec import PROBES

CONTROLS_TEXT = (
    "The first table holds the frozen column against the same head without the autoencoder: on the network's encoder "
    "at its random start, on the pixels as they are, and on as many principal components of the training images as the "
    "code has features; the second has the differences. The third gives scratch as many epochs, without patience, as "
    "pretraining and finetuning took together in the same seed. The fourth lets the autoencoder restore what was "
    "erased instead of reproducing its input. Differences are paired by seed, over the n seeds that have both sides; "
    "intervals are of 95 %, without adjustment and without a verdict. Beside a mean stands its standard deviation over "
    "seeds (±)."
)
PROBES_CAPTION = "Test accuracy of a linear head: a dot for each seed, a bar for their mean with its 95 % interval."


def controls_panel(found: Found) -> Panel:
    """Probes, scratch with as much training, and clean targets, as far as they were trained."""
    probes = {one: {probe: found.of(one, probe) for probe in PROBES} for one in found.experiments}
    budgets = {one: found.fair_budget(one) for one in found.experiments}
    clean = {
        one: {variant: found.of(one, variant, ae_target="clean") for variant in ("frozen", "finetune")}
        for one in found.experiments
        if one[1] != "none" and found.grid.settings.get("ae_target") == "input"
    }
    tables = []
    if any(of_probe for of_probes in probes.values() for of_probe in of_probes.values()):
        tables += [_probe_table(found, probes), _probe_differences(found, probes)]
    if any(budgets.values()):
        tables.append(_budget_table(found, budgets))
    if any(of_variant for of_variants in clean.values() for of_variant in of_variants.values()):
        tables.append(_clean_table(found, clean))
    if not tables:
        return Panel("Controls", not_run("controls", found.experiments))
    return Panel("Controls", CONTROLS_TEXT, tables, [_probe_picture(found, probes)])


def _probe_table(found: Found, probes: Mapping[Experiment, Mapping[str, BySeed]]) -> Table:
    rows = [["experiment", "frozen", *PROBE_NAMES.values()]]
    for one, of_probes in probes.items():
        rows.append([title(one), *map(score_of, (found.of(one, "frozen"), *of_probes.values()))])
    return "The same head with and without the autoencoder, test accuracy", rows


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
        "scratch, as long, best validation",
        "scratch, as long, last weights",
        "finetune − best validation",
        "finetune − last weights",
    ]
    rows = []
    for one, scratch in budgets.items():
        finetune = found.of(one, "finetune")
        scores = [score_of(finetune), score_of(scratch), score_of(scratch, "last_test_accuracy")]
        differences = [difference_of(finetune, scratch), difference_of(finetune, scratch, "last_test_accuracy")]
        rows.append([title(one), *scores, *differences])
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
        title(one).replace(", ", "\n"): {
            variant: values_of(by_seed).tolist()
            for variant, by_seed in {"frozen": found.of(one, "frozen"), **of_probes}.items()
        }
        for one, of_probes in probes.items()
    }
    drawn = figures.accuracies("Heads on fixed encoders", accuracies, PROBE_NAMES)
    return Picture.of("controls", drawn, PROBES_CAPTION)
