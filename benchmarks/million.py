"""A million trainings, simulated: what a driver plans against a store that has them all. And 100,000 on Dask.

    python -m benchmarks.million --out benchmarks/results

The store has the 16 trainings of a grid on the digits, trained once, and copies of them: each has its own id, seed, key
and start, and all tags, parameters and final metrics of its original, but no epochs and no files. SQL writes the copies
into tables that MLflow has made. A process of its own then does what `grid` does first: it makes the job of each
training, reads the finished ones through MLflow's client, and finds out what is missing, which is nothing. Dask's
scheduler gets trainings that take no time, on workers that are threads of this process.
"""

import argparse
import json
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

from aepretrain import api, data, tracking
from aepretrain.config import AUGMENTATIONS, GRID_NETWORKS, Execution, Settings, TrainingSpec, grid_specs
from aepretrain.errors import Failure
from aepretrain.records import Record
from aepretrain.runner import dask
from aepretrain.runner.events import Event
from aepretrain.runner.schedule import Schedule
from aepretrain.runner.work import Job, find_work, jobs_of, related_records
from aepretrain.training import training_key
from benchmarks import load, measure

T = TypeVar("T")
SETTINGS = Settings(dataset="digits", ae_epochs=1, cls_epochs=1)
PER_SEED = 16
"""Trainings of a seed: two networks, two augmentations, pretraining and three classifiers."""


def specs_of(num: int) -> list[TrainingSpec]:
    """At least so many trainings, of whole seeds."""
    return list(grid_specs(GRID_NETWORKS, AUGMENTATIONS, tuple(range(-(-num // PER_SEED))), SETTINGS))


def make_store(folder: Path, num: int) -> None:
    """A store ``mlflow.db`` of so many trainings in a folder, of which 16 are real."""
    uri = f"sqlite:///{folder}/mlflow.db"
    api.run_grid(settings=SETTINGS, execution=Execution(device="cpu", jobs=1), tracking_uri=uri, show=False)
    originals = {record.cell: record.run_id for record in tracking.open_store(uri).records().values()}
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -4000000")
        connection.execute("CREATE TEMP TABLE copies (run_uuid PRIMARY KEY, original, started, seed, name, key, spec)")
        connection.executemany("INSERT INTO copies VALUES (?, ?, ?, ?, ?, ?, ?)", _copies(originals, num))
        for statement in _statements(connection):
            connection.execute(statement)
            connection.commit()


def _copies(originals: dict[tuple[str, str, str], str], num: int) -> Iterator[tuple[Any, ...]]:
    """What each copy has of its own: ids in their order, starts in another, as drawn ids have them."""
    draw, digests = random.Random(0), data.load(SETTINGS.data, None).digests  # noqa: S311  # no secrets
    copied = [spec for spec in specs_of(num) if spec.seed > 0]
    run_ids = sorted(f"{draw.getrandbits(128):032x}" for _ in copied)
    starts = draw.sample(range(len(copied)), len(copied))
    for run_id, started, spec in zip(run_ids, starts, copied, strict=True):
        key, identity = training_key(spec, digests), json.dumps(spec.identity())
        cell = spec.network, spec.augmentation, spec.variant
        yield run_id, originals[cell], started, str(spec.seed), spec.name, key, identity


OWN = {"aepretrain.seed": "seed", "aepretrain.key": "key", "aepretrain.spec": "spec", "mlflow.runName": "name"}
"""The tags in which copies differ, and their columns."""


def _statements(connection: sqlite3.Connection) -> Iterator[str]:
    """SQL that copies the originals, key after key, as the primary keys of MLflow's tables are ordered."""
    changes = {"run_uuid": "copies.run_uuid", "name": "copies.name", "start_time": "start_time + copies.started"}
    yield _insertion(connection, "runs", changes, "TRUE")
    for table in ("tags", "params", "latest_metrics"):
        for (key,) in connection.execute(f"SELECT DISTINCT key FROM {table}").fetchall():  # noqa: S608  # MLflow's names
            own = OWN.get(key) if table == "tags" else {"seed": "seed"}.get(key)
            value = {"value": f"copies.{own}"} if own else {}
            yield _insertion(connection, table, {"run_uuid": "copies.run_uuid"} | value, f"source.key = '{key}'")
    dataset = {"input_uuid": "lower(hex(randomblob(16)))", "destination_id": "copies.run_uuid"}
    yield _insertion(connection, "inputs", dataset, "TRUE", source_id="destination_id")


def _insertion(
    connection: sqlite3.Connection, table: str, changes: dict[str, str], condition: str, source_id: str = "run_uuid"
) -> str:
    names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    values = [changes.get(name, f"source.{name}") for name in names]
    return (
        f"INSERT INTO {table} SELECT {', '.join(values)} FROM copies JOIN {table} AS source "  # noqa: S608  # MLflow's names
        f"ON source.{source_id} = copies.original WHERE {condition} ORDER BY copies.run_uuid"
    )


def plan(uri: str, num: int) -> list[tuple[str, float, float]]:
    """What a grid does before it trains: the steps, their seconds, and MiB of this process after them."""
    steps: list[tuple[str, float, float]] = []
    execution, store = Execution(device="cpu"), tracking.open_store(uri)
    digests = data.load(SETTINGS.data, None).digests

    def take(name: str, step: Callable[[], T]) -> T:
        started = time.perf_counter()
        result = step()
        steps.append((name, time.perf_counter() - started, measure.own_mib()))
        return result

    take("imports", lambda: None)
    specs = take("the trainings that are wanted", lambda: specs_of(num))
    jobs = take("their jobs and keys", lambda: jobs_of(specs, digests, store, execution))
    records = take("finished ones, read from the store", lambda: related_records(jobs, store, digests[0]))
    work = take("what is missing", lambda: find_work(jobs, records, {}))
    assert (len(work.done), len(work.jobs)) == (len(specs), 0)
    return steps


def schedule_on_dask(num: int, num_workers: int) -> tuple[float, float]:
    """Seconds for so many trainings that take no time, on Dask's scheduler with workers in threads; MiB more."""
    from distributed import LocalCluster

    dataset, execution = data.load(SETTINGS.data, None), Execution(device="cpu", threads=1)
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(
            n_workers=num_workers,
            threads_per_worker=1,
            processes=False,
            dashboard_address=None,
            memory_limit=None,  # they share the memory of this process
        ) as cluster,
        mock.patch.object(dask, "perform", answer),
    ):
        store = tracking.open_store(f"sqlite:///{folder}/mlflow.db")
        heard = {"started": 0, "finished": 0}

        def listen(event: Event) -> None:
            heard[event.kind] = heard.get(event.kind, 0) + 1

        before, started = measure.own_mib(), time.perf_counter()
        jobs = jobs_of(specs_of(num), dataset.digests, store, execution)
        schedule = Schedule(jobs, listen)
        with (
            dask.connect(cluster.scheduler_address, {}, store) as connected,
            connected.pool(execution, dataset) as pool,
        ):
            schedule.work_through(pool)
        took_s = time.perf_counter() - started
        assert len(schedule.finished) == len(jobs) == heard["started"] == heard["finished"], heard
        return took_s, measure.own_mib() - before


def answer(
    jobs: Sequence[Job], report: Callable[[Event], None], check_stop: Callable[[], None]
) -> list[Record | Failure]:
    """As `runner.perform`, of trainings that take no time."""
    for job in jobs:
        report(Event("started", job.spec))
    check_stop()
    return load.answer(jobs)


def main() -> None:
    """Make the stores, plan in processes of their own, work through the schedule, write million.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trainings", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--dask", type=int, default=100_000, help="trainings on Dask's scheduler; 0 for none")
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--plan", help="only plan, against the store of this address, and print the steps as JSON")
    parser.add_argument("--keep", type=Path, help="keep the stores in this folder, and use those that are there")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    if options.plan:
        print(json.dumps(plan(options.plan, options.trainings[0])))
        return
    lines = ["# A million trainings, simulated"]
    with tempfile.TemporaryDirectory() as temporary:
        for num in options.trainings:
            folder = (options.keep or Path(temporary)).resolve() / str(num)
            if not (folder / "made").exists():
                folder.mkdir(parents=True)
                make_store(folder, num)
                (folder / "made").touch()  # last, so that half a store is not taken for one
            print(f"the store of {num} is there", flush=True)
            arguments = ("--plan", f"sqlite:///{folder}/mlflow.db", "--trainings", num)
            done = measure.run_program("benchmarks.million", *arguments)
            rows = [[name, f"{took_s:.1f}", f"{mib:.0f}"] for name, took_s, mib in json.loads(done.output)]
            rows.append(["the whole process", f"{done.elapsed_s:.1f}", f"{done.peak_mib:.0f} at most"])
            size = (folder / "mlflow.db").stat().st_size / 1e9
            lines += ["", f"The driver's plan of {num:,} trainings, all finished, in a store of {size:.1f} GB:", ""]
            lines += measure.markdown_table(["step", "seconds", "memory (MiB)"], rows)
            print("\n".join(lines), flush=True)
    if options.dask:
        took_s, mib = schedule_on_dask(options.dask, options.workers)
        lines += ["", f"Dask's scheduler with {options.workers} workers, which are threads of one process:", ""]
        row = [f"{options.dask:,}", f"{took_s:.0f}", f"{1000 * took_s / options.dask:.1f}", f"{mib:.0f}"]
        lines += measure.markdown_table(["trainings", "seconds", "ms each", "more memory (MiB)"], [row])
    lines += ["", measure.told(measure.machine()), ""]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "million.md").write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
