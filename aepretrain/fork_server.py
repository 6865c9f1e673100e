"""The process from which workers are forked on Linux. It imports once what all of them need."""

import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from aepretrain import stopping

START_METHOD = "forkserver" if sys.platform == "linux" else "spawn"
"""Not fork, as the parent has threads."""

MODULE = "aepretrain.runner"
"""What every worker imports."""


def launch(more: Sequence[str] = ()) -> None:
    """Start the fork server if there is none; it imports `MODULE` and these while this process goes on.

    No effect where workers do not come from a fork server.
    """
    if START_METHOD != "forkserver":
        return
    from multiprocessing import forkserver

    multiprocessing.set_forkserver_preload([MODULE, *more])
    with stopping.ignored(), _quiet_resource_tracker():
        forkserver.ensure_running()


@contextmanager
def _quiet_resource_tracker() -> Iterator[None]:
    """Let the resource tracker, which Python starts with the fork server, print no warnings.

    It frees the semaphores of a process that was ended at once, as by a second signal, and would tell the user so.
    """
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [before, "ignore:resource_tracker:UserWarning"]))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before
