"""How long trainings take, and how long it is until all of them are finished."""

import math
import time
from bisect import insort
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, overload

from aepretrain.config import UPDATES_BETWEEN_VALIDATIONS, Settings, TrainingSpec, canonical_json
from aepretrain.records import EpochResult, Record
from aepretrain.runner.events import Event, Listener
from aepretrain.variants import EVALUATIONS, PRETRAINING, find_or_assume

BESIDE_S = 1.0
"""Seconds of a training beside its epochs, to open and write its run, until some are measured."""

MNIST_IMAGES = 50_000
"""The number of training images of which `_guess` thinks."""

SHARE_OF_EPOCHS = 0.75
"""With patience, a classifier on MNIST ends after about this share of the default 50 epochs."""

ALL_GROUPS = ("all",)
"""Of all trainings alike: the only group."""


def _median(ordered: Sequence[float]) -> float:
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


class _Medians:
    """Medians by groups of trainings."""

    def __init__(self) -> None:
        self._values: dict[Hashable, list[float]] = {}

    def add(self, groups: Iterable[Hashable], value: float) -> None:
        """Add a value to groups."""
        for group in groups:
            insort(self._values.setdefault(group, []), value)

    @overload
    def first(self, groups: Iterable[Hashable], default: float) -> float: ...
    @overload
    def first(self, groups: Iterable[Hashable]) -> float | None: ...
    def first(self, groups: Iterable[Hashable], default: float | None = None) -> float | None:
        """The median of the first of these groups that has values."""
        found = (self._values[group] for group in groups if group in self._values)
        return next((_median(values) for values in found), default)


@dataclass
class _Running:
    """A training under way."""

    started_s: float
    heard_s: float
    """When it started, or its last epoch ended."""
    is_first: bool = False
    """Whether it may be the first of its worker, which imports then."""
    num_at_once: int = 1
    """The number of seeds in its stack at the last epoch."""
    epoch: int = 0
    trained_s: float = 0.0
    best_epoch: int = 0
    best_loss: float = math.inf

    def note(self, result: EpochResult, num_at_once: int) -> None:
        """Hear of an epoch, and of those since the last: a cluster's workers report one a second."""
        self.trained_s += result.elapsed_s * (result.epoch - self.epoch if self.epoch else 1)
        self.heard_s, self.epoch, self.num_at_once = time.monotonic(), result.epoch, num_at_once
        if result.val_loss < self.best_loss:
            self.best_epoch, self.best_loss = result.epoch, result.val_loss


@dataclass
class Forecast:
    """How long trainings take, from the finished ones and from the epochs of those under way.

    A training takes so many epochs, so many seconds each. Both are medians of the most similar trainings: other seeds
    of the same settings, else the same kind (network, variant, labels and updates), else, for the seconds, the same
    network. Where trainings differ, `_guess` says by how much. Seconds that this command has measured come before
    those of the store, and correct them where they are of another machine.
    """

    workers: int = 1
    """The number of stacks trained at once."""
    stack: int = 1
    """The number of seeds in a stack, at most."""
    _epochs: _Medians = field(init=False, default_factory=_Medians)
    """Numbers of epochs, as multiples of the guess."""
    _stored_s: _Medians = field(init=False, default_factory=_Medians)
    """Seconds of an epoch in finished trainings of the store, as multiples of the guess."""
    _measured_s: _Medians = field(init=False, default_factory=_Medians)
    """The same, measured now."""
    _slower: _Medians = field(init=False, default_factory=_Medians)
    """How much longer epochs take now than in the store."""
    _beside_s: _Medians = field(init=False, default_factory=_Medians)
    """Seconds beside epochs, by stage: pretraining ends with a linear probe, which takes long."""
    _num_started: int = field(init=False, default=0)
    _known: set[str] = field(init=False, default_factory=set)
    """The runs that have been added."""
    _running: dict[TrainingSpec, _Running] = field(init=False, default_factory=dict)

    def add(self, record: Record) -> None:
        """Take a finished training of the store into account."""
        if record.run_id not in self._known:
            self._note_finished(record, self._stored_s)

    def _note_finished(self, record: Record, seconds: _Medians | None) -> None:
        self._known.add(record.run_id)
        kind = _Kind.of(record.identity)
        num = record.metrics.get("num_epochs", 1.0)  # an evaluation has none
        self._epochs.add(kind.similar, num / kind.epochs)
        if seconds is not None:
            seconds.add(kind.groups, record.metrics["training_s"] / num / kind.pace)

    def expect_new_workers(self) -> None:
        """Take the next trainings for the first of their workers, which import then."""
        self._num_started = 0

    def before(self, listen: Listener) -> Listener:
        """A listener that lets the forecast hear each event first."""

        def both(event: Event) -> None:
            self._hear(event)
            listen(event)

        return both

    def _hear(self, event: Event) -> None:
        spec, now_s = event.spec, time.monotonic()
        if event.kind == "started":
            self._num_started += 1
            self._running[spec] = _Running(now_s, now_s, is_first=self._num_started <= self.workers * self.stack)
        elif event.epoch is not None:
            self._note_epoch(spec, event.epoch)
        elif event.kind in ("finished", "failed", "retried"):
            self._note_end(spec, event.record)
            self._running.pop(spec, None)

    def _note_end(self, spec: TrainingSpec, record: Record | None) -> None:
        ran = self._running.get(spec)
        if record is not None and (ran is None or not ran.epoch):  # an evaluation, or trained by another process
            self._note_finished(record, self._measured_s)
        elif record is not None and ran is not None:
            self._note_finished(record, None)
            if not ran.is_first:
                lasted_s = (time.monotonic() - ran.started_s) / ran.num_at_once
                self._beside_s.add([spec.stage], max(0.0, lasted_s - ran.trained_s))

    def _note_epoch(self, spec: TrainingSpec, result: EpochResult) -> None:
        now_s, kind = time.monotonic(), _kind_of(spec)
        self._running.setdefault(spec, _Running(now_s, now_s)).note(result, self._num_at_once(spec))
        self._measured_s.add(kind.groups, result.elapsed_s / kind.pace)
        if (stored := self._stored_s.first(kind.similar)) is not None:
            self._slower.add(ALL_GROUPS, result.elapsed_s / kind.pace / stored)

    def _num_at_once(self, spec: TrainingSpec) -> int:
        """The number of seeds that share the time of a training that is under way."""
        cell = spec.seedless
        return min(self.stack, sum(one.seedless == cell for one in self._running))

    def epochs(self, spec: TrainingSpec) -> float:
        """The number of epochs that are expected."""
        kind = _kind_of(spec)
        own, similar = kind.similar
        of_similar = (1.0 + self._epochs.first([similar], 1.0)) / 2  # another augmentation changes the number
        epochs = kind.epochs * self._epochs.first([own], of_similar)
        return epochs if spec.trains_by_updates else min(epochs, spec.epochs)

    def _epoch_s(self, spec: TrainingSpec) -> float:
        """Seconds of an epoch; infinite where no training of the network has been seen."""
        kind, slower = _kind_of(spec), self._slower.first(ALL_GROUPS, 1.0)
        for group in kind.groups:
            stored_s = slower * self._stored_s.first([group], math.inf)
            pace = self._measured_s.first([group], stored_s)
            if pace < math.inf:
                return pace * kind.pace
        return math.inf

    def seconds(self, spec: TrainingSpec) -> float:
        """How long a training takes; infinite where no training of the network has been seen."""
        return self.epochs(spec) * self._epoch_s(spec) + self._beside_s.first([spec.stage], BESIDE_S)

    def _seconds_left(self, spec: TrainingSpec, ran: _Running) -> float:
        """How long a training that is under way still takes."""
        epochs, patience = self.epochs(spec), spec.settings.patience
        if ran.epoch and patience and not spec.trains_by_updates:  # it cannot end before
            epochs = max(epochs, min(ran.best_epoch + patience, spec.epochs))
        left_s = max(0.0, epochs - ran.epoch) * self._epoch_s(spec) + self._beside_s.first([spec.stage], BESIDE_S)
        return max(0.0, left_s - (time.monotonic() - ran.heard_s) / self._num_at_once(spec))

    def time_left(self, missing: Mapping[TrainingSpec, Collection[TrainingSpec]]) -> tuple[float, bool]:
        """Seconds until the missing trainings are finished, and whether all of them could be estimated.

        They are given by `TrainingSpec.seedless`. It is the longest of: the time of all, shared by the workers, and
        that of one after its sources.
        """
        total_s, all_known, longest_s = 0.0, True, dict[TrainingSpec, float]()
        for cell, seeds in missing.items():
            each_s = self.seconds(cell) if seeds else 0.0
            if each_s == math.inf:
                all_known = False
            elif seeds:
                ran = [(spec, self._running[spec]) for spec in seeds if spec in self._running]
                left_S = [self._seconds_left(*one) for one in ran] + [each_s] * (len(seeds) - len(ran))
                total_s += sum(left_S)
                longest_s[cell] = max(left_S) * min(self.stack, len(seeds))

        def with_sources(cell: TrainingSpec) -> float:
            sources = (one.seedless for one in cell.sources.values())
            return longest_s.get(cell, 0.0) + max(map(with_sources, sources), default=0.0)

        return max(total_s / max(1, self.workers), *map(with_sources, longest_s), 0.0), all_known


@dataclass(frozen=True)
class _Kind:
    """What a training has in common with others, and a guess of how it differs from them."""

    groups: tuple[Hashable, ...]
    """From the most similar trainings on: all settings but the seed; the kind; the network."""
    epochs: float
    """The guessed number of epochs."""
    pace: float
    """The guessed seconds of an epoch, as a multiple of those of pretraining."""

    @property
    def similar(self) -> tuple[Hashable, ...]:
        """The groups in which numbers of epochs are alike."""
        return self.groups[:2]

    @classmethod
    def of(cls, identity: Mapping[str, Any]) -> "_Kind":
        """The kind of a training with this identity."""
        images = identity["dataset"], identity.get("image_size")
        kind = identity["network"], identity["variant"], identity.get("labels", 0), identity.get("updates", 0)
        groups = canonical_json({**identity, "seed": None}), (images, kind), (images, identity["network"])
        return cls(groups, *_guess(identity))


@lru_cache(maxsize=10_000)
def _kind_of(spec: TrainingSpec) -> _Kind:
    return _Kind.of(spec.identity())


def _guess(identity: Mapping[str, Any]) -> tuple[float, float]:
    """A training's number of epochs, and the seconds of one as a multiple of those of pretraining.

    The numbers are those of fc and conv on MNIST, rounded (the bundle in the project's folder `evidence`). Only
    proportions matter, and only between trainings of different settings.
    """
    kind, variant = find_or_assume(identity["variant"]), identity["variant"]
    if variant in EVALUATIONS:
        return 1.0, 5.0 if variant == "similarity" else 1.0
    if kind.stage == PRETRAINING:
        return identity["ae_epochs"], 1.0
    heads_only = getattr(kind, "trains_head_only", False)
    pace = 0.4 if not heads_only else 0.03 if identity["augmentation"] == "none" else 0.2
    num_images = identity.get("labels", 0) or MNIST_IMAGES
    if updates := identity.get("updates", 0):
        steps = max(num_images / identity["batch_size"], UPDATES_BETWEEN_VALIDATIONS)
        return max(1.0, updates / steps), pace * steps * identity["batch_size"] / MNIST_IMAGES
    epochs, patience = identity.get("cls_epochs", Settings.cls_epochs), identity.get("patience", 0)
    if patience and not heads_only:
        epochs = max(SHARE_OF_EPOCHS * epochs, min(epochs, patience + 1))  # none ends before
    return epochs, pace * num_images / MNIST_IMAGES
