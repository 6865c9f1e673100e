"""The self-check of an accelerator before the first training on it."""

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

from aepretrain import training
from aepretrain.config import Execution, TrainingSpec
from aepretrain.data import load
from aepretrain.errors import Failure
from aepretrain.files import atomic_write
from aepretrain.runner.work import find_work, jobs_of, related_records
from aepretrain.tracking import Store


def with_checked_device(
    execution: Execution,
    store: Store,
    warn: Callable[[str], None],
    parts: Iterable[Sequence[TrainingSpec]] | None = None,
) -> Execution:
    """The execution, on the CPU where an accelerator that ``auto`` has chosen fails its self-check; `warn` says so.

    `parts` are all trainings that are wanted, each on one dataset, where that is known: if they are finished, nothing
    is checked. On a CPU nothing is checked. A report lies in the store's folder. Raises `Failure` where the accelerator
    was asked for by name.
    """
    device = training.resolve_device(execution.device)
    if device.type == "cpu" or (parts is not None and all(_is_finished(one, store, execution) for one in parts)):
        return execution
    finding = training.check_device(device, execution.threads)
    if finding is None:
        return execution
    report = store.folder / f"device-check-{device.type}.json"
    where = f"The report cannot be written to {report}"
    with suppress(Failure):
        with atomic_write(report) as partial:
            partial.write_text(json.dumps(training.report_on(device, finding), indent=2) + "\n")
        where = f"Please send the report {report}"
    failed = f"the device {device} failed its self-check: {finding}"
    if execution.device != "auto":
        raise Failure(f"{failed}; nothing is trained. Use --device cpu. {where}")
    warn(f"{failed}; the CPU is used instead. {where}")
    return replace(execution, device="cpu")


def _is_finished(specs: Sequence[TrainingSpec], store: Store, execution: Execution) -> bool:
    """Whether nothing of these trainings, all on the same dataset, has to be trained."""
    dataset = load(specs[0].settings.data, execution.data_dir)
    jobs = jobs_of(specs, dataset.digests, store, execution)
    return not find_work(jobs, related_records(jobs, store, dataset.digest), {}).jobs
