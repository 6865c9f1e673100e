"""Export of a store's finished trainings to a bundle, and import of a bundle into a store."""

import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Run as StoredRun
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE

from aepretrain import stopping
from aepretrain.config import SCHEMA, canonical_json
from aepretrain.errors import Failure
from aepretrain.records import EPOCH_METRICS, OUTCOMES, PREDICTIONS, WEIGHTS, Record
from aepretrain.tracking.bundle import Bundle, Training, list_parts, part_name, read_bundle
from aepretrain.tracking.old_bundle import is_old
from aepretrain.tracking.run_lifecycle import ending, open_import
from aepretrain.tracking.run_writer import DatasetReference, Number, Run, our_tags, run_link
from aepretrain.tracking.store import Store
from aepretrain.tracking.tables import Row, Tables, write_tables

NOT_EXPORTED = ("artifacts", "done", "locks", "model", "pid")
"""Tags that an import writes anew, or that mean nothing in another store."""


@dataclass(frozen=True)
class Part:
    """A part of a bundle that was written."""

    folder: Path
    num_trainings: int


Track = Callable[[Collection[Any]], Iterable[Any]]
"""Gives what it is given, one by one, and may show how many are done."""


def export(
    store: Store, records: Sequence[Record], selected: Collection[str], folder: Path, track: Track = iter
) -> Part | None:
    """Write into a bundle, as a new part, those trainings that it does not hold; None where it holds all.

    Those whose run ids are in `selected` get their figures and filters, and classifiers among them that no plan has
    started their weights. The part appears with all its files or not at all. `track` gives the trainings one by one,
    and may show how many are done. Raises `Failure` where the folder cannot be written or holds a damaged bundle, and
    where a run has lost an artifact or one is damaged.
    """
    held = _held(folder)
    new = [one for one in records if _is_new(store, one, one.run_id in selected, held.get(one.key))]
    if not new:
        return None
    curves = {metric: store.curves(new, metric) for metric in sorted(EPOCH_METRICS)}
    trainings = []
    for i, record in enumerate(track(new)):
        of_record = {metric: of_all[i] for metric, of_all in curves.items()}
        paths = _paths(store, record, record.run_id in selected)
        files = {_exported_path(path): _content(store, record, path) for path in paths}
        row = _row(record, store.client.get_run(record.run_id), WEIGHTS in files)
        try:
            trainings.append(Training(row, list(_epochs(record.key, of_record)), files).checked())
        except ValueError as error:
            raise Failure(f"run {record.run_id} cannot be exported: {error}") from None
    return Part(write_part(folder, trainings), len(trainings))


def _held(folder: Path) -> dict[str, Training]:
    """The trainings of the bundle in a folder by key; none where there is no bundle."""
    try:
        if not folder.exists() or not (is_old(folder) or list_parts(folder)):
            return {}
    except (OSError, ValueError):
        pass  # reading says what is wrong
    return {one.record.key: one for one in read_bundle(folder).trainings.values()}


def _is_new(store: Store, record: Record, selected: bool, held: Training | None) -> bool:
    """Whether a bundle with this training, or without, lacks the record: its attempt, its study or its figures.

    A training of a study may have become one of a grid, and one that was not selected may be selected now.
    """
    if held is None or record.attempt != held.record.attempt:
        return held is None or record.attempt > held.record.attempt
    if record.study != held.record.study:
        return True
    return selected and not set(map(_exported_path, _paths(store, record, selected))) <= held.files.keys()


def _paths(store: Store, record: Record, selected: bool) -> list[str]:
    """The artifacts of a run that a bundle keeps, also those that it has lost.

    Weights of pretrainings and of a plan's trainings are large, and can be trained again.
    """
    folders = ("evidence", "figures", "filters") if selected else ("evidence",)
    paths = {one.path for folder in folders for one in store.client.list_artifacts(record.run_id, folder)}
    paths |= {path for path in record.artifacts if path.startswith(folders)}
    if "test_accuracy" in record.metrics and "imported_run" not in record.tags:  # an older run lists no artifacts
        paths.add(PREDICTIONS)
    keeps_weights = selected and record.has_weights and record.cell[2] != "pretrain" and "plan" not in record.tags
    return sorted(paths) + [WEIGHTS] * keeps_weights


def _exported_path(path: str) -> str:
    return OUTCOMES if path == PREDICTIONS else path


def _content(store: Store, record: Record, path: str) -> bytes:
    return store.outcomes(record).to_bytes() if path == PREDICTIONS else store.artifact(record, path)


def _row(record: Record, run: StoredRun, with_weights: bool) -> Row:
    left_out = NOT_EXPORTED if with_weights else (*NOT_EXPORTED, "weights_sha256")
    network, augmentation, variant = record.cell
    return dict(record.metrics) | {
        "key": record.key,
        "name": run.info.run_name,
        "network": network,
        "augmentation": augmentation,
        "variant": variant,
        "seed": record.seed,
        "spec": canonical_json(dict(record.identity)),
        "tags": canonical_json({name: value for name, value in record.tags.items() if name not in left_out}),
        "note": run.data.tags.get(MLFLOW_RUN_NOTE, ""),
        "run_id": record.run_id,
        "start_ms": run.info.start_time,
        "end_ms": run.info.end_time,
    }


def _epochs(key: str, curves: Mapping[str, Sequence[float]]) -> Iterator[Row]:
    applicable = {metric: values for metric, values in curves.items() if values}
    for i, values in enumerate(zip(*applicable.values(), strict=True)):
        yield {"key": key, "epoch": i + 1, **dict(zip(applicable, values, strict=True))}


def write_part(folder: Path, trainings: Sequence[Training]) -> Path:
    """Write trainings as the next part of the bundle in a folder; gives the part's folder. Raises `Failure`."""
    files = [
        {"key": one.row["key"], "path": path, "content": content}
        for one in trainings
        for path, content in one.files.items()
    ]
    epochs = [epoch for one in trainings for epoch in one.epochs]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=folder, ignore_cleanup_errors=True) as unfinished:
            part = Path(unfinished, "part")
            part.mkdir()
            write_tables(part, Tables([one.row for one in trainings], epochs, files))
            return _rename_to_next(part, folder)
    except OSError as error:
        raise Failure(f"the bundle cannot be written to {folder}: {error.strerror or error}") from None


def _rename_to_next(part: Path, folder: Path) -> Path:
    """Give a part the first number that is free, also where another process exports at the same time."""
    number = 1
    while True:
        try:
            return part.rename(folder / part_name(number))
        except OSError:  # a folder with files is there; its number of error depends on the file system
            if not (folder / part_name(number)).exists():
                raise
        number += 1


@stopping.deferred()
def restore(store: Store, bundle: Bundle, track: Track = iter, on_wait: Callable[[], None] = lambda: None) -> int:
    """Write those trainings of a bundle into a store that it does not have; gives their number.

    A training without weights counts as done, and is trained again where another training starts from it. An
    interrupted import is continued by the next. `track` is that of `export`; `on_wait` is called if another process
    imports the bundle. Raises `Failure` for a bundle of another schema.
    """
    schemas = {one.record.tags.get("schema") for one in bundle.trainings.values()}
    if schemas != {str(SCHEMA)}:
        names = ", ".join(sorted(map(str, schemas)))
        raise Failure(f"bundle {bundle.name} has trainings of schema {names}, which this version ({SCHEMA}) cannot use")
    with store.lock(f"import-{bundle.digest}", on_wait):
        if bundle.records().keys() <= store.records().keys():
            return 0
        with ending() as open_runs:
            parent = open_import(store, f"import {bundle.name}", bundle.digest)
            open_runs.append(parent)
            num_new = _restore_missing(store, parent.run_id, bundle, track)
            parent.describe(f"{len(bundle.trainings)} trainings from the bundle {bundle.name}.")
            parent.end("FINISHED")
    return num_new


def _restore_missing(store: Store, parent_run_id: str, bundle: Bundle, track: Track) -> int:
    """Write the trainings that the store does not have; gives their number."""
    num_new = 0
    run_ids: dict[str, str] = {}
    """Run ids in this store by run ids in the bundle."""
    for run_id, training in track(bundle.trainings.items()):
        stopping.check()
        with store.lock(training.row["key"], lambda: None):
            done = store.done(training.row["key"])
            run_ids[run_id] = done.run_id if done else _write(store, parent_run_id, training, run_ids)
        num_new += done is None
    return num_new


def _write(store: Store, parent_run_id: str, training: Training, run_ids: Mapping[str, str]) -> str:
    """Write a training of a bundle as a run; gives the run's id."""
    row, record = training.row, training.record
    tags = dict(record.tags)
    note = re.sub("`([0-9a-f]{32})`", lambda match: run_link(match[1], match[1]), row["note"])  # older notes
    note = _with_new_ids(note, run_ids)
    tags |= {name: _with_new_ids(tags[name], run_ids) for name in ("pretraining_run", "evaluated") if name in tags}
    tags = {"imported_run": row["run_id"]} | tags  # of a training that was imported before, its first run
    all_tags = {MLFLOW_PARENT_RUN_ID: parent_run_id, MLFLOW_RUN_NOTE: note, **our_tags(tags)}
    with ending() as open_runs:
        stored = store.client.create_run(store.experiment_id, row["start_ms"], tags=all_tags, run_name=row["name"])
        run = Run(store, stored.info.run_id)
        open_runs.append(run)
        run.log_params(record.identity)
        run.log_dataset(DatasetReference(record.identity["dataset"], tags["dataset_digest"], "bundle"))
        run.log_numbers(_numbers(training))
        for path, content in training.files.items():
            run.log_bytes(path, content)
        run.finish(row["end_ms"])
    return run.run_id


def _numbers(training: Training) -> list[Number]:
    """What was logged. A bundle does not keep the times of epochs: they are spread evenly over the run."""
    row, figures = training.row, training.record.metrics
    duration_ms = row["end_ms"] - row["start_ms"]
    numbers = []
    for name, value in figures.items():
        curve = training.curve(name) if name in EPOCH_METRICS else []
        for epoch, of_epoch in enumerate(curve, start=1):
            numbers.append((name, of_epoch, row["start_ms"] + duration_ms * epoch // len(curve), epoch))
        if not curve:
            numbers.append((name, value, row["end_ms"], 0))
    return numbers


def _with_new_ids(text: str, run_ids: Mapping[str, str]) -> str:
    return re.sub("[0-9a-f]{32}", lambda match: run_ids.get(match[0], match[0]), text)
