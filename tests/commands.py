"""Whole commands as processes of their own.

Most are forked from the process that tests, which has imported everything already: so a command takes a second instead
of ten, its time is what it takes beyond imports, and its memory what it holds beyond them. Some tests start it as users
do, in an interpreter of its own; at full length, what is killed is started so too.
"""

import faulthandler
import importlib
import os
import pkgutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import mlflow
import torch
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking import fluent

import aepretrain as package
from aepretrain import cli, data, fork_server, tracking
from aepretrain.data import mnist

for module in pkgutil.walk_packages(package.__path__, "aepretrain."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)  # so that no command has to, which is forked

LONGEST_S = 300
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

    def complaint(self) -> str:
        """The one line with which a command ended that did not do what it was told."""
        assert self.code not in (0, -signal.SIGKILL), self
        assert "Traceback" not in self.out + self.err, self.err
        line = self.err.strip("\n")  # after what the terminal shows of Ctrl-C a new one begins
        assert line.startswith("aepretrain: "), self
        assert len(line.split("\n")) == 1, self.err
        return line

    def refusal(self) -> str:
        """The one line with which the command refused what it was given, soon and without much memory."""
        assert self.code in (1, 2), self
        line = self.complaint()
        assert self.cpu_s < 5, self
        assert self.elapsed_s < 30, self
        assert self.grown_mib < MOST_MIB, self
        return line


@dataclass
class Command:
    """A command under way, in a process group of its own."""

    pid: int
    imported_mib: float
    started_s: float
    files: tuple[IO[bytes], IO[bytes]]
    done: Done | None = None

    def has_printed(self) -> bool:
        """Whether there is something on its standard output."""
        return bool(os.fstat(self.files[0].fileno()).st_size)

    def poll(self) -> Done | None:
        """What it leaves, if it has ended."""
        if self.done is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                elapsed_s = time.monotonic() - self.started_s
                cpu_s, grown_mib = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024 - self.imported_mib
                out, err = map(_read, self.files)
                self.done = Done(os.waitstatus_to_exitcode(status), out, err, cpu_s, elapsed_s, grown_mib)
                for file in self.files:
                    file.close()
        return self.done

    def wait(self, timeout_s: float) -> Done | None:
        """What it leaves, if it ends within this time."""
        until_s = time.monotonic() + timeout_s
        while self.poll() is None and time.monotonic() < until_s:
            time.sleep(0.01)
        return self.done

    def finish(self) -> Done:
        """What it leaves when it has ended, which it must."""
        done = self.wait(LONGEST_S)
        if done is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGUSR1)
            self.wait(1)
            self.kill()
            raise AssertionError(f"it did not end within {LONGEST_S} s, and was here: {self.done}")
        return done

    def kill(self) -> None:
        """Kill -9 it and whatever it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait(LONGEST_S)


def _read(file: IO[bytes]) -> str:
    """All that is in a file, without moving the place at which others write."""
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace")


def aepretrain(*arguments: str, folder: Path, **environment: str) -> Done:
    """Run a command, forked, in a folder; it sees the environment of the test, and this."""
    return start(partial(forked, *arguments), folder, **environment).finish()


def mlflow_run(*arguments: str, folder: Path, **environment: str) -> Done:
    """Run an entry point of the project in this folder with ``mlflow run``, in this environment of Python's."""
    return start_mlflow_run(*arguments, folder=folder, **environment).finish()


def start_mlflow_run(*arguments: str, folder: Path, **environment: str) -> Command:
    """Begin what `mlflow_run` does."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    given = ("run", ".", "--env-manager", "local", *arguments)
    return start_mlflow(*given, folder=folder, PATH=path, MLFLOW_DISABLE_TELEMETRY="true", **environment)


def start_mlflow(*arguments: str, folder: Path, **environment: str) -> Command:
    """Begin a command of MLflow's, forked, which spares its imports; what it starts, it starts as ever."""
    from mlflow import cli as mlflow_cli

    def main() -> None:
        forget_connections()
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]  # the only way back to its default
        fluent._active_experiment_id = None
        mlflow_cli.cli(arguments, prog_name="mlflow")

    return start(main, folder, **environment)


def start_server(*arguments: str, folder: Path, **environment: str) -> Command:
    """Begin ``mlflow server``, forked, whose one worker is this process too, not started anew."""
    from mlflow import cli as mlflow_cli
    from mlflow import server
    from mlflow.server import fastapi_app
    from uvicorn.main import main as uvicorn

    assert fastapi_app.app, "imported here once, for all that are forked"

    def serve(command: Sequence[str], *, extra_env: Mapping[str, str], **_: object) -> None:
        os.environ.update(extra_env)
        uvicorn(command[command.index("uvicorn") + 1 :])

    def main() -> None:
        forget_connections()
        vars(server)["_exec_cmd"] = serve
        mlflow_cli.cli(["server", *arguments], prog_name="mlflow")

    return start(main, folder, **environment)


def start(main: Callable[[], object], folder: Path, **environment: str) -> Command:
    """Begin to do this in a child, in a folder and with this environment besides the test's."""
    imported_mib = os.wait4(_fork(lambda: None), 0)[2].ru_maxrss / 1024
    files = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115  # open until the command has ended

    def begin() -> None:
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which the tests ignore where they run under nohup
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, file in enumerate(files, start=1):
            os.dup2(file.fileno(), number)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", errors="backslashreplace")
        faulthandler.register(signal.SIGUSR1, file=2)  # where it is, if it hangs
        os.chdir(folder)
        os.environ.update(environment)
        main()

    started_s = time.monotonic()
    return Command(_fork(begin), imported_mib, started_s, files)


def _fork(main: Callable[[], object]) -> int:
    """A child that does this and ends as a program would; its process id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # there are other threads, but none at work
        child = os.fork()
    if child == 0:
        code: object = 1
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code
        except BaseException:  # noqa: BLE001  # as Python ends a program
            traceback.print_exc()
        finally:
            with suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(int(str(code or 0)))
    return child


def forked(*arguments: str) -> None:
    """The command, in a child that shares nothing with the tests; its workers are forked from it."""
    torch.set_num_threads(1)  # OpenMP has no others after a fork: whoever asks for them waits forever
    data._loaded.clear()
    forget_connections()
    os.register_at_fork(after_in_child=forget_connections)
    fork_server.START_METHOD = "fork"
    for kind in mnist.KINDS.values():
        kind.mirrors = ["file:///nowhere/"]  # no test downloads anything
    sys.argv = ["aepretrain", *arguments]
    cli.main()


def anew(*arguments: str) -> None:
    """The command as users start it: a new interpreter takes this child over."""
    os.execv(sys.executable, [sys.executable, "-m", "aepretrain", *arguments])  # noqa: S606


def forget_connections() -> None:
    """Leave the parent its connections to stores."""
    tracking.store.client_of.cache_clear()
    for engine in SqlAlchemyStore._engine_map.values():
        engine.dispose(close=False)
