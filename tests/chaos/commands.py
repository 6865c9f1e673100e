"""Whole commands as processes of their own, forked from the one that tests: it has imported everything already.

So a command's time is what it takes beyond imports, and its memory what it holds beyond them.
"""

import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from aepretrain import cli, data, report, studies, suite, tracking
from aepretrain.data import mnist

IMPORTED = (cli, report, studies, suite, tracking)
"""What commands import late."""

LONGEST_S = 120
"""A command that takes longer is killed, and its test fails."""

MOST_MIB = 400
"""What a command may hold beyond imports, which are 600 MiB, so that all of it stays below 1 GiB."""


@dataclass(frozen=True)
class Done:
    """What a command leaves: exit code, what it printed, and its seconds and most memory beyond imports.

    The seconds are those of its own work, `cpu_s`, and those that went by, which on a busy machine are more.
    """

    code: int
    out: str
    err: str
    cpu_s: float
    elapsed_s: float
    grown_mib: float

    def refusal(self) -> str:
        """The one line with which the command refused what it was given, soon and without much memory."""
        assert self.code in (1, 2), self
        assert "Traceback" not in self.out + self.err, self.err
        line = self.err.removesuffix("\n")
        assert line.startswith("aepretrain: "), self
        assert len(line.split("\n")) == 1, self.err
        assert self.cpu_s < 5, self
        assert self.elapsed_s < 30, self
        assert self.grown_mib < MOST_MIB, self
        return line


def aepretrain(*arguments: str, folder: Path, **environment: str) -> Done:
    """Run a command in a folder; it sees the environment of the test, and this."""
    imported_mib = _peak_mib(_fork(lambda: None))
    with tempfile.TemporaryDirectory() as printed:
        started = time.monotonic()
        child = _fork(lambda: _become(arguments, folder, environment, Path(printed)))
        status, usage = os.wait4(child, 0)[1:]
        elapsed_s = time.monotonic() - started
        out, err = (Path(printed, name).read_text(errors="replace") for name in ("out", "err"))
    cpu_s, grown_mib = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024 - imported_mib
    return Done(os.waitstatus_to_exitcode(status), out, err, cpu_s, elapsed_s, grown_mib)


def _fork(begin: Callable[[], object]) -> int:
    """A child that does this and ends; its process id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # there are other threads, but none at work
        child = os.fork()
    if child == 0:
        try:
            begin()
        finally:
            os._exit(0)
    return child


def _peak_mib(child: int) -> float:
    return os.wait4(child, 0)[2].ru_maxrss / 1024


def _become(arguments: tuple[str, ...], folder: Path, environment: dict[str, str], printed: Path) -> None:
    """The command, in a child that shares nothing with the tests: neither what they cached nor their connections."""
    code: object = 1
    try:
        signal.alarm(LONGEST_S)
        for number, path in enumerate((Path(os.devnull), printed / "out", printed / "err")):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), number)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", errors="backslashreplace")
        data._loaded.clear()
        tracking.store._client.cache_clear()
        for engine in SqlAlchemyStore._engine_map.values():
            engine.dispose(close=False)
        for kind in mnist.KINDS.values():
            kind.mirrors = ["file:///nowhere/"]  # no test downloads anything
        os.chdir(folder)
        os.environ.update(environment)
        sys.argv = ["aepretrain", *arguments]
        cli.main()
    except SystemExit as stop:
        code = stop.code
    except BaseException:  # noqa: BLE001  # as Python ends a program
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(str(code or 0)))
