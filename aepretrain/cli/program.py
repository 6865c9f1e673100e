"""The command line as a program: what a signal does, and how every command ends."""

import io
import os
import signal
import sys
from typing import NoReturn

import click

from aepretrain.cli.commands import cli
from aepretrain.errors import Failure, UsageError
from aepretrain.redaction import redact
from aepretrain.stopping import stop_on


def main() -> NoReturn:
    """Run the command line. Exit code 0, 1 (failure), 2 (usage), 130 (Ctrl-C) or 143 (SIGTERM)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file's name may hold what the terminal's encoding lacks
            stream.reconfigure(errors="backslashreplace")
    stop_on(signal.SIGTERM, _terminate)
    stop_on(signal.SIGINT, _interrupt)  # explicitly, for a script's background job would ignore it
    try:
        code = cli.main(prog_name="aepretrain", standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        code = 2
    except click.ClickException as error:
        code = _complain(error.format_message(), 2)
    except UsageError as error:
        code = _complain(error, 2)
    except Failure as error:
        code = _complain(error, 1)
    except BrokenPipeError:  # nobody reads on, as with: aepretrain compare | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # where the interpreter writes what is left
        code = 1
    except OSError as error:
        code = _complain(f"{error.filename or 'a file'}: {error.strerror or error}", 1)
    except (KeyboardInterrupt, click.Abort):
        code = _complain("interrupted; what is finished is kept, the same command goes on from there", 130)
    except Exception as error:
        if not type(error).__module__.startswith(("mlflow.", "sqlalchemy.", "sqlite3")):
            raise
        code = _complain(f"the tracking store failed: {redact(' '.join(str(error).split()))[:300]}", 1)
    sys.exit(code)


def _complain(message: object, code: int) -> int:
    """Say in one line what is wrong, whatever the values in it."""
    click.echo(f"aepretrain: {redact(' '.join(str(message).split()))}", err=True)
    return code


def _interrupt() -> NoReturn:
    """Unwind on Ctrl-C: runs are ended as KILLED on the way."""
    raise KeyboardInterrupt


def _terminate() -> NoReturn:
    """Unwind on SIGTERM: runs are ended as KILLED on the way."""
    click.echo("aepretrain: terminated; what is finished is kept, the same command goes on from there", err=True)
    sys.exit(128 + signal.SIGTERM)
