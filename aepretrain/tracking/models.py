"""A finished classifier as an MLflow model, which MLflow's own commands load, serve and register."""

import logging
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import mlflow
import numpy as np
from mlflow.entities import LoggedModelOutput, Metric, Run
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE, MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE, MLFLOW_USER

from aepretrain.records import Record
from aepretrain.tracking.provenance import user
from aepretrain.tracking.retry import StoreError
from aepretrain.tracking.store import TAG, Store

if TYPE_CHECKING:  # reading a store needs no PyTorch, which takes seconds to import
    from torch import nn

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


def check_loads_models(record: Record) -> None:
    """Raise `StoreError` where MLflow stores models, but cannot load them: it decodes the path of their folder."""
    parts = urlsplit(record.artifact_uri)
    folder = unquote(parts.path)
    if parts.scheme == "file" and unquote(folder) != folder:
        raise StoreError(
            f"MLflow cannot load a model from {folder}, as it decodes the %: import the trainings into a store in "
            "another folder and promote there (aepretrain export, aepretrain import)"
        )


def log_model(store: Store, run_id: str, module: "nn.Module", example_NCHW: Floats, classes: Sequence[str]) -> None:
    """Log a finished run's model: images [N, C, H, W] in [0, 1] → probabilities of the named classes [N, K].

    `example_NCHW` has at least two images, since PyTorch's exporter would fix the batch size at 1 for one image. The
    run's status does not change. A run that has a model keeps it.

    These are the calls of MLflow's own ``log_model``, which works on the default store and the active run: those belong
    to the caller.
    """
    client = store.client
    run = client.get_run(run_id)
    if f"{TAG}model" in run.data.tags:
        return
    logging.getLogger("mlflow.utils.environment").setLevel(
        logging.ERROR
    )  # it warns where uv made the environment, which has no pip
    image_shape = example_NCHW.shape[1:]
    tags = {
        MLFLOW_RUN_NOTE: f"{_takes_and_gives(image_shape, classes)} {run.data.tags.get(MLFLOW_RUN_NOTE, '')}",
        MLFLOW_USER: user(),
        MLFLOW_SOURCE_NAME: "aepretrain",
        MLFLOW_SOURCE_TYPE: "LOCAL",
    }
    model = client.create_logged_model(run.info.experiment_id, run.info.run_name, run_id, tags, run.data.params)
    try:
        about = Model(
            artifact_path=model.artifact_location, model_uuid=model.model_id, run_id=run_id, model_id=model.model_id
        )
        with tempfile.TemporaryDirectory() as folder:
            files = Path(folder, "model")
            mlflow.pytorch.save_model(
                module,
                files,
                mlflow_model=about,
                signature=_signature(image_shape, len(classes)),
                input_example=example_NCHW,
                pip_requirements=[f"torch=={version('torch').partition('+')[0]}", f"numpy=={version('numpy')}"],
            )
            client.log_model_artifacts(model.model_id, str(files))
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
        client.log_batch(run_id, metrics=_final_metrics(store, run, model.model_id))
    except BaseException:
        with suppress(Exception):
            client.finalize_logged_model(model.model_id, "FAILED")
        raise
    client.finalize_logged_model(model.model_id, "READY")
    client.set_tag(run_id, f"{TAG}model", model.model_uri)


def _takes_and_gives(image_shape: Sequence[int], classes: Sequence[str]) -> str:
    """What a model takes and gives, as a sentence; of many classes the first ones are named."""
    named = ", ".join(classes[:20]) + (", …" if len(classes) > 20 else "")
    sizes = ", ".join(map(str, image_shape))
    return f"Images [N, {sizes}] in [0, 1] → probabilities of the classes [N, {len(classes)}]: {named}."


def _signature(image_shape: Sequence[int], num_classes: int) -> ModelSignature:
    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, *image_shape))]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, num_classes))]),
    )


def _final_metrics(store: Store, run: Run, model_id: str) -> list[Metric]:
    """The run's metrics of no epoch, as those of its model on its dataset."""
    datasets = [one.dataset for one in run.inputs.dataset_inputs] if run.inputs else []
    on = {"dataset_name": datasets[0].name, "dataset_digest": datasets[0].digest} if datasets else {}
    histories = (store.client.get_metric_history(run.info.run_id, name) for name in run.data.metrics)
    return [
        Metric(one.key, one.value, one.timestamp, 0, model_id=model_id, run_id=run.info.run_id, **on)
        for history in histories
        for one in history
        if one.step == 0 and one.model_id is None
    ]
