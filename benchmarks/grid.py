"""Time the obvious program, the peers and this suite on the same work in one run, and compare them with the arithmetic.

    uv pip install --python .venv/bin/python -e '.[benchmark]'    (or: pip install -e '.[benchmark]')
    python -m benchmarks.grid --epochs 2 --repeats 3 --out benchmarks/results

All programs train the 16 networks of the grid on real MNIST for the same number of epochs, with batches of 128 and
without early stopping. All are timed as whole commands, with imports. The obvious program and the peers train one
network after another with PyTorch's default threads, and store nothing. The suite also makes its store, tracks,
evaluates, draws figures, exports models and prints its table. The rows of single trainings exclude all this: they are
the seconds of the loops. The suite's loops run while its other processes train. The order of the programs is reversed
from repeat to repeat. The limit is the count of `limit.py` divided by the speed of a large matrix product on one
thread.
"""

import argparse
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from aepretrain import data
from aepretrain.config import DataRequest
from benchmarks import grid_report, limit, measure, obvious
from benchmarks.grid_report import Program, Results

MODULES = {
    "obvious": "benchmarks.obvious",
    "lightning": "benchmarks.peers.lightning",
    "skorch": "benchmarks.peers.skorch",
}


@dataclass(frozen=True)
class Run:
    """One run of a program: its whole command, its memory, and each training's seconds by name."""

    whole_s: float
    peak_mib: float
    trainings: dict[str, float]


def run_plain(module: str, folder: str, epochs: int) -> Run:
    """Run a program that prints each training's name and seconds."""
    done = measure.run_program(module, folder, epochs)
    trainings = {name: float(seconds) for name, seconds in (line.split() for line in done.output.splitlines())}
    return Run(done.elapsed_s, done.peak_mib, trainings)


def run_suite(epochs: int, jobs: int) -> Run:
    """Run the suite's command; the seconds of each training are in its store."""
    with tempfile.TemporaryDirectory() as folder:
        uri = f"sqlite:///{folder}/mlflow.db"
        options = ["--epochs", epochs, "--patience", 0, "--jobs", jobs, "--out", folder, "--tracking-uri", uri]
        done = measure.run_program("aepretrain", "grid", *options)
        from aepretrain import tracking

        records = tracking.open_store(uri).records().values()
        trainings = {"-".join(record.cell): record.metrics["training_s"] for record in records}
        return Run(done.elapsed_s, done.peak_mib, trainings)


def measure_all(names: list[str], options: argparse.Namespace) -> tuple[dict[str, list[Run]], list[float]]:
    """The runs of every program, and the machine's speed in each repeat, in GFLOP/s."""
    runs: dict[str, list[Run]] = {name: [] for name in names}
    speeds = []
    with tempfile.TemporaryDirectory() as folder:
        obvious.unpack(Path(data.load(DataRequest("mnist"), None).source), Path(folder))
        for repeat in range(options.repeats):
            speeds.append(measure.peak_gflops())
            for name in names if repeat % 2 == 0 else reversed(names):
                suite = name == "suite"
                run = (
                    run_suite(options.epochs, options.jobs)
                    if suite
                    else run_plain(MODULES[name], folder, options.epochs)
                )
                runs[name].append(run)
                print(f"repeat {repeat + 1}: {name} {run.whole_s:.1f} s, {run.peak_mib:.0f} MiB", flush=True)
    return runs, speeds


def summarise(name: str, runs: list[Run], processes: int) -> Program:
    """The medians of a program's runs."""
    return Program(
        name=name,
        processes=processes,
        whole_s=[run.whole_s for run in runs],
        loops_s=[sum(run.trainings.values()) for run in runs],
        trainings={key: statistics.median(run.trainings[key] for run in runs) for key in runs[0].trainings},
        peak_mib=statistics.median(run.peak_mib for run in runs),
    )


def main() -> None:
    """Measure the programs in turn, in each repeat, and write the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=measure.num_cores())
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--without-peers", action="store_true")
    options = parser.parse_args()
    names = ["obvious", "suite"] if options.without_peers else ["obvious", "suite", "lightning", "skorch"]
    runs, speeds = measure_all(names, options)
    speed = statistics.median(speeds)
    results = Results(
        programs=[summarise(name, runs[name], options.jobs if name == "suite" else 1) for name in names],
        gflop={name: flop / 1e9 for name, flop in limit.grid_flop(options.epochs).items()},
        gflops=speed,
        epochs=options.epochs,
        facts=measure.machine()
        | {"epochs": options.epochs, "repeats": options.repeats, "peak (GFLOP/s, one thread)": f"{speed:.1f}"}
        | {"threads of the suite": f"1 in each of {options.jobs} processes"}
        | {"threads of the others": f"{torch.get_num_threads()} in one process"},
    )
    print("\n".join(grid_report.write(results, options.out)))


if __name__ == "__main__":
    main()
