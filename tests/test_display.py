"""The progress of trainings: what is forecast, and bars in terminals of every width."""

import io
import re
from collections.abc import Sequence

import pytest
from rich.console import Console

from aepretrain.config import Settings, TrainingSpec
from aepretrain.display import Display
from aepretrain.records import EpochResult, Record
from aepretrain.runner import Event

SETTINGS = Settings(dataset="digits", ae_epochs=50, cls_epochs=50)


def spec(variant: str, seed: int = 0, network: str = "fc") -> TrainingSpec:
    return TrainingSpec(variant=variant, network=network, seed=seed, settings=SETTINGS)


def record(of: TrainingSpec) -> Record:
    figures = dict.fromkeys(("test_accuracy", "test_macro_f1", "test_loss", "best_val_loss", "best_epoch"), 1.0)
    return Record("", None, "", 1, of.identity(), {"num_epochs": 1.0, "training_s": 3.0} | figures, {})


class Shown:
    """A display with a clock of its own, which prints lines."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, specs: Sequence[TrainingSpec], *, may_grow: bool = False):
        self.now_s = 0.0
        self.file = io.StringIO()
        monkeypatch.setattr("aepretrain.display.time.monotonic", lambda: self.now_s)
        self.display = Display(Console(file=self.file), specs, may_grow=may_grow)

    def start(self, *specs: TrainingSpec) -> None:
        for one in specs:
            self.display.handle(Event("started", one))

    def finish(self, one: TrainingSpec, kind: str = "finished") -> str:
        """The forecast in the line about the end of a training."""
        self.display.handle(Event(kind, one, record=record(one)))
        line = self.file.getvalue().splitlines()[-1]
        assert f"{one.name} {kind}: " in line
        return line.partition("; ")[2]


def test_what_was_finished_before_gives_no_forecast(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [spec("scratch", seed) for seed in range(100)]
    shown = Shown(monkeypatch, specs)
    assert [shown.finish(one, "reused") for one in specs[:50]] == [""] * 50


def test_the_forecast_is_right_as_soon_as_each_kind_has_been_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    pretrain, finetune = ([spec(variant, seed) for seed in range(4)] for variant in ("pretrain", "finetune"))
    shown = Shown(monkeypatch, pretrain + finetune)
    took_s = {"pretrain": 600, "finetune": 1200}
    said = []
    for one in (*pretrain, *finetune):  # one at a time: 2 hours
        shown.start(one)
        shown.now_s += took_s[one.variant]
        said.append(shown.finish(one))
    at_least = ["at least 30 min left", "at least 20 min left", "at least 10 min left", ""]
    assert said == [*at_least, "about 60 min left", "about 40 min left", "about 20 min left", ""]


def test_trainings_at_once_and_what_they_have_run_already_count(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, *others = (spec("scratch", seed) for seed in range(6))
    shown = Shown(monkeypatch, [first, second, *others])
    shown.start(first, second)
    shown.now_s = 600
    assert shown.finish(first) == "about 20 min left", "the second has lasted as long, and 4 of 10 minutes are left"
    shown.start(others[0])
    assert shown.finish(second) == "about 20 min left"
    shown.now_s = 900
    shown.start(others[1])
    assert shown.display._time_left() == "about 18 min left", "5, 10, 10 and 10 minutes, two at once"


def test_a_training_waits_for_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = (
        [spec(one, 0) for one in ("pretrain", "finetune")],
        [spec(one, 1) for one in ("pretrain", "finetune")],
    )
    shown = Shown(monkeypatch, before + after)
    for one in before:
        shown.start(one)
        shown.now_s += 1200
        shown.finish(one)
    shown.start(after[0], spec("scratch"))
    assert shown.display._time_left() == "about 40 min left", "two could run at once, but these cannot"


def test_a_kind_that_may_take_any_time_gives_a_lower_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(monkeypatch, [spec("scratch", seed) for seed in range(9)])
    shown.start(spec("scratch", 0), spec("scratch", 1))
    shown.now_s = 600
    assert shown.finish(spec("scratch", 0)) == "about 35 min left"
    shown.now_s = 6000
    assert shown.display._time_left() == "at least 35 min left", "the second has taken ten times as long"


def test_where_more_trainings_may_follow_the_forecast_is_a_lower_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [spec("scratch", seed) for seed in range(3)]
    shown = Shown(monkeypatch, specs, may_grow=True)
    shown.start(specs[0])
    shown.now_s = 600
    assert shown.finish(specs[0]) == "at least 20 min left"


@pytest.mark.parametrize(
    ("each_s", "text"), [(10, "less than 1 min left"), (59, "less than 1 min left"), (61, "about 1 min left")]
)
def test_less_than_a_minute_is_said_so(monkeypatch: pytest.MonkeyPatch, each_s: int, text: str) -> None:
    shown = Shown(monkeypatch, [spec("scratch", seed) for seed in range(2)])
    shown.start(spec("scratch", 0))
    shown.now_s = each_s
    assert shown.finish(spec("scratch", 0)) == text
    shown.start(spec("scratch", 1))
    assert shown.finish(spec("scratch", 1)) == ""


def frame(width: int, encoding: str = "utf-8") -> list[str]:
    """The bars, as they are in a terminal."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, force_terminal=True, force_interactive=True, width=width, color_system=None)
    specs = [spec("finetune", 13), spec("pretrain", 7, network="conv")]
    shown = Display(console, specs)
    for one, accuracy in zip(specs, (0.9123, None), strict=True):
        shown.handle(Event("started", one))
        epoch = EpochResult(12, 0.1234, 0.2345, accuracy, elapsed_s=1, images_per_s=1)
        shown.handle(Event("epoch", one, epoch=epoch))
    shown._show_time_left("about 12 min left")
    console.print(shown._progress.get_renderable())
    file.seek(0)
    return [line.rstrip() for line in file.read().splitlines()]


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (20, ["trainings    0/2", "  fc-none-fi 12/50", "  conv-none- 12/50"]),
        (40, ["trainings               0/2", "  fc-none-finetune-s13  12/50", "  conv-none-pretrain-s7 12/50"]),
        (60, [" 0/2   about 12 min left", "12/50 accuracy 0.9123", "12/50 loss 0.2345"]),
        (80, [" 0/2   0:00:00 about 12 min left", "12/50 0:00:00 accuracy 0.9123", "12/50 0:00:00 loss 0.2345"]),
        (
            120,
            [" about 12 min left", "loss 0.1234, validation 0.2345, accuracy 0.9123", "loss 0.1234, validation 0.2345"],
        ),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_bars_show_whole_numbers_at_every_width(width: int, expected: Sequence[str], encoding: str) -> None:
    lines = frame(width, encoding)
    assert len(lines) == 3
    for line, end in zip(lines, expected, strict=True):
        assert line.endswith(end)
        assert len(line) <= width
    if width >= 80:
        assert all(re.search({"utf-8": "━━", "ascii": "--"}[encoding], line) for line in lines[1:])


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert not Display(Console(file=io.StringIO(), force_terminal=True), []).is_live
