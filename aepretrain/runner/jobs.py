"""One training, from its spec to a finished run in the store; what a worker does, and what a single command does."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from aepretrain import figures, tracking, training
from aepretrain.config import Execution, TrainingSpec
from aepretrain.data import Dataset, load
from aepretrain.errors import Failure
from aepretrain.metrics import per_class
from aepretrain.records import PER_CLASS, PREDICTIONS, EpochResult, Predictions, Record
from aepretrain.runner.snapshots import SnapshotFiles
from aepretrain.stopping import whole
from aepretrain.variants import EVALUATIONS


@dataclass(frozen=True)
class Event:
    """News of a training.

    `kind` is ``reused`` (it was done before), ``needed`` (it is trained although nobody asked, because another depends
    on it), ``planned`` (it has come to what is to be trained), ``waiting`` (another process is at it), ``started``,
    ``epoch``, ``retried`` (its worker died), ``finished`` or ``failed``.
    """

    kind: str
    spec: TrainingSpec
    epoch: EpochResult | None = None
    record: Record | None = None
    message: str = ""


Listener = Callable[[Event], None]


@dataclass(frozen=True)
class Work:
    """One training to be done, small enough to send to a worker."""

    spec: TrainingSpec
    key: str
    sources: Mapping[str, str]
    """The keys of the trainings whose weights it needs, by the names of `TrainingSpec.sources`."""
    store: tracking.Store
    execution: Execution
    parent_run_id: str | None = None
    run_id: str | None = None
    """The run that ``mlflow run`` opened for this training."""
    study: str | None = None
    """The study that it is trained for, where no grid has it."""
    weights_needed: bool = False
    """Whether others need its weights: without them it does not count as done."""


@dataclass(frozen=True)
class SingleResult:
    """A single training, and whether it was done before."""

    record: Record
    reused: bool


def make_work(spec: TrainingSpec, dataset: Dataset, store: tracking.Store, execution: Execution) -> Work:
    """The work of a training. Raises `UsageError` for a network that is not registered."""
    return Work(
        spec=spec,
        key=training.training_key(spec, dataset.digest),
        sources={name: training.training_key(one, dataset.digest) for name, one in spec.sources.items()},
        store=store,
        execution=execution,
    )


def check(specs: Sequence[TrainingSpec], execution: Execution) -> None:
    """Find out, before any run is opened, whether the device and all that the trainings name can be had.

    Plugins have been loaded (`load_plugins`). Raises `UsageError`.
    """
    training.resolve_device(execution.device)
    for spec in {(*spec.cell, spec.settings.dataset): spec for spec in specs}.values():
        training.check(spec)


def run_single(
    spec: TrainingSpec, store: tracking.Store, execution: Execution, listen: Listener, run_id: str | None = None
) -> SingleResult:
    """Do one training here, unless it is done, and before it its pretraining, unless that is done.

    `run_id`, the run that ``mlflow run`` opened, becomes the training's run, or a pointer to the finished one. A
    pretraining that is trained on the way is a run of its own. Raises `UsageError` and `Failure`.
    """
    check([spec], execution)
    training.prepare_process(execution.threads)
    dataset = load(spec.settings.dataset, execution.data_dir)
    work = replace(make_work(spec, dataset, store, execution), run_id=run_id)
    tracking.recover(store)
    finished = None if execution.force else store.done(work.key)
    if finished is not None:
        if run_id is not None:
            tracking.point_to(store, run_id, finished.run_id, finished.metrics)
        return SingleResult(finished, reused=True)
    for name, source in spec.sources.items():
        if _with_weights(store, work.sources[name]) is None:
            listen(Event("needed", source))
            needed = make_work(source, dataset, store, replace(execution, force=False))
            _perform_one(replace(needed, weights_needed=True), listen)
    record = _perform_one(work, listen)
    if run_id not in (None, record.run_id):  # another process has finished it meanwhile
        tracking.point_to(store, str(run_id), record.run_id, record.metrics)
        return SingleResult(record, reused=True)
    present(work, record, dataset)
    return SingleResult(record, reused=False)


def _perform_one(work: Work, listen: Listener) -> Record:
    (result,) = perform([work], listen)
    if isinstance(result, Failure):
        raise result
    listen(Event("finished", work.spec, record=result))
    return result


def perform(works: Sequence[Work], listen: Listener) -> list[Record | Failure]:
    """Train a stack of works that differ only in their seeds, and write their runs; what fails, fails alone.

    Where another process has finished one meanwhile, its record is given. Raises `Failure` where a checkpoint does not
    fit or the store fails.
    """
    store = works[0].store
    dataset = load(works[0].spec.settings.dataset, works[0].execution.data_dir)
    for work in works:
        listen(Event("started", work.spec))
    for work in works:
        if training.training_key(work.spec, dataset.digest) != work.key:  # on a cluster, another command's may be here
            raise Failure(f"{work.spec.name} is another training here: this worker has other data or other plugins")
    with tracking.full_disk_in_a_line(), ExitStack() as locks:
        for work in sorted(works, key=lambda work: work.key):  # one order for all, or two could wait for each other
            locks.enter_context(store.lock(work.key, partial(listen, Event("waiting", work.spec))))
        for work in works:
            tracking.upload_kept(store, work.key)  # of a process that could not, or it would be trained twice
        missing = [work for work in works if work.execution.force or _of_use(work) is None]
        failures = _train(missing, dataset, listen) if missing else {}
        return [failures.get(work.key) or _finished(work) for work in works]


def _of_use(work: Work) -> Record | None:
    """The finished training; where others need its weights, only one that has kept them."""
    return _with_weights(work.store, work.key) if work.weights_needed else work.store.done(work.key)


def _with_weights(store: tracking.Store, key: str) -> Record | None:
    record = store.done(key)
    return record if record and record.has_weights else None


def _finished(work: Work) -> Record:
    record = work.store.done(work.key)
    if record is None:
        raise Failure(f"the run of {work.spec.name} is not in the store although it ended")
    return record


def _train(works: Sequence[Work], dataset: Dataset, listen: Listener) -> dict[str, Failure]:
    """Train and write the runs of works whose locks are held; gives, by key, why some failed."""
    store = works[0].store
    device = training.resolve_device(works[0].execution.device)
    sources = [_sources(work) for work in works]
    with tracking.Sender(store) as sender, tracking.ending() as open_runs:
        runs = []
        for work, of_work in zip(works, sources, strict=True):
            with whole():
                open_runs.append(_open_run(work, dataset, device, len(works), of_work))
                open_runs[-1] = open_runs[-1].journaled(work.key, sender)
                runs.append(open_runs[-1])

        def log_epoch(place: int, result: EpochResult) -> None:
            runs[place].log_history([result])
            listen(Event("epoch", works[place].spec, result))

        weights = [
            {name: training.parse_weights(store.weights(record)) for name, record in of_work.items()}
            for of_work in sources
        ]
        keys = {work.spec: work.key for work in works}
        circumstances = {"device": str(device), "threads": works[0].execution.threads}
        snapshots = SnapshotFiles(store.folder, keys, circumstances)
        outcomes = training.run([work.spec for work in works], dataset, device, weights, log_epoch, snapshots)
        for work, run, of_work, outcome in zip(works, runs, sources, outcomes, strict=True):
            if not isinstance(outcome, Failure):
                _log_outcome(work, run, outcome, of_work)
        failures = {work.key: one for work, one in zip(works, outcomes, strict=True) if isinstance(one, Failure)}
        with whole():
            snapshots.remove()  # before the ends, or a crash after them would leave the files for ever
            for work, run in zip(works, runs, strict=True):
                if work.key in failures:
                    run.fail(failures[work.key])
                else:
                    run.finish()
                open_runs.remove(run)
    return failures


def _sources(work: Work) -> dict[str, Record]:
    """The finished trainings whose weights a work needs, by name. Raises `Failure` where one is missing."""
    found = {}
    for name, key in work.sources.items():
        record = _with_weights(work.store, key)
        if record is None:
            raise Failure(f"{work.spec.name} needs the weights of {work.spec.sources[name].name}, which is not done")
        found[name] = record
    return found


def _open_run(
    work: Work, dataset: Dataset, device: torch.device, stack: int, sources: Mapping[str, Record]
) -> tracking.Run:
    tags = {"device": device, "threads": work.execution.threads, "stack": stack, **training.describe_machine(device)}
    if work.study is not None:
        tags["study"] = work.study
    if work.spec.variant in EVALUATIONS:
        tags["evaluated"] = tracking.listing([record.run_id for record in sources.values()])
    elif "pretrain" in sources:
        tags |= {"pretraining_key": sources["pretrain"].key, "pretraining_run": sources["pretrain"].run_id}
    reference = tracking.DatasetReference(dataset.name, dataset.digest, dataset.source)
    return tracking.open_training(
        work.store, work.spec, work.key, reference, parent_run_id=work.parent_run_id, run_id=work.run_id, **tags
    )


def _log_outcome(work: Work, run: tracking.Run, outcome: training.Outcome, sources: Mapping[str, Record]) -> None:
    spec = work.spec
    if outcome.weights:
        run.log_weights(training.dump_weights(outcome.weights))
    if outcome.evidence.predictions is not None:
        run.log_bytes(PREDICTIONS, outcome.evidence.predictions.to_bytes())
    if outcome.evidence.confusion_KK is not None:
        run.log_bytes(PER_CLASS, json.dumps(per_class(outcome.evidence.confusion_KK)).encode())
    for name, figure in figures.training_figures(spec.name, outcome.evidence).items():
        run.log_figure(f"figures/{name}.png", figure)
    run.log_metrics(outcome.metrics)
    if outcome.warning is not None:
        run.tag(warning=outcome.warning)
    run.describe(_note(work, outcome, sources))


def present(work: Work, record: Record, dataset: Dataset) -> None:
    """Give a finished classifier that is to be shown what others need not have: its model, and what it confuses.

    An imported classifier has no predictions, so its confused images cannot be drawn.
    """
    log_model(work, record, dataset)
    if work.store.has_artifact(record, PREDICTIONS) and not work.store.has_artifact(record, CONFUSED_IMAGES):
        predictions = Predictions.from_bytes(work.store.artifact(record, PREDICTIONS))
        images_NHW = dataset.test_images_NHW.numpy()
        drawn = figures.confused_images(f"{work.spec.name}: confident errors", images_NHW, predictions)
        tracking.Run(work.store, record.run_id).log_figure(CONFUSED_IMAGES, drawn)


CONFUSED_IMAGES = "figures/confused_images.png"


def log_model(work: Work, record: Record, dataset: Dataset) -> None:
    """Give a finished classifier its MLflow model, unless it has it or was kept without weights.

    Where PyTorch cannot export the network, a tag says so, and the run stays good.
    """
    if work.spec.variant == "pretrain" or "model" in record.tags or not record.has_weights:
        return
    weights = training.parse_weights(work.store.weights(record))
    try:
        tracking.log_model(work.store, record.run_id, training.scoring_module(work.spec, weights), _example(dataset))
    except Exception as error:  # noqa: BLE001  # the exporter documents no class for what it cannot export
        tracking.Run(work.store, record.run_id).tag(model_error=tracking.one_line(error))


def _example(dataset: Dataset) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Two training images as a model takes them, [2, 1, 28, 28] in [0, 1]."""
    return dataset.images_NHW[:2].unsqueeze(1).float().div(255).numpy()


def _note(work: Work, outcome: training.Outcome, sources: Mapping[str, Record]) -> str:
    """What the run is and how it came out, in a line of Markdown."""
    spec, found = work.spec, outcome.metrics
    what = f"**{spec.network}**, augmentation {spec.augmentation}, **{spec.variant}**, seed {spec.seed}, on "
    if spec.variant in EVALUATIONS:
        looked_at = ", ".join(tracking.run_link(name, record.run_id) for name, record in sources.items())
        return f"{what}{spec.settings.dataset}: an evaluation of {looked_at}."
    epochs = f"best epoch {found['best_epoch']:.0f} of {found['num_epochs']:.0f}"
    if spec.variant == "pretrain":
        result = f"{spec.settings.ae_loss} on clean test images {found['test_loss']:.5f}"
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
