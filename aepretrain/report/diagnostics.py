"""The panel on a plan's encoders: dead units, effective rank, and a linear probe."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aepretrain import figures
from aepretrain.config import TrainingSpec
from aepretrain.figures import Encoders
from aepretrain.records import FILTERS, Archive, filters_from_bytes
from aepretrain.report.findings import range_text
from aepretrain.report.grid import Score
from aepretrain.report.pairs import BySeed, values_of
from aepretrain.report.panel import Panel, Picture
from aepretrain.report.planned import PlanResults, find
from aepretrain.report.planned_wording import dataset_text, file_name, labels_text
from aepretrain.report.table import MISSING, Row, Table, table_of

FIGURES = {
    "dead_units": "dead units (share)",
    "effective_rank_centred": "effective rank of centred codes",
    "probe_accuracy": "accuracy of a linear probe",
}
"""The figures that are drawn."""

IN_TABLE = {
    "dead_units": "dead units",
    "effective_rank": "effective rank",
    "effective_rank_centred": "effective rank, centred",
    "probe_accuracy": "linear probe",
}

SHOWN = ("pretrain", "finetune", "scratch")

TEXT = (
    "Dead units are the share of units with a ReLU that are 0 for every validation image. The effective rank is the "
    "exponential of the entropy of the squared singular values' shares, of the codes of validation images: about how "
    "many directions the codes use; centred, of their differences from the mean code. The linear probe is a "
    "multinomial logistic regression on the codes of all training images; its accuracy is that on test images. "
    "Trainings from before these figures were recorded have none."
)
CAPTION = (
    "Dots: one seed each. Bars: their means. Filled: before classification. Hollow: after it. Each column has one axis."
)


FILTERS_CAPTION = (
    "The weights of the first layer as images, those with the largest norm, of the lowest seed. Grey is 0; each filter "
    "has a scale of its own."
)


def diagnostics_panel(of: PlanResults, archive: Archive) -> Panel:
    """Encoders pretrained with each objective, those fine-tuned from them, and those from scratch."""
    topic = f"Encoders, plan {of.plan.name}"
    kinds = {place: dict(_kinds(of, place)) for place in _places(of)}
    shown = {place: of_place for place, of_place in kinds.items() if any(map(_is_known, of_place.values()))}
    if not shown:
        return Panel(topic, "No training of this plan has figures of its encoder yet")
    drawn = figures.encoder_diagnostics(
        {_title(of, place): [_encoders(of, *one) for one in of_place.items()] for place, of_place in shown.items()},
        FIGURES,
    )
    labels = f"Fine-tuned encoders and those from scratch learned from {labels_text(_labels(of))} labels."
    tables = [_table(of, place, of_place) for place, of_place in shown.items()]
    pictures = [Picture.of(f"encoders-{file_name(of.plan)}", drawn, CAPTION)]
    for number, (place, of_place) in enumerate(shown.items(), start=1):
        rows = _filters(of, archive, of_place)
        if rows:
            drawn = figures.filters(f"Filters of the first layer, {_title(of, place)}", rows)
            pictures.append(Picture.of(f"filters-{file_name(of.plan)}-{number}", drawn, FILTERS_CAPTION))
    dead = _listed(of, shown.values(), "dead_units", 100, " %")
    rank = _listed(of, shown.values(), "effective_rank_centred", 1, "")
    known = [f"{name}: {text}" for name, text in (("Dead units", dead), ("Effective rank of the codes", rank)) if text]
    finding = known[0] if known else "Neither dead units nor effective ranks are known"
    why = " ".join(f"{one}." for one in known)
    return Panel(topic, finding, "", tables, pictures[:1], f"{TEXT} {labels}", pictures[1:], why)


def _listed(
    of: PlanResults, places: Iterable[Mapping[TrainingSpec, BySeed]], figure: str, scale: int, unit: str
) -> str:
    """A figure of pretrained encoders and of those from scratch, as the range of its means over places."""
    means: dict[str, list[float]] = {}
    for kinds in places:
        for spec, trainings in kinds.items():
            is_plain = spec.variant == "pretrain" or _name(of, spec) == "scratch"
            if is_plain and len(values_S := values_of(trainings, figure)):
                means.setdefault(_name(of, spec), []).append(scale * float(values_S.mean()))
    return "; ".join(f"{name} {range_text(values, 0)}{unit}" for name, values in means.items())


def _filters(
    of: PlanResults, archive: Archive, kinds: Mapping[TrainingSpec, BySeed]
) -> dict[str, NDArray[np.floating[Any]]]:
    """The filters of pretrained encoders and of scratch by name, each of the lowest seed of which they are kept."""
    rows: dict[str, NDArray[np.floating[Any]]] = {}
    for spec, trainings in kinds.items():
        records = [of.trainings[key] for key in trainings["key"]] if spec.variant in ("pretrain", "scratch") else []
        kept = next((record for record in records if archive.has_artifact(record, FILTERS)), None)
        if kept is not None:
            rows[_name(of, spec)] = filters_from_bytes(archive.artifact(kept, FILTERS)).astype(np.float32)
    return rows


Place = tuple[str, str, str]
"""Dataset, network, augmentation."""


def _places(of: PlanResults) -> list[Place]:
    cells = ((one.planned.dataset, one.planned.network, one.planned.augmentation) for one in of.results)
    return list(dict.fromkeys(cells))


def _title(of: PlanResults, place: Place) -> str:
    dataset, network, augmentation = place
    several = [augmentation] if len(of.plan.augmentations) > 1 else []
    return ", ".join([dataset_text(dataset), network, *several])


def _labels(of: PlanResults) -> int:
    """The largest number of labels of the plan; 0 (all) where it has that."""
    return 0 if 0 in of.plan.labels else max(of.plan.labels)


def _kinds(of: PlanResults, place: Place) -> Iterator[tuple[TrainingSpec, BySeed]]:
    """The kinds of encoders of a place, with their finished trainings of the plan's seeds: before, then after."""
    specs: dict[TrainingSpec, tuple[int, ...]] = {}
    for one in of.results:
        planned = one.planned
        if (planned.dataset, planned.network, planned.augmentation) == place and planned.labels == _labels(of):
            for side in (planned.first, planned.second):
                specs |= dict.fromkeys((*side.sources.values(), side), planned.seeds)
    for variant in SHOWN:
        yield from ((spec, find(of.matched, spec, seeds)) for spec, seeds in specs.items() if spec.variant == variant)


def _is_known(trainings: BySeed) -> bool:
    return any(len(values_of(trainings, figure)) for figure in FIGURES)


def _name(of: PlanResults, spec: TrainingSpec) -> str:
    """``pretrained, pixel-mask``, ``fine-tuned, pixel-mask``, ``scratch``, ``scratch, pixel-mask``."""
    if spec.variant == "scratch":
        return "scratch" if spec.augmentation in of.plan.augmentations else f"scratch, {spec.augmentation}"
    return f"{'pretrained' if spec.variant == 'pretrain' else 'fine-tuned'}, {spec.settings.objective}"


def _encoders(of: PlanResults, spec: TrainingSpec, trainings: BySeed) -> Encoders:
    values = {figure: values_of(trainings, figure).tolist() for figure in FIGURES}
    if spec.variant == "scratch":
        return figures.scratch_encoders(_name(of, spec), values)
    return figures.objective_encoders(
        _name(of, spec), spec.settings.objective, values, is_filled=spec.variant == "pretrain"
    )


def _table(of: PlanResults, place: Place, kinds: Mapping[TrainingSpec, BySeed]) -> Table:
    rows: Sequence[Row] = [
        {"encoder": _name(of, spec)}
        | {"seeds": str(len(trainings))}
        | {title: _score_text(trainings, figure) for figure, title in IN_TABLE.items()}
        for spec, trainings in kinds.items()
    ]
    return table_of(f"Encoders, {_title(of, place)}: mean ± standard deviation over seeds", rows)


def _score_text(trainings: BySeed, figure: str) -> str:
    values_S = values_of(trainings, figure).tolist()
    return Score.of(values_S).text(1 if "rank" in figure else 4) if values_S else MISSING
