"""Finished trainings as a data frame, from records made by hand."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from io import BytesIO

import pandas as pd
import pytest

from aepretrain.config import Settings, TrainingSpec, grid_specs
from aepretrain.errors import UsageError
from aepretrain.frame import FIXED, REQUIRED, SETTINGS, frame, tidy, to_bytes
from tests.answers import record_of

PRETRAIN = TrainingSpec(variant="pretrain", network="fc", augmentation="erasing", seed=3, settings=Settings())
SCRATCH = replace(PRETRAIN, variant="scratch", augmentation="none", settings=Settings(labels=100, updates=50))


def test_a_training_is_a_row_with_its_settings_and_figures() -> None:
    found = frame([record_of(PRETRAIN, 0.5, train_loss=0.25), record_of(SCRATCH, 0.75)])
    assert list(found)[: len(FIXED) + len(SETTINGS)] == [*FIXED, *SETTINGS]
    first, second = found.to_dict("records")
    assert (first["key"], first["network"], first["variant"], first["seed"]) == (PRETRAIN.name, "fc", "pretrain", 3)
    assert (first["erase_scale"], first["ae_epochs"], first["lr"]) == ((0.1, 0.15), 50, 0.001)
    assert (second["labels"], second["updates"], second["test_accuracy"]) == (100, 50, 0.75)
    assert first["train_loss"] == 0.25
    assert found["train_loss"].isna().tolist() == [False, True]


def test_a_setting_that_does_not_apply_is_missing_and_one_that_applies_has_its_default() -> None:
    classifier = replace(SCRATCH, settings=Settings())
    found = frame([record_of(PRETRAIN, 0.5), record_of(classifier, 0.5)])
    assert found[["labels", "cls_epochs"]].isna().values.tolist() == [[True, True], [False, False]]
    assert found["labels"].tolist()[1] == 0
    assert found[["erase_scale", "ae_epochs"]].isna().values.tolist() == [[False, False], [True, True]]
    assert found["study"].isna().all()


def test_pairs_are_compared_as_values() -> None:
    specs = [replace(PRETRAIN, settings=Settings(erase_scale=scale)) for scale in ((0.1, 0.15), (0.2, 0.3))]
    found = frame([record_of(spec, 0.5) for spec in specs])
    assert found["erase_scale"].isin([(0.2, 0.3)]).tolist() == [False, True]
    assert found["erase_scale"].nunique() == 2


def test_a_figure_never_takes_the_place_of_another_column() -> None:
    """MLflow lets anybody log a metric of any name into a run."""
    (row,) = frame([record_of(PRETRAIN, 0.5, lr=7.0, run_id=3.0)]).to_dict("records")
    assert (row["lr"], row["run_id"]) == (0.001, f"run-{PRETRAIN.name}")


def test_no_training_is_an_empty_frame_with_the_same_columns() -> None:
    assert list(frame([])) == [*FIXED, *SETTINGS]
    assert len(frame([])) == 0


READ: dict[str, Callable[[BytesIO], pd.DataFrame]] = {
    "csv": pd.read_csv,
    "parquet": pd.read_parquet,
    "json": partial(pd.read_json, dtype=False),
}


@pytest.mark.parametrize("form", READ)
def test_a_frame_survives_as_a_file(form: str) -> None:
    specs = grid_specs(("fc",), ("none", "erasing"), (0, 1), Settings(head_first=2, erase_scale=(0.1, 1 / 3)))
    found = frame([record_of(spec, 2 / 3 + spec.seed / 100) for spec in specs])
    read = tidy(READ[form](BytesIO(to_bytes(found, form))))
    pd.testing.assert_frame_equal(read[[*SETTINGS]], found[[*SETTINGS]])
    assert read["test_accuracy"].tolist() == pytest.approx(found["test_accuracy"].tolist(), abs=1e-15)
    assert read[["key", "variant", "seed"]].values.tolist() == found[["key", "variant", "seed"]].values.tolist()
    assert read["study"].isna().all()


def test_a_file_of_json_has_null_for_what_is_missing() -> None:
    (row, _) = json.loads(to_bytes(frame([record_of(PRETRAIN, 0.5), record_of(SCRATCH, 0.75, last=1.0)]), "json"))
    assert (row["labels"], row["study"], row["last"], row["erase_scale"]) == (None, None, None, [0.1, 0.15])


def test_a_table_of_somebody_else_needs_few_columns() -> None:
    table = pd.DataFrame({"network": ["fc"], "augmentation": ["none"], "variant": ["scratch"], "seed": [0]})
    with pytest.raises(UsageError, match="dataset missing"):
        tidy(table)
    found = tidy(table.assign(dataset="mnist", test_accuracy=0.9))
    assert found[["key", "study", "lr", "labels", "erase_scale"]].isna().all(axis=None)
    assert found[[*REQUIRED, "test_accuracy"]].values.tolist() == [["fc", "none", "scratch", 0, "mnist", 0.9]]


def test_a_setting_of_another_type_is_refused() -> None:
    table = frame([record_of(SCRATCH, 0.5)]).astype({"patience": "object"})
    table.loc[0, "patience"] = "ten"
    with pytest.raises(UsageError, match=r"another type.*ten"):
        tidy(table)
