"""The grid as a value and as text, from records made by hand."""

import csv
import io
import json
from dataclasses import replace
from typing import Any

import pytest

from aepretrain.config import Settings, TrainingSpec, grid_specs
from aepretrain.errors import Failure, UsageError
from aepretrain.records import Record
from aepretrain.report import PUBLISHED, belongs, build_grid, choose, table
from aepretrain.report.grid import EXPERIMENTS
from aepretrain.variants import CLASSIFIERS, GRID_VARIANTS


def record(spec: TrainingSpec, accuracy: float, macro_f1: float) -> Record:
    metrics = {"test_accuracy": accuracy, "test_macro_f1": macro_f1, "best_val_loss": 0.1}
    identity = json.loads(json.dumps(spec.identity()))
    return Record(f"run-{spec.name}", "parent", spec.name, 1, identity, metrics, {})


def records(seeds: tuple[int, ...] = (0,), networks: tuple[str, ...] = ("fc", "conv"), **settings: Any) -> list[Record]:
    specs = grid_specs(networks, ("none", "erasing"), seeds, Settings(**settings))
    return [record(spec, 0.9 + 0.01 * spec.seed, 0.8 + 0.01 * spec.seed) for spec in specs]


def test_one_seed_fills_twelve_cells() -> None:
    grid = build_grid(records())
    assert len(grid.cells) == 12
    assert grid.title == "Test accuracy / macro-F1 on MNIST (n = 1 seed per cell)"
    assert {table.cell_text(cell) for cell in grid.cells.values()} == {"0.9000 / 0.8000"}
    assert grid.experiments == [("fc", "none"), ("fc", "erasing"), ("conv", "none"), ("conv", "erasing")]
    assert [cell.variant for cell in grid.row(("fc", "none"))] == list(CLASSIFIERS)


def test_several_seeds_give_mean_and_deviation() -> None:
    cell = build_grid(records((0, 1, 2))).cells["fc", "none", "finetune"]
    assert table.cell_text(cell) == "0.9100 ± 0.0100 / 0.8100 ± 0.0100 (n = 3)"
    assert cell.differences == pytest.approx((0.91 - 0.9775, 0.81 - 0.9773))
    assert table.difference_text(cell) == "−0.0675 / −0.1673"
    assert table.published_text(cell) == "0.9775 / 0.9773"


def test_missing_cells_are_shown_as_missing() -> None:
    some = [one for one in records((0, 1)) if one.cell != ("conv", "none", "scratch") and one.cell[0] == "conv"]
    some += [one for one in records((0, 1)) if one.cell == ("fc", "none", "frozen") and one.seed == 1]
    grid = build_grid(some)
    assert table.cell_text(grid.cells["conv", "none", "scratch"]) == "missing"
    assert table.difference_text(grid.cells["conv", "none", "scratch"]) == "missing"
    assert table.cell_text(grid.cells["fc", "none", "frozen"]) == "0.9100 / 0.8100"
    assert "n = 1 to 2 seeds per cell" in grid.title
    assert table.markdown(grid).count("missing") == 2 * 6  # 5 of fc and 1 of conv, in both tables
    assert table.files(grid)["grid.png"].startswith(b"\x89PNG")


def test_published_figures_are_those_of_the_source() -> None:
    assert PUBLISHED["fc", "erasing", "finetune"] == (0.9824, 0.9823)
    assert {cell[:2] for cell in PUBLISHED} == set(EXPERIMENTS)
    gains = [PUBLISHED[*e, "finetune"][0] - PUBLISHED[*e, "scratch"][0] for e in EXPERIMENTS]
    assert gains == pytest.approx([-0.0005, 0.0039, 0.0009, 0.0001])


def test_another_dataset_is_said_and_not_compared() -> None:
    grid = build_grid(records(dataset="digits"))
    assert "NOT MNIST" in grid.title
    assert [title for title, _ in table.tables(grid)] == [grid.title]
    assert "0.9775" not in table.markdown(grid)
    assert "NOT MNIST" in table.markdown(grid)


def test_other_networks_have_rows_of_their_own() -> None:
    grid = build_grid(records() + records(networks=("wide",)))
    assert grid.experiments[4:] == [("wide", "erasing"), ("wide", "none")]
    assert grid.cells["wide", "none", "scratch"].published is None
    assert table.published_text(grid.cells["wide", "none", "scratch"]) == "none"


def test_settings_are_never_mixed() -> None:
    mixed = records() + records(cls_epochs=3, ae_epochs=3)
    with pytest.raises(UsageError, match=r"ae_epochs: 50, 3; cls_epochs: 50, 3.*--ae-epochs, --cls-epochs"):
        build_grid(mixed)
    chosen = choose(mixed, {"ae_epochs": 3, "cls_epochs": 3})
    assert build_grid(chosen).settings["cls_epochs"] == 3
    assert len(chosen) == len(mixed) / 2
    with pytest.raises(UsageError, match="dataset: mnist, digits"):
        build_grid(records() + records(dataset="digits"))
    with pytest.raises(UsageError, match="erase_scale"):
        build_grid(records() + records(erase_scale=(0.2, 0.3)))


def test_scratch_fits_every_pretraining_but_not_two_at_once() -> None:
    both = {(one.cell, json.dumps(one.identity)): one for one in records() + records(ae_target="clean")}
    with pytest.raises(UsageError, match="ae_target: input, clean"):
        build_grid(both.values())
    clean = build_grid(choose(both.values(), {"ae_target": "clean"}))
    assert all(len(cell.records) == 1 for cell in clean.cells.values())


def test_two_trainings_of_one_seed_are_refused() -> None:
    with pytest.raises(UsageError, match="same seed and the same options"):
        build_grid(records() + records())


def test_studies_belong_to_the_grid_that_they_are_about_though_they_vary_some_settings() -> None:
    grid = build_grid(records())
    fair_budget = TrainingSpec(variant="scratch", network="fc", settings=Settings(patience=0, cls_epochs=70))
    other_rate = TrainingSpec(variant="random", network="fc", settings=Settings(lr=0.01))
    of_study = [replace(record(spec, 0.9, 0.9), tags={"study": "controls"}) for spec in (fair_budget, other_rate)]
    assert [belongs(one, grid.settings) for one in of_study] == [True, False]
    assert not belongs(record(fair_budget, 0.9, 0.9), grid.settings), "by itself it is of another grid"
    assert all(belongs(one, grid.settings) for one in records())


def test_choosing_compares_pairs_as_stored() -> None:
    both = records() + records(erase_scale=(0.2, 0.3))
    chosen = choose(both, {"erase_scale": (0.2, 0.3)})
    erasing = [one for one in chosen if one.cell[1] == "erasing"]
    assert {tuple(one.identity["erase_scale"]) for one in erasing} == {(0.2, 0.3)}


def test_nothing_to_compare_is_a_failure() -> None:
    with pytest.raises(Failure, match="aepretrain grid"):
        build_grid([one for one in records() if one.cell[2] == GRID_VARIANTS[0]])


def test_files_agree_with_the_grid() -> None:
    grid = build_grid(records((0, 1)))
    files = table.files(grid)
    assert set(files) == {"grid.md", "grid.csv", "grid.json", "grid.png"}
    rows = list(csv.DictReader(io.StringIO(files["grid.csv"].decode())))
    assert len(rows) == 12
    assert (rows[0]["network"], rows[0]["variant"], rows[0]["num_seeds"], rows[0]["seeds"]) == (
        "fc",
        "frozen",
        "2",
        "0 1",
    )
    assert float(rows[0]["accuracy"]) == pytest.approx(0.905)
    assert rows[0]["run_ids"] == "run-fc-none-frozen-s0 run-fc-none-frozen-s1"
    content = json.loads(files["grid.json"])
    assert content["dataset"] == "mnist"
    assert content["cells"][4]["macro_f1"] == pytest.approx(0.805)
    assert "| 2 | fc, erasing | 0.9050 ± 0.0071" in files["grid.md"].decode()
