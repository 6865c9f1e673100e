from .accelerator import with_checked_device
from .events import Event, Listener
from .forecast import Forecast
from .grid import Conclude, GridResult, MakePool, run_grid
from .jobs import SingleResult, check, load_dataset, run_single
from .outlook import bytes_on_disk, find_missing
from .plugins import load_plugins
from .pool import Pool, local_pool, num_workers, stack_size
from .selection import select
from .study import Finished, Study

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
    "with_checked_device",
]
