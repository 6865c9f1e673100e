"""One training's run in a store, begun and finished by hand."""

from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run as StoredRun

from aepretrain.config import Settings, TrainingSpec
from aepretrain.tracking import DatasetReference, Run, Store, open_training

REFERENCE = DatasetReference("digits", "f" * 64, "somewhere")
SPEC = TrainingSpec(
    variant="scratch", network="fc", augmentation="erasing", seed=3, settings=Settings(dataset="digits")
)
FIGURES = dict.fromkeys(
    ("test_accuracy", "test_macro_f1", "best_val_loss", "best_epoch", "num_epochs", "training_s"), 0.5
)
KEY = SPEC.key("f" * 64, {})


def begin(store: Store, **options: Any) -> Run:
    arguments = {"parent_run_id": None, "run_id": None, "device": "cpu", "threads": 1} | options
    return open_training(store, SPEC, KEY, REFERENCE, **arguments)


def finish(store: Store, accuracy: float = 0.5, **options: Any) -> str:
    run = begin(store, **options)
    run.log_metrics(FIGURES | {"test_accuracy": accuracy})
    run.finish()
    return run.run_id


def stored(store: Store, run_id: str) -> StoredRun:
    return MlflowClient(tracking_uri=store.uri).get_run(run_id)
