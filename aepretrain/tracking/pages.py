"""Reading many runs from a store: page by page, with little memory and time."""

import gc
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from mlflow.store.tracking import SEARCH_MAX_RESULTS_DEFAULT

RUNS_IN_PAGE = 2000
"""Runs in one page from SQLite, some 200 MB. All runs are filtered and sorted for each page, so few pages are best."""

RUNS_OF_SERVER = SEARCH_MAX_RESULTS_DEFAULT
"""Runs in one page from a server, which sends the page as one text."""

LONGEST_SHARED = 200
"""Longer texts are descriptions and lists that only one run has."""


def pages(search: Any, **arguments: Any) -> Iterator[Any]:
    """All results of one of the client's searches, page by page."""
    token = None
    while True:
        with _garbage_kept():
            page = search(page_token=token, **arguments)
        yield from page
        token = page.token
        del page  # else two are in memory at once
        if not token:
            return


@contextmanager
def _garbage_kept() -> Iterator[None]:
    """In this block Python looks for no cyclic garbage.

    1,000 runs are some 100,000 objects, of which few are garbage. Looking through them took 60 % of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def shared(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """A dictionary whose names and short texts are in memory once, since most of them are the same in many runs."""
    return {sys.intern(name): _shared(value) for name, value in pairs}


def _shared(value: Any) -> Any:
    return sys.intern(value) if type(value) is str and len(value) <= LONGEST_SHARED else value
