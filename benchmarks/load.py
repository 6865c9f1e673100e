"""What a training costs those who serve many: the driver, and the store that it is written to.

    python -m benchmarks.load --out benchmarks/results
    python -m benchmarks.load --tracking-uri http://127.0.0.1:5000 --out benchmarks/results

Nothing is trained. The driver works through a schedule with an executor that answers at once; reading records back and
displaying are not in its figures. Dask's scheduler is in benchmarks.million. And writers, processes of their own, write
trainings as a training is written: its run, 40 epochs, and a checkpoint, predictions and figures of noise, of sizes
near those that trainings have, through a journal; with the address of a server (docs/deploy.md) to that as well as into
an SQLite file. The first table is that of the committed bundle's shown trainings, without exported models.
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from aepretrain import tracking
from aepretrain.config import Execution, Settings, TrainingSpec, grid_specs
from aepretrain.errors import Failure
from aepretrain.records import EpochResult, Record
from aepretrain.runner.pool import Pool
from aepretrain.runner.schedule import Schedule
from aepretrain.runner.work import Job
from benchmarks import measure
from benchmarks.scale import read, shown

DIGEST = "0" * 64
DATASET = tracking.DatasetReference("mnist", DIGEST, "nowhere")
SIZES = {"weights.pt": 600_000, "evidence/predictions.npz": 40_000, "figures/loss_curve.png": 30_000}
SIZES |= {"figures/confusion_matrix.png": 40_000}
PATIENCE_S = 600
"""A writer that has failed is not waited for any longer."""

METRICS = {"test_accuracy": 0.9, "test_macro_f1": 0.9, "best_val_loss": 0.1, "best_epoch": 1.0, "training_s": 1.0}


class Answering(Executor):
    """Does at once what it is given."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        """The result, which is there already."""
        future: Future[Any] = Future()
        future.set_result(function(*arguments, **options))
        return future


def answer(jobs: Sequence[Job]) -> list[Record | Failure]:
    """Trainings as if they had finished."""
    return [
        Record("0" * 32, None, job.key, 1, job.spec.identity(), {"training_s": 1.0, "best_val_loss": 1.0}, {})
        for job in jobs
    ]


def plan(num_seeds: int) -> dict[str, Job]:
    """The jobs of a grid of so many seeds."""
    store, found = tracking.Store("sqlite:///nowhere.db", "0"), {}
    for spec in grid_specs(("fc", "conv"), ("none", "erasing"), tuple(range(num_seeds)), Settings()):
        sources = {name: one.key(DIGEST, {}) for name, one in spec.sources.items()}
        key = spec.key(DIGEST, {})
        found[key] = Job(spec=spec, key=key, sources=sources, store=store, execution=Execution())
    return found


def drive(num_seeds: int) -> tuple[int, float, float]:
    """How many trainings a grid has, the driver's milliseconds for each, and its KiB for each."""
    before = measure.own_mib()
    started = time.perf_counter()
    jobs = plan(num_seeds)
    num = len(jobs)
    schedule = Schedule(jobs, lambda _: None)
    memory = measure.own_mib() - before
    schedule.work_through(Pool(Answering(), lambda: 2, train=answer))
    return num, 1000 * (time.perf_counter() - started) / num, 1024 * memory / num


def write(store: tracking.Store, parent_run_id: str, writer: int, num: int, epochs: int, ready: Any) -> None:
    """Write so many trainings; to be called in a process of its own, which begins with the others."""
    files = {path: os.urandom(size) for path, size in SIZES.items()}
    store.done("0" * 64)
    ready.wait()
    for index in range(num):
        spec = TrainingSpec(variant="scratch", network="fc", seed=1000 * writer + index, settings=Settings())
        key = spec.key(DIGEST, {})
        run = tracking.open_training(
            store, spec, key, DATASET, parent_run_id=parent_run_id, run_id=None, device="cpu", threads=1, stack=1
        )
        with tracking.Sender(store) as sender:
            run = run.journaled(key, sender)
            for epoch in range(1, epochs + 1):
                run.log_history([EpochResult(epoch, 0.1, 0.1, 0.9, 1.0, 1000.0)])
            for path, content in files.items():
                run.log_bytes(path, content)
            run.log_metrics(METRICS | {"num_epochs": epochs})
            run.tag(weights_sha256="0" * 64)
            run.describe("Written by benchmarks.load.")
            run.finish()
    ready.wait()


def write_many(uri: str, num_writers: int, num: int, epochs: int) -> float:
    """Trainings a second that so many writers get written, each `num` of them."""
    store = tracking.open_store(uri, f"load of {num_writers} writers, {time.time():.0f}")
    parent = tracking.open_grid(store, "load", os.urandom(32).hex(), run_id=None, again=False)
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(num_writers + 1, timeout=PATIENCE_S)
    writers = [
        context.Process(target=write, args=(store, parent.run_id, writer, num, epochs, ready))
        for writer in range(num_writers)
    ]
    for one in writers:
        one.start()
    ready.wait()
    started = time.perf_counter()
    ready.wait()
    elapsed_s = time.perf_counter() - started
    for one in writers:
        one.join()
        if one.exitcode:
            raise RuntimeError(f"a writer ended with {one.exitcode}")
    parent.end("FINISHED")
    return num_writers * num / elapsed_s


def sizes(bundle: Path) -> Mapping[str, float]:
    """Means over the shown trainings: rows, bytes of artifacts, epochs."""
    with tempfile.TemporaryDirectory() as folder:
        store = tracking.open_store(f"sqlite:///{folder}/mlflow.db")
        tracking.restore(store, tracking.read_bundle(bundle))
        originals = read(Path(folder) / "mlflow.db", shown(store))
        files = [sum(file.stat().st_size for file in one.files.rglob("*") if file.is_file()) for one in originals]
        rows = [sum(map(len, one.rows.values())) for one in originals]
    return {
        "rows": statistics.fmean(rows),
        "artifacts in kB": statistics.fmean(files) / 1000,
        "epochs": statistics.fmean(one.record.metrics["num_epochs"] for one in originals),
    }


def report(tables: Sequence[tuple[str, list[str], list[list[object]]]], facts: dict[str, object]) -> list[str]:
    """The tables one below the other, and what they were measured on."""
    lines = ["# What a training costs those who serve many"]
    for title, header, rows in tables:
        lines += ["", title, "", *measure.markdown_table(header, rows)]
    return [*lines, "", measure.told(facts)]


def main() -> None:
    """Measure, write load.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=Path("evidence"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[1000, 6250])
    parser.add_argument("--writers", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--trainings", type=int, default=20, help="of each writer")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--tracking-uri", help="a server to write to besides an SQLite file")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    size = sizes(options.bundle)
    driven = [[num, f"{ms:.2f}", f"{kib:.1f}"] for num, ms, kib in map(drive, options.seeds)]
    tables: list[tuple[str, list[str], list[list[object]]]] = [
        ("Of a shown training, on average:", list(size), [[f"{value:,.0f}" for value in size.values()]]),
        ("The driver, without workers:", ["trainings", "ms each", "KiB each"], driven),
    ]
    written = []
    with tempfile.TemporaryDirectory() as folder:
        for name, uri in {"SQLite": f"sqlite:///{folder}/mlflow.db", "a server": options.tracking_uri}.items():
            for num_writers in options.writers if uri else ():
                rate = write_many(uri, num_writers, options.trainings, options.epochs)
                written.append([name, num_writers, f"{rate:.2f}", f"{1000 / rate:.0f}"])
                print(*written[-1], flush=True)
    header = ["store", "writers at once", "trainings a second", "ms each"]
    tables.append((f"Writing trainings of {options.epochs} epochs:", header, written))
    options.out.mkdir(parents=True, exist_ok=True)
    lines = report(tables, measure.machine())
    (options.out / "load.md").write_text("\n".join([*lines, ""]))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
