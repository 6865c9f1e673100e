"""What trainings would take, found out without training, loading a dataset or writing anything."""

from collections.abc import Mapping, Sequence

from aepretrain.config import Execution, Shape, TrainingSpec
from aepretrain.networks import build, part_weights
from aepretrain.records import Record
from aepretrain.runner.work import find_work, make_job
from aepretrain.tracking import Store

BYTES_BESIDE_WEIGHTS = 200_000
"""Pictures, predictions and rows of the database of a training, in a store of MNIST's trainings in SQLite."""


def find_missing(
    specs: Sequence[TrainingSpec], records: Mapping[str, Record], store: Store, execution: Execution
) -> list[TrainingSpec]:
    """Those of `specs`, all on one dataset, that would be trained. `records` are the dataset's finished trainings.

    The dataset's digest is that of the last of them, so that no file of the dataset is needed.
    """
    tags = next((record.tags for record in reversed(list(records.values()))), {})
    digests = tags.get("dataset_digest", ""), tags.get("unlabelled_digest", "")
    jobs = {job.key: job for job in (make_job(spec, digests, store, execution) for spec in specs)}
    return [job.spec for job in find_work(jobs, records, {}).jobs.values()]


def bytes_on_disk(spec: TrainingSpec, shape: Shape) -> int:
    """About how many bytes a finished variant takes in a store: its weights, and `BYTES_BESIDE_WEIGHTS`.

    `shape` is that of its images.
    """
    network = build(spec.network, 0, shape)
    other = "decoder" if spec.variant == "pretrain" else network.trained_head
    weights = part_weights(network, "encoder", other)
    return sum(one.numel() * one.element_size() for one in weights.values()) + BYTES_BESIDE_WEIGHTS
