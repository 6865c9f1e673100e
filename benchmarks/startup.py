"""Seconds before the first step: loading the dataset, and starting a training, imports left out.

    python -m benchmarks.startup --out benchmarks/results

Each repeat is a process of its own, in which everything is imported before the clock starts. *Loading* finds, decodes
and checks MNIST. *Start of a training* goes from the call to the first step, the dataset being loaded: opening the run,
building the network, splitting, preparing images; the store exists. The loops are compiled beforehand.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks import measure


def main() -> None:
    """Measure, print and write startup.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--once", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(*time_once(options.once))
        return
    rows = []
    for network in ("fc", "conv"):
        found = [
            list(map(float, measure.run_program("benchmarks.startup", "--once", network).output.split()))
            for _ in range(options.repeats)
        ]
        for what, seconds in zip(("loading", "start of a training"), zip(*found, strict=True), strict=True):
            rows.append([network, what, f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}"])
    heading = ["network", "what", "median (s)", "slowest (s)"]
    facts = measure.machine() | {"repeats": options.repeats}
    lines = ["# Before the first step", "", *measure.markdown_table(heading, rows), "", measure.told(facts)]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "startup.md").write_text("\n".join([*lines, ""]))
    print("\n".join(lines))


def time_once(network: str) -> tuple[float, float]:
    """The seconds of loading, and of the start of a training from scratch, in this process."""
    from aepretrain import data, suite, tracking
    from aepretrain.convolution import compiled  # noqa: F401  # importing it compiles
    from aepretrain.data import mnist  # noqa: F401  # so that its imports are not counted
    from aepretrain.spec import Execution, Settings, TrainingSpec

    tracking.log_model = lambda *_: None  # only the beginning is timed
    with tempfile.TemporaryDirectory() as folder:
        store = tracking.open_store(f"sqlite:///{folder}/mlflow.db")
        started = time.perf_counter()
        data.load("mnist", None)
        loaded = time.perf_counter()
        spec = TrainingSpec(variant="scratch", network=network, settings=Settings(cls_epochs=1))
        first: list[float] = []

        def listen(event: suite.Event) -> None:
            if event.epoch is not None:
                first.append(time.perf_counter() - event.epoch.elapsed_s)

        suite.run_single(spec, store, Execution(device="cpu"), listen)
        return loaded - started, first[0] - loaded


if __name__ == "__main__":
    main()
