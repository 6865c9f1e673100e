"""Tuning: all arms of a call in rounds, a trial of each in every round. Optuna chooses what is tried.

Nothing of Optuna is stored. A second start asks it again, finds the same trials finished, and goes on from there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import optuna

from aepretrain import tracking
from aepretrain.config import (
    Execution,
    TrainingSpec,
    canonical_json,
    derive_seed,
    format_seeds,
    grid_key,
    grid_options,
)
from aepretrain.data import Dataset, load
from aepretrain.plans import with_sources
from aepretrain.records import Record
from aepretrain.runner.events import Event, Listener
from aepretrain.runner.forecast import Forecast
from aepretrain.runner.grid import About, Conclude, GridResult, MakePool, Trainer
from aepretrain.runner.plugins import load_plugins
from aepretrain.runner.pool import local_pool
from aepretrain.runner.work import jobs_of
from aepretrain.tuning import LEARNING_RATES, TUNED, TUNING, WEIGHT_DECAYS, Trial, arm_key, trial_entry

NUM_RANDOM = 4
"""Trials before the sampler learns from their results, the arm's own settings among them."""


@dataclass
class _Arm:
    """An arm, and the sampler that chooses its trials. The same results give the same trials."""

    spec: TrainingSpec
    seeds: tuple[int, ...]
    study: optuna.Study = field(init=False)
    asked: list[optuna.trial.Trial] = field(init=False, default_factory=list)
    first: Record | None = field(init=False, default=None)
    """The first finished training of a trial."""

    def __post_init__(self) -> None:
        seed = derive_seed(0, f"tuning {arm_key(self.spec)}")
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=NUM_RANDOM)
        self.study = optuna.create_study(sampler=sampler)
        self.study.enqueue_trial({"cls_lr": self.spec.settings.lr, "weight_decay": 0.0})

    def ask(self) -> Trial:
        """The next trial. Its learning rate has three significant digits."""
        asked = self.study.ask()
        self.asked.append(asked)
        rate = asked.suggest_float("cls_lr", *LEARNING_RATES, log=True)
        decay = asked.suggest_categorical("weight_decay", WEIGHT_DECAYS)
        is_own = len(self.asked) == 1
        return Trial(len(self.asked), self.spec.settings.lr if is_own else float(f"{rate:.3g}"), float(decay))

    def tell(self, records: Sequence[Record]) -> None:
        """The trainings of the trial that was asked for last; without those that have failed."""
        if len(records) < len(self.seeds):
            self.study.tell(self.asked[-1], state=optuna.trial.TrialState.FAIL)
            return
        losses_S = tuple(record.metrics["best_val_loss"] for record in records)
        self.study.tell(self.asked[-1], Trial(0, 0.0, 0.0, losses_S).loss)
        self.first = self.first or records[0]


def run_tuning(
    arms: Sequence[TrainingSpec],
    seeds: tuple[int, ...],
    num_trials: int,
    store: tracking.Store,
    execution: Execution,
    listen: Listener,
    conclude: Conclude,
    *,
    run_id: str | None = None,
    make_pool: MakePool = local_pool,
    forecast: Forecast | None = None,
) -> GridResult:
    """Tune arms, all on the same dataset: so many trials of each, trained as children of one parent run.

    A trial's value is the mean of its trainings' `best_val_loss`; one with a failed training counts as failed. When all
    trials are over, a tag of each arm says so (see `tuning.tunings`). Other arguments are those of `run_grid`.
    """
    load_plugins(execution)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    dataset = load(arms[0].settings.data, execution.data_dir)
    about = _about(arms, seeds, num_trials, dataset)
    with about.opened(store, run_id, partial(listen, Event("waiting", arms[0])), again=execution.force) as parent:
        trainer = Trainer(store, dataset, listen, make_pool, parent, forecast or Forecast())
        samplers = [_Arm(arm, seeds) for arm in arms]
        finished: dict[str, Record] = {}
        for number in range(1, num_trials + 1):
            finished |= _train_round(samplers, number, trainer, execution)
        for first in [arm.first for arm in samplers if arm.first is not None]:
            finished[first.key] = _with_entry(store, finished[first.key], TUNED, trial_entry(seeds, num_trials))
        records = tuple(finished.values())
        parent.tag(reused=tracking.listing([one.run_id for one in records if one.parent_run_id != parent.run_id]))
        conclude(parent, records)
        parent.end("FAILED" if trainer.failures else "FINISHED")
    return GridResult(parent.run_id, records, trainer.failures)


def _about(arms: Sequence[TrainingSpec], seeds: tuple[int, ...], num_trials: int, dataset: Dataset) -> About:
    of_seeds = format_seeds(seeds)
    params = grid_options(arms) | {"seeds": of_seeds, "trials": num_trials}
    key = grid_key(
        tuple(map(arm_key, arms)), canonical_json([TUNING, of_seeds, num_trials, *filter(None, dataset.digests)])
    )
    return About(TUNING, f"tuning {dataset.name}, seeds {of_seeds}", key, params)


def _train_round(arms: Sequence[_Arm], number: int, trainer: Trainer, execution: Execution) -> dict[str, Record]:
    """Train a trial of each arm; gives its finished trainings, with the trial in their tag."""
    asked = [arm.ask() for arm in arms]
    specs = [
        [replace(trial.of(arm.spec), seed=seed) for seed in arm.seeds] for arm, trial in zip(arms, asked, strict=True)
    ]
    of_arms = [jobs_of(one, trainer.dataset.digests, trainer.store, execution, TUNING) for one in specs]
    wanted = {key: job for of_arm in of_arms for key, job in of_arm.items()}
    pretrainings = [source for of_arm in specs for spec in of_arm for source in with_sources(spec) if source != spec]
    kept = replace(execution, force=False)  # later rounds start from them again
    sources = jobs_of(pretrainings, trainer.dataset.digests, trainer.store, kept, TUNING)
    for job in wanted.values():
        trainer.listen(Event("planned", job.spec))
    trained: Mapping[str, Record] = trainer.train(wanted, execution, sources)
    tagged: dict[str, Record] = {}
    for arm, of_arm in zip(arms, of_arms, strict=True):
        records = [
            _with_entry(trainer.store, trained[key], TUNING, trial_entry(arm.seeds, number))
            for key in of_arm
            if key in trained
        ]
        arm.tell(records)
        tagged |= {record.key: record for record in records}
    return tagged


def _with_entry(store: tracking.Store, record: Record, tag: str, entry: str) -> Record:
    """The training with an entry in a tag, also in the store."""
    entries = record.tags.get(tag, "").split()
    if entry in entries:
        return record
    tags = {tag: " ".join([*entries, entry])}
    with tracking.where_possible():
        tracking.Run(store, record.run_id).tag(**tags)
    return replace(record, tags={**record.tags, **tags})
