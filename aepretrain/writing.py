"""Files that are written whole or not at all."""

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
    partial = target.with_name(f".{target.name}.partial") if target.name else target
    try:
        if target.exists() and not target.is_file():
            raise Failure(f"nothing can be written to {target}: it is no ordinary file")
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(target)
    except OSError as error:
        raise Failure(f"nothing can be written to {target}: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
