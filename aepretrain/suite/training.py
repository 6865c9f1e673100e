"""One training, from its spec to a finished run in the store; what a worker does, and what a single command does."""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from aepretrain import figures, tracking, variants
from aepretrain.data import Dataset, load
from aepretrain.records import EpochResult, Record
from aepretrain.spec import Execution, Failure, TrainingSpec, UsageError


@dataclass(frozen=True)
class Event:
    """News of a training.

    `kind` is ``reused`` (it was done before), ``needed`` (it is trained although nobody asked, because another depends
    on it), ``waiting`` (another process is at it), ``started``, ``epoch``, ``finished`` or ``failed``.
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
    pretraining_key: str | None
    store: tracking.Store
    execution: Execution
    parent_run_id: str | None = None
    run_id: str | None = None
    """The run that ``mlflow run`` opened for this training."""
    with_model: bool = False
    """Whether the run gets its MLflow model at once (in a grid only the selected seeds do, at the end)."""


@dataclass(frozen=True)
class SingleResult:
    """A single training, and whether it was done before."""

    record: Record
    reused: bool


def make_work(spec: TrainingSpec, dataset: Dataset, store: tracking.Store, execution: Execution) -> Work:
    """The work of a training. Raises `UsageError` for a network that is not registered."""
    pretraining = spec.pretraining
    return Work(
        spec=spec,
        key=variants.training_key(spec, dataset.digest),
        pretraining_key=None if pretraining is None else variants.training_key(pretraining, dataset.digest),
        store=store,
        execution=execution,
    )


def check(specs: Sequence[TrainingSpec], execution: Execution) -> None:
    """Find out, before any run is opened, whether plugins, networks and device can be had. Raises `UsageError`."""
    load_plugins(execution)
    variants.resolve_device(execution.device)
    for network in {spec.network: spec for spec in specs}.values():
        variants.training_key(network, "")


def run_single(
    spec: TrainingSpec, store: tracking.Store, execution: Execution, listen: Listener, run_id: str | None = None
) -> SingleResult:
    """Do one training here, unless it is done, and before it its pretraining, unless that is done.

    `run_id`, the run that ``mlflow run`` opened, becomes the training's run, or a pointer to the finished one. A
    pretraining that is trained on the way is a run of its own. Raises `UsageError` and `Failure`.
    """
    check([spec], execution)
    variants.prepare_process(execution.threads)
    dataset = load(spec.settings.dataset, execution.data_dir)
    work = replace(make_work(spec, dataset, store, execution), run_id=run_id, with_model=True)
    finished = None if execution.force else store.done(work.key)
    if finished is not None:
        if run_id is not None:
            tracking.point_to(store, run_id, finished.run_id, finished.metrics)
        return SingleResult(finished, reused=True)
    if work.pretraining_key and spec.pretraining and store.done(work.pretraining_key) is None:
        listen(Event("needed", spec.pretraining))
        first = perform(make_work(spec.pretraining, dataset, store, replace(execution, force=False)), listen)
        listen(Event("finished", spec.pretraining, record=first))
    record = perform(work, listen)
    listen(Event("finished", spec, record=record))
    return SingleResult(record, reused=False)


def perform(work: Work, listen: Listener) -> Record:
    """Train and write the run, or give the record of the run that another process has finished meanwhile.

    Raises `Failure` where the loss is not finite, a checkpoint does not fit, or the store fails.
    """
    spec, store = work.spec, work.store
    dataset = load(spec.settings.dataset, work.execution.data_dir)
    listen(Event("started", spec))
    with store.lock(work.key, lambda: listen(Event("waiting", spec))):
        finished = None if work.execution.force else store.done(work.key)
        if finished is None:
            _train(work, dataset, listen)
            finished = store.done(work.key)
    if finished is None:
        raise Failure(f"the run of {spec.name} is not in the store although it ended")
    return finished


def _train(work: Work, dataset: Dataset, listen: Listener) -> None:
    spec, store = work.spec, work.store
    device = variants.resolve_device(work.execution.device)
    pretraining = store.done(work.pretraining_key) if work.pretraining_key else None
    if work.pretraining_key and pretraining is None:
        raise Failure(f"the pretraining of {spec.name} is not done")
    tags = {"device": device, "threads": work.execution.threads, "stack": 1}
    if pretraining is not None:
        tags |= {"pretraining_key": pretraining.key, "pretraining_run": pretraining.run_id}
    reference = tracking.DatasetReference(dataset.name, dataset.digest, dataset.source)
    run = tracking.open_training(
        store, spec, work.key, reference, parent_run_id=work.parent_run_id, run_id=work.run_id, **tags
    )
    with tracking.ending(run):

        def log_epoch(result: EpochResult) -> None:
            run.log_metrics(result.metrics(), result.epoch)
            listen(Event("epoch", spec, result))

        pretrained = variants.parse_weights(store.weights(pretraining)) if pretraining else None
        outcome = variants.run(spec, dataset, device, pretrained, log_epoch)
        _log_outcome(work, run, dataset, outcome, pretraining)
        run.finish()


def _log_outcome(
    work: Work, run: tracking.Run, dataset: Dataset, outcome: variants.Outcome, pretraining: Record | None
) -> None:
    spec = work.spec
    run.log_weights(variants.dump_weights(outcome.weights))
    if outcome.evidence.predictions is not None:
        run.log_bytes("evidence/predictions.npz", outcome.evidence.predictions.to_bytes())
    for name, figure in figures.training_figures(spec.name, outcome.evidence).items():
        run.log_figure(f"figures/{name}.png", figure)
    run.log_metrics(outcome.metrics)
    if outcome.warning is not None:
        run.tag(warning=outcome.warning)
    run.describe(_note(work, outcome, pretraining))
    if work.with_model and spec.variant != "pretrain":
        log_model(work, run.run_id, dataset, outcome.weights)


def log_model(work: Work, run_id: str, dataset: Dataset, weights: Mapping[str, Any]) -> None:
    """Give a run its MLflow model; where PyTorch cannot export the network, a tag says so, and the run stays good."""
    try:
        tracking.log_model(work.store, run_id, variants.scoring_module(work.spec, weights), _example(dataset))
    except Exception as error:  # noqa: BLE001  # the exporter documents no class for what it cannot export
        tracking.Run(work.store, run_id).tag(model_error=tracking.one_line(error))


def _example(dataset: Dataset) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Two training images as a model takes them, [2, 1, 28, 28] in [0, 1]."""
    return dataset.images_NHW[:2].unsqueeze(1).float().div(255).numpy()


def _note(work: Work, outcome: variants.Outcome, pretraining: Record | None) -> str:
    """What the run is and how it came out, in a line of Markdown."""
    spec, found = work.spec, outcome.metrics
    what = f"**{spec.network}**, augmentation {spec.augmentation}, **{spec.variant}**, seed {spec.seed}, on "
    epochs = f"best epoch {found['best_epoch']:.0f} of {found['num_epochs']:.0f}"
    if spec.variant == "pretrain":
        result = f"{spec.settings.ae_loss} on clean test images {found['test_loss']:.5f}"
    else:
        result = (
            f"test accuracy {found['test_accuracy']:.4f}, macro-F1 {found['test_macro_f1']:.4f} "
            f"(validation {found['best_val_accuracy']:.4f}, {found['best_val_macro_f1']:.4f})"
        )
    source = f" Encoder from pretraining run `{pretraining.run_id}`." if pretraining else ""
    return f"{what}{spec.settings.dataset}: {result}; {epochs}.{source}" + (
        f" Note: {outcome.warning}." if outcome.warning else ""
    )


def load_plugins(execution: Execution) -> None:
    """Import the modules with which a user registers networks. Raises `UsageError` where one cannot be imported."""
    if execution.plugins and "" not in sys.path:
        sys.path.insert(0, "")
    for name in execution.plugins:
        try:
            importlib.import_module(name)
        except UsageError:
            raise
        except Exception as error:
            raise UsageError(f"plugin {name!r} cannot be imported: {tracking.one_line(error)}") from error
