"""Time the obvious program against this suite on the same work, in one run, and write a table.

    python -m benchmarks.grid --epochs 2 --out benchmarks/results

Both train the 16 networks of the grid on real MNIST for the same number of epochs (no early stopping), and both are
timed as whole commands, imports included. The obvious program trains one after the other with PyTorch's default
threads and keeps nothing; the suite also makes its store, tracks, evaluates, draws figures, exports models and prints
its table. The rows of single trainings leave all that out: they are the seconds of the two loops.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from aepretrain import data
from benchmarks import obvious


def time_obvious(epochs: int) -> tuple[float, dict[str, float]]:
    """Seconds of the whole command, and of each training, by name."""
    with tempfile.TemporaryDirectory() as folder:
        obvious.unpack(Path(data.load("mnist", None).source), Path(folder))
        command = [sys.executable, "-m", "benchmarks.obvious", folder, str(epochs)]
        started = time.perf_counter()
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        elapsed_s = time.perf_counter() - started
    return elapsed_s, {name: float(seconds) for name, seconds in (line.split() for line in output.splitlines())}


def time_suite(epochs: int, jobs: int) -> tuple[float, dict[str, float]]:
    """Seconds of the whole command, and of each training in its worker, by name."""
    with tempfile.TemporaryDirectory() as folder:
        uri = f"sqlite:///{folder}/mlflow.db"
        command = [sys.executable, "-m", "aepretrain", "grid", "--epochs", str(epochs), "--patience", "0"]
        options = ["--jobs", str(jobs), "--out", folder, "--tracking-uri", uri]
        started = time.perf_counter()
        subprocess.run([*command, *options], capture_output=True, check=True)
        elapsed_s = time.perf_counter() - started
        from aepretrain import tracking

        records = tracking.open_store(uri).records().values()
        return elapsed_s, {"-".join(record.cell): record.metrics["training_s"] for record in records}


def main() -> None:
    """Measure in turn, as often as asked, and write the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    slow, fast = [], []
    for repeat in range(options.repeats):
        slow.append(time_obvious(options.epochs))
        fast.append(time_suite(options.epochs, options.jobs))
        print(f"repeat {repeat + 1}: obvious {slow[-1][0]:.1f} s, suite {fast[-1][0]:.1f} s", flush=True)
    median = statistics.median
    rows = [(name, median(one[name] for _, one in slow), median(one[name] for _, one in fast)) for name in slow[0][1]]
    totals = [[sum(one.values()) for _, one in both] for both in (slow, fast)]
    rows.append(("all 16, one after the other", median(totals[0]), median(totals[1])))
    wholes = [[whole for whole, _ in both] for both in (slow, fast)]
    rows.append((f"the whole command (suite: {options.jobs} processes)", median(wholes[0]), median(wholes[1])))
    write(options, rows, [a / b for a, b in zip(*wholes, strict=True)])


def write(options: argparse.Namespace, rows: list[tuple[str, float, float]], ratios: list[float]) -> None:
    """The table as Markdown and CSV, and what it was measured on as JSON."""
    options.out.mkdir(parents=True, exist_ok=True)
    lines = ["| training | obvious (s) | suite (s) | ratio |", "| --- | --- | --- | --- |"]
    lines += [f"| {name} | {slow:.2f} | {fast:.2f} | {slow / fast:.1f} |" for name, slow, fast in rows]
    about = {
        "epochs": options.epochs,
        "repeats": options.repeats,
        "cores": len(os.sched_getaffinity(0)),
        "torch": torch.__version__,
        "threads_obvious": torch.get_num_threads(),
        "threads_suite": 1,
        "processes_suite": options.jobs,
        "whole_grid_ratios": [round(ratio, 2) for ratio in ratios],
    }
    note = (
        f"Medians of {options.repeats} repeats, {options.epochs} epochs each; ratio of the whole grid in each repeat: "
    )
    note += ", ".join(f"{ratio:.1f}" for ratio in ratios) + "."
    (options.out / "grid.md").write_text("\n".join([*lines, "", note, "", f"Measured on: {json.dumps(about)}", ""]))
    with (options.out / "grid.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("training", "obvious_s", "suite_s"), *rows])
    print("\n".join([*lines, "", note]))


if __name__ == "__main__":
    main()
