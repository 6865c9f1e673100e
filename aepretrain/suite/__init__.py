"""Plan − what is finished → work → records: single trainings and whole grids, in processes on this machine.

`aepretrain.suite.cluster`, which is not imported here, has them on a Dask cluster.
"""

from aepretrain.suite.grid import Finished, GridResult, MakePool, Study, run_grid, select
from aepretrain.suite.plugins import load_plugins
from aepretrain.suite.pool import Pool, local_pool, num_jobs
from aepretrain.suite.schedule import Forecast
from aepretrain.suite.training import Event, Listener, SingleResult, check, run_single

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
