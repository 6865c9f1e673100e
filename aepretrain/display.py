"""Progress of trainings: live bars on a terminal and in a notebook, plain lines elsewhere."""

import math
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column, Table

from aepretrain.config import TrainingSpec
from aepretrain.records import EpochResult, Record
from aepretrain.redaction import printable
from aepretrain.runner import Event, Forecast
from aepretrain.variants import EVALUATIONS

NO_NOTES = ("", "", "")

HEARTBEAT_S = 30
"""Seconds between two lines about epochs where there are no bars."""


T = TypeVar("T")


def say(console: Console, line: str, style: str | None = None) -> None:
    """Print one line as it is: nothing in it is markup, an emoji's name or a control character; nothing is wrapped."""
    console.print(printable(line), style=style, markup=False, emoji=False, highlight=False, soft_wrap=True)


def track(console: Console, done: str, trainings: Collection[T]) -> Iterator[T]:
    """The trainings one by one; a bar, or a line from time to time, shows how many are `done`."""
    line_s, is_live = time.monotonic(), _is_live(console)
    with _Bars(console, disable=not is_live) as progress:
        task = progress.add_task(f"trainings {done}", total=len(trainings), notes=NO_NOTES)
        for num, training in enumerate(trainings, start=1):
            yield training
            progress.advance(task)
            if not is_live and time.monotonic() - line_s > HEARTBEAT_S:
                line_s = time.monotonic()
                say(console, f"[{num}/{len(trainings)}] trainings {done}")


def _is_live(console: Console) -> bool:
    """Whether bars can be shown."""
    in_notebook = console.is_jupyter and find_spec("ipywidgets") is not None  # rich shows bars through it
    return (console.is_interactive or in_notebook) and not console.quiet


def _columns(bar_width: int, *, with_time: bool, note: int) -> tuple[ProgressColumn, ...]:
    return (
        TextColumn("{task.description}", markup=False, table_column=Column(overflow="crop")),
        *([BarColumn(bar_width)] if bar_width else []),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        *([TimeElapsedColumn(table_column=Column(no_wrap=True))] if with_time else []),
        TextColumn(f"{{task.fields[notes][{note}]}}", markup=False),
    )


LAYOUTS = (
    _columns(24, with_time=True, note=0),
    _columns(10, with_time=True, note=1),
    _columns(0, with_time=False, note=1),
    _columns(0, with_time=False, note=2),
)
"""The columns of bars, from wide terminals to narrow ones."""


class _Bars(Progress):
    """Bars in the widest layout for which the terminal has room."""

    def __init__(self, terminal: Console, *, disable: bool) -> None:
        self._terminal = terminal
        super().__init__(*LAYOUTS[0], console=terminal, disable=disable)

    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        """The bars of these tasks. Of their field ``notes``, three texts, it shows one."""
        tasks = list(tasks)
        for self.columns in LAYOUTS:
            table = super().make_tasks_table(tasks)
            options = self._terminal.options.update(max_width=sys.maxsize)
            if self._terminal.measure(table, options=options).maximum <= self._terminal.width:
                break
        return table


class Display:
    """Bars or lines for these trainings, whose number `may_grow`; `handle` takes their events."""

    def __init__(self, console: Console, specs: Sequence[TrainingSpec], *, may_grow: bool = False) -> None:
        self.console = console
        self.total = len(specs)
        self.may_grow = may_grow
        self._unsettled: dict[TrainingSpec, set[TrainingSpec]] = {}
        """Trainings without a result, by `TrainingSpec.seedless`, so that an estimate looks at few groups."""

        for spec in specs:
            self._seeds(spec).add(spec)
        self.forecast = Forecast()
        """How long trainings take; whoever trains keeps it up to date (`Forecast.before`)."""
        self._tasks: dict[TrainingSpec, TaskID] = {}
        self._last_line_s = self._estimated_s = time.monotonic()
        self.is_live = _is_live(console)
        self._progress = _Bars(console, disable=not self.is_live)
        self._overall = self._progress.add_task("trainings", total=self.total, notes=NO_NOTES)

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
        elif event.kind == "warning":
            self._print(f"{spec.name}: {event.message}")
        elif event.kind == "retried":
            self._print(f"{spec.name}: its worker process died, perhaps for lack of memory; it is tried once more")
            if spec in self._tasks:
                self._progress.remove_task(self._tasks.pop(spec))
        elif event.kind == "resumed":
            self._print(f"{spec.name}: goes on after {event.message}, which an earlier start has trained")
        elif event.kind == "started":
            total = None if spec.trains_by_updates else spec.epochs
            self._tasks[spec] = self._progress.add_task(f"  {spec.name}", total=total, notes=NO_NOTES)
        elif event.epoch is not None:
            self._show_epoch(spec, event.epoch)
        elif event.kind != "planned":
            self._settle(event)

    def _show_epoch(self, spec: TrainingSpec, result: EpochResult) -> None:
        note, short = f"loss {result.train_loss:.4f}, validation {result.val_loss:.4f}", f"loss {result.val_loss:.4f}"
        if result.val_accuracy is not None:
            short = f"accuracy {result.val_accuracy:.4f}"
            note += f", {short}"
        if spec in self._tasks:
            self._progress.update(self._tasks[spec], completed=result.epoch, notes=(note, short, ""))
        if self.is_live and time.monotonic() - self._estimated_s > 1:
            self._show_time_left(self._time_left())
        if not self.is_live and time.monotonic() - self._last_line_s > HEARTBEAT_S:
            most = "" if spec.trains_by_updates else f" of at most {spec.epochs}"
            self._print(f"  {spec.name}: epoch {result.epoch}{most}, {note}", self._time_left())

    def _settle(self, event: Event) -> None:
        spec = event.spec
        self._seeds(spec).discard(spec)
        if spec in self._tasks:
            self._progress.remove_task(self._tasks.pop(spec))
        outcome = event.message if event.record is None else summary(event.record)
        settled = self.total - sum(map(len, self._unsettled.values()))
        self._progress.update(self._overall, completed=settled)
        line = f"[{settled}/{self.total}] {spec.name} {event.kind}: {outcome}"
        if event.kind == "reused":
            self._print(line)
        else:
            left = self._time_left()
            self._show_time_left(left)
            self._print(line, left)

    def _print(self, line: str, left: "TimeLeft | None" = None) -> None:
        self._last_line_s = time.monotonic()
        say(self.console, f"{line}; {left}" if str(left or "") else line)

    def _show_time_left(self, left: "TimeLeft") -> None:
        self._estimated_s = time.monotonic()
        self._progress.update(self._overall, notes=(left, left, ""))

    def _time_left(self) -> "TimeLeft":
        seconds, all_known = self.forecast.time_left(self._unsettled)
        return TimeLeft(time.monotonic() + seconds, all_known and not self.may_grow)


@dataclass(frozen=True)
class TimeLeft:
    """The time until all trainings are finished. As text it counts down."""

    end_s: float
    """On the monotonic clock."""
    is_known: bool
    """Or else it is a lower bound."""

    def __str__(self) -> str:
        """``about 5 min left``; below a minute in steps of 5 s; empty where the time is over."""
        seconds = self.end_s - time.monotonic()
        if seconds < 60:
            seconds = 5 * round(seconds / 5)
        return f"{'about' if self.is_known else 'at least'} {duration_text(seconds)} left" if seconds > 0 else ""


def duration_text(seconds: float) -> str:
    """``40 s``, ``3 min`` or ``1.5 h``; ``unknown`` for infinity."""
    if math.isinf(seconds):
        return "unknown"
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


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
