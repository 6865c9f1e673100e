"""Snapshots: a training's state on disk, from which another process can go on."""

import hashlib
import io
import os
import pickle
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from aepretrain.config import TrainingSpec
from aepretrain.files import naming

INTERVAL_S = 10.0
"""The shortest time between two snapshots of a training, and about the longest that a crash can cost."""

SUFFIX = ".snapshot"

FORMAT = 3
"""Version of the format. It is raised when the content changes, so that older files are not used."""


@dataclass(frozen=True)
class SnapshotFile:
    """The latest snapshot of one stack of trainings; an `engine.Snapshots`.

    `identity` names the trainings and all that may change their bits. A file of another identity, or one that is cut
    short or altered, is removed when it is loaded. Nothing in a file is executed. `on_resume` is told the number of
    epochs in a file that is loaded.
    """

    path: Path
    identity: str
    interval_s: float
    on_resume: Callable[[int], None]

    @classmethod
    def of(
        cls,
        folder: Path,
        keys: Sequence[str],
        circumstances: Mapping[str, object],
        on_resume: Callable[[int], None] = lambda _: None,
    ) -> "SnapshotFile":
        """The file for the trainings with these keys, in this order, in a folder."""
        build = {"format": FORMAT, "torch": torch.__version__, "machine": platform.machine(), **circumstances}
        name = hashlib.sha256(",".join(keys).encode()).hexdigest()
        return cls(folder / f"{name}{SUFFIX}", f"{list(keys)} {build}", INTERVAL_S, on_resume)

    def load(self) -> Mapping[str, Any] | None:
        """The state in the file, on the CPU; None if there is no valid one."""
        try:
            digest, content = (parts := self.path.read_bytes())[:32], parts[32:]
        except FileNotFoundError:
            return None
        if digest == self._digest(content):
            with suppress(pickle.UnpicklingError):
                state: Mapping[str, Any] = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
                self.on_resume(state["epochs_done"])
                return state
        self.remove()
        return None

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the file atomically."""
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        content = buffer.getvalue()
        try:
            with naming(self._partial), self._partial.open("wb") as file:
                file.write(self._digest(content) + content)
                file.flush()
                os.fsync(file.fileno())
            self._partial.replace(self.path)
        except OSError:
            with suppress(OSError):
                self._partial.unlink()
            raise

    def remove(self) -> None:
        """Remove the file and a partial one."""
        self._partial.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    @property
    def _partial(self) -> Path:
        return self.path.with_suffix(".partial")

    def _digest(self, content: bytes) -> bytes:
        return hashlib.sha256(self.identity.encode() + content).digest()


class SnapshotFiles:
    """The snapshot files of trainings that are run as one or more stacks.

    `on_resume` is told the trainings that go on from a file, and the number of epochs that they have in it.
    """

    def __init__(
        self,
        folder: Path,
        keys: Mapping[TrainingSpec, str],
        circumstances: Mapping[str, object],
        on_resume: Callable[[Sequence[TrainingSpec], int], None],
    ) -> None:
        self._folder, self._keys, self._circumstances, self._on_resume = folder, keys, circumstances, on_resume
        self._files: list[SnapshotFile] = []

    def __call__(self, specs: Sequence[TrainingSpec]) -> SnapshotFile:
        """The file of a stack."""
        keys, on_resume = [self._keys[spec] for spec in specs], partial(self._on_resume, specs)
        self._files.append(SnapshotFile.of(self._folder, keys, self._circumstances, on_resume))
        return self._files[-1]

    def remove(self) -> None:
        """Remove them all."""
        for file in self._files:
            file.remove()
