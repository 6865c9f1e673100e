"""Identity, validation and the derivation of random streams."""

import math
from dataclasses import replace
from typing import Any

import pytest

from aepretrain import variants
from aepretrain.config import (
    IN_EVERY_IDENTITY,
    Execution,
    Settings,
    TrainingSpec,
    changed_settings,
    command_text,
    dataset_option,
    derive_seed,
    format_seeds,
    grid_key,
    grid_specs,
    parse_seeds,
    setting_of,
)
from aepretrain.errors import UsageError
from aepretrain.variants import GRID_VARIANTS, PROBES

DATA = {"variant", "network", "augmentation", "seed", "dataset", "split", "normalize"}
SHARED = DATA | {"batch_size", "lr", "patience"}
ERASING = {"erase_scale", "erase_ratio", "erase_value"}
AE, CLS = {"ae_epochs", "ae_target", "ae_loss"}, {"cls_epochs"}


def spec(variant: str, augmentation: str = "none", **settings: Any) -> TrainingSpec:
    return TrainingSpec(variant=variant, network="fc", augmentation=augmentation, settings=Settings(**settings))


@pytest.mark.parametrize(
    ("variant", "options"), [("pretrain", AE), ("scratch", CLS), ("frozen", AE | CLS), ("finetune", AE | CLS)]
)
def test_identity_holds_exactly_the_fields_of_the_variant(variant: str, options: set[str]) -> None:
    assert set(spec(variant).identity()) == SHARED | options
    assert set(spec(variant, "erasing").identity()) == SHARED | options | ERASING


@pytest.mark.parametrize("variant", [*variants.VARIANTS, *variants.EVALUATIONS])
@pytest.mark.parametrize("updates", [0, 50])
def test_what_a_store_can_be_asked_for_is_in_every_identity(variant: str, updates: int) -> None:
    assert set(IN_EVERY_IDENTITY) <= spec(variant, updates=updates).identity().keys()


def test_key_is_the_known_one() -> None:
    # A change here means that stored runs no longer count as done: raise SCHEMA when results change, else undo it.
    assert spec("scratch").key("digest", {}) == "5414ca2dbeeda1aff09b9459e52d90cc19e488f652a430ee77bc58eec70c1946"


def test_key_depends_on_what_the_result_depends_on() -> None:
    keys = {
        spec("scratch").key("a", {}),
        spec("scratch").key("b", {}),
        spec("scratch").key("a", {"network": "c"}),
        spec("scratch", cls_epochs=3).key("a", {}),
        replace(spec("scratch"), seed=1).key("a", {}),
        spec("finetune").key("a", {}),
    }
    assert len(keys) == 6
    assert spec("scratch", ae_target="clean", ae_epochs=3).key("a", {}) == spec("scratch").key("a", {})
    assert spec("finetune", ae_target="clean").key("a", {}) != spec("finetune").key("a", {})
    assert spec("finetune", erase_value=1.0).key("a", {}) == spec("finetune").key("a", {})
    assert spec("finetune", "erasing", erase_value=1.0).key("a", {}) != spec("finetune", "erasing").key("a", {})


def test_later_options_are_silent_at_their_defaults() -> None:
    assert spec("scratch", labels=0, updates=0).key("a", {}) == spec("scratch").key("a", {})
    few = spec("finetune", labels=100, updates=50)
    assert set(few.identity()) == set(spec("finetune").identity()) - {"cls_epochs"} | {"labels", "updates"}
    assert few.sources == {"pretrain": replace(few, variant="pretrain")}
    assert few.sources["pretrain"].key("a", {}) == spec("pretrain").key("a", {})


def test_learning_rates_follow_the_common_one_until_they_are_given() -> None:
    for variant in (*GRID_VARIANTS, *PROBES):
        assert spec(variant, ae_lr=0.001, cls_lr=0.001, encoder_lr=0.001).identity() == spec(variant).identity()
    given: dict[str, Any] = {"ae_lr": 0.01, "cls_lr": 0.02, "encoder_lr": 0.02, "head_first": 3}
    added = {name: spec(name, **given).identity().keys() - spec(name).identity().keys() for name in GRID_VARIANTS}
    assert added == {
        "pretrain": {"ae_lr"},
        "frozen": {"ae_lr", "cls_lr"},
        "finetune": {"ae_lr", "cls_lr", "head_first"},  # the encoder's rate is the head's
        "scratch": {"cls_lr"},
    }
    assert spec("scratch", weight_decay=0.1, schedule="cosine").identity()["weight_decay"] == 0.1


def test_a_setting_of_an_identity_is_given_also_where_it_is_silent() -> None:
    finetune = spec("finetune", lr=0.01, objective="patch-mask").identity()
    found = {
        name: setting_of(finetune, name) for name in ("lr", "ae_lr", "cls_lr", "encoder_lr", "mask_share", "noise")
    }
    assert found == {"lr": 0.01, "ae_lr": 0.01, "cls_lr": 0.01, "encoder_lr": 0.01, "mask_share": 0.6, "noise": None}
    assert setting_of(spec("finetune", cls_lr=0.02).identity(), "encoder_lr") == 0.02
    scratch = spec("scratch", "pixel-mask").identity()
    assert [setting_of(scratch, name) for name in ("ae_lr", "encoder_lr", "mask_share", "objective")] == [
        None,
        None,
        0.5,
        None,
    ]
    assert setting_of(spec("scratch").identity(), "ae_epochs") is None


def test_a_name_tells_what_else_would_have_the_name_of_a_grids_training() -> None:
    assert spec("finetune").name == "fc-none-finetune-s0"
    assert spec("finetune", labels=100, updates=50).name == "fc-none-finetune-100labels-50updates-s0"
    assert spec("pretrain", labels=100, updates=50).name == "fc-none-pretrain-s0"
    assert spec("scratch", patience=0, cls_epochs=77).name == "fc-none-scratch-77epochs-s0"
    assert spec("frozen", "erasing", ae_target="clean").name == "fc-erasing-frozen-clean-s0"
    assert spec("scratch", "erasing", ae_target="clean").name == "fc-erasing-scratch-s0"
    assert spec("frozen", ae_target="clean").name == "fc-none-frozen-s0"


def test_training_by_updates_depends_on_neither_epochs_nor_patience() -> None:
    by_updates = spec("scratch", updates=50)
    assert "patience" not in by_updates.identity()
    assert by_updates.key("a", {}) == spec("scratch", updates=50, cls_epochs=3, patience=1).key("a", {})
    assert spec("finetune", updates=50, patience=1).key("a", {}) != spec("finetune", updates=50).key("a", {})


@pytest.mark.parametrize("variant", PROBES)
def test_probes_depend_on_no_pretraining(variant: str) -> None:
    assert set(spec(variant).identity()) == SHARED | CLS
    assert spec(variant).sources == {}


def test_pretraining_is_shared_by_what_depends_on_it() -> None:
    assert spec("frozen").sources == spec("finetune").sources == {"pretrain": spec("pretrain")}
    assert spec("pretrain").sources == {}
    assert spec("scratch").sources == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ae_epochs", -1),
        ("cls_epochs", 0),
        ("batch_size", 0),
        ("lr", math.nan),
        ("lr", 0.0),
        ("lr", math.inf),
        ("patience", -1),
        ("dataset", "image net"),
        ("split", "half"),
        ("normalize", "yes"),
        ("erase_scale", (0.2, 0.1)),
        ("erase_scale", (0.0, 0.1)),
        ("erase_scale", (0.1, 1.1)),
        ("erase_ratio", (-1.0, 2.0)),
        ("erase_ratio", (1.0, math.nan)),
        ("erase_value", math.inf),
        ("ae_target", "noise"),
        ("ae_loss", "l1"),
    ],
)
def test_bad_settings_are_named(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=name):
        Settings(**{name: value})  # type: ignore[arg-type]  # bad on purpose


def test_bce_needs_targets_between_0_and_1() -> None:
    with pytest.raises(UsageError, match="bce"):
        Settings(ae_loss="bce", normalize="mnist")
    assert Settings(ae_loss="bce").ae_loss == "bce"


def test_bad_cells_and_executions_are_named() -> None:
    with pytest.raises(UsageError, match="variant"):
        TrainingSpec(variant="distil", network="fc")
    with pytest.raises(UsageError, match="augmentation"):
        TrainingSpec(variant="scratch", network="fc", augmentation="flip it")
    with pytest.raises(UsageError, match="seed"):
        TrainingSpec(variant="scratch", network="fc", seed=-1)
    with pytest.raises(UsageError, match="jobs"):
        Execution(jobs=0)
    with pytest.raises(UsageError, match="threads"):
        Execution(threads=0)


@pytest.mark.parametrize(
    ("text", "seeds"), [("0", (0,)), ("0-4", (0, 1, 2, 3, 4)), ("0,3,7", (0, 3, 7)), ("5, 1-2,5", (5, 1, 2))]
)
def test_seeds_are_parsed(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["3-1", "", "a", "1-", "-1", "1,,2", "0-99999999", "1.5", "٣", "9" * 30])
def test_bad_seeds_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="seeds="):
        parse_seeds(text)


@pytest.mark.parametrize("text", ["0", "0-4", "0-1,3,7-9", "2"])
def test_seeds_are_formatted_as_they_are_parsed(text: str) -> None:
    assert format_seeds(parse_seeds(text)) == text


def test_grid_has_every_cell_once() -> None:
    specs = grid_specs(("fc", "conv"), ("none", "erasing"), (0, 1), Settings())
    assert len({one.name for one in specs}) == len(specs) == 2 * 2 * 2 * len(GRID_VARIANTS)
    keys = tuple(one.key("", {}) for one in specs)
    assert grid_key(keys) == grid_key(keys[::-1]) != grid_key(keys[1:])
    with pytest.raises(UsageError, match="variant='pca' is built in"):
        grid_specs(("fc",), ("none",), (0,), Settings(), ("pca",))


def test_objectives_of_a_grid_share_what_is_not_pretrained() -> None:
    specs = grid_specs(("fc",), ("none", "erasing"), (0, 1), Settings(), objectives=("reconstruct", "pixel-mask"))
    assert len({one.key("", {}) for one in specs}) == len(specs) == 2 * 2 * (4 + 3)
    plain = grid_specs(("fc",), ("none", "erasing"), (0, 1), Settings())
    assert {one.key("", {}) for one in plain} < {one.key("", {}) for one in specs}
    alone = grid_specs(("fc",), ("none",), (0,), Settings(objective="pixel-mask"))
    assert {one.identity().get("objective", "none") for one in alone} == {"pixel-mask", "none"}


def test_streams_differ_by_seed_purpose_and_epoch() -> None:
    states = {derive_seed(s, p, e) for s in range(20) for p in ("split", "AE order") for e in range(50)}
    assert len(states) == 20 * 2 * 50
    assert derive_seed(3, "split") == derive_seed(3, "split", 0) < 2**32


def test_a_dataset_that_is_read_from_a_path_is_named_with_all_of_it() -> None:
    assert dataset_option("folder:pets", "/my/pets") == "folder:/my/pets"
    assert dataset_option("npz:a.npz", None) == "npz:a.npz", "an older training has no path"
    assert dataset_option("mnist", "/data/MNIST/raw") == "mnist"


def test_commands_have_what_is_not_at_its_default_and_quote_it() -> None:
    assert changed_settings(vars(Settings(lr=0.01, ae_target="clean"))) == {"lr": 0.01, "ae_target": "clean"}
    assert changed_settings({"cls_epochs": 3, "noise": 0.5}) == {"cls_epochs": 3}
    options = {"dataset": "folder:/a b", "erase_scale": (0.2, 0.3), "plugin": ["one", "two"], "data_dir": None}
    assert command_text("aepretrain grid", options) == (
        "aepretrain grid --dataset 'folder:/a b' --erase-scale 0.2,0.3 --plugin one --plugin two"
    )
