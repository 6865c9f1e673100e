"""The only place that knows MLflow: find, open, log and finish runs, and read them back as records.

MLflow's client is always called with a run id; its notion of an active run is never used, so that neither threads
nor environment variables decide where a number goes. Importing MLflow takes seconds, so this package is imported
late by whoever must answer quickly.
"""

from aepretrain.tracking.bundle import Bundle, export, read_bundle, restore
from aepretrain.tracking.models import log_model
from aepretrain.tracking.runs import (
    DatasetReference,
    Run,
    end_orphans,
    ending,
    listing,
    open_grid,
    open_training,
    point_to,
)
from aepretrain.tracking.store import (
    Store,
    StoreError,
    Unavailable,
    default_uri,
    on_disk,
    one_line,
    open_store,
    ui_hint,
)

__all__ = [
    "Bundle",
    "DatasetReference",
    "Run",
    "Store",
    "StoreError",
    "Unavailable",
    "default_uri",
    "end_orphans",
    "ending",
    "export",
    "listing",
    "log_model",
    "on_disk",
    "one_line",
    "open_grid",
    "open_store",
    "open_training",
    "point_to",
    "read_bundle",
    "restore",
    "ui_hint",
]
