"""The share of a grid's time that tracking takes: a timer around the functions of `aepretrain.tracking`.

    python -m benchmarks.tracking --epochs 5 --out benchmarks/results

The 16 trainings of one seed run in this process, one after another. Imports, the dataset, making the store and a first
small grid, which does everything that happens once, are not timed. A call inside a timed call counts for the outer one.
The sender's thread runs beside the training. Its processor time counts as if the training waited for it, because with a
worker on every core it takes that time from one of them. Exporting the models at the end of a grid is counted
separately. Taking and releasing file locks is not counted.
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

from aepretrain import data, runner, tracking, training
from aepretrain.config import AUGMENTATIONS, GRID_NETWORKS, Execution, Settings, grid_specs
from aepretrain.data import Dataset
from aepretrain.runner import Pool
from aepretrain.tracking.journal import Journal
from benchmarks import measure

EXPORT = "log_model"
FUNCTIONS = ("open_grid", "open_training", "recover", EXPORT)
STORE_METHODS = ("done", "records", "weights", "artifact", "has_artifact", "search")
NAMES = {"__exit__": "waiting for the sender at the end", "send": "the sender's thread, beside the training"}
"""Names in the table for methods whose own names would not be understood there."""


class Timer:
    """Seconds and number of calls of the functions that it is put around, by name; of nested ones only the outer.

    For functions that are called in one thread only; `clock` tells the seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self._inside = False

    def put_around(self, owner: Any, name: str) -> None:
        """Replace a function of a module or class by one that is timed."""
        function = getattr(owner, name)

        def timed(*args: Any, **options: Any) -> Any:
            if self._inside:
                return function(*args, **options)
            with self._timing(NAMES.get(name, name)):
                result = function(*args, **options)
                return iter(list(result)) if isinstance(result, Iterator) else result

        setattr(owner, name, timed)

    @contextmanager
    def _timing(self, name: str) -> Iterator[None]:
        self._inside = True
        started = self._clock()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + self._clock() - started
            self.calls[name] = self.calls.get(name, 0) + 1
            self._inside = False

    def forget(self) -> None:
        """Reset all counts."""
        self.seconds.clear()
        self.calls.clear()

    def rows(self, whole_s: float) -> Iterator[list[object]]:
        """Of each function its name, calls, seconds, and their share of `whole_s`; exporting models left out."""
        for name, seconds in sorted(self.seconds.items(), key=lambda item: -item[1]):
            if name != EXPORT:
                yield [name, self.calls[name], f"{seconds:.2f}", f"{seconds / whole_s:.2%}"]

    def total_s(self) -> float:
        """All seconds except those of exporting models."""
        return sum(seconds for name, seconds in self.seconds.items() if name != EXPORT)


class InlineExecutor(Executor):
    """An executor that trains in this process at once."""

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
    yield Pool(InlineExecutor(), lambda: 1)


def time_grid(settings: Settings, networks: tuple[str, ...], augmentations: tuple[str, ...]) -> float:
    """Seconds of a grid of one seed in a new store."""
    execution = Execution(device="cpu")
    data.load(settings.data, None)
    specs = grid_specs(networks, augmentations, (0,), settings)
    with tempfile.TemporaryDirectory() as folder:
        store = tracking.open_store(f"sqlite:///{folder}/mlflow.db")
        started = time.perf_counter()
        result = runner.run_grid(specs, store, execution, lambda _: None, lambda *_: None, make_pool=inline_pool)
        elapsed_s = time.perf_counter() - started
    if result.failures:
        raise RuntimeError(f"trainings failed: {result.failures}")
    return elapsed_s


def report(before: Timer, beside: Timer, grid_s: float, facts: dict[str, object]) -> list[str]:
    """The seconds of each kind of call, before the training and beside it, and the shares."""
    export_s = before.seconds.get(EXPORT, 0.0)
    trained_s = grid_s - export_s
    tracking_s = before.total_s() + beside.total_s()
    rows = [*before.rows(trained_s), *beside.rows(trained_s)]
    rows.append(["all of these", "", f"{tracking_s:.2f}", f"**{tracking_s / trained_s:.2%}**"])
    return [
        "# The share of tracking",
        "",
        *measure.markdown_table(["call", "times", "seconds", "share of the grid's time"], rows),
        "",
        f"The grid took {trained_s:.1f} s; exporting its {before.calls.get(EXPORT, 0)} models after that took "
        f"{export_s:.1f} s more. Rendering a figure's image is part of `log_figure`.",
        "",
        measure.told(facts),
    ]


def main() -> None:
    """Measure, print and write tracking.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, help="of both stages (default: the project's own)")
    parser.add_argument("--patience", type=int, help="default: the project's own")
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    given = {"ae_epochs": options.epochs, "cls_epochs": options.epochs, "patience": options.patience}
    settings = Settings(dataset=options.dataset, **{name: value for name, value in given.items() if value is not None})
    before, beside = Timer(time.perf_counter), Timer(time.thread_time)
    timed = {tracking: FUNCTIONS, tracking.Store: STORE_METHODS, tracking.Run: public(tracking.Run)}
    for owner, names in (timed | {tracking.Sender: ("__exit__",)}).items():
        for name in names:
            before.put_around(owner, name)
    beside.put_around(Journal, "send")
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    training.prepare_process(1)
    time_grid(Settings(dataset="digits", ae_epochs=1, cls_epochs=1), GRID_NETWORKS, ("none",))
    before.forget()
    beside.forget()
    grid_s = time_grid(settings, GRID_NETWORKS, AUGMENTATIONS)
    facts = measure.machine() | {"threads": 1, "processes": 1}
    facts |= {name: getattr(settings, name) for name in ("dataset", "ae_epochs", "cls_epochs", "patience")}
    lines = report(before, beside, grid_s, facts)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "tracking.md").write_text("\n".join([*lines, ""]))
    print("\n".join(lines))


def public(record: type) -> list[str]:
    """The public methods of a dataclass."""
    fields = {one.name for one in dataclasses.fields(record)}
    return [name for name, value in vars(record).items() if callable(value) and name[0] != "_" and name not in fields]


if __name__ == "__main__":
    main()
