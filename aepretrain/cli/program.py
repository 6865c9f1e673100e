"""The command line as a program: signals and exit codes."""

import io
import multiprocessing
import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

import click

from aepretrain import stopping
from aepretrain.errors import Failure, UsageError
from aepretrain.redaction import redact

STOPPED = "stopped; what is finished is kept, and the same command goes on from there"

GRACE_S = 4.5
"""How long the command may take to stop after a signal."""

SHOW_CURSOR = b"\x1b[?25h"


def main() -> NoReturn:
    """Run the command line.

    Exit code 0, 1 (failure), 2 (usage), or 128 and the number of the signal that stopped it.
    """
    undo = stopping.start(_signals(), idle=_interrupt, end=_end, grace_s=GRACE_S)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file's name may hold what the terminal's encoding lacks
            stream.reconfigure(errors="backslashreplace")
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
    except Exception as error:
        of_store = type(error).__module__.startswith(("mlflow.", "sqlalchemy.", "sqlite3"))
        if not of_store and not stopping.is_requested():
            raise
        return _complain(f"the tracking store failed: {redact(' '.join(str(error).split()))[:300]}", 1)


def _complain(message: object, code: int) -> int:
    """Print in one line what is wrong, or after a signal, that the command has stopped; gives the exit code."""
    if stopping.is_requested():
        message, code = STOPPED, stopping.exit_code()
    with suppress(OSError):  # the terminal may be gone
        click.echo(f"aepretrain: {redact(' '.join(str(message).split()))}", err=True)
    return code


def _interrupt(_: int) -> NoReturn:
    raise KeyboardInterrupt


def _end(number: int) -> NoReturn:
    """End this process and its workers at once; called in a thread."""
    try:
        for worker in multiprocessing.active_children():
            worker.kill()
        os.write(2, SHOW_CURSOR * os.isatty(2) + f"aepretrain: {STOPPED}\n".encode())
    finally:
        os._exit(128 + number)
