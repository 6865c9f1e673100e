"""Being told to stop by a signal: the work unwinds by an exception, but never in the middle of what must be whole."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class _State(threading.local):
    """Of each thread its own. Python runs signal handlers in the main thread, so the main thread's is what counts."""

    depth = 0
    pending: Callable[[], None] | None = None


_state = _State()


def stop_on(number: int, stop: Callable[[], None]) -> None:
    """On this signal, once, call `stop`, which raises: at once, or when the last `whole` around it has ended.

    The same signal is ignored from then on, so that it does not disturb the unwinding. Where the exception is lost,
    as Python loses any that is raised in a finalizer, the end of the next `whole` raises it again.
    """

    def handle(number: int, _frame: Any) -> None:
        signal.signal(number, signal.SIG_IGN)
        _state.pending = stop
        if not _state.depth:
            stop()

    signal.signal(number, handle)


@contextmanager
def whole() -> Iterator[None]:
    """Do this to its end although a signal comes; also a decorator.

    For calls into libraries that an exception from nowhere would leave half-done: a database session that is cut in
    its commit fails in its cleaning up with an error of its own, which hides that the work was told to stop.
    """
    _state.depth += 1
    try:
        yield
    finally:
        _state.depth -= 1
        if not _state.depth and _state.pending and not _is_unwinding():
            _state.pending()


def _is_unwinding() -> bool:
    """Whether something like ``KeyboardInterrupt`` is being handled, perhaps with errors of the handling on top."""
    handled = sys.exc_info()[1]
    while isinstance(handled, Exception):
        handled = handled.__context__
    return handled is not None


def is_stopping() -> bool:
    """Whether the work has been told to stop, or is unwinding."""
    return _state.pending is not None or _is_unwinding()


def stop_if_told() -> None:
    """Stop now, if told to: for a wait within a `whole`, at which nothing is half-done."""
    if _state.pending and not _is_unwinding():
        _state.pending()
