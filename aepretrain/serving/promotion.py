"""Promotion of a finished classifier to champion of the model registry."""

import numpy as np

from aepretrain import tracking
from aepretrain.errors import Failure
from aepretrain.records import Record
from aepretrain.serving.prediction import class_names, load_classifier


def promote(store: tracking.Store, record: Record, name: str, reason: str) -> tracking.Promotion:
    """Register a classifier's MLflow model and give it the alias ``champion``. The model is logged if the run has none.

    `reason` says how the classifier was chosen. Raises `Failure` where PyTorch cannot export the network, and where
    MLflow could not load its model.
    """
    tracking.check_loads_models(record)
    if "model" not in record.tags:
        module = load_classifier(store, record)
        try:
            blank_NCHW = np.zeros((2, *record.shape.image), np.float32)  # there is no dataset at hand
            tracking.log_model(store, record.run_id, module, blank_NCHW, class_names(store, record))
        except Exception as error:  # the exporter documents no class for what it cannot export
            raise Failure(f"{record.spec.name} cannot be logged as a model: {tracking.one_line(error)}") from error
    metrics = record.metrics
    description = (
        f"{record.spec.name} on {record.spec.settings.dataset}, run `{record.run_id}`: validation loss "
        f"{metrics['best_val_loss']:.4f}, validation accuracy {metrics['best_val_accuracy']:.4f}. Chosen: {reason}."
    )
    return tracking.promote(store, record, name, description, {"key": record.key, "chosen": reason})
