"""Without a home, a short TMPDIR or shared memory: each is made up for. All at once: tests/integration."""

import errno
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from multiprocessing import process, util
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numba
import pytest

from aepretrain import compilation, fork_server
from aepretrain.cli import program
from aepretrain.config import Execution
from aepretrain.data import Dataset
from aepretrain.errors import Failure
from aepretrain.runner import pool


@pytest.mark.parametrize("home", ["/proc/nonexistent", "file", None])
def test_caches_have_a_folder_while_a_command_runs_without_a_home(
    home: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    monkeypatch.setenv("MPLCONFIGDIR", "of the user")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", home or "")
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    with program._caches():
        folder = Path(os.environ["XDG_CACHE_HOME"])
        (folder / "something").touch()
        assert folder.stat().st_mode & 0o77 == 0, "others must not put code into it"
        assert os.environ["MPLCONFIGDIR"] == "of the user"
    assert os.environ == before
    assert not folder.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_home_is_used_for_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with program._caches():
        assert "XDG_CACHE_HOME" not in os.environ
    assert list(tmp_path.iterdir()) == [], "a cache that nobody needs is not made"


def test_loops_are_compiled_where_no_cache_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def njit(*, cache: bool = False, **options: Any) -> Any:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return numba.njit(**options)

    monkeypatch.setattr(compilation, "njit", njit)
    assert compilation.compiled(lambda number: number + 1)(1) == 2


@pytest.fixture
def no_sockets_yet() -> Iterator[None]:
    """As in a process that has started no other one."""
    config = vars(process.current_process())["_config"]
    before = {name: config.pop(name) for name in ("tempdir",) if name in config}
    yield
    config.pop("tempdir", None)
    config.update(before)


@pytest.mark.usefixtures("no_sockets_yet")
@pytest.mark.parametrize("length", [75, 76, 99, 250])
def test_sockets_fit(length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("t" * (length - len(str(tmp_path)) - 1))
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    fork_server._choose_folder_of_sockets()
    assert tempfile.gettempdir() == str(folder), "everything else stays there"
    sockets = Path(util.get_temp_dir())
    assert sockets.parent == (folder if length == 75 else Path("/tmp"))  # noqa: S108  # the folder that Linux has
    assert len(str(sockets / "listener-12345678")) <= 107


@pytest.mark.usefixtures("no_sockets_yet")
def test_a_long_temporary_folder_without_a_way_out_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "tempdir", "/" + "t" * 99)
    monkeypatch.setattr(util, "get_temp_dir", fail)
    with pytest.raises(Failure, match=r"TMPDIR=/t+ is too long: .*\(Permission denied\); set TMPDIR to a folder with"):
        fork_server._choose_folder_of_sockets()


def test_workers_get_a_copy_of_the_dataset_where_shared_memory_is_small(
    images: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own: Dataset = pickle.loads(pickle.dumps(images))  # noqa: S301  # made here
    monkeypatch.setattr(pool, "SHARED_MEMORY", tmp_path)
    free = {"bytes": own.num_bytes}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free["bytes"]))
    sent = pool._to_send(own)
    assert isinstance(sent, bytes)
    assert pickle.loads(sent).digest == own.digest  # noqa: S301  # made here
    assert not own.images_NCHW.is_shared(), "nothing was tried"
    free["bytes"] += pool.SPARE_BYTES + 1
    assert pool._to_send(own) is own
    assert own.images_NCHW.is_shared()


def test_workers_come_from_a_process_that_has_imported_all_they_need_and_looks_for_no_garbage_among_it() -> None:
    code = (
        "import gc, sys, aepretrain.runner.preload as preload\n"
        "print(gc.get_threshold()[0], gc.get_freeze_count() > 300_000, gc.isenabled(),"
        " {'torch', 'mlflow', 'sklearn.linear_model'} <= sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{fork_server.COLLECT_AFTER} True True True\n"


@pytest.mark.parametrize("before", [None, "error"])
def test_warnings_are_asked_for_as_before_when_the_fork_server_has_started(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONWARNINGS", raising=False)
    if before is not None:
        monkeypatch.setenv("PYTHONWARNINGS", before)
    with fork_server._quiet_resource_tracker():
        assert os.environ["PYTHONWARNINGS"].endswith("ignore:resource_tracker:UserWarning")
    assert os.environ.get("PYTHONWARNINGS") == before


def test_no_room_for_semaphores_is_told_with_the_way_out(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fork_server, "START_METHOD", "spawn")
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: SimpleNamespace(Queue=full))
    with (
        pytest.raises(Failure, match=r"need a little room in /dev/shm, and there is none \(No space left on device\)"),
        pool.local_pool(Execution(jobs=1), digits),
    ):
        pass
