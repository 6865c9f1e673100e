"""The only package that uses MLflow: open, write, find and finish runs, read them as records, export and import them.

MLflow's client is always called with a run id and never with the active run, which depends on threads and environment
variables. Importing MLflow takes seconds, so commands import this package only when they need it.
"""

from aepretrain.tracking.bundle import Bundle, read_bundle
from aepretrain.tracking.connect import default_uri, open_store, ui_hint
from aepretrain.tracking.journal import Sender, journals_folder
from aepretrain.tracking.model_registry import CHAMPION, Promotion, promote, serve_hint
from aepretrain.tracking.models import log_model
from aepretrain.tracking.recovery import recover, recovering, upload_kept
from aepretrain.tracking.retry import StoreError, Unavailable, full_disk_in_a_line, one_line, where_allowed
from aepretrain.tracking.run_lifecycle import ending, open_grid, open_training, point_to
from aepretrain.tracking.run_writer import DatasetReference, Run, listing, run_link
from aepretrain.tracking.store import Store
from aepretrain.tracking.transfer import export, restore

__all__ = [
    "CHAMPION",
    "Bundle",
    "DatasetReference",
    "Promotion",
    "Run",
    "Sender",
    "Store",
    "StoreError",
    "Unavailable",
    "default_uri",
    "ending",
    "export",
    "full_disk_in_a_line",
    "journals_folder",
    "listing",
    "log_model",
    "one_line",
    "open_grid",
    "open_store",
    "open_training",
    "point_to",
    "promote",
    "read_bundle",
    "recover",
    "recovering",
    "restore",
    "run_link",
    "serve_hint",
    "ui_hint",
    "upload_kept",
    "where_allowed",
]
