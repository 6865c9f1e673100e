"""What has to be trained: each rule, by a small table of finished records."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import SimpleNamespace

import pytest

from aepretrain.config import DataRequest, Execution, TrainingSpec
from aepretrain.records import Record
from aepretrain.runner.jobs import _origins
from aepretrain.runner.work import Job, all_sources, find_work
from aepretrain.tracking import Store

CHAIN = {"pretrain": [], "frozen": ["pretrain"], "finetune": ["pretrain"], "scratch": [], "robustness": ["finetune"]}
"""What starts from what, by the names that are keys here; robustness starts from a training that has a source."""

WEIGHTS = {"weights_sha256": "0"}
NO_WEIGHTS: Mapping[str, str] = {}
OF_STUDY = {"study": "labels"}
IMPORTED = {"imported_run": "1"}


def jobs(*keys: str, study: str | None = None, force: bool = False) -> dict[str, Job]:
    store, execution = Store("sqlite:///nowhere.db", "0"), Execution(force=force)
    return {
        key: Job(
            spec=TrainingSpec(variant=key, network="fc"),
            key=key,
            sources={source: source for source in CHAIN[key]},
            store=store,
            execution=execution,
            study=study,
        )
        for key in keys
    }


def records(tags: Mapping[str, Mapping[str, str]]) -> dict[str, Record]:
    return {key: Record(f"run of {key}", None, key, 1, {"variant": key}, {}, own) for key, own in tags.items()}


GRID = ("pretrain", "frozen", "finetune", "scratch")


@pytest.mark.parametrize(
    ("finished", "expected", "needed"),
    [
        ({}, GRID, {"pretrain"}),
        (dict.fromkeys(GRID, WEIGHTS), (), set()),
        (dict.fromkeys(GRID, NO_WEIGHTS), (), set()),
        ({"pretrain": WEIGHTS, "scratch": WEIGHTS}, ("frozen", "finetune"), set()),
        ({"pretrain": NO_WEIGHTS, "finetune": NO_WEIGHTS}, ("pretrain", "frozen", "scratch"), {"pretrain"}),
        ({"frozen": WEIGHTS, "finetune": WEIGHTS}, ("pretrain", "scratch"), set()),
    ],
)
def test_a_grid_trains_what_is_missing_and_weights_that_are_needed_but_were_not_kept(
    finished: Mapping[str, Mapping[str, str]], expected: Iterable[str], needed: set[str]
) -> None:
    found = find_work(jobs(*GRID), records(finished), {})
    assert tuple(found.jobs) == tuple(expected), "in the order of the grid"
    assert found.done == {key: record for key, record in records(finished).items() if key not in expected}
    assert {key for key, job in found.jobs.items() if job.weights_needed} == needed


@pytest.mark.parametrize(
    ("finished", "expected"),
    [
        ({}, ("pretrain", "finetune", "robustness")),
        ({"finetune": WEIGHTS}, ("robustness",)),
        ({"pretrain": WEIGHTS}, ("finetune", "robustness")),
        ({"finetune": NO_WEIGHTS, "pretrain": WEIGHTS}, ("finetune", "robustness")),
        ({"finetune": NO_WEIGHTS, "pretrain": NO_WEIGHTS}, ("pretrain", "finetune", "robustness")),
        ({"robustness": NO_WEIGHTS}, ()),
    ],
)
def test_sources_are_trained_only_where_something_starts_from_them(
    finished: Mapping[str, Mapping[str, str]], expected: Iterable[str]
) -> None:
    found = find_work(jobs("robustness"), records(finished), jobs("pretrain", "finetune", "frozen"))
    assert tuple(found.jobs) == tuple(expected), "sources come first"
    assert {key for key, job in found.jobs.items() if job.weights_needed} == set(expected) - {"robustness"}
    assert found.done.keys() == {"robustness"} - set(expected), "a source that is finished is not a result"


def test_force_trains_what_is_wanted_again_but_not_what_it_starts_from() -> None:
    finished = records(dict.fromkeys(("pretrain", "finetune"), WEIGHTS))
    found = find_work(jobs("finetune", force=True), finished, jobs("pretrain"))
    assert list(found.jobs) == ["finetune"]
    assert not found.done
    found = find_work(jobs("pretrain", "finetune", force=True), finished, {})
    assert list(found.jobs) == ["pretrain", "finetune"]
    found = find_work(jobs("finetune", force=True), records({"pretrain": NO_WEIGHTS}), jobs("pretrain"))
    assert list(found.jobs) == ["pretrain", "finetune"]


@pytest.mark.parametrize(
    ("tags", "done_for_grid", "done_for_study"),
    [
        (WEIGHTS | OF_STUDY | IMPORTED, True, True),
        (OF_STUDY | IMPORTED, False, True),
        (OF_STUDY, True, True),
        (IMPORTED, True, True),
    ],
)
def test_what_a_bundle_has_left_of_a_studys_training_is_not_done_for_a_grid(
    tags: Mapping[str, str], done_for_grid: bool, done_for_study: bool
) -> None:
    finished = records({"scratch": tags})
    assert bool(find_work(jobs("scratch"), finished, {}).done) == done_for_grid
    assert bool(find_work(jobs("scratch", study="controls"), finished, {}).done) == done_for_study


def test_what_a_grid_has_finished_stays_the_grids_when_a_study_trains_it_again() -> None:
    wanted = jobs("scratch", "finetune", "frozen", study="controls", force=True)
    found = find_work(wanted, records({"scratch": WEIGHTS, "frozen": WEIGHTS | OF_STUDY}), {})
    assert {key: job.study for key, job in found.jobs.items()} == {
        "scratch": None,
        "finetune": "controls",
        "frozen": "controls",
    }


def test_what_another_process_has_finished_is_taken_unless_weights_are_missing_or_force() -> None:
    with_weights, without = (records({"pretrain": tags})["pretrain"] for tags in (WEIGHTS, NO_WEIGHTS))
    (job,) = jobs("pretrain").values()
    needed = replace(job, weights_needed=True)
    (forced,) = jobs("pretrain", force=True).values()
    assert [job.is_done_by(one) for one in (None, with_weights, without)] == [False, True, True]
    assert [needed.is_done_by(one) for one in (None, with_weights, without)] == [False, True, False]
    assert not forced.is_done_by(with_weights)


def test_all_sources_come_after_their_own() -> None:
    spec = TrainingSpec(variant="similarity", network="fc", seed=3)
    found = [(one.variant, one.seed) for one in all_sources(spec)]
    assert found == [("pretrain", 3), ("pretrain", 3), ("finetune", 3), ("scratch", 3), ("scratch", 4)]


def test_a_training_says_which_plugins_and_files_of_the_user_it_was_made_with() -> None:
    execution = Execution(plugins=("one", "two"), data_dir="folder")
    mine, digits = (
        SimpleNamespace(name=name, source=f"/{name}", request=DataRequest(name)) for name in ("mine", "digits")
    )
    assert _origins(mine, execution) == {  # type: ignore[arg-type]
        "plugins": "one,two",
        "dataset_source": "/mine",
        "data_dir": os.path.abspath("folder"),
    }
    assert _origins(digits, execution) == {"plugins": "one,two"}  # type: ignore[arg-type]
    assert _origins(digits, Execution()) == {}  # type: ignore[arg-type]
    more = SimpleNamespace(name="digits", source="/digits", request=DataRequest("digits", unlabelled="folder:more"))
    assert _origins(more, Execution()) == {"unlabelled_source": os.path.abspath("more")}  # type: ignore[arg-type]
