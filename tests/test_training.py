"""The variants' promises: what stays frozen, what is shared within a seed, what is never augmented or read twice."""

import platform
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor

from aepretrain import training
from aepretrain.augment import RandomErasing
from aepretrain.config import MNIST_SHAPE, Settings, TrainingSpec
from aepretrain.data import Dataset, split
from aepretrain.engine import Rate, Task, train
from aepretrain.errors import Failure, UsageError
from aepretrain.networks import build
from aepretrain.records import Predictions, curve_of, filters_from_bytes, filters_to_bytes
from aepretrain.training import Outcome, recipe, robustness, run, similarity, tasks
from aepretrain.training import batches as images_module
from aepretrain.variants import CLASSIFIERS, GRID_VARIANTS

CPU = torch.device("cpu")


def spec(variant: str, network: str = "fc", augmentation: str = "none", seed: int = 0, **settings: Any) -> TrainingSpec:
    chosen = Settings(**({"ae_epochs": 2, "cls_epochs": 2} | settings))
    return TrainingSpec(variant=variant, network=network, augmentation=augmentation, seed=seed, settings=chosen)


def outcome(one: TrainingSpec, dataset: Dataset, pretrained: Mapping[str, Tensor] | None = None) -> Outcome:
    if "pretrain" in one.sources and pretrained is None:
        pretrained = outcome(one.sources["pretrain"], dataset).weights
    (found,) = run([one], dataset, CPU, [{} if pretrained is None else {"pretrain": pretrained}], lambda *_: None)
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
    monkeypatch.setattr(tasks, "augmentation_draws", lambda *_: lambda *_: None)  # "augmented", by nothing
    monkeypatch.setattr(images_module.Images, "examples", _without_draws(images_module.Images.examples))
    every_step = outcome(one, images, pretrained)
    for name, weight in once.weights.items():
        torch.testing.assert_close(weight, every_step.weights[name], rtol=1e-4, atol=1e-5, msg=name)


def _without_draws(examples: Any) -> Any:
    return lambda self, target, _draw_at=None: examples(self, target, None)


def test_within_a_seed_variants_share_split_encoder_head_order_and_erasing(
    images: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: dict[str, dict[str, Tensor]] = {}
    batches: dict[str, Tensor] = {}
    pretrained = outcome(spec("pretrain", augmentation="erasing"), images).weights

    def spy(task: Task, *rest: Any) -> Any:
        network = getattr(task.models[0], "network", None)
        assert network is not None
        started[variant] = {name: weight.clone() for name, weight in network.state_dict().items()}
        index = torch.arange(task.train.num).unsqueeze(0)
        batches[variant] = task.train.at_epoch(2, [0])(index)[0]
        orders[variant] = (task.order, task.seeds[0])
        return train(task, *rest)

    orders: dict[str, tuple[str, int]] = {}
    monkeypatch.setattr("aepretrain.training.recipe.train", spy)
    for variant in GRID_VARIANTS:
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

    apply = RandomErasing.apply

    def spy(self: RandomErasing, pixels: Tensor, drawn: Tensor) -> Tensor:
        erased.append(len(pixels))
        return apply(self, pixels, drawn)

    monkeypatch.setattr(RandomErasing, "apply", spy)
    outcome(spec("scratch", augmentation="erasing"), images)
    num_train = len(split(images, "random", 0).train_N)
    assert sum(erased) == 2 * num_train
    erased.clear()
    outcome(spec("scratch"), images)
    assert erased == []


@pytest.mark.parametrize("target", ["input", "clean"])
def test_the_autoencoders_target(images: Dataset, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs: list[tuple[Tensor, Tensor]] = []

    def spy(task: Task, *rest: Any) -> Any:
        pairs.append(task.train.at_epoch(1, [0])(torch.arange(50).unsqueeze(0)))
        return train(task, *rest)

    monkeypatch.setattr("aepretrain.training.recipe.train", spy)
    outcome(spec("pretrain", augmentation="erasing", ae_target=target), images)
    inputs, targets = (part.squeeze(0) for part in pairs[0])
    clean = images.images_NCHW[split(images, "random", 0).train_N[:50]] / 255
    assert not torch.equal(inputs, clean)
    assert torch.equal(targets, inputs if target == "input" else clean)


def test_erased_first_normalised_after(images: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def spy(task: Task, *rest: Any) -> Any:
        seen.append(task.train.at_epoch(1, [0])(torch.arange(50).unsqueeze(0))[0])
        return train(task, *rest)

    monkeypatch.setattr("aepretrain.training.recipe.train", spy)
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
        self.reads += name == "test_images_NCHW"
        return getattr(self._dataset, name)


@pytest.mark.parametrize("variant", GRID_VARIANTS)
def test_test_images_are_read_once_and_after_training(images: Dataset, variant: str) -> None:
    one = spec(variant)
    pretrained = outcome(one.sources["pretrain"], images).weights if one.sources else None
    counting = CountingDataset(images)
    reads: list[int] = []
    weights = [{} if pretrained is None else {"pretrain": pretrained}]
    run([one], counting, CPU, weights, lambda *_: reads.append(counting.reads))  # type: ignore[arg-type]  # stands in
    assert reads == [0, 0]
    assert counting.reads == 1


@pytest.mark.parametrize("variant", GRID_VARIANTS)
def test_test_images_choose_nothing(images: Dataset, variant: str) -> None:
    other = replace(
        images, test_images_NCHW=255 - images.test_images_NCHW, test_labels_N=(images.test_labels_N + 1) % 10
    )
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


def test_a_processor_is_named_where_linux_does_not_tell_it(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_text

    def without_proc(path: Path, *arguments: Any, **options: Any) -> str:
        if path.is_relative_to("/proc"):
            raise FileNotFoundError
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", without_proc)
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "sparc")
    training.describe_machine.cache_clear()
    assert training.describe_machine(CPU)["processor"] == "sparc"
    training.describe_machine.cache_clear()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels_N": slice(1, None)}, "they are not one class and one probability for each image"),
        ({"nll_label_N": np.float32(-0.5)}, "there are probabilities above 1 or unknown ones"),
        ({"nll_predicted_N": np.float32(np.nan)}, "there are probabilities above 1 or unknown ones"),
    ],
    ids=str,
)
def test_damaged_predictions_are_refused(changed: dict[str, Any], message: str) -> None:
    arrays: dict[str, Any] = {"labels_N": np.arange(4, dtype=np.uint8), "predicted_N": np.zeros(4, np.uint8)}
    arrays |= {name: np.ones(4, np.float16) for name in ("nll_label_N", "nll_predicted_N")}
    assert Predictions.from_bytes(Predictions(**arrays).to_bytes())
    for name, value in changed.items():
        if isinstance(value, slice):
            arrays[name] = arrays[name][value]
        else:
            arrays[name][2] = value
    with pytest.raises(Failure, match=f"^predictions are damaged: {message}$"):
        Predictions.from_bytes(Predictions(**arrays).to_bytes())


def test_a_curve_without_one_of_its_epochs_is_refused() -> None:
    assert curve_of("r", [(2, 0.5), (1, 0.75)]) == [0.75, 0.5]
    with pytest.raises(Failure, match=r"^run r is damaged: an epoch is missing$"):
        curve_of("r", [(1, 0.75), (3, 0.5)])


def test_evidence_survives_its_file_and_is_compact(images: Dataset) -> None:
    predictions = outcome(spec("scratch"), images).evidence.predictions
    assert predictions is not None
    again = type(predictions).from_bytes(predictions.to_bytes())
    for name, values in vars(predictions).items():
        assert np.array_equal(values, getattr(again, name)), name
    assert np.exp(-predictions.nll_predicted_N.astype(float)).max() <= 1
    assert (predictions.nll_predicted_N <= predictions.nll_label_N).all()


@pytest.mark.parametrize("variant", GRID_VARIANTS)
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
    assert shown.original_NCHW.shape == shown.seen_NCHW.shape == shown.reconstructed_NCHW.shape == (10, 1, 28, 28)
    assert not np.array_equal(shown.original_NCHW, shown.seen_NCHW)
    plain = outcome(spec("pretrain"), images).evidence
    assert plain.reconstructions is not None
    assert np.array_equal(plain.reconstructions.original_NCHW, plain.reconstructions.seen_NCHW)
    assert plain.class_counts is not None
    assert {name: int(counts.sum()) for name, counts in plain.class_counts.items()} == {
        "training": 500,
        "validation": 100,
    }


def test_bce_trains_on_logits(images: Dataset) -> None:
    found = outcome(spec("pretrain", ae_loss="bce"), images)
    assert 0 < found.metrics["test_loss"] < 0.7
    assert found.evidence.reconstructions is not None
    assert found.evidence.reconstructions.reconstructed_NCHW.min() > 0


def test_the_last_epoch_being_best_is_warned_of(images: Dataset) -> None:
    assert "last one (2)" in str(outcome(spec("pretrain"), images).warning)
    assert outcome(spec("scratch", cls_epochs=40, lr=0.05, patience=2), images).warning is None


def test_a_pretraining_of_another_network_is_refused(images: Dataset) -> None:
    with pytest.raises(Failure, match="does not fit Convolutional"):
        outcome(spec("finetune", "conv"), images, build("fc", 0, MNIST_SHAPE).state_dict())


def test_checkpoints_survive_their_file_and_run_no_code() -> None:
    weights = build("conv", 0, MNIST_SHAPE).state_dict()
    assert same(weights, training.parse_weights(training.dump_weights(weights)))
    for bad in (b"", b"junk", training.dump_weights(weights)[:-100]):
        with pytest.raises(Failure, match="cannot be read"):
            training.parse_weights(bad)


def test_the_model_takes_plain_pixels(images: Dataset) -> None:
    one = spec("scratch", normalize="mnist", cls_epochs=4)
    found = outcome(one, images)
    assert found.evidence.predictions is not None
    module = training.scoring_module(one, images.shape, found.weights)
    scores = module(images.test_images_NCHW / 255)
    assert np.array_equal(scores.argmax(1).numpy(), found.evidence.predictions.predicted_N)
    torch.testing.assert_close(scores.sum(1), torch.ones(100))
    for wrong in (255.0, 1.001, -0.1, torch.nan, torch.inf):
        one_wrong_NCHW = (images.test_images_NCHW / 255).index_fill(0, torch.tensor([7]), wrong)
        with pytest.raises(RuntimeError, match="images must have values from 0 to 1: divide"):
            module(one_wrong_NCHW)


@pytest.mark.parametrize("augmentation", ["none", "erasing"])
@pytest.mark.parametrize("network", ["fc", "conv"])
@pytest.mark.parametrize("variant", GRID_VARIANTS)
def test_each_seed_of_a_stack_is_as_if_alone(images: Dataset, variant: str, network: str, augmentation: str) -> None:
    """16 steps; what parts them is the order in which a product sums.

    Rounding can change which pixel is a pool's maximum. Weights then differ by up to 2e-3. Of seeds 1 to 6, it hardly
    matters for 3 and 4: where their initial weights change by 1e-7 of their values, the final ones do by 3e-5 at most.
    """
    specs = [spec(variant, network, augmentation, seed, ae_epochs=4, cls_epochs=4) for seed in (3, 4)]
    pretrained = [outcome(one.sources["pretrain"], images).weights for one in specs if one.sources]
    sources = [{"pretrain": weights} for weights in pretrained] or [{}] * len(specs)
    stacked = run(specs, images, CPU, sources, lambda *_: None)
    for place, (one, found) in enumerate(zip(specs, stacked, strict=True)):
        assert isinstance(found, Outcome)
        single = outcome(one, images, pretrained[place] if pretrained else None)
        for name, weight in single.weights.items():
            torch.testing.assert_close(found.weights[name], weight, rtol=1e-4, atol=1e-4, msg=name)
        for name in ("best_val_loss", "test_loss"):
            assert found.metrics[name] == pytest.approx(single.metrics[name], rel=1e-3)


def test_one_seeds_failure_is_its_own(images: Dataset) -> None:
    specs = [spec("finetune", seed=seed) for seed in (0, 1, 2)]
    pretrained = [{"pretrain": outcome(one.sources["pretrain"], images).weights} for one in specs if one.sources]
    whole = run(specs, images, CPU, pretrained, lambda *_: None)
    exploding = {"pretrain": {name: weight * 1e38 for name, weight in pretrained[1]["pretrain"].items()}}
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

    def crowded(task: Task, *rest: Any) -> Any:
        tried.append(len(task.models))
        if len(task.models) > 2:
            raise torch.OutOfMemoryError
        return train(task, *rest)

    specs = [spec("scratch", seed=seed) for seed in range(5)]
    single = outcome(specs[4], images)
    monkeypatch.setattr("aepretrain.training.recipe.train", crowded)
    seen: list[tuple[int, int]] = []
    found = run(specs, images, CPU, [{}] * len(specs), lambda place, result: seen.append((place, result.epoch)))
    assert tried == [5, 2, 3, 1, 2]
    assert sorted(seen) == [(place, epoch) for place in range(5) for epoch in (1, 2)]
    last = found[4]
    assert isinstance(last, Outcome)
    assert last.metrics["test_loss"] == pytest.approx(single.metrics["test_loss"], rel=1e-3)
    monkeypatch.setattr("aepretrain.training.recipe.train", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError))
    with pytest.raises(Failure, match="too little memory for fc-none-scratch-s0"):
        run(specs, images, CPU, [{}] * len(specs), lambda *_: None)


def test_devices_by_name() -> None:
    assert training.resolve_device("cpu") == CPU
    assert training.resolve_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(UsageError, match="not known"):
        training.resolve_device("abacus")
    with pytest.raises(UsageError, match="not available"):
        training.resolve_device("xpu")


def tasks_of(one: TrainingSpec, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> tuple[Task, Outcome]:
    """The task that a training hands to the engine, and what comes out."""
    seen: list[Task] = []

    def watched(task: Task, *rest: Any) -> Any:
        seen.append(task)
        return train(task, *rest)

    with monkeypatch.context() as context:
        context.setattr(recipe, "train", watched)
        found = outcome(one, dataset)
    return seen[-1], found


def test_few_labels_leave_pretraining_as_it_is(images: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    few = spec("scratch", labels=20, updates=250)
    task, found = tasks_of(few, images, monkeypatch)
    assert (task.train.num, task.validation.num) == (20, 10)
    assert task.hyperparameters == replace(
        task.hyperparameters, batch_size=20, epochs=3, passes=100, updates=250, patience=0
    )
    assert (found.metrics["num_labels"], found.metrics["num_epochs"]) == (20, 3)
    pretraining, _ = tasks_of(replace(few, variant="pretrain"), images, monkeypatch)
    assert (pretraining.train.num, pretraining.hyperparameters.updates) == (500, None)


def test_all_labels_by_updates_are_seen_in_passes(images: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    task, _ = tasks_of(spec("scratch", updates=30), images, monkeypatch)
    assert task.hyperparameters == replace(task.hyperparameters, batch_size=128, epochs=1, passes=25, updates=30)


def test_test_figures_are_taken_at_three_checkpoints(images: Dataset) -> None:
    fixed = outcome(spec("scratch", cls_epochs=30, patience=0, lr=0.01), images)
    assert fixed.metrics["best_epoch"] < 30, "else there is nothing to tell apart"
    shorter = outcome(spec("scratch", cls_epochs=int(fixed.metrics["best_epoch"]), patience=0, lr=0.01), images)
    assert fixed.metrics["test_loss"] == shorter.metrics["test_loss"] == shorter.metrics["last_test_loss"]
    assert fixed.metrics["last_test_loss"] != fixed.metrics["test_loss"]
    assert same(fixed.weights, shorter.weights)
    epochs = [one.val_accuracy or 0 for one in fixed.evidence.history]
    most_accurate = int(fixed.metrics["most_accurate_epoch"])
    assert most_accurate == 1 + epochs.index(max(epochs))
    assert fixed.metrics["most_accurate_val_accuracy"] == pytest.approx(max(epochs))
    assert fixed.metrics["last_val_accuracy"] == pytest.approx(epochs[-1])
    until = outcome(spec("scratch", cls_epochs=most_accurate, patience=0, lr=0.01), images)
    for figure in ("test_accuracy", "test_macro_f1", "test_loss"):
        assert fixed.metrics[f"most_accurate_{figure}"] == until.metrics[f"last_{figure}"]


@pytest.mark.parametrize("network", ["fc", "conv"])
def test_a_random_encoder_stays_what_it_was(images: Dataset, network: str) -> None:
    found = outcome(spec("random", network), images)
    initial = {
        f"encoder.{name}": weight for name, weight in build(network, 0, MNIST_SHAPE).encoder.state_dict().items()
    }
    assert same(found.weights, initial, "encoder")
    head = build(network, 0, MNIST_SHAPE).frozen_head
    assert not torch.equal(found.weights[f"{head}.weight"], getattr(build(network, 0, MNIST_SHAPE), head).weight)


def test_pixels_are_a_code_of_784_features(images: Dataset) -> None:
    found = outcome(spec("pixels"), images)
    assert {name: tuple(weight.shape) for name, weight in found.weights.items()} == {
        "classifier.weight": (10, 784),
        "classifier.bias": (10,),
    }
    assert found.metrics["test_accuracy"] > 0.3


@pytest.mark.parametrize(("network", "code_size"), [("fc", 128), ("conv", 196)])
def test_principal_components_are_scikit_learns(images: Dataset, network: str, code_size: int) -> None:
    found = outcome(spec("pca", network), images)
    pixels_ND = images.images_NCHW.flatten(1).float().div(255).numpy()
    whole = PCA(code_size, svd_solver="full").fit(pixels_ND[split(images, "random", 0).train_N])
    ours_NC = torch.from_numpy(pixels_ND) @ found.weights["encoder.1.weight"].T + found.weights["encoder.1.bias"]
    assert ours_NC.shape[1] == code_size
    leading = 20  # further ones explain nearly the same variance as their neighbours, and may come out turned
    theirs_NC = whole.transform(pixels_ND)[:, :leading]
    assert np.allclose(ours_NC[:, :leading].numpy(), theirs_NC, atol=1e-3)


@pytest.mark.parametrize("variant", ["random", "pca"])
def test_probes_train_on_erased_images_too(images: Dataset, variant: str) -> None:
    found = outcome(spec(variant, augmentation="erasing"), images)
    assert found.metrics["test_loss"] != outcome(spec(variant), images).metrics["test_loss"]


def three_classifiers(dataset: Dataset, seed: int = 0) -> dict[str, Mapping[str, Tensor]]:
    pretrained = outcome(spec("pretrain", seed=seed), dataset).weights
    own = {v: outcome(spec(v, seed=seed), dataset, pretrained).weights for v in ("frozen", "finetune")}
    return own | {"pretrain": pretrained, "scratch": outcome(spec("scratch", seed=seed), dataset).weights}


def look(variant: str, sources: Mapping[str, Mapping[str, Tensor]], dataset: Dataset) -> Mapping[str, float]:
    (found,) = run([spec(variant)], dataset, CPU, [sources], lambda *_: None)
    assert isinstance(found, Outcome)
    assert not found.weights
    return found.metrics


def test_robustness_begins_with_the_whole_image(images: Dataset) -> None:
    found = look("robustness", three_classifiers(images), images)
    for variant in CLASSIFIERS:
        assert 0 <= found[f"{variant}_ece_at_50"] <= 1
        accuracies = [found[f"{variant}_accuracy_at_{percent}"] for percent in robustness.ERASED_PERCENT]
        assert accuracies[-1] != accuracies[0]
    scratch = outcome(spec("scratch"), images)
    assert found["scratch_accuracy_at_0"] == scratch.metrics["test_accuracy"]
    assert found["scratch_nll_at_0"] == pytest.approx(scratch.metrics["test_loss"], rel=1e-5)
    again = look("robustness", three_classifiers(images), images)
    assert {name: one for name, one in again.items() if name != "training_s"} == {
        name: one for name, one in found.items() if name != "training_s"
    }


def test_what_is_erased_covers_the_share_it_says_and_is_the_same_each_time() -> None:
    first, second = (robustness._erase(30, 50, (1, 28, 28), CPU).drawn_SN for _ in range(2))
    assert torch.equal(first, second)
    share = first[0, :, 2:].prod(1).double().mean().item() / 784
    assert share == pytest.approx(0.3, abs=0.01)


def test_robustness_does_not_depend_on_what_training_erases(images: Dataset) -> None:
    sources = three_classifiers(images)
    specs = [spec("robustness"), spec("robustness", erase_value=0.5, erase_ratio=(1.0, 1.0))]
    found = run(specs, images, CPU, [sources, sources], lambda *_: None)
    first, second = (
        {k: v for k, v in one.metrics.items() if k != "training_s"} for one in found if isinstance(one, Outcome)
    )
    assert first == second


@pytest.mark.parametrize(("network", "num_layers"), [("fc", 2), ("conv", 3)])
def test_similarity_is_one_for_the_same_encoder(images: Dataset, network: str, num_layers: int) -> None:
    initial = {f"encoder.{name}": one for name, one in build(network, 0, MNIST_SHAPE).encoder.state_dict().items()}
    other = {f"encoder.{name}": one for name, one in build(network, 1, MNIST_SHAPE).encoder.state_dict().items()}
    sources = {"pretrain": initial, "finetune": initial, "scratch": initial, "other": other}
    (found,) = run([spec("similarity", network)], images, CPU, [sources], lambda *_: None)
    assert isinstance(found, Outcome)
    names = [f"cka_{a}_{b}_{layer}" for a, b in similarity.PAIRS for layer in range(1, num_layers + 1)]
    assert set(found.metrics) == {*names, "training_s"}
    for name in names:
        if "other" in name:
            assert 0 < found.metrics[name] < 0.999
        else:
            assert found.metrics[name] == pytest.approx(1, abs=1e-5)
    maps = found.evidence.code_maps
    assert maps is not None
    assert list(maps.places_N2) == ["pretrain", "finetune", "scratch"]
    assert np.array_equal(maps.places_N2["pretrain"], maps.places_N2["finetune"])
    assert np.array_equal(maps.places_N2["pretrain"], maps.places_N2["scratch"])
    validation_N = split(images, "random", 0).validation_N
    assert maps.places_N2["pretrain"].shape == (len(validation_N), 2)
    assert maps.labels_N.tolist() == images.labels_N[validation_N].tolist()


def test_weights_that_do_not_fit_fail_the_evaluation(images: Dataset) -> None:
    wrong = outcome(spec("scratch", "conv"), images).weights
    (found,) = run([spec("robustness")], images, CPU, [dict.fromkeys(CLASSIFIERS, wrong)], lambda *_: None)
    assert isinstance(found, Failure)
    assert "does not fit" in str(found)


def test_diagnostics_of_an_encoder_equal_those_computed_by_hand(images: Dataset) -> None:
    found = outcome(spec("scratch", seed=1), images)
    network = build("fc", 1, MNIST_SHAPE)
    network.encoder.load_state_dict({name[8:]: w for name, w in found.weights.items() if name.startswith("encoder")})
    halves = split(images, "random", 1)

    def layers(pixels_NHW: Tensor) -> list[NDArray[np.float64]]:
        hidden = network.encoder[:2](pixels_NHW.float().div(255).flatten(1))  # type: ignore[index]
        return [layer.detach().double().numpy() for layer in (hidden, network.encoder[2:](hidden))]  # type: ignore[index]

    of_validation = layers(images.images_NCHW[halves.validation_N])
    silent = sum(int((layer <= 0).all(axis=0).sum()) for layer in of_validation)
    assert found.metrics["dead_units"] == pytest.approx(silent / (256 + 128))
    shares = np.linalg.svd(of_validation[-1], compute_uv=False) ** 2
    shares = shares[shares > 0] / shares.sum()
    assert found.metrics["effective_rank"] == pytest.approx(np.exp(stats.entropy(shares)), rel=1e-4)
    variances = np.linalg.eigvalsh(np.cov(of_validation[-1].T, bias=True)).clip(min=0)
    centred = np.exp(stats.entropy(variances))
    assert found.metrics["effective_rank_centred"] == pytest.approx(centred, rel=1e-3)
    train_ND, test_MD = (layers(pixels)[-1] for pixels in (images.images_NCHW[halves.train_N], images.test_images_NCHW))
    mean_D, std_D = train_ND.mean(0), train_ND.std(0)
    std_D[std_D == 0] = 1
    probe = LogisticRegression(max_iter=10_000, tol=1e-8).fit(
        (train_ND - mean_D) / std_D, images.labels_N[halves.train_N]
    )
    accuracy = probe.score((test_MD - mean_D) / std_D, images.test_labels_N)
    assert found.metrics["probe_accuracy"] == pytest.approx(accuracy, abs=0.011), "one of 100 images at most"


@pytest.mark.parametrize("variant", ["pretrain", "finetune", "scratch"])
@pytest.mark.parametrize("network", ["fc", "conv"])
def test_encoders_that_learn_are_diagnosed(images: Dataset, variant: str, network: str) -> None:
    found = outcome(spec(variant, network, labels=20), images).metrics
    assert 0 <= found["dead_units"] < 1
    assert 1 <= found["effective_rank"] <= (128 if network == "fc" else 196)
    assert 0.3 < found["probe_accuracy"] <= 1, "it learns from all training images, also where a classifier has few"


@pytest.mark.parametrize("variant", ["frozen", "random", "pixels", "pca"])
def test_encoders_that_do_not_learn_are_not_diagnosed(images: Dataset, variant: str) -> None:
    assert not outcome(spec(variant), images).metrics.keys() & {"dead_units", "effective_rank", "probe_accuracy"}


def test_options_of_an_arm_reach_its_training(images: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {
        "ae_lr": 0.01,
        "cls_lr": 0.02,
        "encoder_lr": 0.003,
        "head_first": 2,
        "weight_decay": 0.1,
        "schedule": "cosine",
    }
    tasks_by_variant = {name: tasks_of(spec(name, **given), images, monkeypatch)[0] for name in GRID_VARIANTS}
    limits = {name: one.hyperparameters for name, one in tasks_by_variant.items()}
    assert {name: one.lr for name, one in limits.items()} == {
        "pretrain": 0.01,
        "frozen": 0.02,
        "finetune": 0.02,
        "scratch": 0.02,
    }
    assert {(one.weight_decay, one.schedule) for one in limits.values()} == {(0.1, "cosine")}
    assert limits["finetune"].rates == {"network.encoder.": Rate(0.003, 2 * 4)}, "500 images are four steps an epoch"
    assert limits["frozen"].rates == limits["scratch"].rates == {}
    steps, _ = tasks_of(spec("finetune", head_first=7, updates=30), images, monkeypatch)
    assert steps.hyperparameters.rates == {"network.encoder.": Rate(0.001, 7)}


@pytest.mark.parametrize(("network", "shape"), [("fc", (16, 28, 28)), ("conv", (8, 3, 3))])
def test_filters_are_the_first_layers_weights_with_the_largest_norm(
    images: Dataset, network: str, shape: tuple[int, int, int]
) -> None:
    found = outcome(spec("scratch", network), images)
    kept = found.evidence.filters_CHW
    assert kept is not None
    assert kept.shape == shape
    assert kept.dtype == np.float16
    weights_CHW = found.weights["encoder.0.weight"].reshape(-1, *shape[1:]).numpy()
    norms = np.linalg.norm(weights_CHW.reshape(len(weights_CHW), -1), axis=1)
    for place, index in enumerate(np.argsort(-norms)[: shape[0]]):
        np.testing.assert_array_equal(kept[place], weights_CHW[index].astype(np.float16))
    assert np.array_equal(filters_from_bytes(filters_to_bytes(kept)), kept)
    assert outcome(spec("frozen", network), images).evidence.filters_CHW is None, "its encoder is the pretraining's"


def test_damaged_filters_are_refused() -> None:
    for wrong in (np.zeros((2, 3)), np.full((1, 2, 2), np.nan)):
        with pytest.raises(Failure, match="filters are damaged"):
            filters_from_bytes(filters_to_bytes(wrong.astype(np.float16)))
    with pytest.raises(Failure, match="filters are damaged"):
        filters_from_bytes(b"nothing")
