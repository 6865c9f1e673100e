"""The command line as a program: signals and exit codes."""

import atexit
import gc
import io
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

import click

from aepretrain import fork_server, stopping
from aepretrain.cli import characters
from aepretrain.errors import Failure, UsageError
from aepretrain.redaction import in_a_line

STOPPED = "stopped; what is finished is kept, and the same command goes on from there"

GRACE_S = 4.5
"""How long the command may take to stop after a signal."""

CACHES = ("XDG_CACHE_HOME", "MPLCONFIGDIR")
"""Variables that name folders of caches: of Numba and Fontconfig, and of Matplotlib, which may have one already."""

SHOW_CURSOR = b"\x1b[?25h"


def run_program() -> NoReturn:
    """`main` in a process of its own.

    The process ends as multiprocessing ends its own: without Python's last look through all objects, which takes a
    second or two after PyTorch and MLflow.
    """
    try:
        main()
    except SystemExit as stop:
        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads
        atexit._run_exitfuncs()
        _close_databases()
        with suppress(OSError, ValueError):  # else Python tells what is wrong with the output
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(stop.code if isinstance(stop.code, int) else 0)
        raise


def _close_databases() -> None:
    """Close MLflow's connections, as Python's own end does: SQLite then leaves no write-ahead log beside its file."""
    for name in ("mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store"):
        stores = getattr(sys.modules.get(name), "SqlAlchemyStore", None)  # a command without a store has not loaded it
        for engine in list(getattr(stores, "_engine_map", {}).values()):
            engine.dispose()


def main() -> NoReturn:
    """Run the command line.

    Exit code 0, 1 (failure), 2 (usage), or 128 and the number of the signal that stopped it.
    """
    gc.set_threshold(fork_server.COLLECT_AFTER)
    undo = stopping.start(_signals(), idle=_interrupt, end=_end, grace_s=GRACE_S)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            characters.adapt(stream)
    code = _run()
    if not stopping.is_requested():  # else the time to stop is limited until the very end
        undo()
    sys.exit(code)


def _signals() -> list[signal.Signals]:
    """Those that stop the command; a hang-up only if it is not ignored, as under ``nohup``.

    A shell's background job ignores Ctrl-C by default, which must stop it all the same.
    """
    ignores_hangup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM] + [signal.SIGHUP] * (not ignores_hangup)


def _run() -> int:
    try:
        with _caches():
            from aepretrain.cli.commands import cli

            return cli.main(prog_name="aepretrain", standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        return _complain(error.format_message(), 2)
    except UsageError as error:
        return _complain(error, 2)
    except Failure as error:
        return _complain(error, 1)
    except BrokenPipeError:  # nobody reads on, as with: aepretrain compare | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # where the interpreter writes what is left
        return 1
    except OSError as error:
        where = error.filename or "the operating system refused a call"  # as for a semaphore, which has no name
        return _complain(f"{where}: {error.strerror or error}", 1)
    except (KeyboardInterrupt, click.Abort):
        return _complain(STOPPED, stopping.exit_code())
    except SystemExit as error:  # no command calls it, but code of a plugin or of a library may
        place = traceback.extract_tb(error.__traceback__)[-1]
        if place.filename.startswith(os.path.dirname(click.__file__)):  # after tab completion
            raise
        return _complain(f"{place.filename}, line {place.lineno}, ends the program: SystemExit: {error}", 1)
    except Exception as error:
        of_store = type(error).__module__.startswith(("mlflow.", "sqlalchemy.", "sqlite3"))
        if not of_store and not stopping.is_requested():
            raise
        return _complain(f"the tracking store failed: {in_a_line(str(error))[:300]}", 1)


@contextmanager
def _caches() -> Iterator[None]:
    """In this block, libraries that keep caches in the home have a folder for them, also where no home can be written.

    Else each process would compile loops and look for fonts anew, and Matplotlib and Fontconfig would complain.
    """
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    while not os.path.exists(folder) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    if os.access(folder, os.W_OK):
        yield
        return
    before = {name: os.environ[name] for name in CACHES if name in os.environ}
    with tempfile.TemporaryDirectory(prefix="aepretrain-", ignore_cleanup_errors=True) as own:
        os.environ.update(dict.fromkeys(CACHES, own) | {name: before[name] for name in CACHES[1:] if name in before})
        try:
            yield
        finally:
            for name in CACHES:
                del os.environ[name]
            os.environ.update(before)


def _complain(message: object, code: int) -> int:
    """Print in one line what is wrong, or after a signal, that the command has stopped; gives the exit code."""
    if stopping.is_requested():
        message, code = STOPPED, stopping.exit_code()
    with suppress(OSError):  # the terminal may be gone
        click.echo(f"aepretrain: {in_a_line(str(message))}", err=True)
    return code


def _interrupt(_: int) -> NoReturn:
    raise KeyboardInterrupt


def _end(number: int) -> NoReturn:
    """End this process and its workers at once; called in a thread."""
    try:
        for worker in multiprocessing.active_children():
            worker.kill()
        for group in stopping.groups:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        os.write(2, SHOW_CURSOR * os.isatty(2) + f"aepretrain: {STOPPED}\n".encode())
    finally:
        os._exit(128 + number)
