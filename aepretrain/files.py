"""Atomic writing of files."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aepretrain.errors import Failure


def is_replaceable(target: Path) -> bool:
    """Whether a path is free or an ordinary file, not a device or a folder."""
    return os.path.isfile(target) or not os.path.exists(target)


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
