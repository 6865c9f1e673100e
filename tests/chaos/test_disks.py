"""Disks that are full or read-only, for real: a small file system of its own."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from aepretrain import tracking
from tests.chaos.conftest import Commands, check_store, stored, wait_for

pytestmark = pytest.mark.chaos

SIZE_KB = 80_000  # two trainings replace their snapshots at the same time, with 10 MB a file


def mount(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0  # noqa: S607


@pytest.fixture
def disk(tmp_path: Path, template: Path, commands: Commands) -> Iterator[Path]:
    """A file system of 80 MB with an empty store in it, which the commands use."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not mount("-t", "tmpfs", "-o", f"size={SIZE_KB}k", "tmpfs", str(folder)):
        pytest.skip("mounting a file system takes rights that this user does not have")
    shutil.copyfile(template, folder / "mlflow.db")
    commands.environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    yield folder
    commands.kill()
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S607


def fill(folder: Path, left_kb: int) -> Path:
    """Leave only so much room; gives the file that takes the rest."""
    filler = folder / "filler"
    free = os.statvfs(folder)
    with filler.open("wb", buffering=0) as file, suppress(OSError):  # the grid writes too
        file.write(bytes(max(0, free.f_bavail * free.f_frsize - left_kb * 1024)))
    return filler


def test_a_full_disk_is_one_line_and_the_grid_goes_on_when_there_is_room(
    commands: Commands, options: tuple[str, ...], disk: Path, expected: dict[str, Any], full_length: bool
) -> None:
    store = tracking.open_store(f"sqlite:///{disk}/mlflow.db")
    lefts_kb = [0, 50, 200, 500, 1_000, 2_000, 3_000, 5_000, 7_000, 9_000] if full_length else [1_500]
    num_failed = 0
    for left_kb in lefts_kb:
        num_done = len(stored(store))
        command = commands.start("grid", *options)
        wait_for(lambda: list(store.search({"kind": "training"}, "attributes.status = 'RUNNING'")))
        filler = fill(disk, left_kb)
        done = command.finish()
        filler.unlink()
        if done.code == 0:
            break
        num_failed += 1
        assert done.code == 1
        assert re.search("No space left|disk is full|disk I/O error", done.complaint()), done.err
        assert num_done <= len(stored(store)), "what is done can still be read, with every checksum right"
    assert num_failed
    done = commands.run("grid", *options)
    assert (done.code, done.err) == (0, ""), done.out
    check_store(store, expected)
    print(f"full disks: {num_failed}, lost: 0")


def test_a_read_only_disk_is_one_line(commands: Commands, options: tuple[str, ...], disk: Path) -> None:
    assert mount("-o", "remount,ro", str(disk))
    done = commands.run("grid", *options)
    assert done.code == 1, done.out
    assert f"nothing can be written to {disk}" in done.complaint()
    assert mount("-o", "remount,rw", str(disk))
    done = commands.run("grid", *options, "--epochs", "1")
    assert (done.code, done.err) == (0, ""), done.out
