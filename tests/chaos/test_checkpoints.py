"""Checkpoints that hold something else than weights: one line, and nothing in them is executed."""

import hashlib
import io
import os
import pickle
import random
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from aepretrain import networks, tracking
from aepretrain.config import MNIST_SHAPE, TrainingSpec
from aepretrain.errors import Failure
from aepretrain.training import dump_weights, parse_weights, scoring_module
from tests.chaos.damage import OPTIONS, SETTINGS, cut, flip, splice
from tests.commands import aepretrain

pytestmark = pytest.mark.chaos

SPEC = TrainingSpec(variant="finetune", network="fc", settings=SETTINGS)
CLASSIFIER = networks.part_weights(networks.build("fc", 0, MNIST_SHAPE), "encoder", "classifier2")


class RunsCode:
    """What pickle makes a file of that runs a command when it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.marker}",)


class EvaluatesCode(RunsCode):
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"__import__('pathlib').Path({str(self.marker)!r}).touch()",)


def saved(value: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def repacked(content: bytes, method: int, data: bytes | None = None) -> bytes:
    """The same parts of a checkpoint, stored or deflated, its pickle perhaps replaced."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(buffer, "w", method) as after:
        for name in before.namelist():
            after.writestr(name, data if data is not None and name.endswith("/data.pkl") else before.read(name))
    return buffer.getvalue()


def with_code(marker: Path) -> dict[str, bytes]:
    """Files that create the marker where they are read as pickles."""
    code, evaluated = RunsCode(marker), EvaluatesCode(marker)
    with_other_pickle = repacked(saved(CLASSIFIER), zipfile.ZIP_STORED, pickle.dumps(code))
    return {
        "a pickle": pickle.dumps(code),
        "a pickle that evaluates": pickle.dumps(evaluated),
        "in torch's format": saved({"encoder.0.weight": code}),
        "in torch's old format": saved(code, _use_new_zipfile_serialization=False),
        "beside good weights": saved({**CLASSIFIER, "evil": evaluated}),
        "as a name": saved({evaluated: torch.zeros(1)}),
        "in place of the good pickle": with_other_pickle,
    }


def test_code_in_a_checkpoint_never_runs(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    for name, content in with_code(marker).items():
        with pytest.raises(Failure, match="the checkpoint cannot be read") as error:
            parse_weights(content)
        assert "\n" not in str(error.value), name
        assert not marker.exists(), name
    pickle.loads(with_code(marker)["a pickle"])  # noqa: S301  # it would have
    assert marker.exists()


def changed(**weights: Tensor | None) -> dict[str, Tensor]:
    """A good classifier's weights but for these; None leaves one out. (A name's dots are underscores here.)"""
    both: Mapping[str, Tensor | None] = CLASSIFIER | {name.replace("_", "."): one for name, one in weights.items()}
    return {name: weight for name, weight in both.items() if weight is not None}


WEIGHT = CLASSIFIER["encoder.0.weight"]
NOT_FITTING: dict[str, tuple[object, str]] = {
    "a list": ([1, 2], "does not hold tensors by name"),
    "numbers for names": ({1: WEIGHT}, "does not hold tensors by name"),
    "no tensor": (CLASSIFIER | {"encoder.0.weight": 1.0}, "does not hold tensors by name"),
    "sparse": (changed(encoder_0_weight=WEIGHT.to_sparse()), "does not hold tensors by name"),
    "without values": (changed(encoder_0_weight=WEIGHT.to("meta")), "does not hold tensors by name"),
    "transposed": (changed(encoder_0_weight=WEIGHT.T), r"encoder\.0\.weight is torch\.float32 \[784, 256\], expected"),
    "10¹² values": (
        changed(encoder_0_bias=torch.zeros(1).expand(10**12)),
        r"encoder\.0\.bias is torch\.float32 \[1000000000000\], expected",
    ),
    "double": (changed(encoder_0_weight=WEIGHT.double()), r"is torch\.float64"),
    "integers": (changed(encoder_0_weight=WEIGHT.long()), r"is torch\.int64"),
    "complex": (changed(encoder_0_weight=WEIGHT * 1j), r"is torch\.complex64"),
    "NaN": (changed(encoder_0_weight=WEIGHT.clone().fill_(torch.nan)), r"encoder\.0\.weight holds values that are not"),
    "infinite": (changed(classifier2_bias=torch.full((10,), torch.inf)), r"classifier2\.bias holds values that are"),
    "one missing": (changed(encoder_0_bias=None), r"missing or unknown weights: encoder\.0\.bias"),
    "head missing": (
        changed(classifier2_weight=None, classifier2_bias=None),
        r"weights: classifier2\.bias, classifier2\.",
    ),
    "one more": (changed(encoder_9_weight=WEIGHT), r"missing or unknown weights: encoder\.9\.weight"),
    "one of elsewhere": (changed(backdoor_weight=WEIGHT), r"missing or unknown weights: backdoor\.weight"),
}


@pytest.mark.parametrize(("weights", "told"), NOT_FITTING.values(), ids=NOT_FITTING)
def test_what_does_not_fit_is_refused_in_one_line(weights: object, told: str) -> None:
    with pytest.raises(Failure, match=told) as error:
        scoring_module(SPEC, MNIST_SHAPE, parse_weights(saved(weights)))
    assert "\n" not in str(error.value)


def test_good_weights_fit() -> None:
    assert scoring_module(SPEC, MNIST_SHAPE, parse_weights(dump_weights(CLASSIFIER)))(
        torch.zeros(2, 1, 28, 28)
    ).shape == (2, 10)


def test_a_checkpoint_that_unpacks_to_more_than_it_is_is_not_unpacked() -> None:
    packed = repacked(saved({"encoder.0.weight": torch.zeros(10**7)}), zipfile.ZIP_DEFLATED)
    assert len(packed) < 10**5
    with pytest.raises(Failure, match="the checkpoint cannot be read"):
        parse_weights(packed)


def test_damaged_checkpoints_give_weights_that_fit_or_one_line(full_length: bool) -> None:
    content = dump_weights(CLASSIFIER)
    draw = random.Random(5)  # noqa: S311  # nothing secret
    refused = fitting = 0
    for _ in range(3_000 if full_length else 100):
        damaged = draw.choice((flip, cut, splice))(draw, content)
        try:
            scoring_module(SPEC, MNIST_SHAPE, parse_weights(damaged))
            fitting += 1
        except Failure as error:
            refused += "\n" not in str(error)
    print(f"checkpoints: {fitting + refused:,} tried, {refused:,} refused, {fitting:,} finite and fitting")
    assert fitting + refused == (3_000 if full_length else 100)


@pytest.mark.parametrize("known", [False, True], ids=["against its digest", "with a digest that fits"])
def test_a_command_that_meets_such_a_checkpoint_ends_in_one_line(
    copied: Callable[[Path], str], tmp_path: Path, known: bool
) -> None:
    uri, marker = copied(tmp_path), tmp_path / "marker"
    content = saved({"encoder.0.weight": RunsCode(marker)})
    store = tracking.open_store(uri, "own")
    (pretraining,) = (one for one in store.records().values() if one.cell[2] == "pretrain")
    (path,) = (tmp_path / "artifacts").rglob(f"{pretraining.run_id}/artifacts/weights.pt")
    path.write_bytes(content)
    if known:
        tracking.Run(store, pretraining.run_id).tag(weights_sha256=hashlib.sha256(content).hexdigest())
    environment = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_EXPERIMENT_NAME": "own"}
    done = aepretrain("frozen", *OPTIONS, "--force", "true", folder=tmp_path, **environment)
    assert ("checkpoint cannot be read" if known else "its SHA-256 differs") in done.refusal()
    assert not marker.exists()
    assert path.read_bytes() == content
    (failed,) = store.search({"variant": "frozen"}, "attributes.status = 'FAILED'")
    assert failed.data.tags["aepretrain.error"] in done.err
    assert not list(store.search({}, "attributes.status = 'RUNNING'"))
