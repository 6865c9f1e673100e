"""What has to be trained, decided from the wanted trainings and the finished ones."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from aepretrain.config import Execution, TrainingSpec
from aepretrain.records import Record
from aepretrain.tracking import Store
from aepretrain.training import Digests, training_key


@dataclass(frozen=True)
class Job:
    """One training to be done. It is small enough to be sent to a worker."""

    spec: TrainingSpec
    key: str
    sources: Mapping[str, str]
    """The keys of the trainings whose weights it starts from, by the names of `TrainingSpec.sources`."""
    store: Store
    execution: Execution
    parent_run_id: str | None = None
    run_id: str | None = None
    """The run that ``mlflow run`` opened for this training."""
    study: str | None = None
    """The study that it is trained for; None if it belongs to a grid or was asked for alone."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Further tags of its run."""
    weights_needed: bool = False
    """Whether another wanted training starts from its weights."""

    def is_done_by(self, record: Record | None) -> bool:
        """Whether a finished training makes this job unnecessary.

        A bundle leaves out most weights; one converted from version 1 also leaves out the outcomes of a study's
        trainings. So an imported training is trained again where its weights are needed, or where a grid asks for what
        was only a study's.
        """
        if record is None or self.execution.force:
            return False
        if record.has_weights:
            return True
        may_lack_outcomes = record.study is not None and "imported_run" in record.tags
        return not self.weights_needed and not (self.study is None and may_lack_outcomes)


@dataclass(frozen=True)
class Work:
    """The finished records of what was wanted, and the jobs to train, by key; a job's sources come before it."""

    done: Mapping[str, Record]
    jobs: Mapping[str, Job]


def find_work(wanted: Mapping[str, Job], finished: Mapping[str, Record], sources: Mapping[str, Job]) -> Work:
    """Which of the `wanted` jobs are done, and what must be trained for the others.

    Jobs of `sources` are trained only if a job to be trained starts from them and they are not finished with weights.
    A study's job that a grid has finished before stays the grid's.
    """
    known = {**sources, **wanted}
    jobs: dict[str, Job] = {}
    needed: set[str] = set()
    to_check = list(wanted)
    while to_check:
        key = to_check.pop()
        job, record = known[key], finished.get(key)
        if record is not None and record.study is None:
            job = replace(job, study=None)
        job = replace(job, weights_needed=key in needed)
        if not job.is_done_by(record):
            jobs[key] = job
            new = {source for source in job.sources.values() if source in known} - needed
            needed |= new
            to_check += new
    done = {key: finished[key] for key in wanted if key not in jobs}
    return Work(done, {key: jobs[key] for key in known if key in jobs})


def make_job(spec: TrainingSpec, digests: Digests, store: Store, execution: Execution) -> Job:
    """The job of a training. Raises `UsageError` for a network that is not registered."""
    return Job(
        spec=spec,
        key=training_key(spec, digests),
        sources={name: training_key(one, digests) for name, one in spec.sources.items()},
        store=store,
        execution=execution,
    )


def jobs_of(
    specs: Iterable[TrainingSpec], digests: Digests, store: Store, execution: Execution, study: str | None = None
) -> dict[str, Job]:
    """The jobs of these trainings, by key."""
    jobs = [make_job(spec, digests, store, execution) for spec in specs]
    return {job.key: replace(job, study=study) for job in jobs}


def related_records(jobs: Mapping[str, Job], store: Store, dataset_digest: str, **tags: str) -> dict[str, Record]:
    """The finished trainings with the settings that all jobs share: those of the jobs, other seeds, and more.

    With `tags`, only those that have these.
    """
    settings = [job.spec.settings.stored() for job in jobs.values()]
    shared = {
        name: value
        for name, value in (settings[0] if settings else {}).items()
        if all(one[name] == value for one in settings)
    }
    return store.records(shared, dataset_digest=dataset_digest, **tags) if jobs else {}


def all_sources(spec: TrainingSpec) -> Iterator[TrainingSpec]:
    """The trainings that this one starts from, directly or not, each after its own sources."""
    for source in spec.sources.values():
        yield from all_sources(source)
        yield source
