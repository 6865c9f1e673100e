"""Objectives of pretraining: what is hidden, what must be given back, and the training against a slow loop."""

import hashlib
import importlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional

from aepretrain.augment import AUGMENTATIONS
from aepretrain.config import CORRUPTIONS, MNIST_SHAPE, OBJECTIVES, Settings, TrainingSpec, derive_seed
from aepretrain.data import Dataset, split
from aepretrain.engine import Task, Trained, train
from aepretrain.errors import UsageError
from aepretrain.networks import NETWORKS, build
from aepretrain.objectives import OBJECTIVES as REGISTERED
from aepretrain.training import Outcome, run
from aepretrain.training.batches import Images, augmentation_draws, corruption_draws
from aepretrain.training.tasks import make_task

CPU = torch.device("cpu")
NUM = 20_000


def drawn(name: str, settings: Settings, num: int = NUM) -> Tensor:
    """What a corruption makes of white images, [N, H, W]."""
    corruption = AUGMENTATIONS.look_up(name)(settings)
    rows = corruption.draw(num, (1, 28, 28), torch.Generator().manual_seed(3))
    return corruption.apply(torch.ones(num, 1, 28, 28), rows).squeeze(1)


@pytest.mark.parametrize(("settings", "share"), [(Settings(), 0.5), (Settings(mask_share=0.2), 0.2)])
def test_each_pixel_is_hidden_with_the_share_and_independently(settings: Settings, share: float) -> None:
    hidden_NHW = drawn("pixel-mask", settings) == 0
    assert abs(hidden_NHW.double().mean().item() - share) < 4 * (share * (1 - share) / hidden_NHW.numel()) ** 0.5
    of_pixel = hidden_NHW.double().mean(0)
    assert (of_pixel - share).abs().max() < 5 * (share * (1 - share) / NUM) ** 0.5, "no place is special"
    of_image = hidden_NHW.flatten(1).sum(1).numpy()
    expected = stats.binom(784, share)
    assert of_image.var() == pytest.approx(expected.var(), rel=0.05), "independent within an image"
    correlations = np.corrcoef(hidden_NHW[:, :6, :6].flatten(1).double().numpy().T)[np.triu_indices(36, 1)]
    assert np.abs(correlations).max() < 5 / NUM**0.5
    between = np.corrcoef(hidden_NHW[:30].flatten(1).double().numpy())[np.triu_indices(30, 1)]
    assert np.abs(between).max() < 5 / 784**0.5, "and between images"


@pytest.mark.parametrize(
    ("settings", "share", "side"), [(Settings(), 0.6, 4), (Settings(mask_share=0.3, patch_size=5), 0.3, 5)]
)
def test_each_patch_is_hidden_as_a_whole_and_independently(settings: Settings, share: float, side: int) -> None:
    hidden_NHW = drawn("patch-mask", settings) == 0
    per_side = -(-28 // side)
    for row in range(per_side):
        for column in range(per_side):
            patch = hidden_NHW[:, row * side : (row + 1) * side, column * side : (column + 1) * side].flatten(1)
            assert bool((patch == patch[:, :1]).all())
    patches_Nhw = hidden_NHW[:, ::side, ::side].double()
    assert patches_Nhw.shape[1:] == (per_side, per_side)
    assert abs(patches_Nhw.mean().item() - share) < 4 * (share * (1 - share) / patches_Nhw.numel()) ** 0.5
    correlations = np.corrcoef(patches_Nhw.flatten(1).numpy().T)[np.triu_indices(per_side**2, 1)]
    assert np.abs(correlations).max() < 5 / NUM**0.5


def test_noise_is_normal_independent_and_not_clipped() -> None:
    noise_NHW = (drawn("gaussian-noise", Settings(noise=0.3), 500) - 1).double().numpy()
    assert stats.kstest(noise_NHW.ravel()[:100_000] / 0.3, "norm").pvalue > 0.001
    assert noise_NHW.max() > 1
    correlations = np.corrcoef(noise_NHW[:, :5, :5].reshape(500, 25).T)[np.triu_indices(25, 1)]
    assert np.abs(correlations).max() < 5 / 500**0.5


def pretrain(objective: str, augmentation: str = "none", seed: int = 0, **settings: object) -> TrainingSpec:
    chosen = Settings(**{"ae_epochs": 1, "objective": objective} | settings)  # type: ignore[arg-type]
    return TrainingSpec(variant="pretrain", network="fc", augmentation=augmentation, seed=seed, settings=chosen)


def parts(specs: list[TrainingSpec], dataset: Dataset) -> tuple[Images, Images]:
    splits = [split(dataset, "random", spec.seed) for spec in specs]
    training, validation = (
        Images.on_device(
            dataset.images_NCHW, dataset.labels_N, [getattr(one, part) for one in splits], specs[0].settings, CPU
        )
        for part in ("train_N", "validation_N")
    )
    return training, validation


def task(specs: list[TrainingSpec], dataset: Dataset) -> Task:
    return make_task(specs, [build(spec.network, spec.seed, MNIST_SHAPE) for spec in specs], *parts(specs, dataset))


def corrupted(name: str, pixels_HW: Tensor, row: Tensor) -> Tensor:
    """One image by loops over its pixels."""
    made = pixels_HW.clone()
    for y in range(28):
        for x in range(28):
            if name == "pixel-mask":
                made[y, x] = pixels_HW[y, x] if row[y, x] else 0
            elif name == "patch-mask":
                made[y, x] = pixels_HW[y, x] if row[y // 4, x // 4] else 0
            elif name == "gaussian-noise":
                made[y, x] = pixels_HW[y, x] + row[0, y, x]
    return made


@pytest.mark.parametrize("network", ["fc", "conv"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_equal_to_a_slow_loop_over_50_steps(images: Dataset, objective: str, network: str) -> None:
    """Corruption pixel by pixel, batches image by image, PyTorch's own Adam and layers."""
    spec = replace(pretrain(objective, batch_size=4, seed=2), network=network)
    rows = split(images, "random", 2).train_N[:200]
    generator = torch.Generator().manual_seed(derive_seed(2, "AE corruption", 1))
    draws = {
        "reconstruct": lambda: torch.zeros(200),
        "pixel-mask": lambda: torch.rand(200, 28, 28, generator=generator) >= 0.5,
        "patch-mask": lambda: torch.rand(200, 7, 7, generator=generator) >= 0.6,
        "gaussian-noise": lambda: torch.empty(200, 1, 28, 28).normal_(0, 0.5, generator=generator),
    }[objective]()
    slow = build(network, 2, MNIST_SHAPE)
    optimizer = torch.optim.Adam([*slow.encoder.parameters(), *slow.decoder.parameters()], lr=0.001)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(derive_seed(2, "AE order", 1))).tolist()
    losses = []
    for start in range(0, 200, 4):
        optimizer.zero_grad()
        total = torch.zeros(())
        for i in order[start : start + 4]:
            target = images.images_NCHW[rows[i], 0].float() / 255
            given = corrupted(objective, target, draws[i]).view(1, 1, 28, 28)
            codes = slow.encoder(given.flatten(1) if network == "fc" else given)
            output = slow.decoder(codes).view(28, 28)
            total = total + ((output - target) ** 2).mean() / 4
        total.backward()
        optimizer.step()
        losses.append(total.item())
    assert len(losses) == 50
    training, validation = parts([spec], images)
    training = replace(training, rows_SM=training.rows_SM[:, :200])
    fast = build(network, 2, MNIST_SHAPE)
    one = make_task([spec], [fast], training, replace(validation, rows_SM=validation.rows_SM[:, :50]))
    (found,) = train(one, lambda *_: None)
    assert isinstance(found, Trained)
    assert found.history[0].train_loss == pytest.approx(sum(losses) / 50, rel=1e-5)
    for name, weight in slow.state_dict().items():
        if name.startswith(("encoder", "decoder")):
            torch.testing.assert_close(fast.state_dict()[name], weight, rtol=1e-3, atol=2e-4, msg=name)


@pytest.mark.parametrize("objective", CORRUPTIONS)
@pytest.mark.parametrize("target", ["input", "clean"])
def test_the_target_is_the_image_before_it_is_corrupted(images: Dataset, objective: str, target: str) -> None:
    spec = pretrain(objective, "erasing", ae_target=target)
    training, _ = parts([spec], images)
    index_SB = torch.arange(20).unsqueeze(0)
    inputs, targets = task([spec], images).train.at_epoch(3, [0])(index_SB)
    augment = augmentation_draws([spec], training, "AE erasing")
    erased = training.examples("input", augment).at_epoch(3, [0])(index_SB)[0]
    clean = training.examples("clean").at_epoch(3, [0])(index_SB)[0]
    assert not torch.equal(erased, clean)
    assert torch.equal(targets, erased if target == "input" else clean)
    drawn_N = REGISTERED.look_up(objective)(spec.settings).draw(
        training.rows_SM.shape[1], (1, 28, 28), torch.Generator().manual_seed(derive_seed(0, "AE corruption", 3))
    )
    for i in range(20):
        assert torch.equal(inputs[0, i, 0], corrupted(objective, erased[0, i, 0], drawn_N[i]))


PRINT_VALIDATION = """
import hashlib, sys
import numpy as np, torch
from aepretrain.config import DataRequest, Settings, TrainingSpec
from aepretrain.data import load
from tests.test_objectives import pretrain, task
one = task([pretrain(sys.argv[1], seed=5)], load(DataRequest("digits"), None))
inputs, _ = one.validation.at_epoch(0, [0])(torch.arange(50).unsqueeze(0))
print(hashlib.sha256(inputs.numpy().tobytes()).hexdigest())
"""


@pytest.mark.parametrize("objective", CORRUPTIONS)
def test_validation_images_are_corrupted_in_the_same_way_after_every_epoch_and_in_every_process(
    digits: Dataset, objective: str
) -> None:
    index_SB = torch.arange(50).unsqueeze(0)
    one = task([pretrain(objective, seed=5)], digits)
    first, targets = one.validation.at_epoch(0, [0])(index_SB)
    one.train.at_epoch(1, [0])(index_SB)
    assert torch.equal(first, one.validation.at_epoch(0, [0])(index_SB)[0])
    assert not torch.equal(first, targets)
    other = task([pretrain(objective, seed=6)], digits)
    assert not torch.equal(first, other.validation.at_epoch(0, [0])(index_SB)[0])
    epochs = [one.train.at_epoch(epoch, [0])(index_SB)[0] for epoch in (1, 2)]
    assert not torch.equal(*epochs)
    done = subprocess.run(
        [sys.executable, "-c", PRINT_VALIDATION, objective],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    assert done.stdout.strip() == hashlib.sha256(first.numpy().tobytes()).hexdigest()


@pytest.mark.parametrize("objective", CORRUPTIONS)
def test_only_pretraining_is_corrupted_by_its_objective(images: Dataset, objective: str) -> None:
    classifier = replace(pretrain(objective), variant="finetune")
    inputs, _ = task([classifier], images).train.at_epoch(1, [0])(torch.arange(9).unsqueeze(0))
    rows = split(images, "random", 0).train_N[:9]
    assert torch.equal(inputs[0], images.images_NCHW[rows].float() / 255)
    control = replace(classifier, variant="scratch", augmentation=objective)
    given, _ = task([control], images).train.at_epoch(1, [0])(torch.arange(9).unsqueeze(0))
    assert not torch.equal(given, inputs)
    assert torch.equal(
        task([control], images).validation.at_epoch(0, [0])(torch.arange(9).unsqueeze(0))[0],
        task([classifier], images).validation.at_epoch(0, [0])(torch.arange(9).unsqueeze(0))[0],
    )


@pytest.mark.parametrize("objective", ["pixel-mask", "gaussian-noise"])
def test_a_stack_gives_what_single_trainings_do(images: Dataset, objective: str) -> None:
    specs = [pretrain(objective, seed=seed) for seed in (3, 5)]
    together = run(specs, images, CPU, [{}, {}], lambda *_: None)
    for spec, of_stack in zip(specs, together, strict=True):
        (alone,) = run([spec], images, CPU, [{}], lambda *_: None)
        assert isinstance(alone, Outcome)
        assert isinstance(of_stack, Outcome)
        assert of_stack.metrics["best_val_loss"] == pytest.approx(alone.metrics["best_val_loss"], rel=1e-4)


def test_the_picture_shows_what_the_autoencoder_saw(images: Dataset) -> None:
    (found,) = run([pretrain("pixel-mask")], images, CPU, [{}], lambda *_: None)
    assert isinstance(found, Outcome)
    shown = found.evidence.reconstructions
    assert shown is not None
    hidden = (shown.seen_NCHW == 0) & (shown.original_NCHW > 0)
    assert hidden.sum() / (shown.original_NCHW > 0).sum() == pytest.approx(0.5, abs=0.1)
    kept = shown.seen_NCHW > 0
    assert np.array_equal(shown.seen_NCHW[kept], shown.original_NCHW[kept])


def test_keys_depend_on_the_options_of_the_corruption_that_is_used() -> None:
    masked = pretrain("pixel-mask")
    assert masked.identity() | {"objective": None} == pretrain("reconstruct").identity() | {"objective": None}
    assert pretrain("pixel-mask", mask_share=0.5).identity() == masked.identity(), "it is the default"
    assert pretrain("pixel-mask", mask_share=0.6).identity() == masked.identity() | {"mask_share": 0.6}
    assert pretrain("patch-mask", mask_share=0.6).identity() == pretrain("patch-mask").identity()
    assert pretrain("pixel-mask", patch_size=7, noise=2).identity() == masked.identity()
    assert pretrain("patch-mask", patch_size=7).identity()["patch_size"] == 7
    assert pretrain("gaussian-noise", noise=1, mask_share=0.1).identity()["noise"] == 1.0
    control = TrainingSpec(variant="scratch", network="fc", augmentation="pixel-mask", settings=masked.settings)
    assert "objective" not in control.identity()
    assert replace(control, settings=Settings(mask_share=0.2)).identity()["mask_share"] == 0.2
    assert replace(masked, variant="finetune").name == "fc-none-finetune-pixel-mask-s0"
    assert replace(masked, variant="scratch").name == "fc-none-scratch-s0"


def test_cross_entropy_cannot_have_noise_as_its_target() -> None:
    with pytest.raises(UsageError, match="ae_target='clean'"):
        pretrain("reconstruct", "gaussian-noise", ae_loss="bce")
    pretrain("gaussian-noise", ae_loss="bce")
    pretrain("reconstruct", "gaussian-noise", ae_loss="bce", ae_target="clean")
    TrainingSpec(variant="scratch", network="fc", augmentation="gaussian-noise", settings=Settings(ae_loss="bce"))


@pytest.fixture
def contrastive(own_registries: None) -> Iterator[str]:  # noqa: ARG001  # it undoes what is registered here
    """The example, registered."""
    importlib.import_module("examples.contrastive")
    yield "contrastive"
    del sys.modules["examples.contrastive"]


def test_the_example_of_a_contrastive_objective_is_short_and_learns(images: Dataset, contrastive: str) -> None:
    source = Path(__file__).parent.parent / "examples/contrastive.py"
    assert len(source.read_text().splitlines()) < 80
    (found,) = run([pretrain(contrastive, ae_epochs=4)], images, CPU, [{}], lambda *_: None)
    assert isinstance(found, Outcome)
    losses = [one.val_loss for one in found.evidence.history]
    assert losses[-1] < losses[0]
    untouched = build("fc", 0, MNIST_SHAPE).decoder.state_dict()
    assert all(torch.equal(found.weights[f"decoder.{name}"], weight) for name, weight in untouched.items())
    assert found.evidence.reconstructions is None
    assert "test_loss" not in found.metrics
    finetune = replace(pretrain(contrastive), variant="finetune")
    (after,) = run([finetune], images, CPU, [{"pretrain": found.weights}], lambda *_: None)
    assert isinstance(after, Outcome)
    (again,) = run([pretrain(contrastive, ae_epochs=4)], images, CPU, [{}], lambda *_: None)
    assert isinstance(again, Outcome)
    assert all(torch.equal(weight, again.weights[name]) for name, weight in found.weights.items())


def test_the_contrastive_loss_is_simclrs(contrastive: str) -> None:
    """Against the formula (Chen et al. 2020, equation 1), written out pair by pair."""
    objective = REGISTERED.look_up(contrastive)(Settings())
    outputs_BVD = torch.randn(5, 2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    views = functional.normalize(outputs_BVD.transpose(0, 1).reshape(10, 8), dim=1)
    total = 0.0
    for i in range(10):
        partner = (i + 5) % 10
        others = [torch.exp(views[i] @ views[k] / 0.5) for k in range(10) if k != i]
        total -= torch.log(torch.exp(views[i] @ views[partner] / 0.5) / sum(others)).item() / 10
    assert objective.loss(outputs_BVD, torch.empty(0)).item() == pytest.approx(total)


def test_views_are_moved_and_have_a_hidden_square(contrastive: str) -> None:
    objective = REGISTERED.look_up(contrastive)(Settings())
    row = torch.tensor([[[2, -1, 0, 0], [0, 0, 18, 18]]])
    image = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(0)) + 0.1
    moved, still = objective.apply(image, row)[0, :, 0]
    assert torch.equal(moved[10:, 10:27], image[0, 0, 8:26, 11:28])
    assert moved[:10, :10].sum() == still[18:, 18:].sum() == 0
    assert torch.equal(still[:18], image[0, 0, :18])


def test_every_network_can_be_pretrained_with_every_objective(images: Dataset) -> None:
    assert set(OBJECTIVES) <= set(REGISTERED)
    assert set(CORRUPTIONS) <= set(AUGMENTATIONS)
    for network in NETWORKS:
        for objective in OBJECTIVES:
            spec = replace(pretrain(objective), network=network)
            training, _ = parts([spec], images)
            used = corruption_draws(REGISTERED.look_up(objective)(spec.settings), [spec], training)
            assert (used is None) == (objective == "reconstruct")
