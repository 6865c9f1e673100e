"""Tuning as values: the space, and from finished trainings the trials and the choice of each arm.

An arm is a classifier with its network, augmentation and settings: a `TrainingSpec` with seed 0. Tuning tries several
learning rates and weight decays of an arm on seeds that are never judged. Test images choose nothing.
"""

import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from aepretrain.config import Settings, TrainingSpec, canonical_json, format_seeds, parse_seeds
from aepretrain.errors import UsageError
from aepretrain.records import Record

LEARNING_RATES = (1e-4, 1e-2)
"""The range of learning rates of classifiers, on a logarithmic scale."""

WEIGHT_DECAYS = (0.0, 1e-4, 1e-3, 1e-2, 1e-1)

VARIED = ("cls_lr", "encoder_lr", "weight_decay")
"""The settings that tuning sets. A pretrained encoder learns at the rate of the head."""

TUNING, TUNED = "tuning", "tuned"
"""Trainings on tuning seeds, and trainings of arms at their choice.

As values of the tag ``study`` they keep both out of grids and reports. As tags of a training on a tuning seed they say
which trials it is of, and which tunings of its arm have ended."""

Tune = Callable[[TrainingSpec], TrainingSpec]
"""From a classifier's specification, the same at its arm's choice."""


@dataclass(frozen=True)
class Trial:
    """A learning rate and a weight decay of an arm, with the lowest validation loss of each tuning seed."""

    number: int
    """Its place among the arm's trials, from 1 on. The first has the arm's own settings."""
    cls_lr: float
    weight_decay: float
    losses_S: tuple[float, ...] = ()

    @property
    def loss(self) -> float:
        """The mean over seeds."""
        return statistics.fmean(self.losses_S)

    def of(self, spec: TrainingSpec) -> TrainingSpec:
        """The specification with this learning rate and weight decay."""
        cls_lr = None if self.cls_lr == spec.settings.lr else self.cls_lr  # one training has one specification
        return replace(spec, settings=replace(spec.settings, cls_lr=cls_lr, weight_decay=self.weight_decay))


@dataclass(frozen=True)
class Tuning:
    """A tuning of one arm that has ended."""

    arm: TrainingSpec
    seeds: tuple[int, ...]
    num_trials: int
    trials: tuple[Trial, ...]
    """Those whose trainings are all finished, in their order."""

    @property
    def choice(self) -> Trial:
        """The trial with the lowest mean validation loss, the first of equal ones."""
        return min(self.trials, key=lambda trial: (trial.loss, trial.number))


class NotTunedError(Exception):
    """An arm has no choice."""

    def __init__(self, arm: TrainingSpec) -> None:
        super().__init__(arm_name(arm))
        self.arm = arm


def arm_of(spec: TrainingSpec) -> TrainingSpec:
    """The arm of a training. Raises `UsageError` where its settings cannot be tuned."""
    for name in VARIED:
        if getattr(spec.settings, name) != getattr(Settings, name):
            raise UsageError(f"{name}={getattr(spec.settings, name)!r} is not allowed: tuning chooses it")
    low, high = LEARNING_RATES
    if not low <= spec.settings.lr <= high:
        raise UsageError(f"lr={spec.settings.lr!r} is not allowed: tuning starts from it, within {low:g} to {high:g}")
    return spec.seedless


def arm_name(arm: TrainingSpec) -> str:
    """``fc-none-finetune-pixel-mask-1000labels``."""
    return arm.name.removesuffix(f"-s{arm.seed}")


def arm_key(arm: TrainingSpec) -> str:
    """What identifies an arm, as text: the identity of its trainings without what differs between them."""
    return _arm_key(arm.identity())


def _arm_key(identity: Mapping[str, object]) -> str:
    return canonical_json({name: value for name, value in identity.items() if name not in ("seed", *VARIED)})


def trial_entry(seeds: Sequence[int], number: int) -> str:
    """The entry of a trial in the tag ``tuning``, and of a number of trials in ``tuned``: ``1000000-1000001:3``."""
    return f"{format_seeds(seeds)}:{number}"


def _entries(record: Record, tag: str) -> list[tuple[str, int]]:
    """Seeds as text and number of each entry of a tag."""
    matches = (re.fullmatch(r"([\d,-]+):(\d{1,9})", one, re.ASCII) for one in record.tags.get(tag, "").split())
    return [(match[1], int(match[2])) for match in matches if match]


def tunings(records: Iterable[Record]) -> list[Tuning]:
    """The tunings that have ended with at least one trial, in the order of their arms."""
    of_arms: dict[str, list[Record]] = {}
    for record in records:
        if TUNING in record.tags:
            of_arms.setdefault(_arm_key(record.identity), []).append(record)
    found = []
    for _, of_arm in sorted(of_arms.items()):
        for seeds, num_trials in sorted({entry for record in of_arm for entry in _entries(record, TUNED)}):
            arm = replace(of_arm[0].spec, seed=0)
            trials = _trials(of_arm, seeds, num_trials)
            if trials:
                plain = replace(arm.settings, **{name: getattr(Settings, name) for name in VARIED})
                found.append(Tuning(replace(arm, settings=plain), parse_seeds(seeds), num_trials, trials))
    return found


def _trials(records: Iterable[Record], seeds: str, num_trials: int) -> tuple[Trial, ...]:
    """The complete trials of an arm on these seeds."""
    losses: dict[Trial, dict[int, float]] = {}
    for record in records:
        for of_seeds, number in _entries(record, TUNING):
            if of_seeds == seeds and number <= num_trials:
                rate, decay = record.setting("cls_lr"), record.setting("weight_decay")
                losses.setdefault(Trial(number, rate, decay), {})[record.seed] = record.metrics["best_val_loss"]
    wanted = parse_seeds(seeds)
    complete = [
        replace(trial, losses_S=tuple(of_trial[seed] for seed in wanted))
        for trial, of_trial in losses.items()
        if of_trial.keys() >= set(wanted)
    ]
    return tuple(sorted(complete, key=lambda trial: (trial.number, trial.cls_lr, trial.weight_decay)))


def choices(records: Iterable[Record]) -> dict[tuple[str, tuple[int, ...], int], Trial]:
    """The choice of each tuning that has ended, by arm (`arm_key`), seeds and number of trials."""
    return {(arm_key(one.arm), one.seeds, one.num_trials): one.choice for one in tunings(records)}


def tuner(
    arms: Sequence[TrainingSpec],
    records: Iterable[Record],
    seeds: tuple[int, ...] | None = None,
    num_trials: int | None = None,
) -> Tune:
    """What gives a training of one of these arms its arm's choice.

    All arms use tunings with the same seeds and the same number of trials, so that none had a better chance: the given
    ones, else those with the most trainings that all arms have. Raises `NotTunedError`.
    """
    chosen = choices(records)
    keys = {arm_key(arm): arm for arm in arms}
    ways = Counter(
        (of_seeds, num)
        for key, of_seeds, num in chosen
        if key in keys and seeds in (None, of_seeds) and num_trials in (None, num)
    )
    way = max(ways, key=lambda one: (ways[one], len(one[0]) * one[1], one), default=None)
    for key, arm in keys.items():
        if way is None or (key, *way) not in chosen:
            raise NotTunedError(arm)

    def tune(spec: TrainingSpec) -> TrainingSpec:
        assert way is not None, "or an arm would be missing"
        return chosen[(arm_key(spec), *way)].of(spec)

    return tune
