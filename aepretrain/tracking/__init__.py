"""The only package that uses MLflow: open, write, find and finish runs, read them as records, export and import them.

MLflow's client is always called with a run id and never with the active run, which depends on threads and environment
variables. Importing MLflow takes seconds.
"""

# ruff: noqa: E402  # MLflow reads some of these variables when it is imported

import os

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
"""Settings of MLflow, unless the environment has others. Retries are our own (`Execution.outage_s`)."""

for name in [name for name, value in os.environ.items() if name.startswith("MLFLOW_") and not value]:
    del os.environ[name]  # as if unset; MLflow would take an empty path of a certificate for "do not verify"
for name, value in ENVIRONMENT.items():
    os.environ.setdefault(name, value)

from aepretrain.tracking.address import absolute_uri, default_uri, shown_uri
from aepretrain.tracking.bundle import Bundle, read_bundle
from aepretrain.tracking.connect import find_store, open_store
from aepretrain.tracking.journal import Sender, journals_folder
from aepretrain.tracking.listing import STATES, Leftover, TrainingRun, leftovers, training_runs
from aepretrain.tracking.model_registry import CHAMPION, Promotion, promote
from aepretrain.tracking.models import check_loads_models, log_model
from aepretrain.tracking.recovery import recover, recovering, upload_kept
from aepretrain.tracking.retry import StoreError, Unavailable, full_disk_in_a_line, one_line, where_possible
from aepretrain.tracking.run_lifecycle import ending, open_grid, open_training, plan_seen, point_to
from aepretrain.tracking.run_writer import DatasetReference, Run, listing, run_link
from aepretrain.tracking.store import Store
from aepretrain.tracking.transfer import export, restore
from aepretrain.tracking.ui import page_of_trainings, serve, server_of

__all__ = [
    "CHAMPION",
    "ENVIRONMENT",
    "STATES",
    "Bundle",
    "DatasetReference",
    "Leftover",
    "Promotion",
    "Run",
    "Sender",
    "Store",
    "StoreError",
    "TrainingRun",
    "Unavailable",
    "absolute_uri",
    "check_loads_models",
    "default_uri",
    "ending",
    "export",
    "find_store",
    "full_disk_in_a_line",
    "journals_folder",
    "leftovers",
    "listing",
    "log_model",
    "one_line",
    "open_grid",
    "open_store",
    "open_training",
    "page_of_trainings",
    "plan_seen",
    "point_to",
    "promote",
    "read_bundle",
    "recover",
    "recovering",
    "restore",
    "run_link",
    "serve",
    "server_of",
    "shown_uri",
    "training_runs",
    "upload_kept",
    "where_possible",
]
