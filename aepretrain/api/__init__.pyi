from .bundles import Exported, Imported, export, import_
from .models import Codes, OnnxExport, Predictions, encode, export_onnx, predict, promote
from .plans import run_plan
from .previews import Preview, preview_grid, preview_plan, preview_study
from .reports import Report, make_report
from .results import Results, compare, load_results
from .runs import Leftovers, RunDetails, Runs, clean, delete_runs, list_runs, show_run
from .stores import sync, where
from .training import run_grid, run_study, train
from .tuning import Tunings, tune, tune_plan
from .ui import open_ui

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
    "open_ui",
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
