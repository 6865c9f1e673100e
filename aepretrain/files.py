"""Atomic writing of files."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from aepretrain.errors import Failure, UsageError


def is_replaceable(target: Path) -> bool:
    """Whether a path is free or an ordinary file, not a device or a folder."""
    return os.path.isfile(target) or not os.path.exists(target)


def check_folder(out: str | Path | None) -> None:
    """Raise `UsageError` where the folder for results is a file; it may be new, or None."""
    if out is not None and os.path.isfile(out):
        raise UsageError(f"out={str(out)!r} is a file: it must be a folder, which may be new")


def check_file(file: str | Path | None, argument: str = "out") -> None:
    """Raise `UsageError` where no file can be written here: its folder must exist. It may be None."""
    if file is not None and not (is_replaceable(Path(file)) and Path(file).parent.is_dir()):
        raise UsageError(f"{argument}={str(file)!r} is not allowed: it must be a file in a folder that is there")


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files with these names into a folder, each whole or not at all. Raises `Failure`."""
    for name, content in files.items():
        with atomic_write(folder / name) as partial:
            partial.write_bytes(content)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let errors of this block name the file. Those of writing into an open file, and of flushing it, do not."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """A temporary path that replaces the target when the block ends without an error.

    Missing folders are made. Raises `Failure` where the target cannot be written or is a device or a folder.
    """
    if not is_replaceable(target):
        raise Failure(f"nothing can be written to {target}: it is not an ordinary file")
    partial = target.with_name(f".{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(target)
    except OSError as error:
        raise Failure(f"nothing can be written to {target}: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
