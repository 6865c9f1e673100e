"""Trainings as jobs: planned, run in worker processes on this machine, and stored.

`aepretrain.runner.dask`, which is not imported here, runs them on a Dask cluster.
"""

from aepretrain.runner.forecast import Forecast
from aepretrain.runner.grid import Conclude, Finished, GridResult, MakePool, Study, run_grid, select
from aepretrain.runner.jobs import Event, Listener, SingleResult, check, load_dataset, run_single
from aepretrain.runner.outlook import bytes_on_disk, find_missing
from aepretrain.runner.plugins import load_plugins
from aepretrain.runner.pool import Pool, local_pool, num_workers, stack_size

__all__ = [
    "Conclude",
    "Event",
    "Finished",
    "Forecast",
    "GridResult",
    "Listener",
    "MakePool",
    "Pool",
    "SingleResult",
    "Study",
    "bytes_on_disk",
    "check",
    "find_missing",
    "load_dataset",
    "load_plugins",
    "local_pool",
    "num_workers",
    "run_grid",
    "run_single",
    "select",
    "stack_size",
]
