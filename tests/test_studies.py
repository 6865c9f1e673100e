"""What studies found, as panels of the page, from records made by hand."""

import shlex
from dataclasses import replace
from typing import Any

import pytest

from aepretrain import config, report
from aepretrain.api.reports import code_maps_of
from aepretrain.cli.commands import cli
from aepretrain.cli.options import grid_from
from aepretrain.config import Settings, TrainingSpec, grid_specs
from aepretrain.errors import UsageError
from aepretrain.frame import frame
from aepretrain.records import Record
from aepretrain.report.panel import Panel
from aepretrain.studies import PANELS, STUDIES
from aepretrain.studies.labels import LABEL_VARIANTS
from aepretrain.studies.similarity import PAIR_NAMES
from aepretrain.training.similarity import PAIRS
from aepretrain.variants import CLASSIFIERS, PROBES
from tests.answers import archive, record_of

SEEDS = tuple(range(9))
TERMS = report.Terms(0.001)
VERDICT = "verdict (best validation loss)"


def of_study(spec: TrainingSpec, accuracy: float, **metrics: float) -> Record:
    found = record_of(spec, accuracy, **metrics)
    return replace(found, tags=dict(found.tags) | {"study": "any"})


def change(spec: TrainingSpec, variant: str, **settings: Any) -> TrainingSpec:
    return replace(spec, variant=variant, settings=replace(spec.settings, **settings))


def pretrainings() -> list[TrainingSpec]:
    specs = grid_specs(("fc",), ("none", "erasing"), SEEDS, Settings())
    return [spec for spec in specs if spec.variant == "pretrain"]


def controls() -> list[Record]:
    """Probes at 0.5, 0.6 and 0.7, scratch for 20 + 20 + 2·seed epochs at 0.94 (last 0.93), clean targets at 0.97."""
    made = []
    for spec in pretrainings():
        made += [of_study(change(spec, probe), 0.5 + 0.1 * place) for place, probe in enumerate(PROBES)]
        fair = change(spec, "scratch", patience=0, cls_epochs=40 + 2 * spec.seed)
        last, best = 0.93 + 0.001 * spec.seed, 10 + (spec.seed < 5)
        made.append(of_study(fair, 0.94 + 0.001 * spec.seed, last_test_accuracy=last, best_epoch=best))
        wrong = change(spec, "scratch", patience=0, cls_epochs=99)
        made.append(of_study(wrong, 0.1, last_test_accuracy=0.1))
        if spec.augmentation == "erasing":
            made += [of_study(change(spec, variant, ae_target="clean"), 0.97) for variant in ("frozen", "finetune")]
    return made


def labels() -> list[Record]:
    """Finetune is 0.05 better than scratch with 10 labels and, with a spread around nothing, equal with all."""
    made = []
    for spec in pretrainings():
        for num, effect in ((10, 0.05), (0, 0.0)):
            for variant in LABEL_VARIANTS:
                accuracy = (0.5 if num else 0.97) + (effect if variant == "finetune" else 0.0) + 0.001 * (spec.seed % 3)
                if variant == "finetune":
                    accuracy += 0.0002 * (spec.seed % 2) - 0.0001
                one = change(spec, variant, labels=num, updates=5_000)
                best = 1 if variant == "finetune" else 25
                ends = {"num_epochs": 50, "best_epoch": best, "last_test_accuracy": 0.4}
                made.append(of_study(one, accuracy, num_labels=num or 50_000, **ends))
    return made


def evaluations() -> list[Record]:
    """Accuracy falls by the erased share, for scratch by 0.02 more; CKA is 0.9 and 0.8 in the two layers."""
    made = []
    for spec in pretrainings():
        erased = {}
        for percent in (0, 10):
            for variant in CLASSIFIERS:
                lost = 0.02 if variant == "scratch" and percent else 0.0
                erased[f"{variant}_accuracy_at_{percent}"] = 0.98 - percent / 100 - lost
                erased |= {f"{variant}_nll_at_{percent}": 0.1 + percent, f"{variant}_ece_at_{percent}": 0.01}
        made.append(of_study(replace(spec, variant="robustness"), 0.0, **erased))
        alike = {f"cka_{a}_{b}_{layer}": 1.0 - layer / 10 for a, b in PAIRS for layer in (1, 2)}
        if spec.seed < 8:
            made.append(of_study(replace(spec, variant="similarity"), 0.0, **alike))
    return made


def panels(*further: Record, terms: report.Terms = TERMS) -> list[Panel]:
    base = list(archive(len(SEEDS), ("fc",)).records().values())
    records = {f"{place}": one for place, one in enumerate([*base, *further])}
    query = report.Query(report.build_grid(frame(base), report.EXPERIMENTS), records)
    return [make_panel(query, terms) for make_panel in PANELS]


def rows(panel: Panel, title: str) -> dict[str, dict[str, str]]:
    """A table's rows by their first column, each by the columns' names."""
    ((heading, *found),) = (table for name, table in panel.tables if title in name)
    return {row[0]: dict(zip(heading, row, strict=True)) for row in found}


def test_each_study_has_a_module_of_its_name_and_a_panel() -> None:
    assert list(STUDIES) == list(config.STUDIES)
    assert len(PANELS) == len(STUDIES)


def test_what_was_not_run_is_told_with_the_command() -> None:
    found = panels()
    assert [panel.text.partition("aepretrain ")[2] for panel in found] == [
        f"study {study} --network fc,conv --augmentation none,erasing --seeds 0-8"
        for study in ("controls", "labels", "robustness", "similarity")
    ]
    assert not any(panel.tables or panel.pictures for panel in found)


def test_probes_are_held_against_the_frozen_encoder() -> None:
    panel = panels(*controls())[0]
    assert rows(panel, "with and without")["fc, none"]["random encoder"] == "0.5000 ± 0.0000 (n = 9)"
    assert rows(panel, "minus each")["fc, none"]["frozen − principal components"].startswith("+25.")


def test_scratch_of_the_same_budget_is_that_of_the_seeds_own_epochs() -> None:
    row = rows(panels(*controls())[0], "epochs of pretraining")["fc, erasing"]
    assert row["scratch as long, best validation"].startswith("0.9440 ")
    assert row["scratch as long, last weights"].startswith("0.9340 ")
    assert row["finetune − scratch as long, last weights"].startswith("+3.")
    assert row["later best epoch"] == "5 of 9"


def test_clean_targets_are_compared_where_there_is_erasing() -> None:
    panel = panels(*controls())[0]
    (found,) = (table for name, table in panel.tables if "target under erasing" in name)
    assert [row[:2] for row in found[1:3]] == [["fc, erasing", "frozen"], ["fc, erasing", "finetune"]]
    assert all(row[3] == "0.9700 ± 0.0000 (n = 9)" for row in found[1:3])
    assert len(found) == 3, "experiments without controls are named in the text"
    assert panel.text.endswith("study controls --network conv --augmentation none,erasing --seeds 0-8")


def test_each_number_of_labels_has_its_verdict() -> None:
    panel = panels(*labels())[1]
    found = rows(panel, "fc, none: finetune − scratch by")
    assert list(found) == ["10", "all"]
    assert (found["10"][VERDICT], found["all"][VERDICT]) == ("better", "equivalent")
    assert found["10"]["best validation loss (95 % interval)"].startswith("+4.9")
    assert found["10"]["seeds"] == "9"
    assert found["10"]["best after, finetune / scratch"] == "2 % / 50 %"
    assert found["10"]["last weights (95 % interval)"] == "+0.000 (+0.000 to +0.000)"
    assert rows(panel, "fc, none: test accuracy by the number of labels, last weights")["10"]["scratch"] == (
        "0.4000 ± 0.0000 (n = 9)"
    )
    best = rows(panel, "fc, none: test accuracy by the number of labels, best")["10"]
    assert (best["scratch"], best["finetune"]) == ("0.5010 ± 0.0009 (n = 9)", "0.5510 ± 0.0009 (n = 9)")
    assert "5,000 steps" in panel.method
    assert panel.pictures[0].content.startswith(b"\x89PNG")


def test_eight_tests_need_nine_seeds() -> None:
    """The smallest p of 8 seeds is 2/256; eight times that is more than 0.05."""
    panel = panels(*(record for record in labels() if record.seed < 8))[1]
    assert rows(panel, "fc, none: finetune − scratch by")["10"][VERDICT] == "no verdict: 8 seeds, at least 9 needed"


def test_other_numbers_of_steps_and_other_settings_do_not_mix_in() -> None:
    (spec, *_) = pretrainings()
    odd = [
        of_study(change(spec, "scratch", labels=10, updates=20_000), 0.1, last_test_accuracy=0.1, num_labels=10),
        of_study(change(spec, "scratch", labels=50, updates=5_000, lr=0.1), 0.1, last_test_accuracy=0.1, num_labels=50),
    ]
    assert panels(*labels(), *odd)[1].tables == panels(*labels())[1].tables


def test_studies_stay_out_of_the_grid() -> None:
    base = list(archive(2, ("fc",)).records().values())
    with pytest.raises(UsageError, match="different settings"):
        report.build_grid(frame([*base, *controls()]))
    chosen = report.choose(frame([*base, *controls(), *labels()]), {})
    assert chosen["key"].tolist() == [one.key for one in base]


def test_erased_test_images_have_their_table() -> None:
    panel = panels(*evaluations())[2]
    found = rows(panel, "fc, erasing: accuracy on erased test images (n = 9)")
    assert list(found) == ["0 %", "10 %"]
    assert found["10 %"]["scratch"] == "0.8600 ± 0.0000"
    assert found["10 %"]["finetune − scratch (points)"].startswith("+2.000 (")
    calibration = rows(panel, "fc, erasing: calibration on erased test images (n = 9)")
    assert calibration["10 %"]["frozen, NLL"] == "10.1000 ± 0.0000"
    assert panel.pictures[0].content.startswith(b"\x89PNG")


def test_likeness_is_told_layer_by_layer() -> None:
    panel = panels(*evaluations())[3]
    found = rows(panel, "fc, none: linear CKA (n = 8)")
    assert list(found) == list(PAIR_NAMES.values())
    assert found["scratch, scratch of another seed"] == {
        "encoders": "scratch, scratch of another seed",
        "layer 1": "0.9000 ± 0.0000",
        "layer 2": "0.8000 ± 0.0000",
    }
    assert panel.pictures[0].content.startswith(b"\x89PNG")


def test_experiments_that_a_study_was_not_run_for_are_named() -> None:
    text = panels(*labels())[1].text
    assert text.endswith(
        "Not run for conv, none; conv, erasing. To run it: aepretrain study labels --network conv "
        "--augmentation none,erasing --seeds 0-8"
    )


def test_a_suggested_command_trains_what_is_missing_and_can_be_pasted() -> None:
    """With the user's own dataset, network, objective and settings, and where they are."""
    settings = Settings(dataset="mine", ae_epochs=3, cls_epochs=3, erase_scale=(0.2, 0.3), objective="pixel-mask")
    tags = {"plugins": "examples.archive,my.nets", "dataset_source": "/data/mine.npz", "data_dir": "/data/of mine"}
    made = [
        replace(record_of(spec, 0.9), tags={**record_of(spec, 0.9).tags, **tags})
        for spec in grid_specs(("deep",), ("erasing",), (3, 4, 5), settings)
    ]
    grid = report.build_grid(frame(made))
    place = report.place_of(made, "sqlite:////tmp/a b.db")
    query = report.Query(grid, {one.key: one for one in made}, place)
    text = query.not_run("controls", grid.experiments)
    command = text.partition("To run it: ")[2]
    assert command == (
        "aepretrain study controls --network deep --augmentation erasing --seeds 3-5 --dataset mine "
        "--erase-scale 0.2,0.3 --ae-epochs 3 --cls-epochs 3 --objective pixel-mask --plugin examples.archive "
        "--plugin my.nets --data-dir '/data/of mine' --tracking-uri 'sqlite:////tmp/a b.db'"
    )
    words = shlex.split(command)
    assert words[:2] == ["aepretrain", "study"]
    options = cli.commands["study"].make_context("study", words[2:]).params
    request = grid_from(options)
    assert request["settings"] == replace(settings, objective="reconstruct"), "objectives are an option of their own"
    assert request["objectives"] == ["pixel-mask"]
    assert (request["networks"], request["augmentations"], request["seeds"]) == (["deep"], ["erasing"], (3, 4, 5))
    assert request["execution"].plugins == ("examples.archive", "my.nets")
    assert (request["execution"].data_dir, request["tracking_uri"]) == ("/data/of mine", "sqlite:////tmp/a b.db")


def test_differences_say_of_how_many_seeds_they_are() -> None:
    made = [one for one in controls() if one.seed < 3]
    row = rows(panels(*made)[0], "minus each")["fc, none"]
    assert row["frozen − random encoder"].endswith(", n = 3)")
    alone = rows(panels(*(one for one in made if one.seed == 0))[0], "minus each")["fc, none"]
    assert alone["frozen − random encoder"].endswith(" (n = 1)")


def test_codes_shown_are_of_the_seed_that_is_shown_or_else_of_the_lowest_that_kept_its_map() -> None:
    made = archive(0)
    looks = [one for one in evaluations() if one.cell[2] == "similarity"]
    for one in looks:
        if one.seed in (3, 5) or one.cell[1] == "erasing":
            made.files[one.run_id, "figures/code_maps.png"] = b"a picture"
    finetuned = archive(9, ("fc",)).records()
    found = [code_maps_of(finetuned[f"fc-none-finetune-s{seed}"], looks, made) for seed in (5, 8, 3, 0)]
    assert [one.seed for one in found if one] == [5, 3, 3, 3]
    assert {one.cell for one in found if one} == {("fc", "none", "similarity")}
    made.files.clear()
    assert code_maps_of(finetuned["fc-none-finetune-s5"], looks, made) is None
