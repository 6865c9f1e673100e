"""Numbers that go wrong, and clocks that do: a clear end of the run, and no wrong number in the table."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score

from aepretrain import tracking, training
from aepretrain.config import Settings, TrainingSpec, grid_specs
from aepretrain.data import Dataset
from aepretrain.errors import Failure
from aepretrain.records import Predictions
from aepretrain.variants import CLASSIFIERS, GRID_VARIANTS, PROBES
from tests.commands import aepretrain
from tests.grids import grid

pytestmark = pytest.mark.chaos

SETTINGS = Settings(dataset="digits", ae_epochs=2, cls_epochs=2)
Weights = dict[str, torch.Tensor]


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 1e6},
        {"lr": 1e30},
        {"lr": 1e308},
        {"erase_value": 3e38},
        {"erase_value": -1e30, "ae_target": "clean"},
    ],
    ids=str,
)
def test_what_explodes_ends_as_failed_or_with_figures_that_are_right(
    options: dict[str, Any], store: tracking.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "log_model", lambda *_: None)  # exporting takes seconds
    augmentation = "erasing" if "erase_value" in options else "none"
    specs = grid_specs(("fc",), (augmentation,), (0,), replace(SETTINGS, **options))
    names = {spec.variant: spec.name for spec in specs}
    result, _ = grid(specs, store)
    runs = {run.data.tags["aepretrain.variant"]: run for run in store.search({"kind": "training"})}
    for variant, run in runs.items():
        assert run.info.status in ("FINISHED", "FAILED")
        assert ("aepretrain.done" in run.data.tags) == (run.info.status == "FINISHED")
        if run.info.status == "FAILED":
            assert "not finite" in run.data.tags["aepretrain.error"]
            assert "not finite" in result.failures[names[variant]]
    finished = {record.cell[2]: record for record in store.records().values()}
    assert finished.keys() == {variant for variant, run in runs.items() if run.info.status == "FINISHED"}
    assert len(finished) + len(result.failures) == len(GRID_VARIANTS)
    done = aepretrain("compare", folder=tmp_path, MLFLOW_TRACKING_URI=store.uri)
    shown = finished.keys() & set(CLASSIFIERS)
    assert done.code == (0 if shown else 1), done.err
    page = aepretrain("report", folder=tmp_path, MLFLOW_TRACKING_URI=store.uri)
    assert (page.code, page.err) == (done.code, done.err), page.err
    cells = json.loads((tmp_path / "results" / "grid.json").read_text())["cells"] if shown else []
    assert {cell["variant"] for cell in cells if cell["num_seeds"]} == shown
    for cell in cells:
        if cell["num_seeds"]:
            content = store.artifact(finished[cell["variant"]], "evidence/predictions.npz")
            found = Predictions.from_bytes(content)
            assert cell["accuracy"] == accuracy_score(found.labels_N, found.predicted_N)
    print(f"exploding: {options}: finished {sorted(finished)}, failed {sorted(GRID_VARIANTS - finished.keys())}")


def test_weights_that_do_for_validation_but_not_for_the_test_fail(images: Dataset) -> None:
    faint = replace(
        images,
        images_NCHW=torch.ones_like(images.images_NCHW),
        test_images_NCHW=torch.full_like(images.test_images_NCHW, 255),
    )
    settings = Settings(dataset="digits", ae_epochs=1, cls_epochs=1, batch_size=10_000, lr=1e35)
    outcome = outcomes(faint, settings, "pixels")["pixels"]
    assert isinstance(outcome, Failure)
    infinite = "test_loss, most_accurate_test_loss, last_test_loss"
    assert str(outcome) == f"with the weights of epoch 1, these figures are not finite: {infinite}"


def outcomes(dataset: Dataset, settings: Settings, *wanted: str) -> dict[str, training.Outcome | Failure]:
    """What becomes of each variant on a dataset; those that need a pretraining that failed are left out."""
    found: dict[str, training.Outcome | Failure] = {}
    sources: dict[str, Weights] = {}
    for variant in ("pretrain", *wanted):
        spec = TrainingSpec(variant=variant, network="fc", settings=settings)
        if spec.sources.keys() <= sources.keys() | {"other"}:
            given = {name: sources[name] for name in spec.sources if name in sources} | (
                {"other": sources["scratch"]} if "other" in spec.sources else {}
            )
            (found[variant],) = training.run([spec], dataset, torch.device("cpu"), [given], lambda *_: None)
            outcome = found[variant]
            if isinstance(outcome, training.Outcome):
                sources[variant] = dict(outcome.weights)
    return found


ALL = (*CLASSIFIERS, *PROBES, "robustness", "similarity")


def without_class(images: Dataset, missing: int, parts: tuple[str, ...]) -> Dataset:
    """The dataset whose training or test images lack a class."""
    if "train" in parts:
        kept_N = images.labels_N != missing
        images = replace(images, images_NCHW=images.images_NCHW[kept_N], labels_N=images.labels_N[kept_N])
    if "test" in parts:
        kept_N = images.test_labels_N != missing
        test = images.test_images_NCHW[kept_N], images.test_labels_N[kept_N]
        images = replace(images, test_images_NCHW=test[0], test_labels_N=test[1])
    return images


@pytest.mark.parametrize("parts", [("train",), ("test",), ("train", "test")], ids=" and ".join)
def test_a_class_that_is_missing_counts_as_scikit_learn_has_it(images: Dataset, parts: tuple[str, ...]) -> None:
    for variant, outcome in outcomes(without_class(images, 3, parts), SETTINGS, *ALL).items():
        assert isinstance(outcome, training.Outcome), (variant, outcome)
        assert all(map(math.isfinite, outcome.metrics.values())), variant
        found = outcome.evidence.predictions
        if found is not None:
            f1 = f1_score(found.labels_N, found.predicted_N, average="macro", zero_division=0)
            assert outcome.metrics["test_accuracy"] == pytest.approx(accuracy_score(found.labels_N, found.predicted_N))
            assert outcome.metrics["test_macro_f1"] == pytest.approx(f1)


@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("which", ["one image", "all images"])
def test_constant_images_give_finite_figures_or_a_failure(images: Dataset, which: str, value: int) -> None:
    constant = images.images_NCHW.clone()
    constant[: 1 if which == "one image" else None] = value
    test = torch.full_like(images.test_images_NCHW, value) if which == "all images" else images.test_images_NCHW
    found = outcomes(replace(images, images_NCHW=constant, test_images_NCHW=test), SETTINGS, *ALL)
    for variant, outcome in found.items():
        if isinstance(outcome, Failure):
            assert "\n" not in str(outcome)
            assert which == "all images", (variant, outcome)
        else:
            assert all(map(math.isfinite, outcome.metrics.values())), (variant, outcome.metrics)
    assert found.keys() == {"pretrain", *ALL}
