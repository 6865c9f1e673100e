"""How alike are the encoders before and after training, layer by layer?"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from aepretrain import figures
from aepretrain.config import TrainingSpec
from aepretrain.report.answer import Terms
from aepretrain.report.findings import of_text, range_text
from aepretrain.report.grid import Score, title
from aepretrain.report.pairs import BySeed, values_of
from aepretrain.report.panel import Panel, Picture
from aepretrain.report.query import Query
from aepretrain.report.table import Table, table_of
from aepretrain.runner import Finished, Study
from aepretrain.studies.specs import evaluations

if TYPE_CHECKING:
    from aepretrain.data import Dataset

HEADING = "Similarity of encoders"
TEXT = (
    "Linear centred kernel alignment (CKA) of two encoders on 2,000 validation images of the seed, after each ReLU. 1 "
    "means that they arrange images alike up to rotation and scale. Two trainings from scratch of different seeds "
    "share no initial weights; they are the reference for unrelated encoders. The other seed is the next one, so "
    "neighbouring values share a training. Where the split is drawn from the seed, the other seed's encoder was "
    "trained on most of these images. Beside a mean is its standard deviation over seeds (±)."
)
CAPTION = "Dots: one seed each. Bars: their mean. Dashed line: the mean of two trainings from scratch. Axes differ."
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


def plan(finished: Finished, _dataset: "Dataset | None") -> Iterator[TrainingSpec]:
    """The comparison of each seed's encoders; the last seed has no next one and is left out."""
    yield from evaluations(finished, "similarity")


STUDY = Study("similarity", ("pretrain", "finetune", "scratch"), plan)


def panel(query: Query, _terms: Terms) -> Panel:
    """CKA by pair of encoders and layer."""
    evaluated = {one: runs for one in query.experiments if len(runs := query.of(one, "similarity"))}
    missing = query.not_run("similarity", [one for one in query.experiments if one not in evaluated])
    if not evaluated:
        return Panel(HEADING, "The similarity of encoders was not measured", missing)
    values = {title(one): _cka(runs) for one, runs in evaluated.items()}
    tables = [_table(title(one), values[title(one)], len(runs)) for one, runs in evaluated.items()]
    drawn = figures.similarities(values, REFERENCE)
    finding = _finding(values)
    pictures = [Picture.of("similarity", drawn, CAPTION)]
    return Panel(HEADING, finding, missing, tables, pictures, TEXT, why=f"{finding}.")


def _finding(values: Mapping[str, Mapping[str, Sequence[Sequence[float]]]]) -> str:
    """How much a fine-tuned encoder still resembles its pretrained start, in the last layer."""
    pairs = [(of_pairs["pretrained, finetuned"], of_pairs[REFERENCE]) for of_pairs in values.values()]
    means = [(np.mean(kept[-1]), np.mean(reference[-1])) for kept, reference in pairs if kept and reference]
    if not means:
        return "No layer was measured in all runs"
    num_less, num = sum(bool(kept < reference) for kept, reference in means), len(means)
    where = {0: "more", num: "less"}.get(num_less, f"less in {of_text(num_less, num, 'experiment')}, else more,")
    kept_text, reference_text = (range_text(list(map(float, side)), 2) for side in zip(*means, strict=True))
    return (
        f"In its last layer a fine-tuned encoder resembles its pretrained start {where} than two encoders from scratch "
        f"resemble each other (CKA {kept_text} against {reference_text})"
    )


def _cka(runs: BySeed) -> dict[str, list[list[float]]]:
    """By pair, for each layer, one value a seed."""
    shared = sorted(runs.dropna(axis="columns"), key=lambda name: (len(name), name))  # layer 10 after layer 9
    return {
        name: [values_of(runs, metric).tolist() for metric in shared if metric.startswith(f"cka_{pair}_")]
        for pair, name in PAIR_NAMES.items()
    }


def _table(name: str, values: Mapping[str, Sequence[Sequence[float]]], num: int) -> Table:
    rows = (
        {"encoders": pair} | {f"layer {layer}": str(Score.of(of_seeds)) for layer, of_seeds in enumerate(layers, 1)}
        for pair, layers in values.items()
    )
    return table_of(f"{name}: linear CKA (n = {num})", rows)
