"""The grid as a value and as text, from records made by hand."""

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from aepretrain.config import Settings, TrainingSpec, grid_specs
from aepretrain.errors import Failure, UsageError
from aepretrain.frame import frame
from aepretrain.records import Record
from aepretrain.report import SOURCE, Grid, belongs, build_grid, choose, table
from aepretrain.report.grid import EXPERIMENTS, Score
from aepretrain.variants import CLASSIFIERS, GRID_VARIANTS


def record(spec: TrainingSpec, accuracy: float, macro_f1: float) -> Record:
    metrics = {"test_accuracy": accuracy, "test_macro_f1": macro_f1, "best_val_loss": 0.1}
    identity = json.loads(json.dumps(spec.identity()))
    return Record(f"run-{spec.name}", "parent", spec.name, 1, identity, metrics, {})


def chosen(found: Iterable[Record], **wanted: Any) -> pd.DataFrame:
    return choose(frame(found), wanted)


def grid_of(found: Iterable[Record]) -> Grid:
    return build_grid(frame(found))


def records(seeds: tuple[int, ...] = (0,), networks: tuple[str, ...] = ("fc", "conv"), **settings: Any) -> list[Record]:
    specs = grid_specs(networks, ("none", "erasing"), seeds, Settings(**settings))
    return [record(spec, 0.9 + 0.01 * spec.seed, 0.8 + 0.01 * spec.seed) for spec in specs]


def test_one_seed_fills_twelve_cells() -> None:
    grid = grid_of(records())
    assert len(grid.cells) == 12
    assert grid.title == "Test accuracy / macro-F1 on MNIST (n = 1 seed per cell)"
    assert {table.cell_text(cell) for cell in grid.cells.values()} == {"0.9000 / 0.8000"}
    assert grid.experiments == [("fc", "none"), ("fc", "erasing"), ("conv", "none"), ("conv", "erasing")]
    assert [cell.variant for cell in grid.row(("fc", "none"))] == list(CLASSIFIERS)


def test_several_seeds_give_mean_and_deviation() -> None:
    cell = grid_of(records((0, 1, 2))).cells["fc", "none", "finetune"]
    assert table.cell_text(cell) == "0.9100 ± 0.0100 / 0.8100 ± 0.0100 (n = 3)"
    assert cell.differences == pytest.approx((0.91 - 0.9775, 0.81 - 0.9773))
    assert table.difference_text(cell) == "−0.0675 / −0.1673"
    assert table.source_text(cell) == "0.9775 / 0.9773"


def test_missing_cells_are_shown_as_missing() -> None:
    some = [one for one in records((0, 1)) if one.cell != ("conv", "none", "scratch") and one.cell[0] == "conv"]
    some += [one for one in records((0, 1)) if one.cell == ("fc", "none", "frozen") and one.seed == 1]
    grid = build_grid(frame(some), EXPERIMENTS)
    assert table.cell_text(grid.cells["conv", "none", "scratch"]) == "missing"
    assert table.difference_text(grid.cells["conv", "none", "scratch"]) == "missing"
    assert table.cell_text(grid.cells["fc", "none", "frozen"]) == "0.9100 / 0.8100"
    assert "n = 1 to 2 seeds per cell" in grid.title
    assert table.markdown(grid).count("missing") == 2 * 6  # 5 of fc and 1 of conv, in both tables
    assert table.files(grid)["grid.png"].startswith(b"\x89PNG")
    assert table.markdown(grid_of(some)).count("missing") == 2 * 3, "nobody has asked for fc with erasing"


def test_figures_of_the_source() -> None:
    assert SOURCE["fc", "erasing", "finetune"] == (0.9824, 0.9823)
    assert {cell[:2] for cell in SOURCE} == set(EXPERIMENTS)
    gains = [SOURCE[*e, "finetune"][0] - SOURCE[*e, "scratch"][0] for e in EXPERIMENTS]
    assert gains == pytest.approx([-0.0005, 0.0039, 0.0009, 0.0001])


def test_another_dataset_is_said_and_not_compared() -> None:
    grid = grid_of(records(dataset="digits"))
    assert "NOT MNIST" in grid.title
    assert [title for title, _ in table.tables(grid)] == [grid.title]
    assert "0.9775" not in table.markdown(grid)
    assert "NOT MNIST" in table.markdown(grid)


def test_other_networks_have_rows_of_their_own() -> None:
    grid = grid_of(records() + records(networks=("wide",)))
    assert grid.experiments[4:] == [("wide", "erasing"), ("wide", "none")]
    assert grid.cells["wide", "none", "scratch"].source is None
    assert table.source_text(grid.cells["wide", "none", "scratch"]) == "none"


def test_settings_are_never_mixed() -> None:
    mixed = records() + records(cls_epochs=3, ae_epochs=3)
    with pytest.raises(UsageError, match=r"ae_epochs: 50, 3; cls_epochs: 50, 3.*--ae-epochs, --cls-epochs"):
        grid_of(mixed)
    short = chosen(mixed, ae_epochs=3, cls_epochs=3)
    assert build_grid(short).settings["cls_epochs"] == 3
    assert len(short) == len(mixed) / 2
    with pytest.raises(UsageError, match="dataset: mnist, digits"):
        grid_of(records() + records(dataset="digits"))
    with pytest.raises(UsageError, match="erase_scale"):
        grid_of(records() + records(erase_scale=(0.2, 0.3)))


def test_scratch_fits_every_pretraining_but_not_two_at_once() -> None:
    both = {(one.cell, json.dumps(one.identity)): one for one in records() + records(ae_target="clean")}
    with pytest.raises(UsageError, match="ae_target: input, clean"):
        grid_of(both.values())
    clean = build_grid(chosen(both.values(), ae_target="clean"))
    assert all(len(cell.trainings) == 1 for cell in clean.cells.values())


def test_two_trainings_of_one_seed_are_refused() -> None:
    with pytest.raises(UsageError, match="same seed and the same options"):
        grid_of(records() + records())


def test_studies_belong_to_the_grid_that_they_are_about_though_they_vary_some_settings() -> None:
    grid = grid_of(records())
    fair_budget = TrainingSpec(variant="scratch", network="fc", settings=Settings(patience=0, cls_epochs=70))
    other_rate = TrainingSpec(variant="random", network="fc", settings=Settings(lr=0.01))
    of_study = [replace(record(spec, 0.9, 0.9), tags={"study": "controls"}) for spec in (fair_budget, other_rate)]
    assert belongs(frame(of_study), grid.settings)["variant"].tolist() == ["scratch"]
    alone = frame([record(fair_budget, 0.9, 0.9)])
    assert belongs(alone, grid.settings).empty, "by itself it is of another grid"
    assert len(belongs(frame(records()), grid.settings)) == len(records())


def test_choosing_compares_pairs_as_stored() -> None:
    both = records() + records(erase_scale=(0.2, 0.3))
    for pair in ((0.2, 0.3), [0.2, 0.3]):
        found = chosen(both, erase_scale=pair)
        assert set(found.loc[found["augmentation"] == "erasing", "erase_scale"]) == {(0.2, 0.3)}


def test_a_grid_from_a_csv_file_is_the_same() -> None:
    found = frame(records((0, 1)))
    read = pd.read_csv(io.StringIO(found.to_csv(index=False)))
    ours, theirs = build_grid(found), build_grid(read)
    assert theirs.settings == ours.settings
    assert table.markdown(theirs) == table.markdown(ours)
    assert table.files(theirs)["grid.csv"] == table.files(ours)["grid.csv"]


def test_a_grid_of_somebody_elses_figures_needs_few_columns() -> None:
    columns = ["network", "augmentation", "variant", "seed", "dataset", "test_accuracy"]
    read = pd.read_csv(io.StringIO(frame(records((0, 1)))[columns].to_csv(index=False)))
    grid = build_grid(read)
    assert dict(grid.settings) == {"dataset": "mnist"}
    cell = grid.cells["fc", "none", "finetune"]
    assert table.cell_text(cell) == "0.9050 ± 0.0071 / missing (n = 2)"
    assert table.difference_text(cell) == "−0.0725 / missing"
    assert table.rows(grid)[0]["run_ids"] == ""


def test_nothing_to_compare_is_a_failure() -> None:
    with pytest.raises(Failure, match="aepretrain grid"):
        grid_of([one for one in records() if one.cell[2] == GRID_VARIANTS[0]])


def test_files_agree_with_the_grid() -> None:
    grid = grid_of(records((0, 1)))
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


def test_objectives_have_rows_that_share_scratch() -> None:
    def of(variant: str, objective: str | None, seed: int, accuracy: float) -> dict[str, Any]:
        cell = {"network": "fc", "augmentation": "none", "variant": variant, "seed": seed, "dataset": "mnist"}
        return {**cell, "objective": objective, "test_accuracy": accuracy}

    rows = pd.DataFrame(
        [of("scratch", None, seed, 0.97 + seed / 100) for seed in (0, 1)]
        + [of("finetune", "reconstruct", seed, 0.96 + seed / 100) for seed in (0, 1)]
        + [of("finetune", "pixel-mask", 0, 0.99), of("finetune", "mine", 1, 0.5)]
    )
    grid = build_grid(rows)
    assert grid.experiments == [("fc", "none"), ("fc", "none", "mine"), ("fc", "none", "pixel-mask")]
    found = {one: [len(cell.trainings) for cell in grid.row(one)] for one in grid.experiments if one[0] == "fc"}
    assert found[("fc", "none")] == [0, 2, 2]
    assert found[("fc", "none", "pixel-mask")] == [0, 1, 2]
    assert grid.cells["fc", "none", "pixel-mask", "finetune"].scores[0] == Score(0.99, None)
    assert len(grid.trainings) == 6, "scratch is in the table of trainings once"
    assert "fc, none, pixel-mask" in table.markdown(grid)
    alone = build_grid(rows[rows["objective"].isna() | (rows["objective"] == "pixel-mask")])
    assert alone.experiments == [("fc", "none")]
    assert alone.settings["objective"] == "pixel-mask"
