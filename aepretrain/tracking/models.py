"""A finished classifier as an MLflow model, which MLflow's own commands load, serve and register."""

import logging
from importlib.metadata import version
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import mlflow
import numpy as np
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from aepretrain.records import Record
from aepretrain.tracking.retry import StoreError
from aepretrain.tracking.store import TAG, Store

if TYPE_CHECKING:  # reading a store needs no PyTorch, which takes seconds to import
    from torch import nn

TAKES_AND_GIVES = "Images [N, 1, 28, 28] in [0, 1], light on dark → probabilities of the classes [N, 10]."
SIGNATURE = ModelSignature(
    inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, 1, 28, 28))]),
    outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, 10))]),
)


def check_loads_models(record: Record) -> None:
    """Raise `StoreError` where MLflow stores models, but cannot load them: it decodes the path of their folder."""
    parts = urlsplit(record.artifact_uri)
    folder = unquote(parts.path)
    if parts.scheme == "file" and unquote(folder) != folder:
        raise StoreError(
            f"MLflow cannot load a model from {folder}, as it decodes the %: import the trainings into a store in "
            "another folder and promote there (aepretrain export, aepretrain import)"
        )


def log_model(
    store: Store, run_id: str, module: "nn.Module", example_NCHW: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
) -> None:
    """Log a finished run's model: images [N, 1, 28, 28] in [0, 1] → class probabilities [N, 10].

    `example_NCHW` has at least two images, since PyTorch's exporter would fix the batch size at 1 for one image. The
    run's status does not change. A run that has a model keeps it.
    """
    run = store.client.get_run(run_id)
    if f"{TAG}model" in run.data.tags:
        return
    logging.getLogger("mlflow.utils.environment").setLevel(
        logging.ERROR
    )  # it warns where uv made the environment, which has no pip
    mlflow.set_tracking_uri(store.uri)
    mlflow.set_experiment(experiment_id=run.info.experiment_id)  # else the model goes to the experiment "Default"
    info = Model.log(
        artifact_path=None,
        name=run.info.run_name,
        flavor=mlflow.pytorch,
        run_id=run_id,
        pytorch_model=module,
        signature=SIGNATURE,
        input_example=example_NCHW,
        tags={MLFLOW_RUN_NOTE: f"{TAKES_AND_GIVES} {run.data.tags.get(MLFLOW_RUN_NOTE, '')}"},
        pip_requirements=[f"torch=={version('torch').partition('+')[0]}", f"numpy=={version('numpy')}"],
    )
    store.client.set_tag(run_id, f"{TAG}model", info.model_uri)
