"""The progress of trainings: what is forecast, and bars in terminals of every width."""

import io
import re
import time
from collections.abc import Sequence

import pytest
from rich.console import Console

from aepretrain.config import Settings, TrainingSpec
from aepretrain.display import Display, TimeLeft
from aepretrain.records import EpochResult, Record
from aepretrain.runner import Event
from aepretrain.runner.forecast import BESIDE_S

SETTINGS = Settings(dataset="digits", ae_epochs=50, cls_epochs=50)


def spec(variant: str, seed: int = 0, network: str = "fc") -> TrainingSpec:
    return TrainingSpec(variant=variant, network=network, seed=seed, settings=SETTINGS)


def record(of: TrainingSpec, seconds: float = 3.0, epochs: int = 50) -> Record:
    figures = dict.fromkeys(("test_accuracy", "test_macro_f1", "test_loss", "best_val_loss", "best_epoch"), 1.0)
    return Record(of.name, None, of.name, 1, of.identity(), {"num_epochs": epochs, "training_s": seconds} | figures, {})


class Shown:
    """A display with a clock of its own, which prints lines."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        specs: Sequence[TrainingSpec],
        *,
        may_grow: bool = False,
        workers: int = 1,
    ):
        self.now_s = 0.0
        self.file = io.StringIO()
        monkeypatch.setattr("aepretrain.display.time.monotonic", lambda: self.now_s)
        self.display = Display(Console(file=self.file), specs, may_grow=may_grow)
        self.display.forecast.workers = workers
        self.handle = self.display.forecast.before(self.display.handle)

    @property
    def left(self) -> str:
        return str(self.display._time_left())

    def start(self, *specs: TrainingSpec) -> None:
        for one in specs:
            self.handle(Event("started", one))

    def epochs(self, one: TrainingSpec, *epochs: int, each_s: float, loss: float = 1.0) -> None:
        """Epochs one after the other, each better than the last one by as much as the first."""
        for epoch in epochs:
            self.now_s += each_s
            self.handle(Event("epoch", one, epoch=EpochResult(epoch, 1.0, loss / epoch, None, each_s, 1.0)))

    def finish(self, one: TrainingSpec, kind: str = "finished", seconds: float = 3.0, epochs: int = 50) -> str:
        """The forecast in the line about the end of a training."""
        self.handle(Event(kind, one, record=record(one, seconds, epochs)))
        line = self.file.getvalue().splitlines()[-1]
        assert f"{one.name} {kind}: " in line
        return line.partition("; ")[2]


def test_lines_about_what_was_finished_before_have_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [spec("scratch", seed) for seed in range(100)]
    shown = Shown(monkeypatch, specs)
    shown.display.forecast.add(record(specs[99], 99))
    assert [shown.finish(one, "reused") for one in specs[:50]] == [""] * 50
    assert shown.left == "about 83 min left", "50 trainings of 100 s"


def test_the_first_epoch_gives_an_estimate_that_counts_down(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(monkeypatch, [spec("pretrain")])
    assert shown.left == "", "nothing is known"
    shown.start(spec("pretrain"))
    shown.now_s = 1
    assert shown.left == ""
    shown.epochs(spec("pretrain"), 1, each_s=10)
    assert shown.left == "about 8 min left", "49 epochs of 10 s"
    shown.now_s += 5
    assert shown.display.forecast.time_left({spec("pretrain"): [spec("pretrain")]}) == (49 * 10 + BESIDE_S - 5, True)
    shown.epochs(spec("pretrain"), *range(2, 46), each_s=10)
    note = shown.display._time_left()
    said = []
    for _ in range(7):
        said.append(str(note))
        shown.now_s += 9
    assert said == [f"about {num} s left" for num in (50, 40, 35, 25, 15, 5)] + [""]


def test_lines_during_a_training_have_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(monkeypatch, [spec("pretrain")])
    shown.start(spec("pretrain"))
    shown.epochs(spec("pretrain"), 1, 2, each_s=31)
    assert (
        shown.file.getvalue()
        .splitlines()[-1]
        .endswith("epoch 2 of at most 50, loss 1.0000, validation 0.5000; about 25 min left")
    )


def test_trainings_of_the_store_tell_epochs_and_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(monkeypatch, [spec("scratch", seed) for seed in range(3)])
    shown.display.forecast.add(record(spec("scratch", 7), seconds=100, epochs=20))
    assert shown.display.forecast.time_left({spec("scratch"): {spec("scratch")}}) == (100 + BESIDE_S, True)
    assert shown.left == "about 5 min left"
    shown.start(spec("scratch"))
    shown.epochs(spec("scratch"), 1, each_s=10)
    assert shown.left == "about 10 min left", "an epoch takes twice as long here"


def test_epochs_correct_what_another_machine_has_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(monkeypatch, [spec("scratch"), spec("finetune")])
    for variant in ("scratch", "finetune"):
        shown.display.forecast.add(record(spec(variant, 7), seconds=600, epochs=20))
    assert shown.left == "about 20 min left"
    shown.start(spec("scratch"))
    shown.epochs(spec("scratch"), 1, each_s=10)
    assert shown.left == "about 7 min left"


def test_a_training_that_still_improves_does_not_end_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(monkeypatch, [spec("scratch")])
    shown.display.forecast.add(record(spec("scratch", 7), seconds=120, epochs=12))
    shown.start(spec("scratch"))
    shown.epochs(spec("scratch"), *range(1, 13), each_s=10)
    assert shown.left == "about 2 min left", "it has patience for 10 more epochs"


def test_the_seeds_of_a_stack_share_the_time_beside_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = [spec("scratch", seed) for seed in range(4)]
    shown = Shown(monkeypatch, seeds)
    shown.display.forecast.stack = 2
    for stack in (seeds[:2], seeds[2:]):  # the first stack may import, and does not count
        shown.start(*stack)
        for epoch in (1, 2, 3):
            shown.now_s += 10
            for one in stack:
                shown.handle(Event("epoch", one, epoch=EpochResult(epoch, 1.0, 1.0, None, 5.0, 1.0)))
        shown.now_s += 4
        for one in stack:
            shown.finish(one, seconds=15, epochs=3)
    assert shown.display.forecast.seconds(seeds[0]) == 3 * 5 + 4 / 2


def test_epochs_that_a_cluster_leaves_out_are_no_time_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = [spec("scratch", seed) for seed in range(2)]
    shown = Shown(monkeypatch, seeds)
    for one in seeds:
        shown.start(one)
        for epoch in range(1, 50, 7):  # of seven epochs, the last is reported
            shown.now_s += 0.1 if epoch == 1 else 0.7
            shown.handle(Event("epoch", one, epoch=EpochResult(epoch, 1.0, 1.0, None, 0.1, 1.0)))
        shown.now_s += 2
        shown.finish(one, seconds=5, epochs=50)
    assert shown.display.forecast.seconds(seeds[0]) == pytest.approx(50 * 0.1 + 2)


def test_trainings_at_once_share_the_time_and_wait_for_their_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    pretrain, finetune = spec("pretrain"), spec("finetune")
    both = Shown(monkeypatch, [spec("pretrain", seed) for seed in range(4)], workers=2)
    chain = Shown(monkeypatch, [pretrain, finetune], workers=2)
    for shown in (both, chain):
        shown.display.forecast.add(record(spec("pretrain", 7), seconds=1200))
        shown.display.forecast.add(record(spec("finetune", 7), seconds=1200))
    assert both.left == "about 40 min left"
    assert chain.left == "about 40 min left", "two could be trained at once, but these cannot"
    chain.display.forecast.stack = 2
    assert chain.left == "about 40 min left", "a stack has no more seeds than there are"


def test_what_cannot_be_estimated_makes_it_a_lower_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(monkeypatch, [spec("pretrain"), spec("pretrain", network="conv")])
    shown.start(spec("pretrain"))
    shown.epochs(spec("pretrain"), 1, each_s=10)
    assert shown.left == "at least 8 min left"
    shown = Shown(monkeypatch, [spec("pretrain")], may_grow=True)
    shown.start(spec("pretrain"))
    shown.epochs(spec("pretrain"), 1, each_s=10)
    assert shown.left == "at least 8 min left", "more trainings may follow"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2, ""), (3, "about 5 s left"), (42, "about 40 s left"), (59, "about 1 min left"), (300, "about 5 min left")],
)
def test_less_than_a_minute_is_shown_in_seconds(seconds: float, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aepretrain.display.time.monotonic", lambda: 1000.0)
    assert str(TimeLeft(1000.0 + seconds, is_known=True)) == text


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
    shown._show_time_left(TimeLeft(time.monotonic() + 720, is_known=True))
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
