"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aepretrain.spec import Failure


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A path to write to, which becomes the target when the block ends well; until then nothing there changes.

    Folders on the way are made. Raises `Failure` where it cannot be written, and where the target is there and no
    ordinary file: a device would be replaced by one.
    """
    if os.path.exists(target) and not os.path.isfile(target):
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
