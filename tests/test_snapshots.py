"""Trainings that go on from a snapshot, and the files that snapshots are kept in."""

import copy
import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from aepretrain.engine import Task, Trained, train
from aepretrain.errors import Failure
from aepretrain.records import EpochResult
from aepretrain.runner.snapshots import SnapshotFile
from tests.tasks import make, task


@dataclass
class Kept:
    """Snapshots of every epoch, as bytes; a training is begun from `begin`."""

    interval_s: float = 0.0
    begin: bytes | None = None
    saved: list[bytes] = field(default_factory=list)

    def load(self) -> Mapping[str, Any] | None:
        return None if self.begin is None else torch.load(io.BytesIO(self.begin), weights_only=True)

    def save(self, state: Mapping[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        self.saved.append(buffer.getvalue())


def figures(results: list[Trained | Failure]) -> list[object]:
    """All that is not time."""
    return [
        str(one)
        if isinstance(one, Failure)
        else (one.best_epoch, [(r.epoch, r.train_loss, r.val_loss, r.val_accuracy) for r in one.history])
        for one in results
    ]


def same_bits(a: Task, b: Task, found_a: list[Trained | Failure], found_b: list[Trained | Failure]) -> bool:
    """Whether two trainings ended with the same models and the same last weights."""
    last = [
        (one.last_weights, two.last_weights)
        for one, two in zip(found_a, found_b, strict=True)
        if isinstance(one, Trained) and isinstance(two, Trained)
    ]
    models = [(one.state_dict(), two.state_dict()) for one, two in zip(a.models, b.models, strict=True)]
    return all(one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one) for one, two in models + last)


def begun(kind: str, network: str, num_seeds: int, **phase: Any) -> Task:
    one = task(*(make(network, kind, seed) for seed in range(num_seeds)), epochs=9, lr=0.02, patience=2)
    return replace(one, hyperparameters=replace(one.hyperparameters, **phase))


@pytest.mark.parametrize(
    ("kind", "network", "num_seeds", "phase"),
    [
        ("classifier", "fc", 1, {}),
        ("autoencoder", "conv", 1, {"epochs": 4}),
        ("frozen", "conv", 1, {"epochs": 4}),
        ("classifier", "fc", 3, {}),
        ("classifier", "conv", 3, {"epochs": 4}),
        ("classifier", "fc", 1, {"passes": 3, "updates": 80, "patience": 0, "epochs": 3}),
        ("classifier", "fc", 3, {"passes": 2, "updates": 50, "patience": 0, "epochs": 3}),
    ],
)
def test_from_any_snapshot_on_the_bits_are_the_same(
    kind: str, network: str, num_seeds: int, phase: dict[str, Any]
) -> None:
    whole = begun(kind, network, num_seeds, **phase)
    kept = Kept()
    expected = train(whole, lambda *_: None, kept)
    plain = begun(kind, network, num_seeds, **phase)
    assert figures(train(plain, lambda *_: None)) == figures(expected), "saving changes nothing"
    lengths = {len(one.history) for one in expected if isinstance(one, Trained)}
    if (kind, network, num_seeds) == ("classifier", "fc", 3) and not phase:
        assert len(lengths) > 1, "some seed left before another, with snapshots after that"
    assert len(kept.saved) == max(lengths) - 1
    for state in kept.saved:
        resumed = begun(kind, network, num_seeds, **phase)
        seen: list[tuple[int, EpochResult]] = []
        found = train(resumed, lambda *epoch, seen=seen: seen.append(epoch), Kept(begin=state))
        assert figures(found) == figures(expected)
        assert same_bits(whole, resumed, expected, found)
        for place, one in enumerate(found):
            assert isinstance(one, Trained)
            assert [result for at, result in seen if at == place] == list(one.history), "every epoch, once, in order"


def test_a_seed_that_failed_before_the_snapshot_stays_failed() -> None:
    poisoned = make("fc", "classifier", 1)
    with torch.no_grad():
        next(poisoned.parameters()).fill_(float("inf"))
    first = task(make("fc", "classifier", 0), poisoned, make("fc", "classifier", 2), epochs=3)
    second = replace(first, models=copy.deepcopy(first.models))
    kept = Kept()
    expected = train(first, lambda *_: None, kept)
    found = train(second, lambda *_: None, Kept(begin=kept.saved[0]))
    assert isinstance(found[1], Failure)
    assert figures(found) == figures(expected)


def test_snapshots_are_as_far_apart_as_their_interval() -> None:
    kept = Kept(interval_s=3600)
    train(begun("classifier", "fc", 1), lambda *_: None, kept)
    assert kept.saved == []


def test_a_file_gives_back_what_was_saved_until_it_is_removed(tmp_path: Path) -> None:
    file = SnapshotFile.of(tmp_path, ["a", "b"], {"threads": 1})
    assert file.load() is None
    for value in (1.0, 2.0):
        file.save({"epochs_done": 3, "best": {"w": torch.tensor(value)}, "loss": 0.1 + 0.2})
    state = file.load()
    assert state == {"epochs_done": 3, "best": {"w": torch.tensor(2.0)}, "loss": 0.1 + 0.2}
    assert [one.name for one in tmp_path.iterdir()] == [file.path.name]
    file.remove()
    assert file.load() is None


def test_what_is_not_whole_or_not_of_this_training_is_removed(tmp_path: Path) -> None:
    file = SnapshotFile.of(tmp_path, ["a"], {"threads": 1})
    file.save({"epochs_done": 1})
    whole = file.path.read_bytes()
    damaged = [whole[:num] for num in range(0, len(whole), 7)]
    damaged += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(0, len(whole), 7)]
    for content in damaged:
        file.path.write_bytes(content)
        assert file.load() is None
        assert not file.path.exists()
    file.path.write_bytes(whole)
    assert SnapshotFile.of(tmp_path, ["a"], {"threads": 2}).load() is None, "rounding would differ"
    file.path.write_bytes(whole)
    assert SnapshotFile.of(tmp_path, ["b"], {"threads": 1}).load() is None
    assert file.load() is not None


def test_nothing_in_a_snapshot_is_executed(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (tmp_path.joinpath("sprung").touch, ())

    file = SnapshotFile.of(tmp_path, ["a"], {})
    buffer = io.BytesIO()
    torch.save({"epochs_done": Trap()}, buffer)
    file.path.write_bytes(file._digest(buffer.getvalue()) + buffer.getvalue())
    assert file.load() is None
    assert not (tmp_path / "sprung").exists()
