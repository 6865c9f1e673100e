"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aepretrain.errors import Failure


def is_replaceable(target: Path) -> bool:
    """Whether nothing is there yet, or an ordinary file; a device or a folder is not."""
    return os.path.isfile(target) or not os.path.exists(target)


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """A path to write to, which becomes the target when the block ends well; until then nothing there changes.

    Folders on the way are made. Raises `Failure` where it cannot be written, and where the target `is_replaceable`
    says no: a device would become a file.
    """
    if not is_replaceable(target):
        raise Failure(f"nothing can be written to {target}: it is no ordinary file")
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
