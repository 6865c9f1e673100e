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

from aepretrain.api.bundles import Exported, Imported, export, import_
from aepretrain.api.models import Codes, OnnxExport, Predictions, encode, export_onnx, predict, promote
from aepretrain.api.plans import run_plan
from aepretrain.api.previews import Preview, preview_grid, preview_plan, preview_study
from aepretrain.api.reports import Report, make_report
from aepretrain.api.results import Results, compare, load_results
from aepretrain.api.runs import Leftovers, RunDetails, Runs, clean, delete_runs, list_runs, show_run
from aepretrain.api.stores import sync, where
from aepretrain.api.training import run_grid, run_study, train
from aepretrain.api.tuning import Tunings, tune, tune_plan

__all__ = [
    "Codes",
    "Exported",
    "Imported",
    "Leftovers",
    "OnnxExport",
    "Predictions",
    "Preview",
    "Report",
    "Results",
    "RunDetails",
    "Runs",
    "Tunings",
    "clean",
    "compare",
    "delete_runs",
    "encode",
    "export",
    "export_onnx",
    "import_",
    "list_runs",
    "load_results",
    "make_report",
    "predict",
    "preview_grid",
    "preview_plan",
    "preview_study",
    "promote",
    "run_grid",
    "run_plan",
    "run_study",
    "show_run",
    "sync",
    "train",
    "tune",
    "tune_plan",
    "where",
]
