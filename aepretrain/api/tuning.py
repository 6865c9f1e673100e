"""Tune arms, and give trainings their arms' choices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from aepretrain import report, runner, tracking
from aepretrain.api.choices import arms_of, part_to_tune
from aepretrain.api.stores import store_uri
from aepretrain.api.training import Session, link_parts, together, with_data_dir
from aepretrain.config import AUGMENTATIONS, GRID_NETWORKS, Execution, Settings, TrainingSpec, format_seeds
from aepretrain.display import say
from aepretrain.errors import UsageError
from aepretrain.plans import FIRST_TUNING_SEED, read_plan
from aepretrain.records import Record
from aepretrain.tuning import Tuning, tunings

MAX_TRIALS = 1000


@dataclass(frozen=True, repr=False)
class Tunings:
    """What tuning found. A notebook shows the table of choices."""

    tunings: tuple[Tuning, ...]
    records: tuple[Record, ...]
    """The finished trainings of all trials."""
    failures: Mapping[str, str]
    """Why trainings failed, by their names."""
    store_uri: str

    @property
    def table(self) -> list[list[str]]:
        """The choice of each arm as text, after a heading."""
        return report.choices_table(self.tunings)[1]

    def __repr__(self) -> str:
        return report.choices_markdown(self.tunings) + "\n"

    def _repr_markdown_(self) -> str:
        return repr(self)


def tune(
    *,
    networks: Sequence[str] = GRID_NETWORKS,
    augmentations: Sequence[str] = AUGMENTATIONS,
    objectives: Sequence[str] | None = None,
    seeds: Sequence[int] = (FIRST_TUNING_SEED, FIRST_TUNING_SEED + 1),
    trials: int = 8,
    settings: Settings | None = None,
    execution: Execution | None = None,
    cluster: str | None = None,
    resources: Mapping[str, float] | None = None,
    tracking_uri: str | None = None,
    run_id: str | None = None,
    show: bool = True,
) -> Tunings:
    """Choose learning rate and weight decay of frozen, finetune and scratch, by validation loss.

    Each has the same number of `trials`. The first has the settings as they are. `seeds` are tuning seeds, from
    1,000,000 on, which are never judged. Other arguments are those of `run_grid`. With the same arguments it goes on
    where it was stopped, and gives the same choices.
    """
    session = Session(with_data_dir(execution), cluster, resources or {}, Console(quiet=not show))
    specs = session.checked_specs(networks, augmentations, (0,), settings or Settings(), objectives)
    arms = {specs[0].settings.dataset: arms_of(specs)}
    return _tune(arms, tuple(sorted(set(seeds))), trials, session, tracking_uri, run_id)


def tune_plan(
    plan: str | Path,
    *,
    datasets: Sequence[str] | None = None,
    networks: Sequence[str] | None = None,
    execution: Execution | None = None,
    cluster: str | None = None,
    resources: Mapping[str, float] | None = None,
    tracking_uri: str | None = None,
    run_id: str | None = None,
    show: bool = True,
) -> Tunings:
    """Tune the arms of a plan, as its key ``tuned`` says.

    Only those of these `datasets` and `networks`; None stands for all. Other arguments are those of `run_plan`.
    """
    part = part_to_tune(plan, read_plan(plan), datasets, networks)
    assert part.tuned is not None, "part_to_tune checks it"
    session = Session(with_data_dir(execution), cluster, resources or {}, Console(quiet=not show))
    runner.load_plugins(session.execution)
    arms = {dataset: arms_of(part.arms(dataset)) for dataset in part.datasets}
    runner.check([arm for of_dataset in arms.values() for arm in of_dataset], session.execution)
    return _tune(arms, part.tuned.seeds, part.tuned.trials, session, tracking_uri, run_id)


def _tune(
    arms: Mapping[str, Sequence[TrainingSpec]],
    seeds: tuple[int, ...],
    trials: int,
    session: Session,
    tracking_uri: str | None,
    run_id: str | None,
) -> Tunings:
    """Tune the arms of each dataset, with a parent run each."""
    from aepretrain.runner import tuner  # imports Optuna

    if not seeds or seeds[0] < FIRST_TUNING_SEED:
        given = format_seeds(seeds)
        raise UsageError(f"seeds={given!r} is not allowed for tuning: seeds below {FIRST_TUNING_SEED} are judged")
    if not 1 <= trials <= MAX_TRIALS:
        raise UsageError(f"trials={trials!r} is not allowed: it must be an integer from 1 to {MAX_TRIALS}")
    tracking_uri = store_uri(tracking_uri)  # before a dataset is downloaded
    for of_dataset in arms.values():
        runner.load_dataset(of_dataset, session.execution)
    store = session.open_store(tracking_uri, run_id)
    session = session.on_checked_device(store)
    results = {}
    for dataset, of_dataset in arms.items():
        say(session.console, f"tuning on {dataset}: {len(of_dataset)} arms, {trials} trials, {len(seeds)} seeds each")
        with session.workers(store, [], may_grow=True) as (make_pool, display):
            results[dataset] = tuner.run_tuning(
                *(of_dataset, seeds, trials, store, session.execution, display.handle, _log_trials(seeds, trials)),
                run_id=run_id if len(arms) == 1 else None,
                make_pool=make_pool,
                forecast=display.forecast,
            )
    if run_id is not None and len(arms) > 1:
        link_parts(tracking.Run(store, run_id), "tunings", results)
    both = together(list(results.values()), store)
    found = tuple(one for one in tunings(both.records) if (one.seeds, one.num_trials) == (seeds, trials))
    return Tunings(found, both.records, both.failures, store.uri)


def _log_trials(seeds: tuple[int, ...], trials: int) -> runner.Conclude:
    """What writes trials and choices into the parent run. They are for people; the trainings are what counts."""

    def log(parent: tracking.Run, records: Sequence[Record]) -> None:
        found = [one for one in tunings(records) if (one.seeds, one.num_trials) == (seeds, trials)]
        parent.log_files(report.tuning_files(found))
        parent.describe(report.choices_markdown(found))

    return log
