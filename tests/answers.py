"""Records and predictions made by hand, and an archive of them in memory."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from aepretrain.config import Settings, TrainingSpec, grid_specs
from aepretrain.records import NO_FILTER, Outcomes, Predictions, Record
from aepretrain.tuning import Trial

NUM_IMAGES = 1000
EFFECTS = {("fc", "none"): 0, ("fc", "erasing"): 20, ("conv", "none"): -20, ("conv", "erasing"): 0}
"""How many test images more finetune classifies rightly than scratch, on average over seeds."""


def predictions(num_right: int, seed: int) -> Predictions:
    labels_N = np.arange(NUM_IMAGES, dtype=np.uint8) % 10
    order_N = np.random.default_rng(seed).permutation(NUM_IMAGES)
    predicted_N = labels_N.copy()
    predicted_N[order_N[num_right:]] = (labels_N[order_N[num_right:]] + 1) % 10
    nll_N = np.zeros(NUM_IMAGES, np.float16)
    return Predictions(labels_N, predicted_N, nll_N, nll_N)


TUNING_SEEDS = (1_000_000, 1_000_001)


def record_of(spec: TrainingSpec, accuracy: float, **metrics: float) -> Record:
    usual = {"test_accuracy": accuracy, "test_macro_f1": accuracy - 0.001, "test_loss": 0.007}
    usual |= {"best_val_loss": 0.1 + 0.01 * spec.seed, "num_epochs": 20 + spec.seed, "best_epoch": 10}
    identity = json.loads(json.dumps(spec.identity()))
    tags = {
        "commit": "abc",
        "device": "cpu",
        "pretraining_key": "".join(source.name for source in spec.sources.values()),
    }
    return Record(f"run-{spec.name}", None, spec.name, 1, identity, usual | metrics, tags)


def trial_records(
    arm: TrainingSpec, losses: Sequence[float], seeds: Sequence[int] = TUNING_SEEDS, **metrics: float
) -> list[Record]:
    """Finished trainings of an ended tuning; the n-th trial has the n-th loss, and a learning rate of n/1000."""
    made, way = [], f"{seeds[0]}-{seeds[-1]}"
    for number, loss in enumerate(losses, 1):
        for seed in seeds:
            spec = Trial(number, number / 1000, 0.0).of(replace(arm, seed=seed))
            record = record_of(spec, 0.9, best_val_loss=loss + 0.001 * (seed - seeds[0]), **metrics)
            tags = {"study": "tuning", "tuning": f"{way}:{number}"}
            if number == 1 and seed == seeds[0]:
                tags["tuned"] = f"{way}:{len(losses)}"
            made.append(replace(record, key=f"{spec.name}-{number}", tags={**record.tags, **tags}))
    return made


@dataclass
class Archive:
    """An archive in memory."""

    found: dict[str, Record] = field(default_factory=dict)
    files: dict[tuple[str, str], bytes] = field(default_factory=dict)

    def add(self, spec: TrainingSpec) -> None:
        num_right = 950 + (spec.seed * 7) % 5
        if spec.variant == "finetune":
            num_right += EFFECTS[spec.network, spec.augmentation] + (spec.seed * 3) % 4 - 1
        self.found[spec.name] = record_of(spec, num_right / NUM_IMAGES)
        self.files[f"run-{spec.name}", "evidence/predictions.npz"] = predictions(num_right, spec.seed).to_bytes()

    @property
    def place(self) -> str:
        return "memory"

    def records(self, wanted: Mapping[str, Any] = NO_FILTER) -> dict[str, Record]:
        assert not wanted
        return self.found

    def record(self, run_id: str) -> Record:
        return next(one for one in self.found.values() if one.run_id == run_id)

    def curves(self, records: Sequence[Record], metric: str) -> list[list[float]]:
        return [
            [0.9 if metric == "val_accuracy" else 1.1 / epoch for epoch in range(1, 4 + record.seed % 3)]
            for record in records
        ]

    def artifact(self, record: Record, path: str) -> bytes:
        return self.files[record.run_id, path]

    def weights(self, record: Record) -> bytes:
        return self.artifact(record, "weights.pt")

    def has_artifact(self, record: Record, path: str) -> bool:
        return (record.run_id, path) in self.files

    def link(self, record: Record) -> str:
        return f"http://127.0.0.1:5000/#/runs/{record.run_id}"

    def outcomes_of(self, key: str) -> Outcomes:
        return self.outcomes(self.found[key])

    def outcomes(self, record: Record) -> Outcomes:
        return Predictions.from_bytes(self.artifact(record, "evidence/predictions.npz")).outcomes()


def archive(num_seeds: int, networks: tuple[str, ...] = ("fc", "conv")) -> Archive:
    made = Archive()
    for spec in grid_specs(networks, ("none", "erasing"), tuple(range(num_seeds)), Settings()):
        made.add(spec)
    return made
