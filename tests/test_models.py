"""What finished trainings are good for: which one serves, predictions, codes, ONNX, and the champion."""

import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, NoReturn, cast

import click
import mlflow
import numpy as np
import onnxruntime
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner, Result
from mlflow.entities import LoggedModelStatus
from PIL import Image

from aepretrain import api, runner, serving, tracking
from aepretrain.cli.commands import cli
from aepretrain.cli.models import _percent
from aepretrain.config import MNIST_SHAPE, Execution, Settings, Shape, TrainingSpec
from aepretrain.data import Dataset
from aepretrain.errors import Failure, UsageError
from aepretrain.networks import build, load_part
from aepretrain.records import Record
from aepretrain.serving import exchange, prediction
from aepretrain.training import parse_weights
from tests.runs import finish, stored


class Served(NamedTuple):
    """A store with a pretraining, a classifier from it and one from scratch, without MLflow models."""

    store: tracking.Store
    records: dict[str, Record]
    """By variant."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, template: Path) -> Served:
    folder = tmp_path_factory.mktemp("served")
    (folder / "mlflow.db").write_bytes(template.read_bytes())
    uri = f"sqlite:///{folder}/mlflow.db"
    tracking.open_store(uri).client.create_experiment("own", artifact_location=(folder / "artifacts").as_uri())
    store = tracking.open_store(uri, "own")
    settings = Settings(dataset="digits", ae_epochs=2, cls_epochs=3, lr=0.003)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tracking, "log_model", lambda *_: None)  # exporting takes seconds
        for variant in ("finetune", "scratch"):
            spec = TrainingSpec(variant=variant, network="fc", augmentation="none", seed=0, settings=settings)
            runner.run_single(spec, store, Execution(device="cpu"), lambda _: None)
    return Served(store, {record.cell[2]: record for record in store.records().values()})


@pytest.fixture
def pictures(tmp_path: Path, digits: Dataset) -> list[Path]:
    """A folder with three pictures, and something else."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    paths = [folder / name for name in ("a.png", "b.JPG", "ü.jpeg")]
    for path, image_HW in zip(paths, digits.test_images_NCHW[:, 0].numpy(), strict=False):
        kind = "PNG" if path.suffix == ".png" else "JPEG"
        Image.fromarray(255 - image_HW).resize((90, 90)).save(path, kind)
    (folder / "notes.txt").write_text("no picture")
    return paths


def command(served: Served, *arguments: object) -> Result:
    address = [] if "--bundle" in arguments else ["--tracking-uri", served.store.uri]
    given = [*map(str, arguments), *address]
    return CliRunner().invoke(cli, given, catch_exceptions=True)


def made(run_id: str, loss: float, **changes: Any) -> Record:
    """A record of a classifier with this validation loss."""
    seed, tags = changes.pop("seed", 0), changes.pop("tags", {"weights_sha256": "0"})
    spec = TrainingSpec(
        variant=changes.pop("variant", "scratch"),
        network="fc",
        augmentation="none",
        seed=seed,
        settings=Settings(**changes.pop("settings", {})),
    )
    metrics = {"best_val_loss": loss} | changes
    return Record(run_id, None, run_id, 1, json.loads(json.dumps(spec.identity())), metrics, tags)


def test_the_lowest_validation_loss_serves_whatever_the_test_images_say() -> None:
    records = [made("a", 0.3, test_accuracy=0.99), made("b", 0.1, test_accuracy=0.1), made("c", 0.2, test_accuracy=1)]
    for order in (records, records[::-1]):
        best = serving.best(order, None)
        assert best is not None
        assert best.run_id == "b"
    without_test_figures = [replace(one, metrics={"best_val_loss": one.metrics["best_val_loss"]}) for one in records]
    again = serving.best(without_test_figures, None)
    assert again is not None
    assert again.run_id == "b"


def test_ties_go_to_the_lowest_seed() -> None:
    best = serving.best([made("a", 0.1, seed=7), made("b", 0.1, seed=2), made("c", 0.1, seed=4)], None)
    assert best is not None
    assert best.seed == 2


@pytest.mark.parametrize(
    "other",
    [
        made("other", 0.0, variant="pretrain"),
        made("other", 0.0, variant="random"),
        made("other", 0.0, settings={"labels": 100}),
        made("other", 0.0, tags={}),
        made("other", 0.0, tags={"weights_sha256": "0", "study": "controls"}),
    ],
    ids=["pretraining", "probe", "few labels", "without weights", "of a study"],
)
def test_what_never_serves_unasked(other: Record) -> None:
    best = serving.best([other, made("a", 0.1)], None)
    assert best is not None
    assert best.run_id == "a"
    assert serving.best([other], None) is None


def test_datasets_are_not_compared() -> None:
    records = [made("a", 0.3), made("b", 0.1, settings={"dataset": "kmnist"})]
    with pytest.raises(UsageError, match=r"several datasets \(kmnist, mnist\): choose with --dataset"):
        serving.best(records, None)
    best = serving.best(records, "mnist")
    assert best is not None
    assert best.run_id == "a"


def test_a_record_tells_its_spec(served: Served) -> None:
    for variant, record in served.records.items():
        assert record.spec.variant == variant
        assert json.loads(json.dumps(record.spec.identity())) == record.identity


def test_predict_tells_three_classes_with_the_numbers_of_the_model(served: Served, pictures: list[Path]) -> None:
    done = command(served, "predict", *pictures)
    assert done.exit_code == 0, done.output
    best = min(
        (served.records[one] for one in ("finetune", "scratch")), key=lambda record: record.metrics["best_val_loss"]
    )
    assert f"run {best.run_id}" in done.output
    images_NCHW, _ = serving.read_pictures(pictures, best)
    probs_NK = serving.apply(serving.load_classifier(served.store, best), images_NCHW)
    for path, probs_K in zip(pictures, probs_NK, strict=True):
        line = next(line for line in done.output.splitlines() if path.name in line)
        shown = [cell.strip() for cell in line.split("│")[2:-1]]
        assert 0.0001 < probs_K.max() < 0.9999
        expected = [f"{k}  {100 * probs_K[k]:.2f} %" for k in np.argsort(-probs_K)[:3]]
        assert [f"{shown[0]}  {shown[1]}", *shown[2:]] == expected
    assert "this network was trained on digits" in done.stderr


def test_predict_says_what_is_unlike_mnist_where_the_network_knows_mnist(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, framed = tmp_path / "usual.png", tmp_path / "[framed] one.png"
    drawn = np.zeros((100, 100), np.uint8)
    drawn[20:80, 40:52] = drawn[20:32, 40:75] = 255
    Image.fromarray(drawn).save(usual)
    drawn[[5, 6, 93, 94], 5:95] = drawn[5:95, [5, 6, 93, 94]] = 255
    Image.fromarray(drawn).save(framed)
    done = command(served, "predict", usual, framed)
    assert "unlike MNIST's" not in done.stderr, "the rules are not about other datasets"
    digits_record = served.records["scratch"]
    record = replace(digits_record, identity={**digits_record.identity, "dataset": "mnist"})
    monkeypatch.setattr(serving, "choose_classifier", lambda *_: record)
    done = command(served, "predict", usual, framed)
    assert done.exit_code == 0, done.output
    (note,) = done.stderr.splitlines()
    assert note.startswith(f"note: {framed} is unlike MNIST's images, so its digit may be wrong: there is ink along")


def test_a_named_run_predicts(served: Served, pictures: list[Path]) -> None:
    for variant in ("finetune", "scratch"):
        run_id = served.records[variant].run_id
        done = command(served, "predict", "--run", run_id, pictures[0])
        assert done.output.startswith(f"fc-none-{variant}-s0 on digits, run {run_id}")


@pytest.fixture(scope="module")
def bundle(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store's trainings as a bundle, which has the weights of the classifiers."""
    folder = tmp_path_factory.mktemp("bundle") / "of served"
    api.export(folder, tracking_uri=served.store.uri, show=False)
    return folder


def without_store(tmp_path: Path, *arguments: object) -> Result:
    """A command with the address of a store that is not there, and is not made."""
    store = tmp_path / "none.db"
    done = CliRunner().invoke(cli, [*map(str, arguments)], env={"MLFLOW_TRACKING_URI": f"sqlite:///{store}"})
    assert not store.exists()
    return done


def test_a_network_of_a_bundle_does_what_it_does_in_the_store(
    served: Served, bundle: Path, pictures: list[Path], tmp_path: Path
) -> None:
    folder = pictures[0].parent
    for name, *arguments in (("predict", *pictures), ("encode", folder), ("onnx",)):
        outs = [tmp_path / f"{name}-{place}" for place in ("store", "bundle")]
        of_store, of_bundle = ([] if name == "predict" else ["--out", out] for out in outs)
        expected = command(served, name, *arguments, *of_store)
        done = without_store(tmp_path, name, *arguments, *of_bundle, "--bundle", bundle)
        assert done.exit_code == 0, done.output
        assert done.output.replace(str(outs[1]), str(outs[0])) == expected.output
        assert name == "predict" or outs[0].read_bytes() == outs[1].read_bytes()


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (("--run", "{pretrain}"), Failure, "run {pretrain} was exported without its weights"),
        (
            ("--run", "0" * 32),
            Failure,
            "no finished training with run id 00000000000000000000000000000000 in the bundle",
        ),
        (("--run", "x"), UsageError, "--run='x' is not a run id"),
        (("--dataset", "kmnist"), UsageError, "no finished classifier was trained on it; there is digits"),
        (("--bundle", "{folder}"), Failure, "there is no readable bundle in"),
        (("--bundle", "nowhere"), UsageError, "--bundle='nowhere' is not a folder"),
        (("--tracking-uri", "sqlite:///other.db"), UsageError, "trainings are read from one of them"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_a_bundle_cannot_give_is_told(
    served: Served,
    bundle: Path,
    pictures: list[Path],
    tmp_path: Path,
    arguments: tuple[str, ...],
    kind: type[Exception],
    message: str,
) -> None:
    known = {"pretrain": served.records["pretrain"].run_id, "folder": str(tmp_path)}
    given = [one.format(**known) for one in arguments]
    command_name = "encode" if arguments[1] == "{pretrain}" else "predict"
    place = pictures[0].parent if command_name == "encode" else pictures[0]
    done = without_store(tmp_path, command_name, place, "--bundle", bundle, *given)
    assert isinstance(done.exception, kind)
    assert message.format(**known) in str(done.exception)
    assert not Path("codes.parquet").exists()


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (
            ("predict", "--run", "{pretrain}", "{picture}"),
            UsageError,
            "is pretrain: it must be one of frozen, finetune",
        ),
        (("predict", "--run", "0" * 32, "{picture}"), Failure, "no finished training with run id 0000"),
        (("predict", "--run", "x' or 'a' = 'a", "{picture}"), UsageError, "is not a run id"),
        (
            ("predict", "--dataset", "kmnist", "{picture}"),
            UsageError,
            "--dataset='kmnist': no finished classifier was trained on it; there is digits",
        ),
        (("encode", "--dataset", "kmnist", "{folder}"), UsageError, "there is digits"),
        (("onnx", "--dataset", "kmnist"), UsageError, "there is digits"),
        (("promote", "--dataset", "kmnist"), UsageError, "there is digits"),
        (("compare", "--lr", "0.5"), UsageError, "--lr=0.5: no finished training has this; there is --lr=0.003"),
        (("compare", "--epochs", "7"), UsageError, "--epochs=7: no finished training has this; there is --epochs=3"),
        (
            ("compare", "--erase-scale", "0.1 0.2", "--split", "fixed"),
            UsageError,
            "--split=fixed: no finished training has this; there is --split=random",
        ),
        (("report", "--labels", "100"), UsageError, "--labels=100: no finished training has this; there is --labels=0"),
        (("report", "--bundle", "evidence", "--lr", "0.5"), UsageError, "--lr=0.5: no finished training has this"),
        (("export", "{folder}/new", "--lr", "0.5"), UsageError, "--lr=0.5: no finished training has this"),
        (("predict", "--plugin", "nowhere", "{picture}"), UsageError, "plugin 'nowhere' cannot be imported"),
        (("predict", "{picture}", "{picture}.txt"), Failure, "No such file"),
        (("onnx", "--out", "{folder}"), UsageError, "it must be a file in a folder that is there"),
        (("onnx", "--out", "/dev/null"), UsageError, "it must be a file in a folder that is there"),
        (("encode", "{folder}", "--out", "nowhere/codes.parquet"), UsageError, "it must be a file in a folder"),
        (("promote", "--name", "a/b"), UsageError, "--name='a/b'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_serve_is_told(
    served: Served, pictures: list[Path], arguments: tuple[str, ...], kind: type[Exception], message: str
) -> None:
    known = {
        "pretrain": served.records["pretrain"].run_id,
        "picture": str(pictures[0]),
        "folder": str(pictures[0].parent),
    }
    result = command(served, *(one.format(**known) for one in arguments))
    assert isinstance(result.exception, kind)
    assert re.search(re.escape(message), str(result.exception))


@pytest.mark.parametrize("variant", ["pretrain", "finetune"])
def test_encode_writes_names_and_codes(
    served: Served, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    monkeypatch.setattr("aepretrain.serving.prediction.BATCH", 2)
    record, out = served.records[variant], tmp_path / "codes.parquet"
    done = command(served, "encode", pictures[0].parent, "--run", record.run_id, "--out", out)
    assert done.exit_code == 0, done.output
    assert "3 pictures as codes of 128 numbers" in done.output
    table = pq.read_table(out)
    assert table["file"].to_pylist() == [path.name for path in pictures]
    network = build("fc", 0, MNIST_SHAPE)
    load_part(network, "encoder", parse_weights(served.store.weights(record)))
    images_NCHW, _ = serving.read_pictures(pictures, record)
    with torch.inference_mode():
        expected_ND = network.encode(torch.from_numpy(images_NCHW)).numpy()
    assert np.allclose(np.array(table["code"].to_pylist()), expected_ND, atol=1e-6)
    assert table.schema.metadata[b"run_id"].decode() == record.run_id
    assert list(tmp_path.glob(".*")) == []


def test_a_broken_picture_leaves_no_codes_and_what_was_there(
    served: Served, pictures: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "codes.parquet"
    out.write_bytes(b"before")
    (pictures[0].parent / "z.png").write_bytes(pictures[0].read_bytes()[:100])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("aepretrain.serving.prediction.BATCH", 2)  # so that some are written before it is met
        done = command(served, "encode", pictures[0].parent, "--out", out)
    assert isinstance(done.exception, Failure)
    assert "z.png" in str(done.exception)
    assert out.read_bytes() == b"before"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["codes.parquet", "pictures"]


def test_onnx_gives_the_same_probabilities_for_any_number_of_images(
    served: Served, digits: Dataset, tmp_path: Path
) -> None:
    out = tmp_path / "model.onnx"
    record = served.records["scratch"]
    done = command(served, "onnx", "--run", record.run_id, "--out", out)
    assert done.exit_code == 0, done.output
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    images_NCHW = digits.test_images_NCHW.numpy().astype(np.float32) / np.float32(255)
    for num in (1, len(images_NCHW)):
        (found_NK,) = session.run(["probabilities"], {"images": images_NCHW[:num]})
        expected_NK = serving.apply(serving.load_classifier(served.store, record), images_NCHW[:num])
        assert np.abs(found_NK - expected_NK).max() < 1e-5


def test_onnx_that_differs_is_not_written(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classes = serving.class_names(served.store, served.records["finetune"])
    content = exchange._exported(
        serving.load_classifier(served.store, served.records["finetune"]), MNIST_SHAPE, classes
    )
    monkeypatch.setattr(exchange, "_exported", lambda *_: content)
    module = serving.load_classifier(served.store, served.records["scratch"])
    with pytest.raises(Failure, match=r"differ from PyTorch's by up to .*; nothing was written"):
        serving.export_onnx(module, MNIST_SHAPE, classes, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", ["onnxruntime", "onnxscript"])
def test_without_the_extra_onnx_is_a_line(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    done = command(served, "onnx", "--out", tmp_path / "model.onnx")
    assert isinstance(done.exception, Failure)
    assert "comes with the extra named onnx" in str(done.exception)
    assert missing in str(done.exception)
    assert "\n" not in str(done.exception)


def test_the_callers_store_and_active_run_stay_as_they_were(
    served: Served, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = served.records["scratch"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with mlflow.start_run() as run:
        promotion = api.promote(name="of-caller", run=record.run_id, tracking_uri=served.store.uri)
        assert (mlflow.get_tracking_uri(), mlflow.get_registry_uri()) == (uri, uri)
        active = mlflow.active_run()
        assert active is not None
        assert active.info.run_id == run.info.run_id
        mlflow.log_metric("own", 0.5)
    found = mlflow.get_run(run.info.run_id)
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"own": 0.5})
    assert (found.info.experiment_id, found.outputs and found.outputs.model_outputs) == ("0", [])
    assert not {"MLFLOW_EXPERIMENT_ID", "MLFLOW_REGISTRY_URI"} & os.environ.keys()
    assert os.environ["MLFLOW_TRACKING_URI"] == uri
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///elsewhere.db")
    assert mlflow.get_tracking_uri() == "sqlite:///elsewhere.db", "nothing but the environment names the store"

    client = served.store.client
    assert client.get_model_version("of-caller", promotion.version).run_id == record.run_id
    model = client.get_logged_model(str(served.store.record(record.run_id).tags["model"]).removeprefix("models:/"))
    assert (model.experiment_id, model.source_run_id) == (served.store.experiment_id, record.run_id)
    assert (model.status, model.name) == (LoggedModelStatus.READY, record.spec.name)
    assert {one.key: one.value for one in model.metrics or []}["accuracy/test"] == record.metrics["test_accuracy"]
    run = client.get_run(record.run_id)
    outputs, inputs = run.outputs, run.inputs
    assert outputs is not None
    assert inputs is not None
    assert {(one.dataset_name, one.dataset_digest) for one in model.metrics or []} == {
        (one.dataset.name, one.dataset.digest) for one in inputs.dataset_inputs
    }
    assert [one.model_id for one in outputs.model_outputs] == [model.model_id]


def test_the_champion_is_registered_once_and_moves(served: Served) -> None:
    store, client = served.store, served.store.client
    best = min((served.records[one] for one in ("finetune", "scratch")), key=lambda one: one.metrics["best_val_loss"])
    (other,) = (one for name, one in served.records.items() if name != "pretrain" and one is not best)
    named = command(served, "promote", "--run", other.run_id)
    assert "version 1 of aepretrain-digits is the champion\n" in named.output, named.output
    first = command(served, "promote")
    assert "version 2 of aepretrain-digits is the champion (before: 1)" in first.output, first.output
    assert "mlflow models serve -m models:/aepretrain-digits@champion --env-manager local" in first.output
    again = command(served, "promote")
    assert "version 2 of aepretrain-digits is the champion (as before)" in again.output, again.output
    champion = client.get_model_version_by_alias("aepretrain-digits", tracking.CHAMPION)
    assert champion.run_id == best.run_id
    assert champion.tags["aepretrain.key"] == best.key
    assert "the alias `champion`" in client.get_registered_model("aepretrain-digits").description
    client.update_registered_model("aepretrain-digits", "mine")
    command(served, "promote")
    assert client.get_registered_model("aepretrain-digits").description == "mine"
    description = str(champion.description)
    assert "Chosen: lowest validation loss." in description
    assert "test" not in description
    command(served, "promote", "--run", best.run_id)
    renamed = client.get_model_version_by_alias("aepretrain-digits", tracking.CHAMPION)
    assert renamed.version == champion.version
    assert "lowest validation loss" not in str(renamed.description), "now a person has chosen it"
    versions = client.search_model_versions("name = 'aepretrain-digits'")
    assert {int(one.version): one.run_id for one in versions} == {1: other.run_id, 2: best.run_id}
    assert store.record(best.run_id).tags["model"].startswith("models:/")


def test_a_network_that_cannot_be_exported_is_a_line_and_registers_nothing(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("data-dependent\ncontrol flow")

    monkeypatch.setattr(tracking, "log_model", fail)
    record = replace(served.records["scratch"], tags={**served.records["scratch"].tags})
    with pytest.raises(Failure, match="fc-none-scratch-s0 cannot be logged as a model: data-dependent control flow"):
        serving.promote(served.store, record, "another", "for a test")
    assert not served.store.client.search_registered_models("name = 'another'")


def test_no_probability_is_shown_as_certain() -> None:
    shown = {0.999999: "> 99.99 %", 0.9999: "99.99 %", 0.123456: "12.35 %", 0.0001: "0.01 %", 1e-9: "< 0.01 %"}
    assert {share: _percent(share) for share in shown} == shown


def test_every_command_that_uses_a_model_takes_the_same_options() -> None:
    shared = {"--run", "--dataset", "--plugin", "--tracking-uri"}
    for name in ("predict", "encode", "onnx", "promote"):
        options = {flag for one in cli.commands[name].params if isinstance(one, click.Option) for flag in one.opts}
        assert shared <= options, name


@pytest.mark.parametrize("content", [b"[1", b"3", b'["a", "b"]'])
def test_damaged_names_of_classes_are_told(content: bytes, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking.Store, "has_artifact", lambda *_: True)
    monkeypatch.setattr(tracking.Store, "artifact", lambda *_: content)
    record = served.records["scratch"]
    with pytest.raises(Failure, match=f"run {record.run_id} is damaged: .* does not name its 10 classes"):
        prediction.class_names(served.store, record)


def test_a_picture_with_other_channels_than_the_network_takes_is_named(tmp_path: Path) -> None:
    path = tmp_path / "colours.png"
    Image.new("RGB", (8, 8), "red").save(path)
    record = SimpleNamespace(shape=Shape((2, 8, 8), 10), is_like_mnist=False)
    with pytest.raises(Failure, match=f"^{path}: has 3 channels, and the network takes 2$"):
        prediction.read_pictures([path], cast(Record, record))


def test_a_network_that_onnx_has_no_words_for_is_a_line() -> None:
    class Unknown(torch.nn.Module):
        def forward(self, _: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("nothing\nlike it")

    with pytest.raises(Failure, match=r"^the network cannot be exported to ONNX: .+$") as error:
        exchange._exported(Unknown(), MNIST_SHAPE, ["a"])
    assert "\n" not in str(error.value)


def test_a_model_that_could_not_be_saved_is_marked_as_failed(
    store: tracking.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise OSError("no room")

    run_id = finish(store)
    monkeypatch.setattr(mlflow.MlflowClient, "log_model_artifacts", fail)
    with pytest.raises(OSError, match="no room"):
        tracking.log_model(store, run_id, torch.nn.Flatten(), np.zeros((2, 1, 28, 28), np.float32), ["a"])
    (model,) = store.client.search_logged_models([store.experiment_id])
    assert model.status == LoggedModelStatus.FAILED
    assert "aepretrain.model" not in stored(store, run_id).data.tags
