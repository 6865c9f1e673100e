"""Finished trainings from a store into a bundle, and from a bundle into a store."""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from mlflow.entities import Run as StoredRun
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE

from aepretrain import stopping
from aepretrain.config import SCHEMA, canonical_json
from aepretrain.errors import Failure
from aepretrain.records import Record
from aepretrain.tracking.bundle import (
    ARTIFACTS,
    FIXED,
    HISTORIES,
    OF_ARTIFACTS,
    OF_HISTORIES,
    RECORDS,
    SUMS,
    Bundle,
    Row,
    Training,
    digest_of,
)
from aepretrain.tracking.run_lifecycle import ending, open_import
from aepretrain.tracking.run_writer import DatasetReference, Run, run_link
from aepretrain.tracking.store import Store

KEPT = ("evidence",)
"""What a training keeps of its artifacts, unless it was trained for a study: those are many."""

KEPT_OF_SELECTED = (*KEPT, "figures", "weights.pt")
"""What a selected one keeps; its MLflow model can be made again from its weights."""

OF_THE_STORE = ("done", "locks", "model", "pid")
"""Tags that are written anew or mean nothing elsewhere."""


def export(store: Store, records: Sequence[Record], selected: Collection[str], folder: Path) -> None:
    """Write these trainings into a folder; those whose run ids are in `selected` with their weights and figures.

    Files that are there are replaced at the end, their digests last. Raises `Failure` where the folder cannot be
    written and `StoreError` where a run cannot be read.
    """
    runs = [(record, store.client.get_run(record.run_id)) for record in records]
    artifacts = [row for record, _ in runs for row in _artifact_rows(store, record, record.run_id in selected)]
    histories = [row for record, run in runs for row in _history_rows(store, record, run)]
    figures = sorted({name for record in records for name in record.metrics})
    rows = [_record_row(record, run, record.run_id in selected) for record, run in runs]
    tables = {
        ARTIFACTS: (artifacts, OF_ARTIFACTS),
        HISTORIES: (histories, OF_HISTORIES),
        RECORDS: (rows, FIXED | dict.fromkeys(figures, pa.float64())),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, (content, columns) in tables.items():
            table = pa.Table.from_pylist(content, pa.schema(list(columns.items())))
            with _partial(folder, name).open("wb") as file:  # by itself, Arrow takes a path only if it is UTF-8
                pq.write_table(table, file, compression="zstd")
        sums = "".join(f"{digest_of(_partial(folder, name))}  {name}\n" for name in tables)
        _partial(folder, SUMS).write_text(sums)
        for name in (*tables, SUMS):
            _partial(folder, name).replace(folder / name)
    except OSError as error:
        raise Failure(f"the bundle cannot be written to {folder}: {error.strerror or error}") from None


def _partial(folder: Path, name: str) -> Path:
    return folder / f".{name}.partial"


def _record_row(record: Record, run: StoredRun, selected: bool) -> Row:
    left_out = OF_THE_STORE if selected else (*OF_THE_STORE, "weights_sha256")
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
        "params": canonical_json(run.data.params),
        "note": run.data.tags.get(MLFLOW_RUN_NOTE, ""),
        "run_id": record.run_id,
        "start_ms": run.info.start_time,
        "end_ms": run.info.end_time,
    }


def _history_rows(store: Store, record: Record, run: StoredRun) -> Iterator[Row]:
    for name in sorted(run.data.metrics):
        for one in store.client.get_metric_history(record.run_id, name):
            yield {
                "key": record.key,
                "name": name,
                "step": one.step,
                "value": one.value,
                "timestamp_ms": one.timestamp,
            }


def _artifact_rows(store: Store, record: Record, selected: bool) -> Iterator[Row]:
    kept = KEPT_OF_SELECTED if selected else KEPT if record.study is None else ()
    for one in store.client.list_artifacts(record.run_id) if kept else ():
        if one.path in kept:
            files = store.client.list_artifacts(record.run_id, one.path) if one.is_dir else [one]
            for file in files:
                yield {"key": record.key, "path": file.path, "content": store.artifact(record, file.path)}


@stopping.deferred()
def restore(store: Store, bundle: Bundle) -> int:
    """Fill the store with the trainings of a bundle that it does not have; gives how many those were.

    What comes without its weights counts as done, but is trained again where something else has to start from it. An
    import that was interrupted is continued by another. Raises `Failure` for a bundle of another schema.
    """
    schemas = {one.record.tags.get("schema") for one in bundle.trainings.values()}
    if schemas != {str(SCHEMA)}:
        found = ", ".join(sorted(map(str, schemas)))
        raise Failure(f"bundle {bundle.name} has trainings of schema {found}, which this version ({SCHEMA}) cannot use")
    with store.lock(f"import-{bundle.digest}", lambda: None):
        known = store.records()
        if bundle.records().keys() <= known.keys():
            return 0
        with ending() as open_runs:
            parent = open_import(store, f"import {bundle.name}", bundle.digest)
            open_runs.append(parent)
            num_new = _restore_missing(store, parent.run_id, bundle)
            parent.describe(f"{len(bundle.trainings)} trainings from the bundle {bundle.name}.")
            parent.end("FINISHED")
    return num_new


def _restore_missing(store: Store, parent_run_id: str, bundle: Bundle) -> int:
    """Write what no run of the store has; gives how many that were."""
    num_new = 0
    run_ids: dict[str, str] = {}
    """Where each run of the bundle is in this store."""
    for run_id, one in bundle.trainings.items():
        stopping.check()
        with store.lock(one.row["key"], lambda: None):
            there = store.done(one.row["key"])
            run_ids[run_id] = there.run_id if there else _write(store, parent_run_id, one, run_ids)
        num_new += there is None
    return num_new


def _write(store: Store, parent_run_id: str, training: Training, run_ids: Mapping[str, str]) -> str:
    """A run with all that a training of the bundle has; gives its id."""
    row, tags = training.row, dict(training.record.tags)
    note = re.sub("`([0-9a-f]{32})`", lambda found: run_link(found[1], found[1]), row["note"])  # as it once was written
    note = _with_new_ids(note, run_ids)
    tags |= {name: _with_new_ids(tags[name], run_ids) for name in ("pretraining_run", "evaluated") if name in tags}
    of_mlflow = {MLFLOW_PARENT_RUN_ID: parent_run_id, MLFLOW_RUN_NOTE: note}
    with ending() as open_runs:
        stored = store.client.create_run(store.experiment_id, row["start_ms"], tags=of_mlflow, run_name=row["name"])
        run = Run(store, stored.info.run_id)
        open_runs.append(run)
        run.tag(**{"imported_run": row["run_id"]} | tags)  # of the store where it was trained, however often imported
        run.log_params(json.loads(row["params"]))
        run.log_dataset(DatasetReference(training.record.identity["dataset"], tags["dataset_digest"], "bundle"))
        run.log_numbers([(one["name"], one["value"], one["timestamp_ms"], one["step"]) for one in training.numbers])
        for path, content in training.files.items():
            run.log_bytes(path, content)
        run.tag(done="true")
        run.end("FINISHED", row["end_ms"])
    return run.run_id


def _with_new_ids(text: str, run_ids: Mapping[str, str]) -> str:
    return re.sub("[0-9a-f]{32}", lambda found: run_ids.get(found[0], found[0]), text)
