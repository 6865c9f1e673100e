"""The panels of what was asked of finished trainings: erased test images, and how alike encoders are."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from aepretrain import figures, stats
from aepretrain.report.grid import Experiment, Score, title
from aepretrain.report.numbers import interval_text
from aepretrain.report.pairs import BySeed
from aepretrain.report.panel import Panel, Picture, not_run
from aepretrain.report.query import Found, values_of
from aepretrain.report.table import Table
from aepretrain.stats import Estimate
from aepretrain.variants import CLASSIFIERS

ROBUSTNESS_TEXT = (
    "The classifiers of the grid on test images of which a rectangle is erased (made black), the same for every "
    "classifier and seed. NLL is the negative log-likelihood in nats, ECE the expected calibration error with 15 bins. "
    "Differences are in percentage points, paired by seed, with 95 % intervals, without adjustment and without a "
    "verdict; beside a mean stands its standard deviation over seeds (±)."
)
ERASED = "erased share of the image (%)"
ROBUSTNESS_CAPTION = (
    "Above, test accuracy against the erased share of the image, mean and its 95 % interval over seeds; marks are "
    "moved apart sideways. Below, finetune − scratch, paired by seed; the grey band holds differences that count as "
    "negligible. Axes of differences differ from experiment to experiment."
)
CALIBRATION_LABELS = {"nll": "negative log-likelihood (nats)", "ece": "expected calibration error"}
SIMILARITY_TEXT = (
    "Linear centred kernel alignment (CKA) of two encoders on 2,000 validation images of the seed, after each ReLU: 1 "
    "says that they arrange images alike up to rotation and scale. Two trainings from scratch of different seeds share "
    "no initial weights: they are the level without kinship. The other seed is the next one, so neighbouring values "
    "share a training; where the split is drawn from the seed, it has trained on most of these images. "
    "Beside a mean stands its standard deviation over "
    "seeds (±)."
)
SIMILARITY_CAPTION = (
    "A dot for each seed, a bar for their mean, a dashed line at the mean of two trainings from scratch. Axes differ."
)
REFERENCE = "scratch, scratch of another seed"
PAIR_NAMES = {
    "initial_pretrain": "initial, pretrained",
    "initial_finetune": "initial, finetuned",
    "initial_scratch": "initial, scratch",
    "pretrain_finetune": "pretrained, finetuned",
    "pretrain_scratch": "pretrained, scratch",
    "finetune_scratch": "finetuned, scratch",
    "scratch_other": REFERENCE,
}


def robustness_panel(found: Found, smallest_effect: float) -> Panel:
    """Accuracy and calibration by the erased share."""
    evaluated = {one: runs for one in found.experiments if (runs := found.of(one, "robustness"))}
    missing = not_run("robustness", [one for one in found.experiments if one not in evaluated])
    if not evaluated:
        return Panel("Robustness", missing)
    pictures = [
        Picture.of("robustness", _accuracy_figure(evaluated, smallest_effect), ROBUSTNESS_CAPTION),
        *(
            Picture.of(
                f"robustness-{name}",
                figures.curves(_estimates(evaluated, name), ERASED, label),
                f"{label.capitalize()} against the erased share of the image, mean and its 95 % interval over seeds. "
                "Axes differ.",
            )
            for name, label in CALIBRATION_LABELS.items()
        ),
    ]
    tables = [table(one, runs) for one, runs in evaluated.items() for table in (_accuracy_table, _calibration_table)]
    return Panel("Robustness", f"{ROBUSTNESS_TEXT}\n\n{missing}", tables, pictures)


def _estimates(evaluated: Mapping[Experiment, BySeed], name: str) -> dict[str, dict[str, dict[int, Estimate]]]:
    """By experiment, variant and erased share (%), the mean of a figure with its interval."""
    return {
        title(one): {
            variant: {
                percent: stats.mean_interval(values_of(runs, f"{variant}_{name}_at_{percent}"), 0.95)
                for percent in _percents(runs)
            }
            for variant in CLASSIFIERS
        }
        for one, runs in evaluated.items()
    }


def _accuracy_figure(evaluated: Mapping[Experiment, BySeed], smallest_effect: float) -> Figure:
    differences = {
        title(one): {percent: _difference(runs, percent) for percent in _percents(runs)}
        for one, runs in evaluated.items()
    }
    accuracies = _estimates(evaluated, "accuracy")
    return figures.curves_and_differences(accuracies, differences, smallest_effect, {}, ERASED, in_decades=False)


def _difference(runs: BySeed, percent: int) -> Estimate:
    """Finetune − scratch, paired by seed."""
    finetune_S, scratch_S = (values_of(runs, f"{variant}_accuracy_at_{percent}") for variant in ("finetune", "scratch"))
    return stats.mean_interval(finetune_S - scratch_S, 0.95)


def _percents(runs: BySeed) -> list[int]:
    """The erased shares that every run has."""
    prefix = "scratch_accuracy_at_"
    return sorted(int(name.removeprefix(prefix)) for name in _shared_names(runs) if name.startswith(prefix))


def _shared_names(runs: BySeed) -> set[str]:
    return set.intersection(*(set(record.metrics) for record in runs.values()))


def _accuracy_table(experiment: Experiment, runs: BySeed) -> Table:
    rows = [["erased", *CLASSIFIERS, "finetune − scratch (points)"]]
    for percent in _percents(runs):
        rows.append([f"{percent} %", *_scores(runs, "accuracy", percent), interval_text(_difference(runs, percent))])
    return f"{title(experiment)}: accuracy on erased test images (n = {len(runs)})", rows


def _calibration_table(experiment: Experiment, runs: BySeed) -> Table:
    heading = ["erased", *(f"{variant}, {name.upper()}" for name in CALIBRATION_LABELS for variant in CLASSIFIERS)]
    rows = [
        [f"{percent} %", *(score for name in CALIBRATION_LABELS for score in _scores(runs, name, percent))]
        for percent in _percents(runs)
    ]
    return f"{title(experiment)}: calibration on erased test images (n = {len(runs)})", [heading, *rows]


def _scores(runs: BySeed, name: str, percent: int) -> list[str]:
    """A figure of each classifier."""
    return [str(Score.of(values_of(runs, f"{variant}_{name}_at_{percent}").tolist())) for variant in CLASSIFIERS]


def similarity_panel(found: Found) -> Panel:
    """Likeness of encoders, layer by layer."""
    evaluated = {one: runs for one in found.experiments if (runs := found.of(one, "similarity"))}
    missing = not_run("similarity", [one for one in found.experiments if one not in evaluated])
    if not evaluated:
        return Panel("Likeness of encoders", missing)
    values = {title(one): _cka(runs) for one, runs in evaluated.items()}
    tables = [_similarity_table(title(one), values[title(one)], len(runs)) for one, runs in evaluated.items()]
    drawn = figures.similarities(values, REFERENCE)
    text = f"{SIMILARITY_TEXT}\n\n{missing}"
    return Panel("Likeness of encoders", text, tables, [Picture.of("similarity", drawn, SIMILARITY_CAPTION)])


def _cka(runs: BySeed) -> dict[str, list[list[float]]]:
    """By pair, for each layer, one value a seed."""
    found: dict[str, list[list[float]]] = {}
    for pair, name in PAIR_NAMES.items():
        layers = sorted(metric for metric in _shared_names(runs) if metric.startswith(f"cka_{pair}_"))
        found[name] = [values_of(runs, metric).tolist() for metric in layers]
    return found


def _similarity_table(name: str, values: Mapping[str, Sequence[Sequence[float]]], num: int) -> Table:
    num_layers = max(map(len, values.values()))
    heading = ["encoders", *(f"layer {layer}" for layer in range(1, num_layers + 1))]
    rows = [[pair, *(str(Score.of(of_seeds)) for of_seeds in layers)] for pair, layers in values.items()]
    return f"{name}: linear CKA (n = {num})", [heading, *rows]
