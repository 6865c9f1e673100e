"""Grids and single trainings end to end in the store: what is trained, what is reused, what failure leaves behind."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from distributed.scheduler import KilledWorker

from aepretrain import data, figures, runner, tracking, training
from aepretrain.config import DataRequest, Settings, TrainingSpec, grid_specs
from aepretrain.data import Dataset
from aepretrain.errors import Failure, UsageError
from aepretrain.records import Predictions, Record
from aepretrain.runner import Event, GridResult, Pool, jobs, pool
from aepretrain.runner.jobs import perform
from aepretrain.runner.work import Job, make_job
from aepretrain.studies import STUDIES
from aepretrain.tracking import Store
from aepretrain.variants import CLASSIFIERS, GRID_VARIANTS
from tests.grids import EXECUTION, InlineExecutor, artifacts, grid


@pytest.fixture
def models() -> None:
    """Asked for by tests that look at MLflow models; the others do without them, for exporting takes seconds."""


@pytest.fixture
def pictures() -> None:
    """Asked for by tests that look at figures; the others do without them, for drawing takes longer than training."""


@pytest.fixture(autouse=True)
def only_what_is_asked_for(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "models" not in request.fixturenames:
        monkeypatch.setattr(tracking, "log_model", lambda *_: None)
    if "pictures" not in request.fixturenames:
        monkeypatch.setattr(figures, "training_figures", lambda *_: {})


@pytest.fixture
def specs(small: Settings) -> tuple[TrainingSpec, ...]:
    """A grid of one network, with and without erasing, two seeds: 16 trainings of two epochs."""
    return grid_specs(("fc",), ("none", "erasing"), (0, 1), small)


def kinds(events: list[Event]) -> dict[str, int]:
    return {kind: sum(event.kind == kind for event in events) for kind in ("finished", "reused", "failed")}


def without_times(record: Record) -> dict[str, float]:
    return {name: value for name, value in record.metrics.items() if not name.endswith(("_s", "per_s"))}


def test_a_grid_from_beginning_to_end(specs: tuple[TrainingSpec, ...], store: Store) -> None:
    result, events = grid(specs, store)
    assert kinds(events) == {"finished": 16, "reused": 0, "failed": 0}
    assert [(record.cell, record.seed) for record in result.records] == [
        ((one.network, one.augmentation, one.variant), one.seed) for one in specs
    ]
    runs = {record.run_id: store.client.get_run(record.run_id) for record in result.records}
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {result.run_id}
    parent = store.client.get_run(result.run_id)
    assert (parent.info.status, parent.data.tags["aepretrain.reused"]) == ("FINISHED", "")
    assert parent.data.params["seeds"] == "0-1"
    by_name = {one.name: record for one, record in zip(specs, result.records, strict=True)}
    for variant in ("frozen", "finetune"):
        tags = by_name[f"fc-erasing-{variant}-s1"].tags
        assert tags["pretraining_run"] == by_name["fc-erasing-pretrain-s1"].run_id
        assert tags["pretraining_key"] == by_name["fc-erasing-pretrain-s1"].key
    assert "pretraining_run" not in by_name["fc-erasing-scratch-s1"].tags


@pytest.mark.usefixtures("pictures")
def test_what_a_run_keeps(specs: tuple[TrainingSpec, ...], store: Store, digits: Dataset) -> None:
    result, _ = grid(specs[:4], store)
    for record in result.records:
        found = artifacts(store, record.run_id)
        common = {"weights.pt", "figures/loss_curve.png"}
        if record.cell[2] != "frozen":
            common |= {"filters/first_layer.npz", "figures/filters.png"}
        if record.cell[2] == "pretrain":
            assert found == common | {"figures/reconstructions.png", "figures/class_distribution.png"}
        else:
            own = {"evidence/predictions.npz", "evidence/per_class.json", "evidence/classes.json"}
            assert found == common | own | {"figures/confusion_matrix.png", "figures/confused_images.png"}
            predictions = Predictions.from_bytes(store.artifact(record, "evidence/predictions.npz"))
            right = predictions.predicted_N == digits.test_labels_N.numpy()
            assert right.mean() == record.metrics["test_accuracy"]
            per_class = json.loads(store.artifact(record, "evidence/per_class.json"))
            assert per_class["recall"] == pytest.approx(
                [right[digits.test_labels_N.numpy() == digit].mean() for digit in range(10)]
            )
        run = store.client.get_run(record.run_id)
        note = run.data.tags["mlflow.note.content"]
        assert "best epoch 2 of 2" in note
        assert f"{record.metrics['test_loss' if record.cell[2] == 'pretrain' else 'test_accuracy']:.4f}" in note
        steps = [point.step for point in store.client.get_metric_history(record.run_id, "loss/train")]
        assert steps == [1, 2]


def test_what_is_done_is_not_repeated(specs: tuple[TrainingSpec, ...], store: Store) -> None:
    first, _ = grid(specs[:8], store)
    again, events = grid(specs[:8], store)
    assert kinds(events) == {"finished": 0, "reused": 8, "failed": 0}
    assert again == first, "the same parent run, the same children"
    larger, events = grid(specs, store)
    assert kinds(events) == {"finished": 8, "reused": 8, "failed": 0}
    assert larger.run_id != first.run_id
    reused = store.client.get_run(larger.run_id).data.tags["aepretrain.reused"].split(",")
    assert set(reused) == {record.run_id for record in first.records}


def test_other_settings_are_other_trainings(specs: tuple[TrainingSpec, ...], store: Store) -> None:
    grid(specs[:4], store)
    changed = [replace(one, settings=replace(one.settings, ae_target="clean")) for one in specs[:4]]
    _, events = grid(changed, store)
    assert {event.spec.variant: event.kind for event in events if event.kind in ("finished", "reused")} == {
        "pretrain": "finished",
        "frozen": "finished",
        "finetune": "finished",
        "scratch": "reused",
    }


def test_force_trains_again_as_the_next_attempt(specs: tuple[TrainingSpec, ...], store: Store) -> None:
    first, _ = grid(specs[:4], store)
    second, events = grid(specs[:4], store, replace(EXECUTION, force=True))
    assert kinds(events) == {"finished": 4, "reused": 0, "failed": 0}
    assert [record.attempt for record in second.records] == [2] * 4
    assert {record.run_id for record in first.records}.isdisjoint(record.run_id for record in second.records)
    assert list(map(without_times, first.records)) == list(map(without_times, second.records))


def interrupt_after(num: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Ctrl-C be pressed when so many epochs have been trained."""
    original, left = training.run, [num]

    def run(specs: Any, dataset: Dataset, device: torch.device, sources: Any, on_epoch: Any, *rest: Any) -> Any:
        def count(place: int, result: Any) -> None:
            on_epoch(place, result)
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt

        return original(specs, dataset, device, sources, count, *rest)

    monkeypatch.setattr(training, "run", run)


@pytest.mark.parametrize("num_epochs", [1, 6])
def test_an_interrupted_grid_goes_on_where_it_stopped(
    specs: tuple[TrainingSpec, ...], store: Store, num_epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as context:
        interrupt_after(num_epochs, context)
        with pytest.raises(KeyboardInterrupt):
            grid(specs[:8], store)
    states = [run.info.status for run in store.search({"kind": "training"})]
    assert states.count("KILLED") == 1
    assert "RUNNING" not in states
    (parent,) = store.search({"kind": "grid"})
    assert parent.info.status == "KILLED"
    result, events = grid(specs[:8], store)
    done_before = (num_epochs - 1) // 2
    assert kinds(events) == {"finished": 8 - done_before, "reused": done_before, "failed": 0}
    assert result.run_id == parent.info.run_id
    assert store.client.get_run(result.run_id).info.status == "FINISHED"


def test_interruption_changes_no_bit(
    specs: tuple[TrainingSpec, ...], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as context:
        interrupt_after(5, context)
        with pytest.raises(KeyboardInterrupt):
            grid(specs[:4], store)
    resumed, _ = grid(specs[:4], store)
    other = tracking.open_store(store.uri, "undisturbed")
    forced, _ = grid(specs[:4], other, replace(EXECUTION, force=True))
    for a, b in zip(resumed.records, forced.records, strict=True):
        assert without_times(a) == without_times(b)
        assert a.tags["weights_sha256"] == b.tags["weights_sha256"]


def test_a_training_that_fails_leaves_the_others(
    specs: tuple[TrainingSpec, ...], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = training.run

    def run(specs: Any, *rest: Any) -> Any:
        if specs[0].name == "fc-none-pretrain-s1":
            return [Failure("the loss is not finite in epoch 1")]
        return original(specs, *rest)

    monkeypatch.setattr(training, "run", run)
    result, events = grid(specs[:8], store)
    assert set(result.failures) == {f"fc-none-{variant}-s1" for variant in ("pretrain", "frozen", "finetune")}
    assert "not finite" in result.failures["fc-none-pretrain-s1"]
    assert "because fc-none-pretrain-s1, which it needs, failed" in result.failures["fc-none-frozen-s1"]
    assert kinds(events) == {"finished": 5, "reused": 0, "failed": 3}
    (failed,) = store.search({"variant": "pretrain", "seed": "1", "augmentation": "none"})
    assert failed.info.status == "FAILED"
    assert "not finite" in failed.data.tags["aepretrain.error"]
    assert store.client.get_run(result.run_id).info.status == "FAILED"


class Answer(InlineExecutor):
    """An executor whose `how` may settle a future in place of training."""

    def __init__(self, how: Callable[[Future[Any], Sequence[Job]], bool]) -> None:
        self.how = how

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        return future if self.how(future, args[0]) else super().submit(fn, *args, **kwargs)


def pool_that_answers(how: Callable[[Future[Any], Sequence[Job]], bool]) -> Any:
    @contextmanager
    def make(*_: object) -> Iterator[Pool]:
        yield Pool(Answer(how), lambda: 2)

    return make


def test_a_cell_that_kills_workers_of_a_cluster_fails_alone(specs: tuple[TrainingSpec, ...], store: Store) -> None:
    def kill(future: Future[Any], jobs: Sequence[Job]) -> bool:
        if jobs[0].spec.name != "fc-none-pretrain-s0":
            return False
        worker: Any = SimpleNamespace(address="tcp://here:1")
        future.set_exception(KilledWorker("cell", worker, 3))
        return True

    result, events = grid(specs[:8], store, make_pool=pool_that_answers(kill))
    assert "those workers died while running it" in result.failures["fc-none-pretrain-s0"]
    assert result.failures.keys() == {f"fc-none-{variant}-s0" for variant in ("pretrain", "frozen", "finetune")}
    assert kinds(events) == {"finished": 5, "reused": 0, "failed": 3}


def test_a_cluster_that_drops_its_work_ends_the_grid(specs: tuple[TrainingSpec, ...], store: Store) -> None:
    def drop(future: Future[Any], jobs: Sequence[Job]) -> bool:
        return jobs[0].spec.variant == "frozen" and future.cancel() and not future.set_running_or_notify_cancel()

    with pytest.raises(Failure, match="the same command goes on from there"):
        grid(specs[:4], store, make_pool=pool_that_answers(drop))
    (parent,) = store.search({"kind": "grid"})
    assert parent.info.status == "FAILED"
    result, events = grid(specs[:4], store)
    assert not result.failures
    assert kinds(events)["reused"] >= 1


def test_a_worker_with_other_data_of_that_name_stores_nothing_under_the_key(
    specs: tuple[TrainingSpec, ...], store: Store, digits: Dataset, images: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(specs[0], digits.digests, store, EXECUTION)
    monkeypatch.setattr(
        "aepretrain.data._loaded", {(DataRequest("digits"), None): images}
    )  # another command's, on a cluster
    with pytest.raises(Failure, match="key mismatch"):
        perform([job], lambda _: None)
    assert not list(store.search({}))


def test_a_real_divergence_fails_its_run(store: Store) -> None:
    specs = grid_specs(("fc",), ("none",), (0,), Settings(dataset="digits", lr=1e18, ae_epochs=3, cls_epochs=3))
    result, _ = grid(specs, store)
    assert "not finite in epoch" in result.failures["fc-none-pretrain-s0"]
    assert result.records == ()


def test_unknown_networks_open_no_run(small: Settings, store: Store) -> None:
    specs = grid_specs(("lenet",), ("none",), (0,), small)
    with pytest.raises(UsageError, match="fc, conv"):
        grid(specs, store)
    with pytest.raises(UsageError, match="fc, conv"):
        runner.check(specs, EXECUTION)
    assert list(store.search({"kind": "grid"})) == []


def test_plugins_that_cannot_be_imported_are_named() -> None:
    with pytest.raises(UsageError, match="plugin 'no_such_module' cannot be imported"):
        runner.load_plugins(replace(EXECUTION, plugins=("no_such_module",)))


@pytest.mark.parametrize("statement", ["import sys; sys.exit()", "raise SystemExit(0)", "raise GeneratorExit('over')"])
def test_plugins_that_end_the_program_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    name = f"ends_{abs(hash(statement))}"
    (tmp_path / f"{name}.py").write_text(statement)
    with pytest.raises(Failure, match=f"plugin '{name}' ends the program when it is imported: (System|Generator)Exit"):
        runner.load_plugins(replace(EXECUTION, plugins=(name,)))


def test_two_processes_give_the_same_bits_as_one(specs: tuple[TrainingSpec, ...], store: Store) -> None:
    one, _ = grid(specs[:4], store)
    two, events = grid(specs[:4], store, replace(EXECUTION, force=True, jobs=2), make_pool=runner.local_pool)
    assert kinds(events)["finished"] == 4
    assert any(event.kind == "epoch" for event in events)
    assert len({record.tags["pid"] for record in two.records}) == 2
    for a, b in zip(one.records, two.records, strict=True):
        assert without_times(a) == without_times(b)
        assert a.tags["weights_sha256"] == b.tags["weights_sha256"]


@pytest.mark.parametrize("instructions", [None, "AVX2048"])
def test_a_training_goes_on_and_says_so_unless_the_processor_has_other_instructions(
    instructions: str | None, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner.snapshots, "INTERVAL_S", 0.0)
    spec = TrainingSpec(variant="scratch", network="fc", settings=Settings(dataset="digits", cls_epochs=4))

    def stop(event: Event) -> None:
        if event.epoch is not None and event.epoch.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.run_single(spec, store, EXECUTION, stop)
    training.describe_machine.cache_clear()
    with monkeypatch.context() as patched:
        if instructions is not None:
            patched.setattr(torch.backends.cpu, "get_cpu_capability", lambda: instructions)
        events: list[Event] = []
        tags = runner.run_single(spec, store, EXECUTION, events.append).record.tags
    training.describe_machine.cache_clear()
    resumed = [(event.spec, event.message) for event in events if event.kind == "resumed"]
    if instructions is None:
        assert resumed == [(spec, "2 epochs")]
        assert tags["resumed_after"] == "2"
    else:
        assert resumed == []
        assert "resumed_after" not in tags
        assert tags["instructions"] == instructions


def test_a_model_that_cannot_be_exported_costs_no_run(
    specs: tuple[TrainingSpec, ...], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("cannot export")

    monkeypatch.setattr(tracking, "log_model", fail)
    result, _ = grid(specs[:4], store)
    assert result.failures == {}
    tags = [store.client.get_run(record.run_id).data.tags for record in result.records]
    assert [one.get("aepretrain.model_error") for one in tags] == [None] + ["cannot export"] * 3


def test_a_second_grid_waits_and_says_so(specs: tuple[TrainingSpec, ...], store: Store) -> None:
    key = specs[3].key(data.load(DataRequest("digits"), None).digest, {})
    waited: list[Event] = []
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with store.lock(key, lambda: None):
            held.set()
            release.wait(30)

    def listen(event: Event) -> None:
        waited.append(event)
        if event.kind == "waiting":
            release.set()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(30)
    runner.run_single(specs[3], store, EXECUTION, listen)
    holder.join()
    assert [event.kind for event in waited] == ["started", "waiting", "epoch", "epoch", "finished"]


@pytest.mark.usefixtures("models")
def test_selection_is_by_validation_loss_then_seed(specs: tuple[TrainingSpec, ...], store: Store) -> None:
    result, _ = grid(specs, store)
    chosen = runner.select(result.records)
    assert {record.cell for record in chosen} == {("fc", a, v) for a in ("none", "erasing") for v in CLASSIFIERS}
    for record in chosen:
        same = [other for other in result.records if other.cell == record.cell]
        assert record.metrics["best_val_loss"] == min(other.metrics["best_val_loss"] for other in same)
    with_models = {run.info.run_id for run in store.search({"kind": "training"}) if "aepretrain.model" in run.data.tags}
    assert with_models == {record.run_id for record in chosen}
    tie = [replace(result.records[3], identity=result.records[3].identity | {"seed": seed}) for seed in (4, 2, 3)]  # type: ignore[operator]  # a dict
    assert [record.seed for record in runner.select(tie)] == [2]


@pytest.mark.usefixtures("models")
def test_the_model_is_mlflows_own(specs: tuple[TrainingSpec, ...], store: Store, digits: Dataset) -> None:
    import mlflow
    from mlflow.tracking._tracking_service.utils import _use_tracking_uri

    result, _ = grid(specs[:4], store)
    record = next(record for record in result.records if record.cell[2] == "finetune")
    with _use_tracking_uri(store.uri):
        model = mlflow.pyfunc.load_model(store.client.get_run(record.run_id).data.tags["aepretrain.model"])
    pixels = digits.test_images_NCHW.float().div(255).numpy()
    predictions = Predictions.from_bytes(store.artifact(record, "evidence/predictions.npz"))
    for num in (1, 2, 257):
        assert np.array_equal(model.predict(pixels[:num]).argmax(1), predictions.predicted_N[:num])
    assert model.metadata.signature is not None
    assert model.metadata.signature.inputs.inputs[0].shape == (-1, 1, 28, 28)
    assert model.metadata.load_input_example() is not None
    assert store.client.get_run(record.run_id).info.status == "FINISHED"


def single(spec: TrainingSpec, store: Store, **options: Any) -> tuple[runner.SingleResult, list[Event]]:
    events: list[Event] = []
    execution = options.pop("execution", EXECUTION)
    return runner.run_single(spec, store, execution, events.append, **options), events


@pytest.mark.parametrize("variant", GRID_VARIANTS)
def test_a_single_training(variant: str, small: Settings, store: Store) -> None:
    spec = TrainingSpec(variant=variant, network="fc", settings=small)
    result, events = single(spec, store)
    needed = [event.spec.variant for event in events if event.kind == "needed"]
    assert needed == (["pretrain"] if variant in ("frozen", "finetune") else [])
    assert len(list(store.search({"kind": "training"}))) == 1 + len(needed)
    tags = store.client.get_run(result.record.run_id).data.tags
    assert tags["aepretrain.done"] == "true"
    again, events = single(spec, store)
    assert (again.reused, again.record.run_id) == (True, result.record.run_id)
    assert events == []
    forced, events = single(spec, store, execution=replace(EXECUTION, force=True))
    assert forced.record.attempt == 2
    assert [event.kind for event in events if event.kind == "needed"] == []


def test_a_single_training_takes_over_mlflows_run_or_points_from_it(small: Settings, store: Store) -> None:
    spec = TrainingSpec(variant="scratch", network="fc", settings=small)
    first, second = (store.client.create_run(store.experiment_id).info.run_id for _ in range(2))
    result, _ = single(spec, store, run_id=first)
    assert result.record.run_id == first
    result, _ = single(spec, store, run_id=second)
    assert result.record.run_id == first
    assert store.client.get_run(second).data.tags["aepretrain.reused"] == first
    assert store.client.get_run(second).data.metrics["accuracy/test"] == result.record.metrics["test_accuracy"]


def test_a_stack_of_seeds_is_a_run_for_each(specs: tuple[TrainingSpec, ...], store: Store) -> None:
    single, _ = grid(specs[:8], store)
    stacked, events = grid(specs[:8], store, replace(EXECUTION, force=True, stack=2))
    assert kinds(events) == {"finished": 8, "reused": 0, "failed": 0}
    for a, b in zip(single.records, stacked.records, strict=True):
        assert (a.key, a.cell, a.seed) == (b.key, b.cell, b.seed)
        assert (a.tags["stack"], b.tags["stack"]) == ("1", "2")
        assert b.metrics["best_val_loss"] == pytest.approx(a.metrics["best_val_loss"], rel=1e-3)
        history = store.client.get_metric_history(b.run_id, "loss/validation")
        assert [point.step for point in history] == [1, 2]


def test_a_seed_of_a_stack_fails_alone(
    specs: tuple[TrainingSpec, ...], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = training.run

    def run(specs: Any, *rest: Any) -> Any:
        outcomes = original(specs, *rest)
        failing = {"fc-none-pretrain-s1", "fc-none-scratch-s0"}
        return [
            Failure("the loss is not finite in epoch 2") if spec.name in failing else outcome
            for spec, outcome in zip(specs, outcomes, strict=True)
        ]

    monkeypatch.setattr(training, "run", run)
    result, events = grid(specs[:8], store, replace(EXECUTION, stack=2))
    dependents = {f"fc-none-{variant}-s1" for variant in ("pretrain", "frozen", "finetune")}
    assert set(result.failures) == dependents | {"fc-none-scratch-s0"}
    assert kinds(events) == {"finished": 4, "reused": 0, "failed": 4}
    states = [run.info.status for run in store.search({"kind": "training"})]
    assert {state: states.count(state) for state in states} == {"FINISHED": 4, "FAILED": 2}


def test_an_interrupted_stack_ends_all_its_runs(
    specs: tuple[TrainingSpec, ...], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as context:
        interrupt_after(3, context)
        with pytest.raises(KeyboardInterrupt):
            grid(specs[:8], store, replace(EXECUTION, stack=2))
    assert [run.info.status for run in store.search({"kind": "training"})] == ["KILLED", "KILLED"]
    _, events = grid(specs[:8], store, replace(EXECUTION, stack=2))
    assert kinds(events) == {"finished": 8, "reused": 0, "failed": 0}


def test_by_default_a_cpu_trains_one_seed_at_a_time_and_a_gpu_many(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pool.stack_size(EXECUTION) == 1
    assert pool.stack_size(replace(EXECUTION, stack=7)) == 7
    monkeypatch.setattr(training, "resolve_device", lambda _: torch.device("cuda"))
    assert pool.stack_size(EXECUTION) == pool.MAX_STACK
    assert pool.num_workers(EXECUTION) == 2


def tiny(study: str) -> Settings:
    return Settings(dataset="digits", ae_epochs=2, cls_epochs=2, updates=20 if study == "labels" else 0)


def run_study(name: str, store: Store, **options: Any) -> tuple[GridResult, list[Event]]:
    known = STUDIES[name]
    asked = grid_specs(("fc",), ("none", "erasing") if name == "controls" else ("none",), (0, 1), tiny(name))
    return grid([one for one in asked if one.variant in known.needs], store, study=known, **options)


def test_controls_are_planned_from_what_the_grid_found(store: Store) -> None:
    """And what a grid asks for afterwards is no study's any more."""
    result, events = run_study("controls", store)
    assert kinds(events) == {"finished": 16 + 12 + 4 + 6, "reused": 0, "failed": 0}
    assert sum(event.kind == "planned" for event in events) == 22
    own = [record for record in result.records if record.study == "controls"]
    assert len(own) == 22
    fair = [record for record in own if record.cell[2] == "scratch"]
    assert [(record.setting("cls_epochs"), record.setting("patience")) for record in fair] == [(4, 0)] * 4
    assert all("last_test_accuracy" in record.metrics for record in fair)
    clean = [record for record in own if record.setting("ae_target") == "clean"]
    assert {record.cell for record in clean} == {("fc", "erasing", v) for v in ("pretrain", "frozen", "finetune")}
    (parent,) = store.search({"kind": "study"})
    assert (parent.info.run_id, parent.info.run_name) == (result.run_id, "controls digits, seeds 0-1")
    again, events = run_study("controls", store)
    assert kinds(events) == {"finished": 0, "reused": 38, "failed": 0}
    assert again == result

    settings = replace(tiny("controls"), ae_target="clean")
    result, events = grid(grid_specs(("fc",), ("erasing",), (0, 1), settings), store)
    assert kinds(events) == {"finished": 0, "reused": 8, "failed": 0}
    assert [record.study for record in store.records().values() if record.setting("ae_target") == "clean"] == [None] * 6
    assert len(result.records) == 8


def test_the_study_of_labels_takes_as_many_as_there_are(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """And asks the store for what is done a few times, not once for each of its trainings."""
    monkeypatch.setattr("aepretrain.studies.labels.LABELS", (10, 300, 1_000, 3_000, 0))
    with patch.object(Store, "records", autospec=True, side_effect=Store.records) as records:
        result, _ = run_study("labels", store)
    assert records.call_count < 10
    own = [record for record in result.records if record.study]
    tried = {record.setting("labels") for record in own}
    assert {10, 300, 0} <= tried <= {10, 300, 1_000, 0}, "1,000 are not in every split of the digits"
    assert {(record.setting("labels"), record.cell[2]) for record in own} == {
        (num, variant) for num in tried for variant in (*CLASSIFIERS, "pixels")
    }
    assert {record.metrics["num_labels"] for record in own if record.setting("labels") == 0} == {1283}
    assert {record.setting("updates") for record in own} == {20}


def test_a_studys_stacks_hold_one_number_of_labels_each(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aepretrain.studies.labels.LABELS", (10, 30))
    result, events = run_study("labels", store, execution=replace(EXECUTION, stack=5))
    assert kinds(events)["failed"] == 0
    assert {record.tags["stack"] for record in result.records} == {"2"}


@pytest.mark.parametrize("name", ["robustness", "similarity"])
def test_evaluations_are_runs_of_their_own(name: str, store: Store) -> None:
    result, events = run_study(name, store)
    assert kinds(events)["failed"] == 0
    own = [record for record in result.records if record.study == name]
    seeds = [0, 1] if name == "robustness" else [0]  # the last seed has no next one
    assert [(record.cell, record.seed) for record in own] == [(("fc", "none", name), seed) for seed in seeds]
    run = store.client.get_run(own[0].run_id)
    assert artifacts(store, own[0].run_id) == set()
    assert "an evaluation of " in run.data.tags["mlflow.note.content"]
    assert not own[0].has_weights
    _, events = run_study(name, store)
    assert kinds(events)["finished"] == 0


def test_weights_that_a_study_needs_are_trained_again_where_a_bundle_left_them_out(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aepretrain.studies.labels.LABELS", (10,))
    first, _ = run_study("labels", store)
    for record in first.records:
        store.client.delete_tag(record.run_id, "aepretrain.weights_sha256")
    again, events = run_study("labels", store)
    assert kinds(events)["finished"] == 0, "what is done needs no weights"
    store.client.delete_tag(next(one.run_id for one in first.records if one.cell[2] == "frozen"), "aepretrain.done")
    again, events = run_study("labels", store)
    assert [(one.spec.variant, one.spec.seed) for one in events if one.kind == "finished"] == [
        ("pretrain", 0),
        ("frozen", 0),
    ]
    assert {record.attempt for record in again.records if record.cell[2] == "pretrain"} == {1, 2}


def test_a_single_training_that_diverges_is_an_error(store: Store) -> None:
    settings = Settings(dataset="digits", lr=1e18, ae_epochs=3, cls_epochs=3)
    with pytest.raises(Failure, match="not finite in epoch"):
        single(TrainingSpec(variant="scratch", network="fc", seed=0, settings=settings), store)
    assert store.records() == {}


def test_a_run_that_is_missing_after_its_end_is_named(
    specs: tuple[TrainingSpec, ...], store: Store, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_train", lambda *_: {})
    job = make_job(specs[0], digits.digests, store, EXECUTION)
    with pytest.raises(Failure, match=f"the run of {specs[0].name} is not in the store although it ended"):
        perform([job], lambda _: None)


def test_a_classifier_whose_pretraining_is_missing_opens_no_run(small: Settings, store: Store, digits: Dataset) -> None:
    spec = TrainingSpec(variant="finetune", network="fc", seed=0, settings=small)
    job = make_job(spec, digits.digests, store, EXECUTION)
    with pytest.raises(Failure, match=f"{spec.name} needs the weights of fc-none-pretrain-s0, which is not finished"):
        perform([job], lambda _: None)
    assert not list(store.search({}))


def test_ctrl_c_while_a_plugin_is_imported_stops_and_is_not_blamed_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "interrupted_plugin.py").write_text("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        runner.load_plugins(replace(EXECUTION, plugins=("interrupted_plugin",)))
