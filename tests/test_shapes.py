"""Images of other shapes and numbers of classes than MNIST's: networks, trainings, pictures, and what is stored."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aepretrain import figures, tracking
from aepretrain.config import MNIST_SHAPE, Settings, Shape, TrainingSpec
from aepretrain.data import Dataset, labelled, split, with_digest
from aepretrain.errors import UsageError
from aepretrain.figures.training import reconstructions
from aepretrain.networks import build
from aepretrain.records import Predictions, Reconstructions, Record, of_newest_images
from aepretrain.training import Outcome, encoding_module, run, scoring_module, try_out
from aepretrain.training.checkpoints import ALLOWED
from aepretrain.variants import CLASSIFIERS

CPU = torch.device("cpu")

SHAPES = [
    Shape((1, 28, 28), 10),
    Shape((3, 32, 32), 3),
    Shape((3, 48, 40), 2),
    Shape((1, 8, 8), 10),
    Shape((2, 13, 9), 4),
    Shape((4, 14, 15), 100),
    Shape((1, 4, 5), 2),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["fc", "conv"])
def test_networks_fit_any_shape(name: str, shape: Shape) -> None:
    network = build(name, 0, shape)
    images_NCHW = torch.rand(3, *shape.image)
    codes_ND = network.encode(images_NCHW)
    assert codes_ND.shape == (3, 128 if name == "fc" else 4 * (shape.image[1] // 4) * (shape.image[2] // 4))
    assert network.decode(codes_ND).shape == images_NCHW.shape
    for head in (network.frozen_head, network.trained_head):
        assert getattr(network, head)(codes_ND).shape == (3, shape.num_classes)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_loops_give_what_the_listed_layers_give(shape: Shape) -> None:
    fast = build("conv", 0, shape).double()
    listed = copy.deepcopy(fast)
    images_NCHW = torch.rand(5, *shape.image, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    outputs, expected = fast.decode(fast.encode(images_NCHW)), listed.decoder(listed.encoder(images_NCHW))
    torch.testing.assert_close(outputs, expected, rtol=1e-12, atol=1e-12)
    outputs.square().sum().backward()
    expected.square().sum().backward()
    for (name, ours), theirs in zip(fast.named_parameters(), listed.parameters(), strict=True):
        if name.startswith(("encoder", "decoder")):
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-12, msg=name)


def test_for_mnist_the_weights_are_what_they_were() -> None:
    # The sum of all initial weights of seed 0, as they were before networks fitted other shapes.
    for name, expected in (("fc", -6.515765850807469), ("conv", 5.0670252752897795)):
        total = sum(float(weight.double().sum()) for weight in build(name, 0, MNIST_SHAPE).state_dict().values())
        assert total == pytest.approx(expected, rel=1e-9)


def test_images_that_are_too_small_are_refused_before_any_run() -> None:
    spec = TrainingSpec(variant="scratch", network="conv")
    with pytest.raises(UsageError, match=r"network 'conv': it needs images of 4×4 pixels or more, not 3×9"):
        try_out(spec, Shape((1, 3, 9), 10))


def made_up(shape: Shape, num: int = 120) -> Dataset:
    """Images whose brightness tells their class."""
    labels_N = torch.arange(num) % shape.num_classes
    noise_NCHW = torch.rand(num, *shape.image, generator=torch.Generator().manual_seed(0))
    bright_N111 = (labels_N / shape.num_classes).view(-1, 1, 1, 1)
    images_NCHW = (255 * (0.7 * bright_N111 + 0.3 * noise_NCHW)).to(torch.uint8)
    return with_digest("made_up", "made up", images_NCHW, labels_N, images_NCHW, labels_N)


def outcomes(dataset: Dataset, network: str = "fc", **settings: Any) -> dict[str, Outcome]:
    """A pretraining and the three classifiers on a dataset."""
    usual = {"dataset": "made_up", "batch_size": 32, "ae_epochs": 2, "cls_epochs": 8, "lr": 0.003}
    chosen = Settings(**{**usual, **settings})
    found: dict[str, Outcome] = {}
    for variant in ("pretrain", *CLASSIFIERS):
        spec = TrainingSpec(variant=variant, network=network, augmentation="erasing", settings=chosen)
        weights = {"pretrain": found["pretrain"].weights} if spec.sources else {}
        (outcome,) = run([spec], dataset, CPU, [weights], lambda *_: None)
        assert isinstance(outcome, Outcome)
        found[variant] = outcome
    return found


@pytest.mark.parametrize("network", ["fc", "conv"])
def test_trainings_on_colours_give_all_evidence(network: str) -> None:
    shape = Shape((3, 16, 12), 3)
    found = outcomes(made_up(shape), network, objective="pixel-mask", cls_epochs=40, lr=0.01)
    shown = found["pretrain"].evidence
    assert shown.reconstructions is not None
    assert shown.reconstructions.seen_NCHW.shape == (3, 3, 16, 12), "one image of each class"
    hidden = shown.reconstructions.seen_NCHW == 0
    assert (hidden.all(1) == hidden.any(1))[shown.reconstructions.original_NCHW.min(1) > 0].all(), "in all channels"
    assert shown.class_counts is not None
    assert {len(counts_K) for counts_K in shown.class_counts.values()} == {3}
    assert shown.filters_CHW is not None
    assert shown.filters_CHW.shape == ((16, 16, 12) if network == "fc" else (8, 3, 3))
    for variant in CLASSIFIERS:
        confusion_KK = found[variant].evidence.confusion_KK
        assert confusion_KK is not None
        assert confusion_KK.shape == (3, 3)
    assert found["scratch"].metrics["test_accuracy"] > 0.6, "a third of the images is right by chance"


def test_more_than_256_classes_are_stored_as_they_are() -> None:
    shape = Shape((1, 6, 6), 300)
    scratch = outcomes(made_up(shape, 1_500))["scratch"].evidence.predictions
    assert scratch is not None
    again = Predictions.from_bytes(scratch.to_bytes())
    assert again.labels_N.dtype == np.uint16
    assert again.labels_N.tolist() == [n % 300 for n in range(1_500)]
    assert again.predicted_N.max() > 255


def test_few_labels_are_balanced_over_any_number_of_classes() -> None:
    dataset = made_up(Shape((1, 6, 6), 3))
    part = labelled(dataset, split(dataset, "random", 0), 11, 0)
    assert torch.bincount(dataset.labels_N[part.train_N]).tolist() == [4, 4, 3]
    assert len(part.validation_N) == 10
    many = made_up(Shape((1, 6, 6), 20), 400)
    with pytest.raises(UsageError, match="labels=10 is not allowed for made_up: it has 20 classes"):
        labelled(many, split(many, "random", 0), 10, 0)
    assert len(labelled(many, split(many, "stratified", 0), 20, 0).validation_N) == 20


def test_unlabelled_images_take_part_in_pretraining_alone() -> None:
    dataset = made_up(Shape((1, 6, 6), 3))
    further_NCHW = torch.full((40, 1, 6, 6), 200, dtype=torch.uint8)
    more = dataset.with_unlabelled(further_NCHW)
    plain, found = outcomes(dataset), outcomes(more)
    first, second = (one["pretrain"].evidence.class_counts for one in (plain, found))
    assert first is not None
    assert second is not None
    assert all(np.array_equal(first[part], second[part]) for part in first), "they have no classes"
    assert not torch.equal(found["pretrain"].weights["encoder.0.weight"], plain["pretrain"].weights["encoder.0.weight"])
    for name, weight in plain["scratch"].weights.items():
        assert torch.equal(found["scratch"].weights[name], weight)
    assert "probe_accuracy" in found["pretrain"].metrics


def test_models_take_images_of_their_shape() -> None:
    shape = Shape((3, 10, 9), 5)
    spec = TrainingSpec(variant="scratch", network="conv")
    weights = build("conv", 0, shape).state_dict()
    of_classifier = {name: one for name, one in weights.items() if name.startswith(("encoder", "classifier2"))}
    module = scoring_module(spec, shape, of_classifier)
    probs_NK = module(torch.rand(4, *shape.image))
    torch.testing.assert_close(probs_NK.sum(1), torch.ones(4))
    assert probs_NK.shape == (4, 5)
    with pytest.raises(RuntimeError, match=ALLOWED.partition(":")[0]):
        module(2 * torch.ones(4, *shape.image))
    assert encoding_module(spec, shape, of_classifier)(torch.rand(4, *shape.image)).shape == (4, 4 * 2 * 2)


def test_a_colour_augmentation_erases_all_channels() -> None:
    dataset = made_up(Shape((3, 16, 12), 3))
    plain, erased = (
        run(
            [TrainingSpec(variant="pretrain", network="fc", augmentation=name, settings=Settings(ae_epochs=1))],
            dataset,
            CPU,
            [{}],
            lambda *_: None,
        )[0]
        for name in ("none", "erasing")
    )
    assert isinstance(plain, Outcome)
    assert isinstance(erased, Outcome)
    shown = erased.evidence.reconstructions
    assert shown is not None
    changed = shown.original_NCHW != shown.seen_NCHW
    assert changed.any((1, 2, 3)).all()
    assert (changed.all(1) == changed.any(1)).mean() > 0.999


def test_of_images_that_have_changed_the_newest_count(caplog: pytest.LogCaptureFixture) -> None:
    def record(key: str, dataset: str, digest: str, **settings: Any) -> Record:
        identity = {"variant": "scratch", "network": "fc", "augmentation": "none", "dataset": dataset, **settings}
        return Record(key, None, key, 1, {**identity, "seed": 0}, {}, {"dataset_digest": digest})

    records = {
        one.key: one
        for one in (
            record("a", "folder:cats", "before"),
            record("b", "mnist", "always"),
            record("c", "folder:cats", "small", image_size="8x8"),
            record("d", "folder:cats", "now"),
            record("e", "folder:cats", "before"),
            record("f", "folder:cats", "now"),
        )
    }
    assert list(of_newest_images(records)) == ["b", "c", "d", "f"]
    assert caplog.messages == ["2 trainings on other images named folder:cats are left out: the newest ones count."]


NAMES = ("a long name of a class", "b", "$c_1$")


@pytest.mark.parametrize(("num_classes", "channels"), [(3, 3), (3, 4), (40, 1), (40, 2)])
def test_figures_are_drawn_for_any_number_of_classes_and_channels(
    tmp_path: Path, num_classes: int, channels: int
) -> None:
    shape = Shape((channels, 6, 7), num_classes)
    dataset = made_up(shape, 400)
    classes = NAMES if num_classes == 3 else tuple(map(str, range(num_classes)))
    found = outcomes(dataset)
    drawn = {
        **figures.training_figures("pretrain", found["pretrain"].evidence, classes),
        **figures.training_figures("frozen", found["frozen"].evidence, classes),
    }
    predictions = found["frozen"].evidence.predictions
    assert predictions is not None
    drawn["confused"] = figures.confused_images("wrong", dataset.test_images_NCHW.numpy(), predictions, classes)
    assert {"reconstructions", "confusion_matrix", "class_distribution", "filters", "confused"} <= drawn.keys()
    for name, figure in drawn.items():
        figure.savefig(tmp_path / f"{name}.png")
    ticks = [tick.get_text() for tick in drawn["confusion_matrix"].axes[0].get_yticklabels()]
    assert (ticks == ["a long name o…", "b", "$c_1$"]) == (num_classes == 3)


def test_a_colour_picture_is_drawn_in_its_colours() -> None:
    reds = np.zeros((2, 3, 4, 4), np.float32)
    reds[:, 0] = 1
    shown = Reconstructions(reds, reds, reds)
    (drawn,) = reconstructions("red", shown).axes[0].get_images()
    pixels = np.asarray(drawn.get_array())
    assert pixels.shape[2] == 3
    assert pixels[0, 0].tolist() == [1, 0, 0]
    assert pixels[-1, -1].tolist() == [1, 1, 1], "the gaps are white"


def test_a_record_tells_the_shape_of_its_images() -> None:
    record = next(iter(tracking.read_bundle(Path(__file__).parent.parent / "evidence").records().values()))
    assert record.shape == MNIST_SHAPE, "older trainings do not name it"
    named = replace(record, tags={**record.tags, "image_shape": "3x48x40", "num_classes": "7"})
    assert named.shape == Shape((3, 48, 40), 7)
