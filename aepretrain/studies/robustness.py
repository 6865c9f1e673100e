"""How well do the classifiers recognise test images of which a part is erased, and is their confidence right?"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from aepretrain import figures, stats
from aepretrain.config import TrainingSpec
from aepretrain.report.answer import Terms
from aepretrain.report.findings import described
from aepretrain.report.grid import Experiment, Score, title
from aepretrain.report.numbers import interval_text
from aepretrain.report.pairs import BySeed, values_of
from aepretrain.report.panel import CURVES_CAPTION, Panel, Picture
from aepretrain.report.query import Query
from aepretrain.report.table import Table, table_of
from aepretrain.runner import Finished, Study
from aepretrain.stats import Estimate
from aepretrain.studies.specs import evaluations
from aepretrain.variants import CLASSIFIERS, GRID_VARIANTS

if TYPE_CHECKING:
    from aepretrain.data import Dataset

TEXT = (
    "The classifiers of the grid on test images with an erased (black) rectangle, the same for every classifier and "
    "seed. NLL is the negative log-likelihood in nats, ECE the expected calibration error with 15 bins. Differences "
    "are in percentage points, paired by seed, with 95 % intervals, without adjustment and without a verdict. Beside a "
    "mean is its standard deviation over seeds (±)."
)
ERASED = "erased share of the image (%)"
CALIBRATION_LABELS = {"nll": "negative log-likelihood (nats)", "ece": "expected calibration error"}


def plan(finished: Finished, _dataset: "Dataset | None") -> Iterator[TrainingSpec]:
    """The evaluation of each seed's classifiers on erased test images."""
    yield from evaluations(finished, "robustness")


STUDY = Study("robustness", GRID_VARIANTS, plan)


def panel(query: Query, terms: Terms) -> Panel:
    """Accuracy and calibration by the erased share."""
    evaluated = {one: runs for one in query.experiments if len(runs := query.of(one, "robustness"))}
    missing = query.not_run("robustness", [one for one in query.experiments if one not in evaluated])
    if not evaluated:
        return Panel("Robustness", "The study of robustness was not run", missing)
    caption = f"Above: test accuracy by the erased share of the image. {CURVES_CAPTION}"
    first, *others = [
        Picture.of("robustness", _accuracy_figure(evaluated, terms.smallest_effect), caption),
        *(
            Picture.of(
                f"robustness-{name}",
                figures.curves(_estimates(evaluated, name), ERASED, label),
                f"{label.capitalize()} by the erased share, mean and 95 % interval over seeds. Axes differ.",
            )
            for name, label in CALIBRATION_LABELS.items()
        ),
    ]
    tables = [table(one, runs) for one, runs in evaluated.items() for table in (_accuracy_table, _calibration_table)]
    return Panel("Robustness", _finding(evaluated), missing, tables, [first], TEXT, others)


def _finding(evaluated: Mapping[Experiment, BySeed]) -> str:
    differences = {
        f"{title(one)}, {percent} %": _difference(runs, percent)
        for one, runs in evaluated.items()
        for percent in _percents(runs)
        if percent
    }
    said = described(differences, "fine-tuned networks", "networks from scratch", "comparison")
    return f"On erased test images, {said}" if said else "One seed shows no spread"


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
    return sorted(int(name.removeprefix(prefix)) for name in runs.dropna(axis="columns") if name.startswith(prefix))


def _accuracy_table(experiment: Experiment, runs: BySeed) -> Table:
    rows = (
        {"erased": f"{percent} %"}
        | {variant: _score(runs, variant, "accuracy", percent) for variant in CLASSIFIERS}
        | {"finetune − scratch (points)": interval_text(_difference(runs, percent))}
        for percent in _percents(runs)
    )
    return table_of(f"{title(experiment)}: accuracy on erased test images (n = {len(runs)})", rows)


def _calibration_table(experiment: Experiment, runs: BySeed) -> Table:
    columns = [(variant, name) for name in CALIBRATION_LABELS for variant in CLASSIFIERS]
    rows = (
        {"erased": f"{percent} %"}
        | {f"{variant}, {name.upper()}": _score(runs, variant, name, percent) for variant, name in columns}
        for percent in _percents(runs)
    )
    return table_of(f"{title(experiment)}: calibration on erased test images (n = {len(runs)})", rows)


def _score(runs: BySeed, variant: str, name: str, percent: int) -> str:
    return str(Score.of(values_of(runs, f"{variant}_{name}_at_{percent}").tolist()))
