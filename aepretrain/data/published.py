"""Files of published datasets: looked for in data folders, checked, and downloaded where they are missing."""

import hashlib
import http.client
import logging
import os
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NoReturn, TypeVar

from aepretrain.data.dataset import DatasetMissing
from aepretrain.errors import Failure
from aepretrain.files import atomic_write

DEFAULT_FOLDERS = ("data", "../shared/data")
"""Where files are looked for if no folder is named. Downloads go to the first."""

TIMEOUT_S = 30
"""A server that sends nothing for this long is given up."""

T = TypeVar("T")

_log = logging.getLogger(__name__)  # Python prints its warnings to stderr, one plain line each


@dataclass(frozen=True)
class Published(Generic[T]):
    """A published file with the values of type T, and where it may be had."""

    name: str
    """For people."""
    paths: Sequence[str]
    """Where it may lie below a data folder, in the order in which they are tried."""
    urls: Sequence[str]
    """Where it is downloaded from, in the order in which they are tried."""
    target: str
    """Where a download is put below a data folder."""
    limit: int
    """So many bytes of it are read at most."""
    decode: Callable[[str, bytes], T]
    """Gives the values, from what the file is called and its content. Raises `Failure` where it is damaged."""
    members: Sequence[str] = ()
    """The needed files of an archive: a folder with all of them may stand for it."""
    unpacked: Callable[[Path], T] | None = None
    """Gives the values from such a folder. Raises `Failure`."""

    def found(self, root: str) -> Iterator[Path]:
        """The files and folders below a data folder that may be it."""
        for path in (Path(root, one) for one in self.paths):
            if os.path.isfile(path) or (self.members and all(os.path.isfile(path / one) for one in self.members)):
                yield path

    def read(self, path: Path) -> T:
        """The values of a file, or of a folder. Raises `Failure`."""
        if self.unpacked and os.path.isdir(path):
            return self.unpacked(path)
        return self.decode(str(path), read_bytes(path, self.limit))


def read_bytes(path: Path, limit: int) -> bytes:
    """The content of a file, of at most so many bytes. Raises `Failure`."""
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}") from None


def reject(source: str, expected: str, found: object) -> NoReturn:
    """Raise `Failure` for a file whose content is not the expected one."""
    raise Failure(f"{source} is damaged or another file: expected {expected}, found {found}")


def check_md5(source: str, content: bytes, md5: str, what: str = "MD5") -> None:
    """Raise `Failure` where content is not the published one."""
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        reject(source, f"{what} {md5[:12]}…", f"{found[:12]}…")


def gather(title: str, parts: Sequence[Published[T]], data_dir: str | None, layout: str) -> tuple[str, Mapping[str, T]]:
    """The folders in which the files of a dataset lie, for people, and their values by name.

    They are looked for in `data_dir`, or else in the default folders. Files that are missing are downloaded. Where a
    file is damaged and there is a good copy of it, the copy is used and a warning is logged. `layout` says in an error
    where the files may lie. Raises `DatasetMissing` where they are not there and cannot be downloaded, and `Failure`
    where one is damaged.
    """
    roots = DEFAULT_FOLDERS if data_dir is None else (os.path.expanduser(data_dir),)
    warnings: list[str] = []
    found = {part.name: values for part in parts if (values := _find(part, roots, warnings))}
    missing = [part for part in parts if part.name not in found]
    if missing:
        try:
            found |= _download(missing, roots[0])
        except Failure as error:
            raise DatasetMissing(
                f"{title} is not in {' or '.join(roots)}: there is no {', '.join(part.name for part in missing)} "
                f"({layout}), and the download failed: {error}"
            ) from None
    for warning in warnings:
        _log.warning("%s", warning)
    source = ", ".join(dict.fromkeys(os.path.abspath(root) for root, _ in found.values()))
    return source, {part.name: found[part.name][1] for part in parts}


def _find(part: Published[T], roots: Sequence[str], warnings: list[str]) -> tuple[str, T] | None:
    """The first folder with a good copy of a file, and its values; None if no folder has the file.

    Raises `Failure` where all copies are bad.
    """
    problems: list[Failure] = []
    for root in roots:
        for path in part.found(root):
            try:
                values = part.read(path)
            except Failure as error:
                problems.append(error)
            else:
                warnings += [f"{problem}. {path} is used instead." for problem in problems]
                return root, values
    if problems:
        raise Failure(f"{problems[0]}; remove it or name another folder with --data-dir")
    return None


_is_offline = ContextVar("is_offline", default=False)


@contextmanager
def offline() -> Iterator[None]:
    """Within this block nothing is downloaded: a dataset of which files are missing is a `DatasetMissing`."""
    token = _is_offline.set(True)
    try:
        yield
    finally:
        _is_offline.reset(token)


def _download(parts: Sequence[Published[T]], root: str) -> dict[str, tuple[str, T]]:
    """The values of files from their addresses. Files are written when all of them are there and good."""
    if _is_offline.get():
        raise Failure("nothing is downloaded now")
    fetched = {part.name: (part.target, *_fetch(part)) for part in parts}
    for target, content, _ in fetched.values():
        with atomic_write(Path(root, target)) as partial:
            partial.write_bytes(content)
    return {name: (root, values) for name, (_, _, values) in fetched.items()}


def _fetch(part: Published[T]) -> tuple[bytes, T]:
    """The content of a file from the first address that has it, and its values."""
    problems = []
    for url in part.urls:
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:  # noqa: S310  # the addresses are ours
                _log.warning("downloading %s", url)
                content = response.read(part.limit)
            return content, part.decode(url, content)
        except (OSError, http.client.HTTPException, Failure) as error:
            problems.append(f"{url}: {' '.join(str(error).split())}")
    raise Failure("; ".join(problems))
