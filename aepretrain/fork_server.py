"""The process from which workers are forked on Linux. It imports once what all of them need."""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import util

from aepretrain import stopping
from aepretrain.errors import Failure

START_METHOD = "forkserver" if sys.platform == "linux" else "spawn"
"""Not fork, as the parent has threads."""

MODULE = "aepretrain.runner.preload"
"""What every worker imports."""

COLLECT_AFTER = 100_000
"""New objects after which Python looks for cyclic garbage, in a command and in its workers.

Importing PyTorch and MLflow makes 600,000 objects that stay. With Python's 700, it looks at them again and again
(`benchmarks/NOTES.md`).
"""

LONGEST_TMPDIR = 107 - len("/pymp-12345678/listener-12345678")
"""The longest name of a temporary folder, in bytes, in which multiprocessing's sockets can lie."""


def launch(more: Sequence[str] = ()) -> None:
    """Start the fork server if there is none; it imports `MODULE` and these while this process goes on.

    No effect where workers do not come from a fork server.
    """
    if START_METHOD != "forkserver":
        return
    from multiprocessing import forkserver

    _choose_folder_of_sockets()
    multiprocessing.set_forkserver_preload([MODULE, *more])
    with stopping.ignored(), _quiet_resource_tracker():
        forkserver.ensure_running()


def _choose_folder_of_sockets() -> None:
    """Let multiprocessing's sockets lie in ``/tmp`` where the name of the temporary folder is too long for them.

    The address of a socket has at most 107 bytes (Linux, unix(7)). Raises `Failure` where that folder is no way out.
    """
    if len(os.fsencode(tempfile.gettempdir())) <= LONGEST_TMPDIR:
        return
    before, tempfile.tempdir = tempfile.tempdir, "/tmp"  # noqa: S108  # a folder of our own is made in it
    try:
        util.get_temp_dir()  # multiprocessing keeps it, in this process and in its children
    except OSError as error:
        raise Failure(
            f"TMPDIR={before} is too long: worker processes need a name of at most {LONGEST_TMPDIR} bytes, "
            f"and nothing can be written to /tmp ({error.strerror}); set TMPDIR to a folder with a shorter name"
        ) from None
    finally:
        tempfile.tempdir = before


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
