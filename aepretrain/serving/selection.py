"""Which training serves: the one that a person names, or the best of the store by its validation images."""

from collections.abc import Iterable

from aepretrain.errors import Failure, UsageError
from aepretrain.records import Record
from aepretrain.redaction import redact
from aepretrain.tracking import Store
from aepretrain.variants import CLASSIFIERS, GRID_VARIANTS


def choose_classifier(store: Store, run_id: str | None, dataset: str | None) -> Record:
    """The classifier of a run; without one the `best` of the store, or of those of a dataset.

    Raises `UsageError` where the run is none of a classifier, and `Failure` where there is nothing to choose.
    """
    if run_id is not None:
        return _usable(store.record(run_id), CLASSIFIERS)
    found = best(store.records({"dataset": dataset} if dataset else {}).values(), dataset)
    if found is None:
        of_dataset = f" of {dataset}" if dataset else ""
        raise Failure(
            f"there is no finished classifier{of_dataset} with its weights in {redact(store.uri)}: train some, "
            "for example with: aepretrain grid"
        )
    return found


def choose_encoder(store: Store, run_id: str | None, dataset: str | None) -> Record:
    """The training of a run, be it a pretraining or a classifier; without one what `choose_classifier` chooses."""
    if run_id is not None:
        return _usable(store.record(run_id), GRID_VARIANTS)
    return choose_classifier(store, None, dataset)


def _usable(record: Record, variants: tuple[str, ...]) -> Record:
    if record.cell[2] not in variants:
        raise UsageError(f"run={record.run_id!r} is {record.cell[2]}: it must be one of {', '.join(variants)}")
    if not record.has_weights:
        raise Failure(f"run {record.run_id} comes from a bundle that has not kept its weights")
    return record


def best(records: Iterable[Record], dataset: str | None) -> Record | None:
    """The classifier with the lowest validation loss, ties to the lowest seed; no test figure is looked at.

    Those of studies, of few labels (a handful of validation images says little), and those without weights are left
    out. Raises `UsageError` where those of several datasets would have to be compared.
    """
    candidates = [
        record
        for record in records
        if record.cell[2] in CLASSIFIERS
        and record.study is None
        and not record.setting("labels")
        and record.has_weights
        and dataset in (None, record.setting("dataset"))
    ]
    datasets = sorted({record.setting("dataset") for record in candidates})
    if len(datasets) > 1:
        raise UsageError(f"there are classifiers of several datasets ({', '.join(datasets)}): choose with --dataset")
    return min(candidates, key=lambda record: (record.metrics["best_val_loss"], record.seed), default=None)
