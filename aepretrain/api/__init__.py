"""What a person calls from Python. Each command of the command line is one of these calls.

A call prints only progress and warnings, and ``show=False`` turns them off. An argument that is left out comes
from the environment where there is a variable for it: `tracking_uri` from ``MLFLOW_TRACKING_URI``,
`Execution.data_dir` from ``AEPRETRAIN_DATA_DIR``. New runs go to the experiment ``MLFLOW_EXPERIMENT_NAME``, or, in the
store that the environment names, to that of ``MLFLOW_EXPERIMENT_ID``. MLflow's default store, its registry and the
active run are not used and stay as they are.
With `out`, results are written there too. `run_id` is a run that ``mlflow run`` has opened for the call: results are
logged to it, and it is ended.

Bad arguments raise `UsageError`; missing data, stores and results raise `Failure`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)  # __init__.pyi names what is here
