"""MLflow's UI, opened on the page of the trainings."""

import os
import sys
import webbrowser

from rich.console import Console

from aepretrain import tracking
from aepretrain.api.stores import find_store, store_uri
from aepretrain.config import Execution
from aepretrain.display import say
from aepretrain.errors import Failure, UsageError


def open_ui(*, port: int | None = None, browser: bool = True, tracking_uri: str | None = None) -> None:
    """Show the trainings of the store in MLflow's UI until Ctrl-C, and open a browser where there is a screen.

    The UI's server answers on this machine only. A store that is a server has a UI already: its page is shown.
    `port` is 5000, or the next free one. Raises `Failure` where there is no store yet.
    """
    if port is not None and not 1 <= port <= 65535:
        raise UsageError(f"port={port} is not allowed: it must be from 1 to 65535")
    store = find_store(tracking_uri, Execution.outage_s)
    if store is None:
        uri = tracking.shown_uri(store_uri(tracking_uri))
        raise Failure(f"there is no store {uri} yet: it is made by the first training (aepretrain grid)")
    page = tracking.page_of_trainings(store, os.environ.get("MLFLOW_EXPERIMENT_NAME") or None)
    address = tracking.server_of(store.uri)
    if address is not None:
        if port is not None:
            raise UsageError(f"port={port} is not allowed: {address} is a server that runs already")
        _show(address + page, browser=browser)
        return
    try:
        with tracking.serve(store.uri, port) as server:
            _show(server.address + page, browser=browser, hint=" (Ctrl-C ends it)")
            server.process.wait()
    except KeyboardInterrupt:
        return
    raise Failure("MLflow's server has ended")


def _show(address: str, *, browser: bool, hint: str = "") -> None:
    say(Console(), f"MLflow's UI: {address}{hint}")
    if browser and _has_screen():
        webbrowser.open(address)


def _has_screen() -> bool:
    """Whether a browser would have a window of its own; without a screen Python starts one in this terminal."""
    return sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")))
