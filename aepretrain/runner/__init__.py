"""Trainings as jobs: planned, run in worker processes on this machine, and stored.

`aepretrain.runner.dask`, which is not among the names here, runs them on a Dask cluster.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # __init__.pyi names what is here
