"""The variants' promises: what stays frozen, what is shared within a seed, what is never augmented or read twice."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor

from aepretrain import variants
from aepretrain.augment import erase
from aepretrain.data import Dataset, split
from aepretrain.engine import Task, train
from aepretrain.networks import build
from aepretrain.spec import VARIANTS, Failure, Settings, TrainingSpec, UsageError
from aepretrain.variants import Outcome, run, training
from aepretrain.variants import images as images_module

CPU = torch.device("cpu")


def spec(variant: str, network: str = "fc", augmentation: str = "none", seed: int = 0, **settings: Any) -> TrainingSpec:
    chosen = Settings(**({"ae_epochs": 2, "cls_epochs": 2} | settings))
    return TrainingSpec(variant=variant, network=network, augmentation=augmentation, seed=seed, settings=chosen)


def outcome(one: TrainingSpec, dataset: Dataset, pretrained: Mapping[str, Tensor] | None = None) -> Outcome:
    if one.pretraining is not None and pretrained is None:
        pretrained = outcome(one.pretraining, dataset).weights
    (found,) = run([one], dataset, CPU, [] if pretrained is None else [pretrained], lambda *_: None)
    assert isinstance(found, Outcome)
    return found


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor], part: str = "") -> bool:
    names = [name for name in a if name.startswith(part)]
    assert names
    return all(torch.equal(a[name], b[name]) for name in names)


@pytest.mark.parametrize("augmentation", ["none", "erasing"])
@pytest.mark.parametrize("network", ["fc", "conv"])
def test_frozen_means_frozen(images: Dataset, network: str, augmentation: str) -> None:
    pretrained = outcome(spec("pretrain", network, augmentation), images).weights
    frozen = outcome(spec("frozen", network, augmentation), images, pretrained)
    finetuned = outcome(spec("finetune", network, augmentation), images, pretrained)
    assert same(frozen.weights, pretrained, "encoder")
    assert not same(finetuned.weights, pretrained, "encoder")


def test_a_checkpoint_holds_the_encoder_and_what_was_used_with_it(images: Dataset) -> None:
    pretrained = outcome(spec("pretrain"), images).weights
    parts = {
        variant: {name.partition(".")[0] for name in outcome(spec(variant), images, pretrained).weights}
        for variant in ("frozen", "finetune")
    }
    parts["scratch"] = {name.partition(".")[0] for name in outcome(spec("scratch"), images).weights}
    assert {name.partition(".")[0] for name in pretrained} == {"encoder", "decoder"}
    assert parts == {
        "frozen": {"encoder", "classifier"},
        "finetune": {"encoder", "classifier2"},
        "scratch": {"encoder", "classifier2"},
    }


@pytest.mark.parametrize("network", ["fc", "conv"])
def test_codes_computed_once_equal_codes_computed_in_every_step(
    images: Dataset, network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = spec("frozen", network, cls_epochs=10)  # 500 images: 10 epochs of 4 steps
    pretrained = outcome(spec("pretrain", network), images).weights
    once = outcome(one, images, pretrained)
    monkeypatch.setattr(training, "erasing", lambda *_: lambda *_: None)  # "augmented", by nothing
    monkeypatch.setattr(images_module, "erase", lambda pixels, *_: pixels)
    monkeypatch.setattr(images_module.Images, "examples", _without_rectangles(images_module.Images.examples))
    every_step = outcome(one, images, pretrained)
    for name, weight in once.weights.items():
        torch.testing.assert_close(weight, every_step.weights[name], rtol=1e-4, atol=1e-5, msg=name)


def _without_rectangles(examples: Any) -> Any:
    return lambda self, target, _draw=None: examples(self, target, None)


def test_within_a_seed_variants_share_split_encoder_head_order_and_erasing(
    images: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: dict[str, dict[str, Tensor]] = {}
    batches: dict[str, Tensor] = {}
    pretrained = outcome(spec("pretrain", augmentation="erasing"), images).weights

    def spy(task: Task, on_epoch: Any) -> Any:
        network = getattr(task.models[0], "network", None)
        assert network is not None
        started[variant] = {name: weight.clone() for name, weight in network.state_dict().items()}
        index = torch.arange(task.train.num).unsqueeze(0)
        batches[variant] = task.train.at_epoch(2, [0])(index)[0]
        orders[variant] = (task.order, task.seeds[0])
        return train(task, on_epoch)

    orders: dict[str, tuple[str, int]] = {}
    monkeypatch.setattr("aepretrain.variants.training.train", spy)
    for variant in VARIANTS:
        outcome(
            spec(variant, augmentation="erasing"), images, None if variant in ("pretrain", "scratch") else pretrained
        )
    assert same(started["pretrain"], started["scratch"], "encoder")
    for head in ("classifier.", "classifier2."):
        assert same(started["frozen"], started["finetune"], head)
        assert same(started["frozen"], started["scratch"], head)
    assert torch.equal(batches["frozen"], batches["finetune"])
    assert torch.equal(batches["finetune"], batches["scratch"])
    assert not torch.equal(batches["pretrain"], batches["scratch"]), "the autoencoder has its own erasing"
    assert orders["frozen"] == orders["finetune"] == orders["scratch"] != orders["pretrain"]


def test_only_training_images_are_erased(images: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    erased: list[int] = []

    def spy(pixels: Tensor, *rest: Any) -> Tensor:
        erased.append(len(pixels))
        return erase(pixels, *rest)

    monkeypatch.setattr(images_module, "erase", spy)
    outcome(spec("scratch", augmentation="erasing"), images)
    num_train = len(split(images, "random", 0).train_N)
    assert sum(erased) == 2 * num_train
    erased.clear()
    outcome(spec("scratch"), images)
    assert erased == []


@pytest.mark.parametrize("target", ["input", "clean"])
def test_the_autoencoders_target(images: Dataset, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs: list[tuple[Tensor, Tensor]] = []

    def spy(task: Task, on_epoch: Any) -> Any:
        pairs.append(task.train.at_epoch(1, [0])(torch.arange(50).unsqueeze(0)))
        return train(task, on_epoch)

    monkeypatch.setattr("aepretrain.variants.training.train", spy)
    outcome(spec("pretrain", augmentation="erasing", ae_target=target), images)
    inputs, targets = (part.squeeze(0) for part in pairs[0])
    clean = images.images_NHW[split(images, "random", 0).train_N[:50]].unsqueeze(1) / 255
    assert not torch.equal(inputs, clean)
    assert torch.equal(targets, inputs if target == "input" else clean)


def test_erased_first_normalised_after(images: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def spy(task: Task, on_epoch: Any) -> Any:
        seen.append(task.train.at_epoch(1, [0])(torch.arange(50).unsqueeze(0))[0])
        return train(task, on_epoch)

    monkeypatch.setattr("aepretrain.variants.training.train", spy)
    for normalize in ("none", "mnist"):
        outcome(spec("scratch", augmentation="erasing", normalize=normalize, erase_value=0.5), images)
    torch.testing.assert_close(seen[1], (seen[0] - 0.1307) / 0.3081)
    assert (seen[0] == 0.5).float().mean() > 0.08


class CountingDataset:
    """A dataset that counts how often its test images are asked for."""

    def __init__(self, dataset: Dataset) -> None:
        self.reads = 0
        self._dataset = dataset

    def __getattr__(self, name: str) -> Any:
        self.reads += name == "test_images_NHW"
        return getattr(self._dataset, name)


@pytest.mark.parametrize("variant", VARIANTS)
def test_test_images_are_read_once_and_after_training(images: Dataset, variant: str) -> None:
    one = spec(variant)
    pretrained = None if one.pretraining is None else outcome(one.pretraining, images).weights
    counting = CountingDataset(images)
    reads: list[int] = []
    weights = [] if pretrained is None else [pretrained]
    run([one], counting, CPU, weights, lambda *_: reads.append(counting.reads))  # type: ignore[arg-type]  # stands in
    assert reads == [0, 0]
    assert counting.reads == 1


@pytest.mark.parametrize("variant", VARIANTS)
def test_test_images_choose_nothing(images: Dataset, variant: str) -> None:
    other = replace(images, test_images_NHW=255 - images.test_images_NHW, test_labels_N=(images.test_labels_N + 1) % 10)
    assert same(outcome(spec(variant), images).weights, outcome(spec(variant), other).weights)


def test_final_figures_equal_scikit_learns(images: Dataset) -> None:
    found = outcome(spec("scratch", cls_epochs=5), images)
    predictions = found.evidence.predictions
    assert predictions is not None
    labels = images.test_labels_N.numpy()
    assert np.array_equal(predictions.labels_N, labels)
    assert found.metrics["test_accuracy"] == pytest.approx(accuracy_score(labels, predictions.predicted_N), abs=1e-12)
    macro = f1_score(labels, predictions.predicted_N, average="macro")
    assert found.metrics["test_macro_f1"] == pytest.approx(macro, abs=1e-12)
    best = found.evidence.history[int(found.metrics["best_epoch"]) - 1]
    assert found.metrics["best_val_accuracy"] == pytest.approx(best.val_accuracy, abs=1e-12)
    assert found.metrics["test_loss"] == pytest.approx(predictions.nll_label_N.astype(float).mean(), rel=2e-3)


def test_evidence_survives_its_file_and_is_compact(images: Dataset) -> None:
    predictions = outcome(spec("scratch"), images).evidence.predictions
    assert predictions is not None
    again = type(predictions).from_bytes(predictions.to_bytes())
    for name, values in vars(predictions).items():
        assert np.array_equal(values, getattr(again, name)), name
    assert np.exp(-predictions.nll_predicted_N.astype(float)).max() <= 1
    assert (predictions.nll_predicted_N <= predictions.nll_label_N).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_same_seed_same_bits_whatever_ran_before(images: Dataset, variant: str) -> None:
    first = outcome(spec(variant, augmentation="erasing"), images)
    torch.rand(17)
    outcome(spec("scratch", "conv", seed=5), images)
    second = outcome(spec(variant, augmentation="erasing"), images)
    assert same(first.weights, second.weights)
    assert [replace(e, elapsed_s=0, images_per_s=0) for e in first.evidence.history] == [
        replace(e, elapsed_s=0, images_per_s=0) for e in second.evidence.history
    ]
    other = outcome(spec(variant, augmentation="erasing", seed=1), images)
    assert not same(first.weights, other.weights)


def test_reconstructions_show_one_image_of_each_class(images: Dataset) -> None:
    shown = outcome(spec("pretrain", augmentation="erasing"), images).evidence.reconstructions
    assert shown is not None
    assert shown.original_NHW.shape == shown.seen_NHW.shape == shown.reconstructed_NHW.shape == (10, 28, 28)
    assert not np.array_equal(shown.original_NHW, shown.seen_NHW)
    plain = outcome(spec("pretrain"), images).evidence
    assert plain.reconstructions is not None
    assert np.array_equal(plain.reconstructions.original_NHW, plain.reconstructions.seen_NHW)
    assert plain.class_counts is not None
    assert {name: int(counts.sum()) for name, counts in plain.class_counts.items()} == {
        "training": 500,
        "validation": 100,
    }


def test_bce_trains_on_logits(images: Dataset) -> None:
    found = outcome(spec("pretrain", ae_loss="bce"), images)
    assert 0 < found.metrics["test_loss"] < 0.7
    assert found.evidence.reconstructions is not None
    assert found.evidence.reconstructions.reconstructed_NHW.min() > 0


def test_the_last_epoch_being_best_is_warned_of(images: Dataset) -> None:
    assert "last one (2)" in str(outcome(spec("pretrain"), images).warning)
    assert outcome(spec("scratch", cls_epochs=40, lr=0.05, patience=2), images).warning is None


def test_a_pretraining_of_another_network_is_refused(images: Dataset) -> None:
    with pytest.raises(Failure, match="does not fit Convolutional"):
        outcome(spec("finetune", "conv"), images, build("fc", 0).state_dict())


def test_checkpoints_survive_their_file_and_run_no_code() -> None:
    weights = build("conv", 0).state_dict()
    assert same(weights, variants.parse_weights(variants.dump_weights(weights)))
    for bad in (b"", b"junk", variants.dump_weights(weights)[:-100]):
        with pytest.raises(Failure, match="cannot be read"):
            variants.parse_weights(bad)


def test_the_model_takes_plain_pixels(images: Dataset) -> None:
    one = spec("scratch", normalize="mnist", cls_epochs=4)
    found = outcome(one, images)
    assert found.evidence.predictions is not None
    module = variants.scoring_module(one, found.weights)
    scores = module(images.test_images_NHW.unsqueeze(1) / 255)
    assert np.array_equal(scores.argmax(1).numpy(), found.evidence.predictions.predicted_N)
    torch.testing.assert_close(scores.sum(1), torch.ones(100))


@pytest.mark.parametrize("augmentation", ["none", "erasing"])
@pytest.mark.parametrize("network", ["fc", "conv"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_each_seed_of_a_stack_is_as_if_alone(images: Dataset, variant: str, network: str, augmentation: str) -> None:
    """16 steps; what parts them is the order in which a product sums."""
    specs = [spec(variant, network, augmentation, seed, ae_epochs=4, cls_epochs=4) for seed in (3, 8)]
    pretrained = [outcome(one.pretraining, images).weights for one in specs if one.pretraining]
    stacked = run(specs, images, CPU, pretrained, lambda *_: None)
    for place, (one, found) in enumerate(zip(specs, stacked, strict=True)):
        assert isinstance(found, Outcome)
        single = outcome(one, images, pretrained[place] if pretrained else None)
        for name, weight in single.weights.items():
            torch.testing.assert_close(found.weights[name], weight, rtol=1e-4, atol=1e-4, msg=name)
        for name in ("best_val_loss", "test_loss"):
            assert found.metrics[name] == pytest.approx(single.metrics[name], rel=1e-3)


def test_one_seeds_failure_is_its_own(images: Dataset) -> None:
    specs = [spec("finetune", seed=seed) for seed in (0, 1, 2)]
    pretrained = [outcome(one.pretraining, images).weights for one in specs if one.pretraining]
    whole = run(specs, images, CPU, pretrained, lambda *_: None)
    exploding = {name: weight * 1e38 for name, weight in pretrained[1].items()}
    found = run(specs, images, CPU, [pretrained[0], exploding, pretrained[2]], lambda *_: None)
    assert isinstance(found[1], Failure)
    assert "not finite in epoch 1" in str(found[1])
    for place in (0, 2):
        mate, undisturbed = found[place], whole[place]
        assert isinstance(mate, Outcome)
        assert isinstance(undisturbed, Outcome)
        for name, weight in mate.weights.items():
            torch.testing.assert_close(weight, undisturbed.weights[name], rtol=1e-4, atol=1e-4, msg=name)


def test_a_stack_that_memory_does_not_hold_is_halved(images: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def crowded(task: Task, on_epoch: Any) -> Any:
        tried.append(len(task.models))
        if len(task.models) > 2:
            raise torch.OutOfMemoryError
        return train(task, on_epoch)

    specs = [spec("scratch", seed=seed) for seed in range(5)]
    single = outcome(specs[4], images)
    monkeypatch.setattr("aepretrain.variants.training.train", crowded)
    seen: list[tuple[int, int]] = []
    found = run(specs, images, CPU, [], lambda place, result: seen.append((place, result.epoch)))
    assert tried == [5, 2, 3, 1, 2]
    assert sorted(seen) == [(place, epoch) for place in range(5) for epoch in (1, 2)]
    last = found[4]
    assert isinstance(last, Outcome)
    assert last.metrics["test_loss"] == pytest.approx(single.metrics["test_loss"], rel=1e-3)
    monkeypatch.setattr("aepretrain.variants.training.train", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError))
    with pytest.raises(Failure, match="too little memory for fc-none-scratch-s0"):
        run(specs, images, CPU, [], lambda *_: None)


def test_devices_by_name() -> None:
    assert variants.resolve_device("cpu") == CPU
    assert variants.resolve_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(UsageError, match="not known"):
        variants.resolve_device("abacus")
    with pytest.raises(UsageError, match="not available"):
        variants.resolve_device("xpu")
