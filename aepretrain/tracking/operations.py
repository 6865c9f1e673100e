"""Write operations on a run, as values that can be stored on disk. They are idempotent."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag

from aepretrain.tracking.retry import StoreError

MAX_METRICS = 1000
"""Most metrics that MLflow takes in one request."""


@dataclass(frozen=True)
class Operation:
    """One write operation; `body` consists of JSON types.

    ``metrics``: rows of name, value, time in ms and step; ``tags``: text by name; ``artifact``: the path of a file in a
    separate folder; ``end``: a final state and the time in ms. MLflow counts the same value at the same time and step
    once, and the other operations overwrite, so an operation may be repeated.
    """

    kind: str
    body: Any

    def apply(self, client: MlflowClient, run_id: str, folder: Path = Path()) -> None:
        """Apply it to a run; `folder` holds the file of an artifact."""
        _APPLY[self.kind](client, run_id, self.body, folder)


def merged(operations: Iterable[Operation]) -> Iterator[Operation]:
    """The operations with consecutive metrics merged, because a request costs more than its metrics."""
    rows: list[Any] = []
    for operation in operations:
        if operation.kind == "metrics":
            rows += operation.body
            continue
        if rows:
            yield Operation("metrics", rows)
            rows = []
        yield operation
    if rows:
        yield Operation("metrics", rows)


def _metrics(client: MlflowClient, run_id: str, rows: list[Any], _folder: Path) -> None:
    for start in range(0, len(rows), MAX_METRICS):
        client.log_batch(run_id, metrics=[Metric(*row) for row in rows[start : start + MAX_METRICS]])


def _tags(client: MlflowClient, run_id: str, tags: dict[str, str], _folder: Path) -> None:
    client.log_batch(run_id, tags=[RunTag(*tag) for tag in tags.items()])


def _artifact(client: MlflowClient, run_id: str, path: str, folder: Path) -> None:
    if not (folder / path).is_file():
        raise StoreError(f"{folder / path} is missing")
    client.log_artifact(run_id, str(folder / path), path.rpartition("/")[0] or None)


def _end(client: MlflowClient, run_id: str, end: list[Any], _folder: Path) -> None:
    client.set_terminated(run_id, *end)


_APPLY: Mapping[str, Callable[[MlflowClient, str, Any, Path], None]] = {
    "metrics": _metrics,
    "tags": _tags,
    "artifact": _artifact,
    "end": _end,
}
