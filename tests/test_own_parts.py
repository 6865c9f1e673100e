"""How a user's augmentation and variant take part in trainings: each image its own row, each weight as it is named."""

import importlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from aepretrain.augment import Augmentation
from aepretrain.config import Settings, TrainingSpec, derive_seed
from aepretrain.data import Dataset, split
from aepretrain.training import Outcome, run, training_key
from aepretrain.training.batches import Images, augmentation_draws

CPU = torch.device("cpu")
SCRATCH = TrainingSpec(
    variant="scratch", network="fc", augmentation="shifting", settings=Settings(ae_epochs=2, cls_epochs=2)
)


@pytest.fixture(autouse=True)
def examples(own_registries: None) -> Iterator[None]:  # noqa: ARG001  # it undoes what is registered here
    """What the examples register."""
    names = ("examples.shifting", "examples.last_layer")
    for name in names:
        importlib.import_module(name)
    yield
    for name in names:
        del sys.modules[name]


def shifting() -> Augmentation:
    made: Augmentation = sys.modules["examples.shifting"].Shifting(Settings())
    return made


def outcomes(specs: list[TrainingSpec], dataset: Dataset, *pretrained: Mapping[str, Tensor]) -> list[Outcome]:
    sources: list[dict[str, Mapping[str, Tensor]]] = [{"pretrain": one} for one in pretrained] or [{} for _ in specs]
    found = [one for one in run(specs, dataset, CPU, sources, lambda *_: None) if isinstance(one, Outcome)]
    assert len(found) == len(specs)
    return found


def test_the_example_moves_images_as_it_says(images: Dataset) -> None:
    pixels = images.images_NCHW[:3].float()
    moved = shifting().apply(pixels, torch.tensor([[0, 0], [2, -1], [-2, 2]]))
    assert torch.equal(moved[0], pixels[0])
    assert torch.equal(moved[1, 0, 2:, :-1], pixels[1, 0, :-2, 1:])
    assert torch.equal(moved[2, 0, :-2, 2:], pixels[2, 0, 2:, :-2])
    assert moved[1, 0, :2].sum() == moved[2, 0, :, :2].sum() == 0


def test_each_image_of_each_seed_of_a_stack_has_its_own_row(images: Dataset) -> None:
    specs = [replace(SCRATCH, seed=seed) for seed in (3, 5)]
    rows = [split(images, "random", spec.seed).train_N for spec in specs]
    given = Images.on_device(images.images_NCHW, images.labels_N, rows, Settings(), CPU)
    draw_at = augmentation_draws(specs, given, "classifier erasing")
    assert draw_at is not None
    index_SB = torch.tensor([[4, 0, 7], [1, 1, 9]])
    inputs_SB1HW, labels_SB = given.examples("label", draw_at).at_epoch(6, [0, 1])(index_SB)
    for place, spec in enumerate(specs):
        generator = torch.Generator().manual_seed(derive_seed(spec.seed, "classifier erasing", 6))
        drawn = shifting().draw(len(rows[place]), (1, 28, 28), generator)
        for position, index in enumerate(index_SB[place].tolist()):
            row = rows[place][index]
            expected = shifting().apply(images.images_NCHW[row].float().div(255).view(1, 1, 28, 28), drawn[[index]])
            assert torch.equal(inputs_SB1HW[place, position], expected[0])
            assert labels_SB[place, position] == images.labels_N[row]


def test_only_training_images_are_augmented_and_a_stack_gives_what_single_trainings_do(
    images: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    num = 0
    apply = type(shifting()).apply

    def counting(self: Augmentation, images_BCHW: Tensor, drawn_B: Tensor) -> Tensor:
        nonlocal num
        num += len(images_BCHW)
        return apply(self, images_BCHW, drawn_B)

    monkeypatch.setattr(type(shifting()), "apply", counting)
    (single,) = outcomes([SCRATCH], images)
    assert num == 2 * len(split(images, "random", 0).train_N)
    stacked, _ = outcomes([SCRATCH, replace(SCRATCH, seed=1)], images)
    for name, weight in single.weights.items():
        torch.testing.assert_close(stacked.weights[name], weight, rtol=1e-3, atol=1e-4, msg=name)
    (plain,) = outcomes([replace(SCRATCH, augmentation="none")], images)
    assert not torch.equal(plain.weights["encoder.0.weight"], single.weights["encoder.0.weight"])


def test_what_a_variant_does_not_name_stays_as_it_was(images: Dataset) -> None:
    own = replace(SCRATCH, variant="last_layer", augmentation="none")
    assert own.sources == {"pretrain": replace(own, variant="pretrain")}
    pretrained = outcomes([own.sources["pretrain"]], images)[0].weights
    (found,) = outcomes([own], images, pretrained)
    for name, weight in pretrained.items():
        if name.startswith("encoder"):
            assert torch.equal(found.weights[name], weight) == name.startswith("encoder.0"), name
    assert set(found.weights) - set(pretrained) == {"classifier2.weight", "classifier2.bias"}
    (again,) = outcomes([own], images, pretrained)
    assert all(torch.equal(again.weights[name], weight) for name, weight in found.weights.items())
    assert training_key(own, ("digest", "")) != training_key(replace(own, variant="finetune"), ("digest", ""))
