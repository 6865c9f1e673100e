"""The champion in MLflow's model registry."""

import contextlib
import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import mlflow
from mlflow.environment_variables import MLFLOW_TRACKING_URI
from mlflow.tracking._tracking_service.utils import _use_tracking_uri

from aepretrain.records import Record
from aepretrain.stopping import deferred
from aepretrain.tracking.address import mlflow_command
from aepretrain.tracking.store import TAG, Store

CHAMPION = "champion"
ABOUT = (
    "Classifiers trained by aepretrain. The version with the alias `champion` is the one to use; each says from which "
    "run it is and how it was chosen. Input: images [N, C, H, W] in [0, 1]. Output: class probabilities [N, K]."
)
"""The description of a registered model."""


@dataclass(frozen=True)
class Promotion:
    """A version of a registered model that is the champion now."""

    record: Record
    """The training whose model it is."""
    name: str
    version: str
    before: str | None
    """The champion's version until now; None where there was no champion."""
    store_uri: str

    @property
    def uri(self) -> str:
        """The address under which MLflow loads and serves the champion, whichever version that is."""
        return f"models:/{self.name}@{CHAMPION}"

    @property
    def serve_command(self) -> str:
        """The command that serves the champion, without passwords."""
        return mlflow_command(self.store_uri, f"models serve -m {self.uri} --env-manager local -p 5001")


@deferred()
def promote(store: Store, record: Record, name: str, description: str, tags: Mapping[str, str]) -> Promotion:
    """Register the model of a finished run under a name, unless it is registered there, and make it the champion.

    The run must have a model (`log_model`). Raises MLflow's errors for a name that it does not accept.
    """
    client = store.client
    registered = {one.name: one for one in client.search_registered_models(f"name = '{name}'")}
    before = registered[name].aliases.get(CHAMPION) if name in registered else None
    versions = client.search_model_versions(f"name = '{name}' and run_id = '{record.run_id}'")
    if versions:
        version = str(max(int(one.version) for one in versions))
    else:
        model_uri = client.get_run(record.run_id).data.tags[f"{TAG}model"]
        with contextlib.redirect_stderr(io.StringIO()), _default_store(store):  # MLflow prints what the command prints
            registered_now = mlflow.register_model(model_uri, name)
        version = str(registered_now.version)
    if not registered.get(name, client.get_registered_model(name)).description:  # a person's stays
        client.update_registered_model(name, ABOUT)
    client.update_model_version(name, version, description)
    for key, one in tags.items():
        client.set_model_version_tag(name, version, TAG + key, one)
    client.set_registered_model_alias(name, CHAMPION, version)
    return Promotion(record, name, version, None if before is None else str(before), store.uri)


@contextlib.contextmanager
def _default_store(store: Store) -> Iterator[None]:
    """In this block the store is MLflow's default, where registering looks for the model; then it is as before."""
    before = os.environ.get(MLFLOW_TRACKING_URI.name)
    try:
        with _use_tracking_uri(store.uri):
            yield
    finally:
        if before is not None:
            os.environ[MLFLOW_TRACKING_URI.name] = before
