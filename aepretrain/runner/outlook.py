"""What trainings would take, found out without training, loading a dataset or writing anything."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from aepretrain.config import Execution, Shape, TrainingSpec
from aepretrain.networks import build, part_weights
from aepretrain.records import Record
from aepretrain.runner.study import Finished
from aepretrain.runner.work import find_work, jobs_of
from aepretrain.tracking import Store
from aepretrain.variants import EVALUATIONS, find

BYTES_BESIDE_WEIGHTS = 200_000
"""Pictures, predictions and rows of the database of a training, in a store of MNIST's trainings in SQLite."""


def find_missing(
    specs: Sequence[TrainingSpec],
    records: Mapping[str, Record],
    store: Store,
    execution: Execution,
    study: str | None = None,
    sources: Sequence[TrainingSpec] = (),
) -> tuple[Finished, list[TrainingSpec]]:
    """What is done of `specs`, all on one dataset, and what would be trained; `records` are finished on this dataset.

    With a `study`, the trainings are its own, and start from `sources`, which are trained where they lack weights. The
    dataset's digest is that of its last finished training, so that no file of the dataset is needed.
    """
    tags = next((record.tags for record in reversed(list(records.values()))), {})
    digests = tags.get("dataset_digest", ""), tags.get("unlabelled_digest", "")
    wanted = jobs_of(specs, digests, store, execution, study)
    others = jobs_of(sources, digests, store, replace(execution, force=False))
    work = find_work(wanted, records, others)
    done = {wanted[key].spec: record for key, record in work.done.items()}
    return done, [job.spec for job in work.jobs.values()]


def bytes_on_disk(spec: TrainingSpec, shape: Shape) -> int:
    """About how many bytes a finished training takes in a store: its weights, and `BYTES_BESIDE_WEIGHTS`.

    `shape` is that of its images. An evaluation has no weights, and a head on a fixed code hardly any.
    """
    if spec.variant in EVALUATIONS or getattr(find(spec.variant), "encoder", "") in ("pixels", "components"):
        return BYTES_BESIDE_WEIGHTS
    network = build(spec.network, 0, shape)
    other = "decoder" if spec.variant == "pretrain" else network.trained_head
    weights = part_weights(network, "encoder", other)
    return sum(one.numel() * one.element_size() for one in weights.values()) + BYTES_BESIDE_WEIGHTS
