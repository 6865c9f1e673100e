"""Training a job, from its spec to a finished run in the store."""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from aepretrain import figures, stopping, tracking, training
from aepretrain.config import DATASETS, Execution, TrainingSpec, source_of
from aepretrain.data import Dataset, labelled, load, split
from aepretrain.errors import Failure
from aepretrain.metrics import per_class
from aepretrain.records import (
    CLASSES,
    FILTERS,
    PER_CLASS,
    PREDICTIONS,
    EpochResult,
    Predictions,
    Record,
    filters_to_bytes,
)
from aepretrain.runner.events import Event, Listener
from aepretrain.runner.forecast import Forecast
from aepretrain.runner.snapshots import SnapshotFiles
from aepretrain.runner.work import Job, all_sources, find_work, jobs_of, make_job, related_records
from aepretrain.variants import EVALUATIONS


@dataclass(frozen=True)
class SingleResult:
    """A single training, and whether it was finished before."""

    record: Record
    reused: bool


def check(specs: Sequence[TrainingSpec], execution: Execution) -> None:
    """Check that the device and everything that the trainings name exist, without loading a dataset.

    Plugins have been loaded (`load_plugins`). Raises `UsageError`.
    """
    training.resolve_device(execution.device)
    for spec in _of_each_kind(specs):
        training.check_names(spec)


def load_dataset(specs: Sequence[TrainingSpec], execution: Execution) -> Dataset:
    """The dataset of trainings, all on the same, after a trial whether they work on its images.

    Raises `UsageError` where one does not, or where there are too few images for its labels, and what `data.load`
    raises.
    """
    dataset = load(specs[0].settings.data, execution.data_dir)
    for spec in _of_each_kind(specs):
        training.try_out(spec, dataset.shape)
    for kind, seed, labels in sorted({(one.settings.split, one.seed, one.settings.labels) for one in specs}):
        if labels:
            labelled(dataset, split(dataset, kind, seed), labels, seed)
    return dataset


def _of_each_kind(specs: Sequence[TrainingSpec]) -> Iterable[TrainingSpec]:
    """One of the trainings that name the same things."""
    return {(*spec.cell, spec.settings.dataset, spec.settings.objective): spec for spec in specs}.values()


def run_single(
    spec: TrainingSpec,
    store: tracking.Store,
    execution: Execution,
    listen: Listener,
    run_id: str | None = None,
    forecast: Forecast | None = None,
) -> SingleResult:
    """Train a spec in this process, and first its pretraining if that is not finished; reuse it if it is finished.

    `run_id`, the run that ``mlflow run`` opened, becomes the training's run, or points to the finished one. The
    pretraining gets a run of its own. `listen` gets the news, after `forecast`, which gets the store's trainings of
    other seeds, too. Raises `UsageError` and `Failure`.
    """
    forecast = forecast or Forecast()
    listen = forecast.before(listen)
    check([spec], execution)
    training.prepare_process(execution.threads)
    dataset = load_dataset([spec], execution)
    job = replace(make_job(spec, dataset.digests, store, execution), run_id=run_id)
    sources = jobs_of(all_sources(spec), dataset.digests, store, replace(execution, force=False))
    with stopping.deferred():
        tracking.recover(store)
        finished: dict[str, Record] = {}
        for one in (*sources.values(), job):
            network, augmentation, variant = one.spec.cell
            cell = {"network": network, "augmentation": augmentation, "variant": variant}
            finished |= related_records({one.key: one}, store, dataset.digest, **cell)
        for record in finished.values():
            forecast.add(record)
        work = find_work({job.key: job}, finished, sources)
        result = work.done.get(job.key)
        for one in work.jobs.values():
            if one.key != job.key:
                listen(Event("needed", one.spec))
            result = _perform_single(one, listen)
            stopping.check()
        assert result is not None, "the job is done or trained"
        reused = job.key in work.done or run_id not in (None, result.run_id)  # the latter: by another process
        if not reused:
            draw_errors(job, result, dataset)
        elif run_id is not None:
            tracking.point_to(store, run_id, result.run_id, result.metrics)
    return SingleResult(result, reused)


def _perform_single(job: Job, listen: Listener) -> Record:
    (result,) = perform([job], listen)
    if isinstance(result, Failure):
        raise result
    listen(Event("finished", job.spec, record=result))
    return result


def perform(
    jobs: Sequence[Job], listen: Listener, check_stop: Callable[[], None] = stopping.check
) -> list[Record | Failure]:
    """Train a stack of jobs that differ only in their seeds, and write their runs; each may fail alone.

    Gives the record of a job that another process has finished meanwhile. `check_stop` is called where the work can
    stop, and then raises. Raises `Failure` if a checkpoint does not fit or the store fails.
    """
    store = jobs[0].store
    dataset = load(jobs[0].spec.settings.data, jobs[0].execution.data_dir)
    for job in jobs:
        listen(Event("started", job.spec))
    for job in jobs:
        if training.training_key(job.spec, dataset.digests) != job.key:  # a cluster's worker may have another command's
            raise Failure(
                f"key mismatch for {job.spec.name}: this worker's dataset or plugins differ from the driver's"
            )
    with tracking.full_disk_in_a_line(), ExitStack() as locks:
        for job in sorted(jobs, key=lambda job: job.key):  # in the same order everywhere, to avoid a deadlock
            locks.enter_context(store.lock(job.key, partial(listen, Event("waiting", job.spec))))
        for job in jobs:
            tracking.upload_kept(store, job.key)  # or what another process could not upload would be trained twice
        missing = [job for job in jobs if not job.is_done_by(store.done(job.key))]
        failures = _train(missing, dataset, listen, check_stop) if missing else {}
        return [failures.get(job.key) or _finished(job) for job in jobs]


def _finished(job: Job) -> Record:
    record = job.store.done(job.key)
    if record is None:
        raise Failure(f"the run of {job.spec.name} is not in the store although it ended")
    return record


def _train(
    jobs: Sequence[Job], dataset: Dataset, listen: Listener, check_stop: Callable[[], None]
) -> dict[str, Failure]:
    """Train and write the runs of jobs whose locks are held; gives the failures by key."""
    store = jobs[0].store
    device = training.resolve_device(jobs[0].execution.device)
    sources = [_sources(job) for job in jobs]
    with tracking.Sender(store) as sender, tracking.ending() as open_runs:
        runs = []
        for job, of_job in zip(jobs, sources, strict=True):
            check_stop()
            open_runs.append(_open_run(job, dataset, device, len(jobs), of_job))
            open_runs[-1] = open_runs[-1].journaled(job.key, sender)
            runs.append(open_runs[-1])

        def log_epoch(place: int, result: EpochResult) -> None:
            runs[place].log_history([result])
            listen(Event("epoch", jobs[place].spec, result))

        def note_resumed(specs: Sequence[TrainingSpec], num_epochs: int) -> None:
            for job, run in zip(jobs, runs, strict=True):
                if job.spec in specs:
                    run.tag(resumed_after=num_epochs)
                    listen(Event("resumed", job.spec, message=f"{num_epochs} epochs"))

        weights = [
            {name: training.parse_weights(store.weights(record)) for name, record in of_job.items()}
            for of_job in sources
        ]
        keys = {job.spec: job.key for job in jobs}
        circumstances = {"device": device, "threads": jobs[0].execution.threads, **training.describe_machine(device)}
        snapshots = SnapshotFiles(store.folder, keys, circumstances, note_resumed)
        outcomes = training.run([job.spec for job in jobs], dataset, device, weights, log_epoch, snapshots, check_stop)
        for job, run, of_job, outcome in zip(jobs, runs, sources, outcomes, strict=True):
            check_stop()
            if not isinstance(outcome, Failure):
                _log_outcome(job, run, outcome, of_job, dataset.classes)
        failures = {job.key: one for job, one in zip(jobs, outcomes, strict=True) if isinstance(one, Failure)}
        snapshots.remove()  # first: a crash after the ends would leave the files for ever
        for job, run in zip(jobs, runs, strict=True):
            if job.key in failures:
                run.fail(failures[job.key])
            else:
                run.finish()
            open_runs.remove(run)
    return failures


def _sources(job: Job) -> dict[str, Record]:
    """The finished trainings that a job starts from, by name. Raises `Failure` if one has no weights."""
    records = {}
    for name, key in job.sources.items():
        record = job.store.done(key)
        if record is None or not record.has_weights:
            raise Failure(f"{job.spec.name} needs the weights of {job.spec.sources[name].name}, which is not finished")
        records[name] = record
    return records


def _open_run(
    job: Job, dataset: Dataset, device: torch.device, stack: int, sources: Mapping[str, Record]
) -> tracking.Run:
    machine = training.describe_machine(device)
    tags = {"device": device, "threads": job.execution.threads, "stack": stack, **machine, **job.tags}
    tags |= _shape_of(dataset) | _origins(dataset, job.execution)
    if job.study is not None:
        tags["study"] = job.study
    if job.spec.variant in EVALUATIONS:
        tags["evaluated"] = tracking.listing([record.run_id for record in sources.values()])
    elif "pretrain" in sources:
        tags |= {"pretraining_key": sources["pretrain"].key, "pretraining_run": sources["pretrain"].run_id}
    profile = {
        "training and validation images": len(dataset.images_NCHW),
        "test images": len(dataset.test_images_NCHW),
        "image (channels, rows, columns)": list(dataset.shape.image),
        "classes": dataset.shape.num_classes,
    }
    reference = tracking.DatasetReference(dataset.name, dataset.digest, dataset.source, profile)
    return tracking.open_training(
        job.store, job.spec, job.key, reference, parent_run_id=job.parent_run_id, run_id=job.run_id, **tags
    )


def _shape_of(dataset: Dataset) -> dict[str, object]:
    """What a trained network must fit, and the digest of what pretraining alone has seen."""
    tags = {"image_shape": "x".join(map(str, dataset.shape.image)), "num_classes": dataset.shape.num_classes}
    return tags | ({"unlabelled_digest": dataset.unlabelled_digest} if dataset.unlabelled_digest else {})


def _origins(dataset: Dataset, execution: Execution) -> dict[str, str]:
    """Where the user's own parts of a training come from, so that a command can name them."""
    tags = {"plugins": ",".join(execution.plugins)} if execution.plugins else {}
    if dataset.name not in DATASETS:
        tags["dataset_source"] = dataset.source
        tags |= {"data_dir": os.path.abspath(execution.data_dir)} if execution.data_dir else {}
    if (unlabelled := source_of(dataset.request.unlabelled or "")) is not None:
        tags["unlabelled_source"] = os.path.abspath(os.path.expanduser(unlabelled[1]))
    return tags


def _log_outcome(
    job: Job,
    run: tracking.Run,
    outcome: training.Outcome,
    sources: Mapping[str, Record],
    classes: Sequence[str],
) -> None:
    spec = job.spec
    if outcome.weights:
        run.log_weights(training.dump_weights(outcome.weights))
    if outcome.evidence.predictions is not None:
        run.log_bytes(PREDICTIONS, outcome.evidence.predictions.to_bytes())
    if outcome.evidence.confusion_KK is not None:
        run.log_bytes(PER_CLASS, json.dumps(per_class(outcome.evidence.confusion_KK)).encode())
        run.log_bytes(CLASSES, json.dumps(classes).encode())
    if outcome.evidence.filters_CHW is not None:
        run.log_bytes(FILTERS, filters_to_bytes(outcome.evidence.filters_CHW))
    for name, figure in figures.training_figures(spec.name, outcome.evidence, classes).items():
        run.log_figure(f"figures/{name}.png", figure)
    run.log_metrics(outcome.metrics)
    if outcome.warning is not None:
        run.tag(warning=outcome.warning)
    run.describe(_note(job, outcome, sources))


def draw_errors(job: Job, record: Record, dataset: Dataset) -> None:
    """Give a classifier a picture of its most confident errors, unless it has one.

    An imported classifier has no predictions, so there is no picture.
    """
    if job.store.has_artifact(record, PREDICTIONS) and not job.store.has_artifact(record, CONFUSED_IMAGES):
        predictions = Predictions.from_bytes(job.store.artifact(record, PREDICTIONS))
        images_NCHW, title = dataset.test_images_NCHW.numpy(), f"{job.spec.name}: confident errors"
        drawn = figures.confused_images(title, images_NCHW, predictions, dataset.classes)
        tracking.Run(job.store, record.run_id).log_figure(CONFUSED_IMAGES, drawn)


CONFUSED_IMAGES = "figures/confused_images.png"


def log_model(job: Job, record: Record, dataset: Dataset) -> None:
    """Give a finished classifier its MLflow model, unless it has one or has no weights.

    If PyTorch cannot export the network, a tag of the run says so.
    """
    if "model" in record.tags or not record.has_weights:
        return
    weights = training.parse_weights(job.store.weights(record))
    try:
        module = training.scoring_module(job.spec, dataset.shape, weights)
        tracking.log_model(job.store, record.run_id, module, _example(dataset), dataset.classes)
    except Exception as error:  # noqa: BLE001  # the exporter documents no class for what it cannot export
        tracking.Run(job.store, record.run_id).tag(model_error=tracking.one_line(error))


def _example(dataset: Dataset) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Two training images, [2, C, H, W] in [0, 1]."""
    return dataset.images_NCHW[:2].float().div(255).numpy()


def _note(job: Job, outcome: training.Outcome, sources: Mapping[str, Record]) -> str:
    """The run's description: what was trained and the result, in one line of Markdown."""
    spec, found = job.spec, outcome.metrics
    what = f"**{spec.network}**, augmentation {spec.augmentation}, **{spec.variant}**, seed {spec.seed}, on "
    if spec.variant in EVALUATIONS:
        looked_at = ", ".join(tracking.run_link(name, record.run_id) for name, record in sources.items())
        return f"{what}{spec.settings.dataset}: an evaluation of {looked_at}."
    epochs = f"best epoch {found['best_epoch']:.0f} of {found['num_epochs']:.0f}"
    if spec.variant == "pretrain":
        loss = f"loss on test images {found['test_loss']:.5f}, " if "test_loss" in found else ""
        result = f"objective {spec.settings.objective}, {loss}accuracy of a linear probe {found['probe_accuracy']:.4f}"
    else:
        result = (
            f"test accuracy {found['test_accuracy']:.4f}, macro-F1 {found['test_macro_f1']:.4f} "
            f"(validation {found['best_val_accuracy']:.4f}, {found['best_val_macro_f1']:.4f})"
        )
    source = ""
    if sources:
        pretraining = tracking.run_link(spec.sources["pretrain"].name, sources["pretrain"].run_id)
        source = f" Encoder from pretraining run {pretraining}."
    return f"{what}{spec.settings.dataset}: {result}; {epochs}.{source}" + (
        f" Note: {outcome.warning}." if outcome.warning else ""
    )
