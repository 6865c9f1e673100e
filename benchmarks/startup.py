"""How long it takes until a training computes: imports, the dataset, and what else comes before its first epoch.

    python -m benchmarks.startup --repeats 5 --out benchmarks/results

Each start is a process of its own on one thread, with files that were read before. Seconds are counted apart for the
imports (with the dataset's module); for reading, decoding and checking the dataset; and for all that
lies between the imports and the first epoch (the dataset, the store, the run, drawing the split, the weights), once
with a store that is there and once with one that has to be made. A grid's are those from calling it, with the dataset
decoded, to the first epoch of its one worker, which imports everything anew.
"""

import argparse
import json
import statistics
import tempfile
import time
from importlib import import_module
from pathlib import Path

from benchmarks import measure


def start(kind: str, network: str, dataset: str, uri: str) -> dict[str, float]:
    """The seconds of one start, by name; to be called in a new process."""
    began = time.perf_counter()
    from aepretrain import api, data, runner, tracking
    from aepretrain.config import DataRequest, Execution, Settings, TrainingSpec

    import_module(data.MODULES[dataset])
    seconds = {"imports": time.perf_counter() - began}
    del api  # imported only for the time that this takes in a command
    spec = TrainingSpec(variant="scratch", network=network, seed=0, settings=Settings(dataset=dataset, cls_epochs=1))
    execution = Execution(device="cpu", jobs=1)
    epochs_began: list[float] = []

    def listen(event: runner.Event) -> None:
        if event.epoch is not None:
            epochs_began.append(time.perf_counter() - event.epoch.elapsed_s)

    if kind == "grid":
        data.load(DataRequest(dataset), None)
        began = time.perf_counter()
        store = tracking.open_store(uri)
        runner.run_grid([spec], store, execution, listen, lambda *_: None)
    else:
        began = time.perf_counter()
        data.load(DataRequest(dataset), None)
        seconds["dataset"] = time.perf_counter() - began
        store = tracking.open_store(uri)
        seconds["dataset and store"] = time.perf_counter() - began
        runner.run_single(spec, store, execution, listen)
    return seconds | {"until the first epoch": epochs_began[0] - began}


def measure_all(repeats: int, dataset: str) -> list[list[str]]:
    """The rows of the table: medians, and the highest value of what counts."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, network in (("scratch", "fc"), ("scratch", "conv"), ("grid", "fc"), ("grid", "conv")):
            for there in (True, False):
                found = []
                for repeat in range(repeats + 1):
                    uri = f"sqlite:///{folder}/{kind}-{network}-{there}-{0 if there else repeat}.db"
                    begun = ["--start", kind, network, dataset, uri]
                    found.append(json.loads(measure.run_program("benchmarks.startup", *begun).output.splitlines()[-1]))
                    if there:
                        forget(uri)
                rows.append([kind, network, "is there" if there else "is made", *medians(found[1:])])
                print(rows[-1], flush=True)
    return rows


def forget(uri: str) -> None:
    """Delete the store's runs, so that the next start trains again."""
    from aepretrain import tracking

    store = tracking.open_store(uri)
    for run in list(store.search({})):
        store.client.delete_run(run.info.run_id)


def medians(found: list[dict[str, float]]) -> list[str]:
    """Each column's median, with the highest value of the last; empty where nothing was measured."""
    cells = []
    for name in ("imports", "dataset", "dataset and store", "until the first epoch"):
        values = [one[name] for one in found if name in one]
        cells.append(f"{statistics.median(values):.2f}" if values else "")
    return [*cells, f"{max(one['until the first epoch'] for one in found):.2f}"]


def main() -> None:
    """Measure all starts and write startup.md; or, as a part of that, make one start and print its seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--start", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.start:
        print(json.dumps(start(*options.start)))
        return
    header = ["start", "network", "store", "imports (s)", "dataset (s)", "dataset and store (s)"]
    header += ["until the first epoch, beyond imports (s)", "highest"]
    rows = measure_all(options.repeats, options.dataset)
    facts = measure.machine() | {"dataset": options.dataset, "threads": 1, "repeats (medians)": options.repeats}
    lines = ["# Starting", "", *measure.markdown_table(header, rows), "", measure.told(facts)]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "startup.md").write_text("\n".join([*lines, ""]))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
