"""Progress of trainings: live bars on a terminal and in a notebook, plain lines elsewhere."""

import math
import time
from collections.abc import Collection, Iterator, Sequence
from importlib.util import find_spec
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from aepretrain.config import TrainingSpec
from aepretrain.records import EpochResult, Record
from aepretrain.redaction import printable
from aepretrain.runner import Event, Forecast
from aepretrain.variants import EVALUATIONS

HEARTBEAT_S = 30
"""Seconds between two lines about epochs where there are no bars."""


COLUMNS = (
    TextColumn("{task.description}", markup=False),
    BarColumn(bar_width=24),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
    TextColumn("{task.fields[note]}", markup=False),
)
"""What a bar shows."""

T = TypeVar("T")


def say(console: Console, line: str, style: str | None = None) -> None:
    """Print one line as it is: nothing in it is markup, an emoji's name or a control character; nothing is wrapped."""
    console.print(printable(line), style=style, markup=False, emoji=False, highlight=False, soft_wrap=True)


def track(console: Console, done: str, trainings: Collection[T]) -> Iterator[T]:
    """The trainings one by one; a bar, or a line from time to time, shows how many are `done`."""
    line_s, is_live = time.monotonic(), _is_live(console)
    with Progress(*COLUMNS, console=console, disable=not is_live) as progress:
        task = progress.add_task(f"trainings {done}", total=len(trainings), note="")
        for num, training in enumerate(trainings, start=1):
            yield training
            progress.advance(task)
            if not is_live and time.monotonic() - line_s > HEARTBEAT_S:
                line_s = time.monotonic()
                say(console, f"[{num}/{len(trainings)}] trainings {done}")


def _is_live(console: Console) -> bool:
    """Whether bars can be shown."""
    in_notebook = console.is_jupyter and find_spec("ipywidgets") is not None  # rich shows bars through it
    return (console.is_terminal or in_notebook) and not console.quiet


class Display:
    """Bars or lines for these trainings, of which `jobs` run at once; `handle` takes their events."""

    def __init__(self, console: Console, specs: Sequence[TrainingSpec], jobs: int) -> None:
        self.console = console
        self.total = len(specs)
        self.jobs = jobs
        self._unsettled: dict[TrainingSpec, set[TrainingSpec]] = {}
        """Trainings without a result, by `TrainingSpec.seedless`, so that an estimate looks at few groups."""

        for spec in specs:
            self._seeds(spec).add(spec)
        self._forecast = Forecast()
        self._tasks: dict[TrainingSpec, TaskID] = {}
        self._last_line_s = time.monotonic()
        self.is_live = _is_live(console)
        self._progress = Progress(*COLUMNS, console=console, disable=not self.is_live)
        self._overall = self._progress.add_task("trainings", total=self.total, note="")

    def _seeds(self, spec: TrainingSpec) -> set[TrainingSpec]:
        return self._unsettled.setdefault(spec.seedless, set())

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def handle(self, event: Event) -> None:
        """Show an event."""
        spec = event.spec
        if event.kind in ("needed", "planned"):
            self._seeds(spec).add(spec)
            self.total += 1
            self._progress.update(self._overall, total=self.total)
        if event.kind == "needed":
            self._print(f"{spec.name} is not done yet: it is trained first, as a run of its own")
        elif event.kind == "waiting":
            self._print(f"{spec.name}: locked by another process that trains it or the same grid; waiting")
        elif event.kind == "retried":
            self._print(f"{spec.name}: its worker process died, perhaps for lack of memory; it is tried once more")
            if spec in self._tasks:
                self._progress.remove_task(self._tasks.pop(spec))
        elif event.kind == "resumed":
            self._print(f"{spec.name}: goes on after {event.message}, which an earlier start has trained")
        elif event.kind == "started":
            total = None if spec.trains_by_updates else spec.epochs
            self._tasks[spec] = self._progress.add_task(f"  {spec.name}", total=total, note="")
        elif event.epoch is not None:
            self._show_epoch(spec, event.epoch)
        elif event.kind != "planned":
            self._settle(event)

    def _show_epoch(self, spec: TrainingSpec, result: EpochResult) -> None:
        note = f"loss {result.train_loss:.4f}, validation {result.val_loss:.4f}"
        if result.val_accuracy is not None:
            note += f", accuracy {result.val_accuracy:.4f}"
        if spec in self._tasks:
            self._progress.update(self._tasks[spec], completed=result.epoch, note=note)
        if not self.is_live and time.monotonic() - self._last_line_s > HEARTBEAT_S:
            most = "" if spec.trains_by_updates else f" of at most {spec.epochs}"
            self._print(f"  {spec.name}: epoch {result.epoch}{most}, {note}")

    def _settle(self, event: Event) -> None:
        spec = event.spec
        self._seeds(spec).discard(spec)
        if spec in self._tasks:
            self._progress.remove_task(self._tasks.pop(spec))
        if event.record is not None:
            self._forecast.add(event.record)
        outcome = event.message if event.record is None else summary(event.record)
        settled, note = self.total - sum(map(len, self._unsettled.values())), self._time_left()
        self._progress.update(self._overall, completed=settled, note=note)
        self._print(f"[{settled}/{self.total}] {spec.name} {event.kind}: {outcome}{note and f'; {note}'}")

    def _print(self, line: str) -> None:
        self._last_line_s = time.monotonic()
        say(self.console, line)

    def _time_left(self) -> str:
        """An estimate from the trainings that have finished; empty where a network has none."""
        left = {cell: len(seeds) for cell, seeds in self._unsettled.items() if seeds}
        seconds = sum(self._forecast.seconds(cell) * num for cell, num in left.items()) / self.jobs
        return f"about {max(1, round(seconds / 60))} min left" if 0 < seconds < math.inf else ""


def summary(record: Record) -> str:
    """A training's result in one line."""
    metrics = record.metrics
    if record.cell[2] in EVALUATIONS:
        return f"{len(metrics) - 1} figures in {metrics['training_s']:.0f} s"
    if record.cell[2] == "pretrain":
        reconstructs = "test_loss" in metrics  # an objective may give no images
        loss = metrics["test_loss" if reconstructs else "best_val_loss"]
        result = f"{'reconstruction' if reconstructs else 'validation'} loss {loss:.5f}"
    else:
        result = f"test accuracy {metrics['test_accuracy']:.4f}, macro-F1 {metrics['test_macro_f1']:.4f}"
    best, num, seconds = (metrics[name] for name in ("best_epoch", "num_epochs", "training_s"))
    text = f"{result}, best epoch {best:.0f} of {num:.0f}, {seconds:.0f} s"
    return f"{text} (still improving when the epochs ended)" if "warning" in record.tags else text
