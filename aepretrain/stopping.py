"""Stopping on a signal: the first one sets a flag, which the work checks where nothing is half-done."""

import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

_number: int | None = None
"""The signal that has asked the work to stop."""

_depth = 0
"""How many `deferred` blocks the work is in."""

_is_started = False
"""Whether `start` handles this process's signals."""


groups: set[int] = set()
"""Process groups that another program was started in: where this process ends at once, they end with it."""


def is_requested() -> bool:
    """Whether a signal has asked the work to stop."""
    return _number is not None


def exit_code() -> int:
    """The exit code of a process that was stopped: 128 and the signal's number."""
    return 128 + (_number or signal.SIGINT)


def check() -> None:
    """Raise `KeyboardInterrupt` if a signal has asked the work to stop. Do not call it while cleaning up."""
    if _number is not None:
        raise KeyboardInterrupt


def sleep(seconds: float) -> None:
    """Sleep until this time has passed or a signal asks the work to stop."""
    until_s = time.monotonic() + seconds
    while _number is None and (left_s := until_s - time.monotonic()) > 0:
        time.sleep(min(left_s, 0.1))


@contextmanager
def deferred() -> Iterator[None]:
    """In this block, a signal stops the work only where `check` is called, and at the block's end.

    In a script or a notebook, where `start` was not called, this holds for Ctrl-C; a second one interrupts at once.
    """
    global _depth
    with _deferring_ctrl_c():
        _depth += 1
        try:
            yield
        finally:
            _depth -= 1
        check()


@contextmanager
def _deferring_ctrl_c() -> Iterator[None]:
    global _number
    before = signal.getsignal(signal.SIGINT)
    if _is_started or _depth or not callable(before) or not _in_main_thread():
        yield
        return

    def handle(number: int, frame: Any) -> None:
        global _number
        if _number is not None:
            before(number, frame)
        _number = number

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        _number = None


def start(
    numbers: Sequence[int],
    idle: Callable[[int], object],
    end: Callable[[int], object],
    grace_s: float,
    *,
    second_ends: bool = True,
) -> Callable[[], None]:
    """Let these signals stop this process's work; gives a function that undoes this.

    Outside of `deferred`, the main thread calls `idle`. A thread calls `end`, which must end the process, `grace_s`
    after the first signal, since the main thread may be in a library call that takes longer. With `second_ends`, the
    same signal once more has this effect at once. Another signal has not: at one Ctrl-C, ``mlflow run`` sends SIGTERM
    after the terminal's SIGINT.
    """
    global _number, _depth, _is_started
    _number, _depth, _is_started = None, 0, True  # also in a process that was forked from one that handles signals
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def handle(number: int, _frame: Any) -> None:
        global _number
        _number = _number or number
        if not _depth:
            idle(number)

    def watch() -> None:
        first, left_s = 0, None
        while True:
            ready, _, _ = select.select([reading], [], [], left_s)
            number = os.read(reading, 1)[0] if ready else first
            if number == 0:  # from `undo`
                break
            if not ready or (number == first and second_ends):
                end(first)
                break
            if not first and number in numbers:  # others have handlers, too
                first, until_s = number, time.monotonic() + grace_s
            left_s = max(0, until_s - time.monotonic()) if first else None
        os.close(reading)

    def undo() -> None:
        global _number, _is_started
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup_before)
        os.write(writing, b"\0")
        os.close(writing)
        _number, _is_started = None, False

    wakeup_before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)  # written to whatever the main thread does
    threading.Thread(target=watch, name="stopping", daemon=True).start()
    before = {number: signal.signal(number, handle) for number in numbers}
    return undo


@contextmanager
def ignored() -> Iterator[None]:
    """Let processes that start in this block ignore the terminal's Ctrl-C and hang-up: their parent stops them."""
    if not _in_main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
