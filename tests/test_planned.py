"""The report of plans, from records made by hand."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import vl_convert
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy import stats as scipy_stats
from statsmodels.stats.meta_analysis import combine_effects  # type: ignore[import-untyped]
from statsmodels.stats.multitest import multipletests  # type: ignore[import-untyped]

from aepretrain import report
from aepretrain.api.reports import Report, _report
from aepretrain.config import Settings, SmallestEffect, TrainingSpec
from aepretrain.errors import UsageError
from aepretrain.frame import frame
from aepretrain.plans import Plan, read_plan
from aepretrain.records import FILTERS, Record, filters_to_bytes
from aepretrain.report import PlanResults
from aepretrain.report.diagnostics import _filters, _kinds, diagnostics_panel
from aepretrain.report.explore import map_specs
from aepretrain.report.judged import pool
from aepretrain.report.planned_panels import _rows, _verdicts_panel
from aepretrain.report.planned_tables import (
    checkpoint_tables,
    family_tables,
    pooled_tables,
    undecidable_tables,
    words_table,
)
from aepretrain.report.planned_wording import answer_paragraphs, doubts, standing, summary, time_text
from aepretrain.stats import Kind
from aepretrain.tuning import tuner
from tests.answers import Archive, predictions, record_of, trial_records
from tests.conftest import ROOT

TEXT = """\
question: When does it help?
smallest_effect: 0.001
alpha: 0.05
datasets: [mnist, fashion-mnist]
networks:
  fc: 100-109
augmentations: [none]
objectives: [reconstruct, pixel-mask]
labels: [100, all]
updates: 5000
comparisons:
  - finetune - scratch
  - finetune - scratch with the same corruption
families: [comparison]
"""

SEEN = "2026-11-28T12:00:00+00:00"

GAINS = {("reconstruct", 100): -0.004, ("reconstruct", 0): 0.0, ("pixel-mask", 100): 0.03, ("pixel-mask", 0): 0.005}
"""Finetune minus scratch."""

DIAGNOSTICS = ("dead_units", "effective_rank", "effective_rank_centred", "probe_accuracy")


def plan_of(tmp_path: Path, text: str = TEXT, name: str = "when") -> Plan:
    (tmp_path / f"{name}.yaml").write_text(text)
    return read_plan(tmp_path / f"{name}.yaml")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(tmp_path)


def training(spec: TrainingSpec, gains: dict[tuple[str, int], float], **tags: str) -> Record:
    """A finished training of which the figures depend on its specification alone; accuracies are of 10,000 images."""
    settings, name = spec.settings, f"{spec.settings.dataset}-{spec.name}"
    draw = np.random.default_rng([ord(one) for one in name])
    if spec.variant == "pretrain":
        made = record_of(spec, 0.0, **dict.fromkeys(DIAGNOSTICS, 0.5 + 0.01 * draw.random()))
        made = replace(made, metrics={key: one for key, one in made.metrics.items() if key != "test_accuracy"})
    else:
        shared = np.random.default_rng([spec.seed, settings.labels]).normal(0, 0.002)
        gain = gains.get((settings.objective, settings.labels), 0.0) if spec.variant == "finetune" else 0.0
        accuracy = round(0.9 + shared + gain + draw.normal(0, 0.001), 4)
        further = {"most_accurate_test_accuracy": 0.0005, "last_test_accuracy": -0.0005, "best_val_accuracy": 0.002}
        figures = {key: accuracy + shift * (spec.variant == "finetune") for key, shift in further.items()}
        figures |= dict.fromkeys(DIAGNOSTICS, 0.4 + 0.01 * draw.random()) if spec.variant != "frozen" else {}
        made = record_of(spec, accuracy, num_labels=settings.labels or 50_000, **figures)
    return replace(made, key=name, run_id=f"run-{name}", tags={**made.tags, "pretraining_key": "", **tags})


def under(plan: Plan) -> dict[str, str]:
    return {"plan": plan.digest, "plan_seen": SEEN}


def archive_of(
    plan: Plan, tags: dict[str, str], keep: Callable[[TrainingSpec], bool] = lambda _: True, **changed: Any
) -> Archive:
    """The trainings of a plan, with some settings changed."""
    found = Archive()
    for dataset in plan.datasets:
        for spec in filter(keep, plan.specs(dataset)):
            applied = replace(spec, settings=replace(spec.settings, **changed))
            one = training(applied, GAINS, **tags)
            found.found[one.key] = one
            if spec.variant != "pretrain":
                num_right = round(1000 * one.metrics["test_accuracy"])
                found.files[one.run_id, "evidence/predictions.npz"] = predictions(num_right, spec.seed).to_bytes()
    return found


def judged(plan: Plan, records: dict[str, Record], **num_images: int) -> PlanResults:
    return report.judge_plan(plan, frame(records.values()), records, num_images)


def result_of(results: PlanResults, name: str, dataset: str, objective: str, labels: int) -> report.planned.Result:
    (one,) = [
        one
        for one in results.of(name)
        if (one.planned.dataset, one.planned.objective, one.planned.labels) == (dataset, objective, labels)
    ]
    return one


def made_of(archive: Archive, *plans: Plan) -> Report:
    return _report(archive.records(), archive, {}, SmallestEffect(0.001), plans)


def test_exactly_the_trainings_of_the_plan_are_taken(plan: Plan) -> None:
    right = archive_of(plan, under(plan)).found
    alone = judged(plan, right)
    wrong = {
        one.key: replace(one, metrics={**one.metrics, "test_accuracy": 0.1})
        for spec in plan.specs("mnist")
        if spec.seed < 103
        for other in (
            replace(spec, seed=spec.seed + 10),
            replace(spec, network="conv"),
            replace(spec, augmentation="erasing"),
            *(
                replace(spec, settings=replace(spec.settings, **changed))
                for changed in (
                    {"dataset": "kmnist"},
                    {"lr": 0.01},
                    {"cls_lr": 0.01},
                    {"weight_decay": 0.01},
                    {"patience": 3},
                    {"labels": 1000},
                    {"updates": 100},
                    {"objective": "patch-mask"},
                    {"objective": "pixel-mask", "mask_share": 0.75},
                    {"head_first": 2},
                )
            ),
        )
        if json.dumps(other.identity()) not in {json.dumps(one.identity()) for one in plan.specs("mnist")}
        for one in [training(other, GAINS)]
    }
    assert len(wrong) > 200
    mixed = judged(plan, {**wrong, **right})
    assert mixed.records.keys() == alone.records.keys()
    assert family_tables(mixed) == family_tables(alone)
    one = result_of(alone, "finetune - scratch", "mnist", "pixel-mask", 100)
    assert one.first.index.tolist() == one.second.index.tolist() == list(range(100, 110))
    assert one.first["objective"].unique().tolist() == ["pixel-mask"]
    assert one.second["variant"].unique().tolist() == ["scratch"]
    corrupted = result_of(alone, "finetune - scratch with the same corruption", "mnist", "pixel-mask", 100)
    assert corrupted.second["augmentation"].unique().tolist() == ["pixel-mask"]


def test_what_a_grid_or_a_study_has_trained_counts_too(plan: Plan) -> None:
    found = archive_of(plan, {"study": "labels"}).found
    assert len(judged(plan, found).records) == len([one for one in found.values() if one.cell[2] != "pretrain"])


def test_two_trainings_of_one_specification_and_seed_are_refused(plan: Plan) -> None:
    found = archive_of(plan, under(plan)).found
    twice = next(one for one in found.values() if one.cell[2] == "finetune")
    with pytest.raises(
        UsageError, match=r"several trainings of fc-none-finetune.* have the same seed and the same opt"
    ):
        judged(plan, {**found, "other": replace(twice, key="other")})


def test_families_and_their_numbers_of_tests_are_the_plans(plan: Plan, tmp_path: Path) -> None:
    found = archive_of(plan, under(plan)).found
    by_comparison = judged(plan, found)
    assert {name: len(of) for name, of in by_comparison.families.items()} == {
        "finetune - scratch": 8,
        "finetune - scratch with the same corruption": 4,
    }
    assert {one.verdict.test_alpha for one in by_comparison.of("finetune - scratch")} == {0.05 / 8}
    by_labels = judged(plan_of(tmp_path, TEXT.replace("[comparison]", "[comparison, labels]")), found)
    assert [len(of) for of in by_labels.families.values()] == [4, 4, 2, 2]
    strict = judged(plan_of(tmp_path, TEXT.replace("alpha: 0.05", "alpha: 0.001")), found)
    assert {one.verdict.kind for one in strict.results} == {Kind.NONE}, "10 seeds are too few for this level"


def test_verdicts_follow_the_gains(plan: Plan) -> None:
    results = judged(plan, archive_of(plan, under(plan)).found)
    kinds = {
        (labels, objective): result_of(results, "finetune - scratch", "mnist", objective, labels).verdict.words
        for labels in plan.labels
        for objective in plan.objectives
    }
    assert (kinds[100, "pixel-mask"], kinds[0, "pixel-mask"]) == ("better", "better")
    assert kinds[100, "reconstruct"] == "worse"
    assert summary(results).startswith("At equal settings: finetune − scratch better in 4 of 8 tests, worse in 2, ")
    assert summary(results).endswith('any false "better" or "worse" in a family of tests is at most 5 %.')


def test_fewer_seeds_than_planned_make_a_family_interim(plan: Plan) -> None:
    found = archive_of(plan, under(plan)).found
    del found["fashion-mnist-fc-pixel-mask-scratch-s105"]
    results = judged(plan, found)
    assert {one.is_interim for one in results.of("finetune - scratch")} == {False}
    assert {one.is_interim for one in results.of("finetune - scratch with the same corruption")} == {True}
    tables = dict(family_tables(results))
    (rows,) = [table_rows(rows) for name, rows in tables.items() if "same corruption" in name]
    assert [row["seeds"].partition(" (")[0] for row in rows] == ["10 of 10 planned"] * 3 + ["9 of 10 planned"]
    assert all(row["verdict"].startswith("interim: ") for row in rows)
    assert summary(results).startswith("So far, at equal settings: ")
    assert "at most 5 % only at the planned seeds" in summary(results)


def table_rows(rows: list[list[str]]) -> list[dict[str, str]]:
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def test_what_was_not_started_under_the_plan_is_exploratory(plan: Plan, tmp_path: Path) -> None:
    results = judged(plan, archive_of(plan, under(plan)).found)
    num = len(results.records)
    assert standing(results) == (
        f"{num} of {num} counted trainings were started under the plan when, which was first seen on "
        "2026-11-28 12:00 UTC."
    )
    before = judged(plan, archive_of(plan, {}).found)
    assert standing(before) == (
        f"0 of {num} counted trainings were started under the plan when, and none says when it was first seen; its "
        "results are exploratory."
    )
    assert summary(before).endswith("provided that the number of seeds was fixed before looking.")
    assert all(
        row["started under the plan"] == "0 of 20: exploratory" for row in table_rows(family_tables(before)[0][1])
    )
    other = plan_of(tmp_path, TEXT.replace("0.001", "0.002"), "other")
    some = archive_of(plan, under(plan)).found
    some |= archive_of(plan, under(other), lambda spec: (spec.variant, spec.seed) == ("scratch", 100)).found
    mixed = judged(plan, some)
    assert mixed.num_started == num - 8, "two datasets, two numbers of labels, with and without hidden pixels"
    assert standing(mixed).endswith("are exploratory. Other plans started 8 of them.")
    assert "; its 12 results that count other trainings are exploratory." in standing(mixed)


def test_a_time_that_is_none_stays_text() -> None:
    assert time_text("2026-11-28T12:00:00+02:00") == "2026-11-28 10:00 UTC"
    assert time_text("<b>") == "<b>"


def test_primary_tables_are_those_of_scipy_and_statsmodels(plan: Plan) -> None:
    """All that is printed of the primary comparison, from the frame alone, by other libraries."""
    found = archive_of(plan, under(plan)).found
    results, table = judged(plan, found), frame(found.values())
    rows = table_rows(dict(family_tables(results))["finetune − scratch: test accuracy, 8 tests corrected together"])
    differences = [
        _differences(table, dataset, objective, labels)
        for dataset in ("mnist", "fashion-mnist")
        for objective in ("reconstruct", "pixel-mask")
        for labels in (100, 0)
    ]
    p_values = [_exact_sign_flips(one_S) for one_S in differences]
    is_found, adjusted, *_ = multipletests(p_values, 0.05, method="holm")
    for row, one_S, p_value, found_here in zip(rows, differences, adjusted, is_found, strict=True):
        wide = scipy_stats.ttest_1samp(one_S, 0).confidence_interval(0.95)
        narrow = scipy_stats.ttest_1samp(one_S, 0).confidence_interval(0.90)
        assert row["difference in points (95 % interval)"] == f"{_text(one_S.mean())} ({_text(wide)})"
        assert row["90 % interval"] == _text(narrow)
        assert row["p, Holm"] == (f"{p_value:.4f}" if p_value >= 0.0001 else "below 0.0001")
        assert row["verdict"] == _verdict(float(one_S.mean()), *narrow, detected=bool(found_here))
    pooled = table_rows(pooled_tables(results, "finetune - scratch")[0][1])
    for number, row in enumerate(pooled):
        pair = [differences[number], differences[number + 4]]
        mean, ends, tau2 = _pooled_of_statsmodels(pair)
        assert row["difference in points (95 % interval)"] == f"{_text(mean)} ({_text(ends)})"
        assert row["τ, in points"] == f"{100 * tau2**0.5:.3f}"
    assert len(pooled) == 4


def _pooled_of_statsmodels(groups: list[NDArray[np.float64]]) -> tuple[float, Any, float]:
    """Mean, Hartung-Knapp interval and τ²; where that is below zero, all effects are taken to be equal."""
    means, errors = np.array([one.mean() for one in groups]), np.array([scipy_stats.sem(one) for one in groups])
    with np.errstate(invalid="ignore"):  # of a τ² below zero
        found = combine_effects(means, errors**2, method_re="dl", use_t=True)
        of_equal, of_random = found.conf_int()[2:]
    if found.tau2 <= 0:
        return float(found.mean_effect_fe), of_equal, 0.0
    return float(found.mean_effect_re), of_random, float(found.tau2)


def _differences(table: pd.DataFrame, dataset: str, objective: str, labels: int) -> NDArray[np.float64]:
    of_cell = table[(table["dataset"] == dataset) & (table["labels"] == labels) & (table["augmentation"] == "none")]
    finetune = of_cell[(of_cell["variant"] == "finetune") & (of_cell["objective"] == objective)].set_index("seed")
    scratch = of_cell[of_cell["variant"] == "scratch"].set_index("seed")
    values_S: NDArray[np.float64] = (finetune["test_accuracy"] - scratch["test_accuracy"]).to_numpy()
    return values_S


def _exact_sign_flips(differences_S: NDArray[np.float64]) -> float:
    whole_S = np.round(differences_S * 10_000)  # whole test images: sums are exact
    flips = scipy_stats.permutation_test((whole_S,), np.sum, permutation_type="samples", n_resamples=np.inf)
    return float(flips.pvalue)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{100 * value:+.3f}".replace("-", "−")
    return " to ".join(_text(float(one)) for one in value)


def _verdict(mean: float, low: float, high: float, *, detected: bool) -> str:
    inside, outside = low > -0.001 and high < 0.001, low > 0.001 or high < -0.001
    side = "better" if mean > 0 else "worse"
    of_found = "different, but negligibly" if inside else side if outside else f"{side}, size unsettled"
    return of_found if detected else "equivalent" if inside else "undecided"


def test_pooled_are_experiments_with_a_verdict_only(plan: Plan) -> None:
    results = judged(plan, archive_of(plan, under(plan)).found)
    assert {key: len(group) for key, group in results.groups.items()} == {
        (name, objective, labels): 2
        for name in plan.compared
        for objective in (plan.objectives if name == "finetune - scratch" else ("pixel-mask",))
        for labels in plan.labels
    }
    few = archive_of(plan, {}, lambda spec: spec.seed < 103 or spec.settings.dataset == "mnist").found
    assert judged(plan, few).groups == {}
    assert pooled_tables(judged(plan, few)) == []


def test_differences_by_checkpoint_and_figures_that_old_trainings_lack(plan: Plan) -> None:
    found = archive_of(plan, under(plan)).found
    rows = table_rows(checkpoint_tables(judged(plan, found))[0][1])
    one = result_of(judged(plan, found), "finetune - scratch", "mnist", "reconstruct", 100)
    means = [one.difference(figure) for figure in ("test_accuracy", "most_accurate_test_accuracy", "best_val_accuracy")]
    values = [mean.value for mean in means if mean]
    assert values[1:] == pytest.approx([values[0] + 0.0005, values[0] + 0.002])
    assert rows[0]["most accurate"].startswith(_text(values[1]))
    usual = ("test_accuracy", "test_macro_f1", "test_loss", "best_val_loss", "num_epochs", "best_epoch")
    old = {
        key: replace(one, metrics={name: value for name, value in one.metrics.items() if name in usual})
        for key, one in found.items()
    }
    lacking = judged(plan, old)
    assert {row["last"] for row in table_rows(checkpoint_tables(lacking)[0][1])} == {"missing"}
    assert family_tables(lacking) == family_tables(judged(plan, found))
    archive = archive_of(plan, under(plan))
    archive.found = old
    text = made_of(archive, plan).files["report.md"].decode()
    assert "No training of this plan has figures of its encoder yet.**\n" in text


def test_the_page_has_the_plans_tables_and_pictures(plan: Plan) -> None:
    archive = archive_of(plan, under(plan))
    made = made_of(archive, plan)
    assert made.answer is None
    names = {name for name in made.files if name.endswith(".png")}
    kinds = ("pipeline", "map-when-1", "map-when-2", "checkpoints-when-1", "checkpoints-when-2", "encoders-when")
    assert names == {f"report/{name}.png" for name in kinds}
    text, short = made.files["report.md"].decode(), made.files["answer.md"].decode()
    assert text.startswith("# When does it help?\n\nA pretrained network was found to read more images correctly ")
    assert "## Plan when\n\n**finetune − scratch: better in 4 of 8 tests" in text
    assert "\n- Dead units: " in text
    assert "luck alone moves a single run by about" in text
    assert f"| digest (SHA-256 of the content, first 12 digits) | {plan.digest[:12]} |" in text
    assert "| first seen, as its trainings say | 2026-11-28 12:00 UTC |" in text
    assert "| pretrained, pixel-mask | 10 | 0.50" in text
    assert short.startswith("**When does it help?**\n\nAt equal settings: finetune − scratch better in 4 of 8 tests")
    assert "**finetune − scratch: test accuracy, 8 tests corrected together**" in short
    assert "frozen" not in short
    assert repr(made).startswith("When does it help?")


def test_each_place_of_the_map_can_be_explored(plan: Plan) -> None:
    results = judged(plan, archive_of(plan, under(plan)).found)
    specs = map_specs(results, "finetune - scratch")
    assert [spec["title"] for spec in specs] == ["MNIST, fc", "Fashion-MNIST, fc"]
    for spec in specs:
        drawn = vl_convert.vegalite_to_svg({**spec, "width": 400})
        assert drawn.count('aria-roledescription="point"') == 4, "two objectives at two numbers of labels"
        assert "verdict: better" in drawn


TUNED = """\
tuned:
  networks: [fc]
  seeds: 1000000-1000001
  trials: 2
"""


def test_comparisons_with_each_arm_tuned_are_judged_when_all_arms_are_tuned(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, TEXT + TUNED)
    archive = archive_of(plan, under(plan))
    arms = [arm for dataset in plan.datasets for arm in plan.arms(dataset)]
    trials = [one for arm in arms for one in trial_records(arm, [0.2, 0.1])]
    for one in trials:
        key = f"{one.identity['dataset']}-{one.key}"
        archive.found[key] = replace(one, key=key)
    choose = tuner(arms, archive.found.values())
    for spec in {choose(side) for one in plan.comparisons for side in (one.first, one.second)}:
        gain = 0.02 if spec.variant == "scratch" else 0.0
        for seed in range(100, 110):
            one = training(replace(spec, seed=seed), {}, **under(plan))
            accuracy = one.metrics["test_accuracy"] + gain
            tuned = replace(one, key=f"{one.key}-tuned", metrics={**one.metrics, "test_accuracy": accuracy})
            archive.found[tuned.key] = tuned

    results = judged(plan, archive.found)
    assert results.tuned is not None
    assert [one.planned.is_tuned for one in results.results] == [False] * 12, "as without the key"
    (first, *_) = results.tuned.of("finetune - scratch")
    assert first.planned.first.settings.cls_lr == 0.002, "the second trial is the best one"
    assert (first.planned.family, first.num_tests) == ("finetune - scratch, tuned", 8)
    assert {one.verdict.kind for one in results.tuned.of("finetune - scratch")} == {Kind.WORSE}
    made = made_of(archive, plan)
    text, short = made.files["report.md"].decode(), made.files["answer.md"].decode()
    assert "With each arm tuned: finetune − scratch worse in 8 of 8 tests" in short
    assert "**finetune − scratch, tuned: test accuracy, 8 tests corrected together**" in short
    assert "## Plan when, each arm tuned\n\n**finetune − scratch: worse in 8 of 8 tests.**" in text
    assert "are judged when all arms are tuned" not in text
    assert {"report/map-when-1.png", "report/map-when-tuned-1.png", "report/tuning-1.png"} <= made.files.keys()

    for key in [key for key, one in archive.found.items() if "tuned" in one.tags][:1]:
        del archive.found[key]
    results = judged(plan, archive.found)
    assert results.tuned is None, "an arm is not tuned"
    place = {"plugin": ["mine"], "tracking_uri": "http://there:5000"}
    said = _verdicts_panel(results, archive, place, is_folded=False).method
    given = f"{tmp_path}/when.yaml{{}} --plugin mine --tracking-uri http://there:5000"
    assert "The plan also compares arms at their best settings, for fc." in said
    assert f"aepretrain tune {given.format('')}, then aepretrain run {given.format(' --tuned')}" in said


def test_the_plain_words_are_of_the_datasets_images(plan: Plan) -> None:
    found = archive_of(plan, under(plan)).found
    results = report.judge_plan(plan, frame(found.values()), found, {"mnist": 10_000, "fashion-mnist": 10_000})
    rows = table_rows(words_table(results)[1])
    (said,) = [row["in plain words"] for row in rows if row["objective"] == "pixel-mask" and row["labels"] == "100"][:1]
    mean = result_of(results, "finetune - scratch", "mnist", "pixel-mask", 100).verdict.difference.value
    assert said.startswith(
        f"Of 10,000 digits, about {10_000 * mean:.0f} more are read correctly; luck alone moves a sin"
    )
    assert sum(row["in plain words"].startswith("Of 10,000 images,") for row in rows) == 4
    assert len(table_rows(words_table(judged(plan, found, mnist=10_000))[1])) == 4, (
        "of the others the images are unknown"
    )


@pytest.mark.parametrize("name", ["when", "source-grid", "source-grid-fashion"])
def test_a_page_of_which_everything_is_missing(name: str) -> None:
    shipped = read_plan(ROOT / "plans" / f"{name}.yaml")
    made = made_of(Archive(), shipped)
    text = made.files["report.md"].decode()
    assert f"No pair of trainings of the plan {name} is finished." in text
    assert "So far there is no verdict" in text
    assert [one for one in made.files if one.endswith(".png")] == ["report/pipeline.png"]
    assert made.answer is None


def test_a_page_with_a_half_finished_campaign(plan: Plan) -> None:
    archive = archive_of(
        plan,
        under(plan),
        lambda spec: spec.settings.dataset == "mnist" and (spec.settings.labels == 100 or spec.variant == "pretrain"),
    )
    made = made_of(archive, plan)
    text = made.files["report.md"].decode()
    assert "report/map-when-1.png" in text
    nothing = "no verdict: 0 seeds, at least 9 needed"
    assert f"| Fashion-MNIST | fc | pixel-mask | all | {nothing} | 0 of 10 planned | missing |" in text


GRID = """\
question: Does a plain autoencoder help?
smallest_effect: 0.001
alpha: 0.05
datasets: [mnist]
networks: {fc: 100-108, conv: 100-107}
augmentations: [none, erasing]
objectives: [reconstruct]
labels: [all]
comparisons: [finetune - scratch, frozen - scratch]
families: [comparison]
"""


def test_the_grid_is_that_of_the_first_plan_of_the_sources_question(plan: Plan, tmp_path: Path) -> None:
    grid = plan_of(tmp_path, GRID, "grid")
    archive = archive_of(grid, under(grid))
    of_campaign = archive_of(plan, under(plan))
    archive.found, archive.files = of_campaign.found | archive.found, of_campaign.files | archive.files
    made = made_of(archive, plan, grid)
    assert made.answer is not None
    assert made.answer.terms.num_seeds == {"fc": 9, "conv": 8}
    assert set(made.answer.grid.trainings["seed"]) == set(range(100, 109)), "seed 109 is of the other plan"
    assert set(made.answer.grid.trainings["dataset"]) == {"mnist"}
    short = made.files["answer.md"].decode()
    first, then = short.index("On MNIST, fine-tuning"), short.index("**When does it help?**")
    assert first < short.index("were started under the plan grid") < then
    assert short.count("were started under the plan grid") == 1
    of_grid = next(of for of in made.plans if of.plan == grid)
    for one in of_grid.of("finetune - scratch"):  # both parts of the page say the same
        there = made.answer.verdicts[one.planned.network, one.planned.augmentation]
        assert (there.adjusted_p, there.words) == (one.verdict.adjusted_p, one.verdict.words)
    assert made.answer.pooled(0.95) == pool(of_grid.groups["finetune - scratch", "reconstruct", 0], 0.95)
    assert "report/map-grid-1.png" in made.files["report.md"].decode()


def test_other_plans_are_not_the_sources_grid(tmp_path: Path) -> None:
    assert report.is_source_grid(read_plan(ROOT / "plans" / "source-grid.yaml"))
    assert report.is_source_grid(read_plan(ROOT / "plans" / "source-grid-fashion.yaml"))
    assert not report.is_source_grid(read_plan(ROOT / "plans" / "when.yaml"))
    changes = {
        "[all]": "[all, 100]\nupdates: 9",
        "[reconstruct]": "[pixel-mask]",
        "[comparison]": "[network]",
        "0.05": "0.1",
    }
    for old, new in changes.items():
        assert not report.is_source_grid(plan_of(tmp_path, GRID.replace(old, new)))


def test_a_store_with_few_labels_and_other_objectives_has_a_table_and_a_report(tmp_path: Path) -> None:
    grid = plan_of(tmp_path, GRID, "grid")
    archive = archive_of(grid, {})
    more = plan_of(tmp_path, TEXT.replace(", fashion-mnist", "").replace("pixel-mask]", "pixel-mask, patch-mask]"))
    archive.found |= archive_of(more, {}).found
    archive.files |= archive_of(more, {}).files
    table = frame(archive.found.values())
    with pytest.raises(UsageError, match=r"labels: .*updates: "):
        report.build_grid(report.choose(table, {}))
    narrowed = report.build_grid(report.narrow(report.choose(table, {})))
    assert narrowed.cells["fc", "none", "finetune"].trainings["objective"].unique().tolist() == ["reconstruct"]
    assert ("fc", "none", "patch-mask") in narrowed.experiments
    assert narrowed.cells["fc", "patch-mask", "scratch"].trainings["labels"].unique().tolist() == [0]
    masked = report.build_grid(report.narrow(report.choose(table, {"objective": "pixel-mask"})))
    assert masked.settings["objective"] == "pixel-mask"
    few = report.build_grid(report.narrow(report.choose(table, {"labels": 100})))
    assert (few.settings["labels"], few.settings["updates"]) == (100, 5000)
    made = made_of(archive)
    assert made.answer is not None
    assert made.answer.primary["fc", "none"].num_seeds == 10


def test_filters_of_plain_masked_and_scratch_encoders_stand_side_by_side(plan: Plan) -> None:
    archive = archive_of(plan, under(plan))
    results = judged(plan, archive.found)
    panel = diagnostics_panel(results, archive)
    drawn = [one.name for one in (*panel.pictures, *panel.more)]
    assert not [name for name in drawn if name.startswith("filters")], "none is kept"
    spec = plan.specs("mnist")[0]
    for variant, objective in (("pretrain", "reconstruct"), ("pretrain", "pixel-mask"), ("scratch", "reconstruct")):
        settings = Settings(dataset="mnist", objective=objective)
        for seed in (spec.seed, spec.seed + 1):
            wanted = replace(spec, variant=variant, augmentation="none", settings=settings, seed=seed)
            (one,) = [one for one in archive.found.values() if dict(one.identity) == wanted.identity()]
            content = filters_to_bytes(np.full((2, 28, 28), seed, np.float16))
            archive.files[one.run_id, FILTERS] = content
    kinds = dict(_kinds(results, ("mnist", "fc", "none")))
    rows = _filters(results, archive, kinds)
    assert list(rows) == ["pretrained, reconstruct", "pretrained, pixel-mask", "scratch"]
    assert all((row == spec.seed).all() for row in rows.values()), "of the lowest seed"
    panel = diagnostics_panel(results, archive)
    drawn = [one.name for one in (*panel.pictures, *panel.more)]
    assert len([name for name in drawn if name.startswith("filters")]) == 1


OWN = """\
question: Does it help on my images?
smallest_effect: 10 images
alpha: 0.05
datasets: [mine, digits]
networks: {deep: 0-9}
augmentations: [none]
objectives: [reconstruct]
labels: [all]
comparisons: [finetune - scratch]
families: [comparison]
"""


def test_a_network_and_a_dataset_of_ones_own_are_judged_with_an_effect_in_images(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, OWN)
    found = archive_of(plan, under(plan)).found
    results = judged(plan, found, mine=2_000, digits=360)
    effects = {one.planned.dataset: one.verdict.smallest_effect for one in results.results}
    assert effects == {"mine": 10 / 2_000, "digits": 10 / 360}
    assert {one.num_tests for one in results.results} == {2}
    assert {one.verdict.words for one in results.results} <= {"equivalent", "different, but negligibly"}
    method = _verdicts_panel(results, Archive(), {}, is_folded=False).method
    assert "±10 images (0.5 points on mine, 2.78 points on scikit-learn's 1,797 digits, NOT MNIST), says" in method
    first, second = (axes.patches[0].get_extents().transformed(axes.transData.inverted()) for axes in _bands(results))
    assert first.intervalx == pytest.approx([-0.5, 0.5])
    assert second.intervalx == pytest.approx([-1000 / 360, 1000 / 360])
    with pytest.raises(UsageError, match="'10 images': the number of test images of digits is not known, so give a"):
        judged(plan, found, mine=2_000)
    nothing = judged(plan, {})
    assert (nothing.effects, summary(nothing)[:28]) == ({}, "So far there is no verdict: ")


def _bands(results: PlanResults) -> list[Axes]:
    return list(_rows(results, "finetune - scratch").axes)


def test_an_effect_in_images_is_read_and_is_part_of_the_digest(tmp_path: Path) -> None:
    shares, images = (plan_of(tmp_path, OWN.replace("10 images", text)) for text in ("0.001", "10 images"))
    assert shares.content["smallest_effect"] == 0.001, "as in the digests of earlier plans"
    assert (images.content["smallest_effect"], images.smallest_effect.value) == ("10 images", 10)
    assert plan_of(tmp_path, OWN.replace("10 images", "10.0   image")).digest == images.digest
    with pytest.raises(UsageError, match=r"when.yaml:2: smallest_effect: 0 images is not allowed: it must be a number"):
        plan_of(tmp_path, OWN.replace("10 images", "0 images"))
    with pytest.raises(UsageError, match="'10 images' is not allowed: mine has 9 test images"):
        judged(images, archive_of(images, {}).found, mine=9, digits=9)


def test_what_the_data_cannot_decide_is_said_with_what_could(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, OWN.replace("10 images", "0.00001").replace("[mine, digits]", "[mine]"))
    archive = archive_of(plan, under(plan))
    results = judged(plan, archive.found, mine=1_000)
    (one,) = results.results
    assert one.verdict.kind is Kind.UNDECIDED
    needed, detectable = one.verdict.num_seeds_needed, one.verdict.detectable_effect
    assert needed is not None
    assert needed > 10_000
    assert doubts(results) == (
        "In the one test the data cannot decide. The smallest effect, 0.001 points, is less than one of 1,000 test "
        "images: at least 100,000 test images are needed, or a smallest effect of one image (0.1 points) or more. To "
        f"find 0.001 points, {needed:,} seeds are needed at the observed spread over seeds. The seeds that are there "
        f"find {100 * detectable:.3g} points."
    )
    (row,) = table_rows(dict(undecidable_tables(results, archive))["Where the data cannot decide, and what could"])
    assert (row["in test images"], row["seeds that would find it"]) == ("0.01 of 1,000", f"{needed:,}")
    assert doubts(results) in "\n".join(answer_paragraphs(results))
    archive.files[archive.found[one.keys[0]].run_id, "evidence/predictions.npz"] = b"damaged"
    (left,) = table_rows(dict(undecidable_tables(results, archive))["Where the data cannot decide, and what could"])
    images = "test images with which these seeds find it"
    assert (row[images], left[images]) == ("no number is enough", "at least 100,000")
    assert left | {images: row[images]} == row, "all else does not need the outcomes"
    assert doubts(judged(plan_of(tmp_path, OWN), archive.found, mine=1_000)) == ""
