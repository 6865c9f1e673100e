"""Choice of the training to use: a named run, or the best one by validation loss."""

from collections.abc import Iterable

from aepretrain.errors import Failure, UsageError
from aepretrain.records import Archive, Record
from aepretrain.variants import CLASSIFIERS, GRID_VARIANTS


def choose_classifier(archive: Archive, run_id: str | None, dataset: str | None) -> Record:
    """The classifier of a run; without a run, the `best` one of a store or bundle (and dataset).

    Raises `UsageError` where the run is not a classifier or only other datasets have one, and `Failure` where there is
    no classifier.
    """
    if run_id is not None:
        return _usable(archive.record(run_id), CLASSIFIERS)
    chosen = best(archive.records({"dataset": dataset} if dataset else {}).values(), dataset)
    if chosen is None:
        if dataset and (there := _datasets(_candidates(archive.records().values()))):
            raise UsageError(
                f"dataset={dataset!r}: no finished classifier was trained on it; there is {' or '.join(there)}"
            )
        of_dataset = f" of {dataset}" if dataset else ""
        raise Failure(
            f"there is no finished classifier{of_dataset} with its weights in {archive.place}; to train some in a "
            "store: aepretrain grid"
        )
    return chosen


def choose_encoder(archive: Archive, run_id: str | None, dataset: str | None) -> Record:
    """The training of a run, a pretraining or a classifier; without a run, as `choose_classifier`."""
    if run_id is not None:
        return _usable(archive.record(run_id), GRID_VARIANTS)
    return choose_classifier(archive, None, dataset)


def _usable(record: Record, variants: tuple[str, ...]) -> Record:
    if record.cell[2] not in variants:
        raise UsageError(f"run={record.run_id!r} is {record.cell[2]}: it must be one of {', '.join(variants)}")
    if not record.has_weights:
        raise Failure(f"run {record.run_id} was exported without its weights")
    return record


def best(records: Iterable[Record], dataset: str | None) -> Record | None:
    """The classifier with the lowest validation loss; of equal ones the lowest seed. Test figures are not used.

    Classifiers of studies, with few labels (they have few validation images) and without weights are left out. Raises
    `UsageError` where there are several datasets and none is named.
    """
    candidates = [one for one in _candidates(records) if dataset in (None, one.setting("dataset"))]
    datasets = _datasets(candidates)
    if len(datasets) > 1:
        raise UsageError(f"there are classifiers of several datasets ({', '.join(datasets)}): choose with --dataset")
    return min(candidates, key=lambda record: (record.metrics["best_val_loss"], record.seed), default=None)


def _candidates(records: Iterable[Record]) -> list[Record]:
    """The classifiers that can be used without being named."""
    return [
        record
        for record in records
        if record.cell[2] in CLASSIFIERS
        and record.study is None
        and not record.setting("labels")
        and record.has_weights
    ]


def _datasets(records: Iterable[Record]) -> list[str]:
    return sorted({record.setting("dataset") for record in records})
