"""Choice of the training to use: a named run, or the best one by validation loss."""

from collections.abc import Iterable

from aepretrain.errors import Failure, UsageError
from aepretrain.records import Record
from aepretrain.tracking import Store, shown_uri
from aepretrain.variants import CLASSIFIERS, GRID_VARIANTS


def choose_classifier(store: Store, run_id: str | None, dataset: str | None) -> Record:
    """The classifier of a run; without a run, the `best` one of the store (and dataset).

    Raises `UsageError` where the run is not a classifier, and `Failure` where there is no classifier.
    """
    if run_id is not None:
        return _usable(store.record(run_id), CLASSIFIERS)
    chosen = best(store.records({"dataset": dataset} if dataset else {}).values(), dataset)
    if chosen is None:
        of_dataset = f" of {dataset}" if dataset else ""
        raise Failure(
            f"there is no finished classifier{of_dataset} with its weights in {shown_uri(store.uri)}: train some, "
            "for example with: aepretrain grid"
        )
    return chosen


def choose_encoder(store: Store, run_id: str | None, dataset: str | None) -> Record:
    """The training of a run, a pretraining or a classifier; without a run, as `choose_classifier`."""
    if run_id is not None:
        return _usable(store.record(run_id), GRID_VARIANTS)
    return choose_classifier(store, None, dataset)


def _usable(record: Record, variants: tuple[str, ...]) -> Record:
    if record.cell[2] not in variants:
        raise UsageError(f"run={record.run_id!r} is {record.cell[2]}: it must be one of {', '.join(variants)}")
    if not record.has_weights:
        raise Failure(f"run {record.run_id} was imported from a bundle without its weights")
    return record


def best(records: Iterable[Record], dataset: str | None) -> Record | None:
    """The classifier with the lowest validation loss; of equal ones the lowest seed. Test figures are not used.

    Classifiers of studies, with few labels (they have few validation images) and without weights are left out. Raises
    `UsageError` where there are several datasets and none is named.
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
