"""Write-ahead journal, uploaded by a background thread.

A training appends to its run's journal and never waits for the store. A thread uploads the entries in order, and tries
again while the store is unavailable. Entries that were not uploaded stay on disk until the next start or ``aepretrain
sync``. The unfinished journal of a process that died is removed.
"""

import errno
import json
import os
import shlex
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from mlflow import MlflowClient

from aepretrain import stopping
from aepretrain.files import naming
from aepretrain.tracking.address import shown_uri
from aepretrain.tracking.operations import Operation, merged
from aepretrain.tracking.retry import StoreError, Unavailable, delays, is_full, may_be_mended, one_line
from aepretrain.tracking.store import TAG, Store

LAST_WORDS_S = 2.0
"""How long a stopped or failed training tries to upload its end. Shorter than the time a worker has to stop."""


class Journal:
    """The journal of one run: ``operations.jsonl``, and the files of artifacts in ``artifacts``.

    Its folder is named by the training's key and the run's id. It holds no address and no password of the store. One
    thread may append while another sends.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key, _, self.run_id = folder.name.rpartition("-")
        self.refused: StoreError | None = None
        self._file = folder / "operations.jsonl"
        self._num_sent = self._num_written = 0
        self._writing = threading.Lock()

    @classmethod
    def begin(cls, store: Store, key: str, run_id: str) -> "Journal":
        """A new journal for this run."""
        folder = journals_folder(store) / f"{key}-{run_id}"
        folder.mkdir(parents=True)
        return cls(folder)

    @property
    def is_behind(self) -> bool:
        """Whether some operations are not uploaded yet."""
        return self._num_sent < self._num_written

    def final_state(self) -> str | None:
        """The final status of the run; None where it has not ended. Raises `ValueError` for a damaged journal."""
        operations = [operation for operation, _ in self._operations(0)]
        return str(operations[-1].body[0]) if operations and operations[-1].kind == "end" else None

    def append(self, operation: Operation, content: bytes | None = None) -> None:
        """Append an operation, with the file of an artifact. The end of a run is on disk when this returns.

        An operation that cannot be written completely leaves no trace. Raises the store's answer if it has refused an
        operation.
        """
        with self._writing:
            if self.refused is not None:
                raise self.refused
            if content is not None:
                path = self.folder / "artifacts" / operation.body
                path.parent.mkdir(parents=True, exist_ok=True)
                with naming(path), path.open("wb") as artifact:
                    artifact.write(content)
                    artifact.flush()
                    os.fsync(artifact.fileno())
            self._write(json.dumps([operation.kind, operation.body]).encode() + b"\n", operation.kind == "end")

    def _write(self, line: bytes, is_last: bool) -> None:
        with naming(self._file), self._file.open("ab", buffering=0) as file:
            try:
                if file.write(line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if is_last:
                    os.fsync(file.fileno())
            except OSError:
                file.truncate(self._num_written)
                raise
        self._num_written += len(line)

    def send(self, client: MlflowClient) -> None:
        """Upload the new operations, and remove the journal when the run has ended.

        Raises what the client raises. The next call then continues with the same operation.
        """
        with self._writing:
            read = list(self._operations(self._num_sent))
        for operation in merged(one for one, _ in read):
            operation.apply(client, self.run_id, self.folder / "artifacts")
        if read:
            self._num_sent = read[-1][1]
            if read[-1][0].kind == "end":
                self.remove()

    def _operations(self, start: int) -> Iterator[tuple[Operation, int]]:
        """The operations from an offset in the file on, each with the offset of the next one.

        An incomplete last line, left by a process that died, is ignored.
        """
        if not self._file.exists():
            return
        with self._file.open("rb") as file:
            file.seek(start)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                start += len(line)
                yield Operation(*json.loads(line)), start

    def refuse(self, error: StoreError) -> None:
        """Remove the journal and accept no more operations, because the store has refused one."""
        with self._writing:
            self.refused = error
            self.remove()

    def remove(self) -> None:
        """Remove it from the disk, the operations first: a partly removed journal must not look complete."""
        self._num_sent = self._num_written
        with suppress(OSError):
            self._file.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)


def journals_folder(store: Store) -> Path:
    """The folder of the journals of a store's runs on this host."""
    return store.folder / "journals"


class Sender:
    """Uploads journals in a background thread. The end of its block waits until all is uploaded.

    The end of the block raises `Unavailable` where the store is unavailable for too long, and `StoreError` where it has
    refused an operation; that run is ended as FAILED.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._journals: list[Journal] = []
        self._news = threading.Condition()
        self._trouble: Exception | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="sender", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._wait(self._store.outage_s)
            else:
                self._wait(LAST_WORDS_S, hurried=True)
        finally:
            with self._news:
                self._closing = True
                self._news.notify_all()
        if kind is None:
            self._raise_trouble()

    def add(self, journal: Journal) -> None:
        """Upload this journal too."""
        with self._news:
            self._journals.append(journal)

    def wake(self) -> None:
        """Say that there are new operations."""
        with self._news:
            self._news.notify_all()

    def _wait(self, patience_s: float, *, hurried: bool = False) -> None:
        """Wait until all is uploaded, at most this long without success, or (`hurried`) at most this long at all."""
        until_s = time.monotonic() + patience_s
        with self._news:
            while self._behind() and not is_full(self._trouble):
                if stopping.is_requested() and not hurried:
                    hurried, until_s = True, time.monotonic() + LAST_WORDS_S
                if self._trouble is None and not hurried:
                    until_s = time.monotonic() + patience_s
                elif time.monotonic() >= until_s:
                    return
                self._news.wait(0.1)

    def _raise_trouble(self) -> None:
        for journal in self._journals:
            if journal.refused is not None:
                raise journal.refused
        behind = self._behind()
        if behind:
            trouble = one_line(self._trouble) if self._trouble else "it does not answer"
            address = shlex.quote(shown_uri(self._store.uri))
            raise Unavailable(
                f"the tracking store accepts no data ({trouble}); the results of {len(behind)} training(s) are "
                f"kept in {behind[0].folder.parent}; upload them later with: aepretrain sync --tracking-uri {address}"
            )

    def _behind(self) -> list[Journal]:
        return [one for one in self._journals if one.is_behind]

    def _work(self) -> None:
        retry = delays()
        while True:
            with self._news:
                while not self._behind() and not self._closing:
                    self._news.wait()
                if self._closing:
                    return
                behind = self._behind()
            try:
                for journal in behind:
                    self._send(journal)
                self._trouble, retry = None, delays()
            except Exception as error:  # noqa: BLE001  # reported at the end unless it passes
                self._trouble = error
                with self._news:
                    self._news.notify_all()
                time.sleep(next(retry))
            with self._news:
                self._news.notify_all()

    def _send(self, journal: Journal) -> None:
        try:
            journal.send(self._store.bare_client)
        except Exception as error:
            if may_be_mended(error):
                raise
            journal.refuse(StoreError(f"the tracking store refuses a run's data: {one_line(error)}"))
            end_as_failed(self._store.bare_client, journal.run_id, error)


def end_as_failed(client: MlflowClient, run_id: str, error: Exception) -> None:
    """End a run as FAILED, if the store allows it."""
    with suppress(Exception):
        client.set_tag(run_id, f"{TAG}error", one_line(error))
        client.set_terminated(run_id, "FAILED")
