"""The panels of what was asked of finished trainings: erased test images, and how alike encoders are."""

from collections.abc import Mapping, Sequence

from aepretrain import figures, stats
from aepretrain.report.answer import Experiment
from aepretrain.report.found import BySeed, Found, values_of
from aepretrain.report.grid import Score, Table
from aepretrain.report.panel import Panel, Picture
from aepretrain.report.wording import interval_text, title
from aepretrain.spec import CLASSIFIERS

ROBUSTNESS_TEXT = (
    "The classifiers of the grid on test images of which a rectangle is erased, the same for every classifier and "
    "seed. Negative log-likelihood in nats; expected calibration error with 15 bins."
)
ROBUSTNESS_CAPTION = "Test accuracy against the erased share of the image, mean and its 95 % interval over seeds."
SIMILARITY_TEXT = (
    "Linear centred kernel alignment (CKA) of two encoders on 2,000 validation images of the seed, after each ReLU: 1 "
    "says that they arrange images alike up to rotation and scale. Two trainings from scratch of different seeds share "
    "no initial weights: they are the level without kinship. (The other seed may have trained on some of these images.)"
)
SIMILARITY_CAPTION = "A dot for each seed, a bar for their mean."
PAIR_NAMES = {
    "initial_pretrain": "initial, pretrained",
    "initial_finetune": "initial, finetuned",
    "initial_scratch": "initial, scratch",
    "pretrain_finetune": "pretrained, finetuned",
    "pretrain_scratch": "pretrained, scratch",
    "finetune_scratch": "finetuned, scratch",
    "scratch_other": "scratch, scratch of another seed",
}


def robustness_panel(found: Found) -> Panel:
    """Accuracy and calibration by the erased share."""
    evaluated = {one: runs for one in found.experiments if (runs := found.of(one, "robustness"))}
    if not evaluated:
        return Panel("Robustness", "Not run. To run it: aepretrain study robustness --seeds …")
    drawn = figures.curves(
        {
            title(one): {
                variant: {
                    percent: stats.mean_interval(values_of(runs, f"{variant}_accuracy_at_{percent}"), 0.95)
                    for percent in _percents(runs)
                }
                for variant in CLASSIFIERS
            }
            for one, runs in evaluated.items()
        },
        "erased share of the image (%)",
        "test accuracy",
    )
    tables = [table(one, runs) for one, runs in evaluated.items() for table in (_accuracy_table, _calibration_table)]
    return Panel("Robustness", ROBUSTNESS_TEXT, tables, [Picture.of("robustness", drawn, ROBUSTNESS_CAPTION)])


def _percents(runs: BySeed) -> list[int]:
    """The erased shares that every run has."""
    prefix = "scratch_accuracy_at_"
    return sorted(int(name.removeprefix(prefix)) for name in _shared_names(runs) if name.startswith(prefix))


def _shared_names(runs: BySeed) -> set[str]:
    return set.intersection(*(set(record.metrics) for record in runs.values()))


def _accuracy_table(experiment: Experiment, runs: BySeed) -> Table:
    rows = [["erased", *CLASSIFIERS, "finetune − scratch"]]
    for percent in _percents(runs):
        finetune_S, scratch_S = (values_of(runs, f"{variant}_accuracy_at_{percent}") for variant in CLASSIFIERS[1:])
        difference = interval_text(stats.mean_interval(finetune_S - scratch_S, 0.95))
        rows.append([f"{percent} %", *_scores(runs, "accuracy", percent), difference])
    return f"{title(experiment)}: accuracy on erased test images (n = {len(runs)})", rows


def _calibration_table(experiment: Experiment, runs: BySeed) -> Table:
    names = {"nll": "NLL", "ece": "ECE"}
    heading = ["erased", *(f"{variant}, {name}" for name in names.values() for variant in CLASSIFIERS)]
    rows = [
        [f"{percent} %", *(score for name in names for score in _scores(runs, name, percent))]
        for percent in _percents(runs)
    ]
    return f"{title(experiment)}: calibration on erased test images (n = {len(runs)})", [heading, *rows]


def _scores(runs: BySeed, name: str, percent: int) -> list[str]:
    """A figure of each classifier."""
    return [str(Score.of(values_of(runs, f"{variant}_{name}_at_{percent}").tolist())) for variant in CLASSIFIERS]


def similarity_panel(found: Found) -> Panel:
    """Likeness of encoders, layer by layer."""
    evaluated = {one: runs for one in found.experiments if (runs := found.of(one, "similarity"))}
    if not evaluated:
        return Panel("Likeness of encoders", "Not run. To run it: aepretrain study similarity --seeds …")
    values = {title(one): _cka(runs) for one, runs in evaluated.items()}
    tables = [_similarity_table(title(one), values[title(one)], len(runs)) for one, runs in evaluated.items()]
    drawn = figures.similarities(values)
    return Panel("Likeness of encoders", SIMILARITY_TEXT, tables, [Picture.of("similarity", drawn, SIMILARITY_CAPTION)])


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
