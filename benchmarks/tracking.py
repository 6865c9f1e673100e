"""How much of a grid's time goes to tracking: a timer around what the suite calls in `aepretrain.tracking`.

    python -m benchmarks.tracking --epochs 5 --out benchmarks/results

The 16 trainings of one seed run in this process, one after the other; imports, the dataset, making the store and a
first small grid, in which everything happens once, are left out. Calls within calls count once, to the outer one.
Exporting the models at the end of a grid is counted apart. Taking and freeing file locks is not counted.
"""

import argparse
import dataclasses
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aepretrain import data, suite, tracking, variants
from aepretrain.data import Dataset
from aepretrain.spec import AUGMENTATIONS, NETWORKS, Execution, Settings, grid_specs
from aepretrain.suite import Pool
from benchmarks import measure

EXPORT = "log_model"
FUNCTIONS = ("open_grid", "open_training", "end_orphans", EXPORT)
STORE_METHODS = ("done", "records", "weights", "artifact", "search")


class Timer:
    """Seconds and number of calls of the functions that it is put around, by name; of nested ones only the outer."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self._inside = False

    def put_around(self, owner: Any, name: str) -> None:
        """Replace a function of a module or class by one that is timed."""
        function = getattr(owner, name)

        def timed(*args: Any, **options: Any) -> Any:
            if self._inside:
                return function(*args, **options)
            with self._timing(name):
                result = function(*args, **options)
                return iter(list(result)) if isinstance(result, Iterator) else result

        setattr(owner, name, timed)

    @contextmanager
    def _timing(self, name: str) -> Iterator[None]:
        self._inside = True
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
            self.calls[name] = self.calls.get(name, 0) + 1
            self._inside = False

    def forget(self) -> None:
        """Begin anew."""
        self.seconds.clear()
        self.calls.clear()


class InlineExecutor(Executor):
    """Trains at once, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """The result of the call, or its exception."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  # whoever asks for the result gets it
            future.set_exception(error)
        return future


@contextmanager
def inline_pool(_execution: Execution, _dataset: Dataset) -> Iterator[Pool]:
    """This process as a pool."""
    yield Pool(InlineExecutor(), 1)


def time_grid(settings: Settings, networks: tuple[str, ...], augmentations: tuple[str, ...]) -> float:
    """Seconds of a grid of one seed in a new store."""
    execution = Execution(device="cpu")
    data.load(settings.dataset, None)
    specs = grid_specs(networks, augmentations, (0,), settings)
    with tempfile.TemporaryDirectory() as folder:
        store = tracking.open_store(f"sqlite:///{folder}/mlflow.db")
        started = time.perf_counter()
        result = suite.run_grid(specs, store, execution, lambda _: None, lambda *_: None, make_pool=inline_pool)
        elapsed_s = time.perf_counter() - started
    if result.failures:
        raise RuntimeError(f"trainings failed: {result.failures}")
    return elapsed_s


def report(timer: Timer, grid_s: float, facts: dict[str, object]) -> list[str]:
    """The seconds of each kind of call, and the shares."""
    export_s = timer.seconds.get(EXPORT, 0.0)
    tracking_s = sum(timer.seconds.values()) - export_s
    trained_s = grid_s - export_s
    rows = [
        [name, timer.calls[name], f"{seconds:.2f}", f"{seconds / trained_s:.2%}"]
        for name, seconds in sorted(timer.seconds.items(), key=lambda item: -item[1])
        if name != EXPORT
    ]
    rows.append(["all of these", sum(timer.calls.values()) - timer.calls.get(EXPORT, 0), f"{tracking_s:.2f}"])
    rows[-1].append(f"**{tracking_s / trained_s:.2%}**")
    return [
        "# The share of tracking",
        "",
        *measure.markdown_table(["call", "times", "seconds", "share of the grid's time"], rows),
        "",
        f"The grid took {trained_s:.1f} s; exporting its {timer.calls.get(EXPORT, 0)} models after that took "
        f"{export_s:.1f} s more. Rendering a figure's image is part of `log_figure`.",
        "",
        measure.told(facts),
    ]


def main() -> None:
    """Measure, print and write tracking.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, help="of both phases (default: the project's own)")
    parser.add_argument("--patience", type=int, help="default: the project's own")
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    given = {"ae_epochs": options.epochs, "cls_epochs": options.epochs, "patience": options.patience}
    settings = Settings(dataset=options.dataset, **{name: value for name, value in given.items() if value is not None})
    timer = Timer()
    for owner, names in ((tracking, FUNCTIONS), (tracking.Store, STORE_METHODS), (tracking.Run, public(tracking.Run))):
        for name in names:
            timer.put_around(owner, name)
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    variants.prepare_process(1)
    time_grid(Settings(dataset="digits", ae_epochs=1, cls_epochs=1), NETWORKS, ("none",))
    timer.forget()
    grid_s = time_grid(settings, NETWORKS, AUGMENTATIONS)
    facts = measure.machine() | {"threads": 1, "processes": 1}
    facts |= {name: getattr(settings, name) for name in ("dataset", "ae_epochs", "cls_epochs", "patience")}
    lines = report(timer, grid_s, facts)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "tracking.md").write_text("\n".join([*lines, ""]))
    print("\n".join(lines))


def public(record: type) -> list[str]:
    """The methods of a dataclass that others call."""
    fields = {one.name for one in dataclasses.fields(record)}
    return [name for name, value in vars(record).items() if callable(value) and name[0] != "_" and name not in fields]


if __name__ == "__main__":
    main()
