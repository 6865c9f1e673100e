"""Plan − what is finished → work → records: single trainings and whole grids, in processes on this machine.

`aepretrain.runner.dask`, which is not imported here, has them on a Dask cluster.
"""

from aepretrain.runner.grid import Finished, GridResult, MakePool, Study, run_grid, select
from aepretrain.runner.jobs import Event, Listener, SingleResult, check, run_single
from aepretrain.runner.plugins import load_plugins
from aepretrain.runner.pool import Pool, local_pool, num_jobs
from aepretrain.runner.schedule import Forecast

__all__ = [
    "Event",
    "Finished",
    "Forecast",
    "GridResult",
    "Listener",
    "MakePool",
    "Pool",
    "SingleResult",
    "Study",
    "check",
    "load_plugins",
    "local_pool",
    "num_jobs",
    "run_grid",
    "run_single",
    "select",
]
