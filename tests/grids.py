"""Grids trained in the test's own process, and what they leave."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Any

from aepretrain import runner
from aepretrain.config import Execution, TrainingSpec
from aepretrain.errors import Failure, UsageError
from aepretrain.runner import Event, GridResult, Pool
from aepretrain.tracking import Store

EXECUTION = Execution(device="cpu")


class InlineExecutor(Executor):
    """Any executor will do: this one trains at once, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except (Failure, UsageError) as error:
            future.set_exception(error)
        return future


@contextmanager
def inline(*_: object) -> Iterator[Pool]:
    yield Pool(InlineExecutor(), lambda: 1)


def grid(
    specs: Sequence[TrainingSpec], store: Store, execution: Execution = EXECUTION, **options: Any
) -> tuple[GridResult, list[Event]]:
    events: list[Event] = []
    result = runner.run_grid(
        specs, store, execution, events.append, lambda *_: None, **({"make_pool": inline} | options)
    )
    return result, events


def artifacts(store: Store, run_id: str, folder: str | None = None) -> set[str]:
    found = store.client.list_artifacts(run_id, folder)
    return {one.path for one in found if not one.is_dir}.union(
        *(artifacts(store, run_id, one.path) for one in found if one.is_dir)
    )
