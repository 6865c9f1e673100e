"""The training loop against a slow and obvious one, and its promises: stacks, best weights, patience, clear failure."""

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from aepretrain.config import MNIST_SHAPE, Shape, derive_seed
from aepretrain.engine import (
    EVALUATION_BATCH,
    Examples,
    Hyperparameters,
    Rate,
    Select,
    Task,
    Trained,
    evaluate,
    set_weights,
    train,
)
from aepretrain.errors import Failure
from aepretrain.networks import Classifier, Network, build
from aepretrain.records import EpochResult
from tests.tasks import BATCH, CPU, NUM, examples, make, task


def train_one(one: Task) -> Trained:
    (result,) = train(one, lambda *_: None)
    assert isinstance(result, Trained)
    return result


def listed_layers(model: nn.Module, inputs: Tensor) -> Tensor:
    """The model's outputs by PyTorch's own layers in the order of their listing, one after the other."""
    network = model.network
    assert isinstance(network, Network)
    convolutional = hasattr(network, "classifier1")
    codes = network.encoder(inputs if convolutional else inputs.flatten(1))
    if isinstance(model, Classifier):
        logits: Tensor = getattr(network, model.head_name)(codes.flatten(1))
        return logits
    outputs: Tensor = network.decoder(codes)
    return outputs.view(inputs.shape)


def reference(task: Task, place: int, num_steps: int) -> list[float]:
    """Adam written out (Kingma and Ba 2015, Algorithm 1) over batches taken one by one; the losses of its steps."""
    model = task.models[place]
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    first, second = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
    inputs, targets = (part[0] for part in task.train.at_epoch(1, [place])(torch.arange(task.train.num).unsqueeze(0)))
    losses: list[float] = []
    epoch = 0
    while True:
        epoch += 1
        generator = torch.Generator().manual_seed(derive_seed(task.seeds[place], task.order, epoch))
        order = torch.randperm(task.train.num, generator=generator).tolist()
        for start in range(0, len(order), task.hyperparameters.batch_size):
            if len(losses) == num_steps:
                return losses
            index = order[start : start + task.hyperparameters.batch_size]
            loss = task.loss(listed_layers(model, inputs[index]), targets[index])
            losses.append(loss.item())
            gradients = torch.autograd.grad(loss, weights, allow_unused=True)
            t = len(losses)
            with torch.no_grad():
                for weight, gradient, m, v in zip(weights, gradients, first, second, strict=True):
                    if gradient is None:
                        continue
                    m.mul_(0.9).add_(gradient, alpha=0.1)
                    v.mul_(0.999).add_(gradient.square(), alpha=0.001)
                    corrected_m, corrected_v = m / (1 - 0.9**t), v / (1 - 0.999**t)
                    weight.sub_(task.hyperparameters.lr * corrected_m / (corrected_v.sqrt() + 1e-8))


@pytest.mark.parametrize("num_seeds", [1, 3])
@pytest.mark.parametrize("name", ["fc", "conv"])
@pytest.mark.parametrize("kind", ["classifier", "frozen", "autoencoder"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-9)], ids=str)
def test_equal_to_the_reference_over_50_steps(
    name: str, kind: str, dtype: torch.dtype, tolerance: float, num_seeds: int
) -> None:
    """A seed alone, and each seed of a stack, against the loop that takes batches and layers one by one."""
    compare_with_reference(name, kind, MNIST_SHAPE, dtype, tolerance, num_seeds)


SMALL = Shape((3, 9, 12), 4)
"""Small colour images, as resnet8 has many more layers."""


@pytest.mark.parametrize("num_seeds", [1, 2])
@pytest.mark.parametrize("kind", ["classifier", "autoencoder"])
def test_resnet8_is_equal_to_the_reference_over_50_steps(kind: str, num_seeds: int) -> None:
    """In float64 only: of so many weights some have gradients near 0, and Adam makes full steps of their rounding."""
    compare_with_reference("resnet8", kind, SMALL, torch.float64, 1e-9, num_seeds)


def compare_with_reference(
    name: str, kind: str, shape: Shape, dtype: torch.dtype, tolerance: float, num_seeds: int
) -> None:
    models = [make(name, kind, seed, shape) for seed in range(num_seeds)]
    slow = task(*copy.deepcopy(models), dtype=dtype, shape=shape)
    losses = [reference(slow, place, num_steps=55) for place in range(num_seeds)]
    one = task(*models, epochs=5, dtype=dtype, shape=shape)  # eleven steps each
    results = train(replace(one, validation=one.train), lambda *_: None)  # so that the last epoch is the best
    sizes = [BATCH] * 10 + [5]
    for place, result in enumerate(results):
        assert isinstance(result, Trained)
        for epoch, found in enumerate(result.history):
            expected = sum(n * loss for n, loss in zip(sizes, losses[place][epoch * 11 :], strict=False)) / NUM
            assert found.train_loss == pytest.approx(expected, rel=tolerance)
        assert result.best_epoch == 5
        for key, weight in slow.models[place].state_dict().items():
            fast = models[place].state_dict()[key]
            torch.testing.assert_close(fast, weight, rtol=tolerance, atol=tolerance, msg=key)


@pytest.mark.parametrize(("name", "shape"), [("fc", MNIST_SHAPE), ("conv", MNIST_SHAPE), ("resnet8", SMALL)])
def test_stack_mates_change_no_bit(name: str, shape: Shape) -> None:
    """Whatever the others in a stack of this size are, a seed ends with the same bits."""
    models = [make(name, "classifier", seed, shape) for seed in (0, 1, 2)]
    others = [*copy.deepcopy(models[:2]), make(name, "classifier", 9, shape)]
    train(task(*models, epochs=3, shape=shape), lambda *_: None)
    train(task(*others, epochs=3, seeds=[4, 5, 13], shape=shape), lambda *_: None)
    for first, second in zip(models[:2], others[:2], strict=True):
        for key, weight in first.state_dict().items():
            assert torch.equal(weight, second.state_dict()[key]), key


@pytest.mark.parametrize("name", ["fc", "conv"])
def test_a_seed_that_fails_leaves_its_mates_as_they_would_be_without_it(name: str) -> None:
    """Only the size of the stack is another, which may change how a sum is ordered."""
    two = [make(name, "classifier", seed) for seed in (0, 1)]
    poisoned = make(name, "classifier", 2)
    with torch.no_grad():
        next(poisoned.parameters()).fill_(math.inf)
    three = [*copy.deepcopy(two), poisoned]
    alone = train(task(*two, epochs=8), lambda *_: None)
    beside = train(task(*three, epochs=8), lambda *_: None)
    assert isinstance(beside[2], Failure)
    for a, b, first, second in zip(alone, beside, two, three, strict=False):
        assert isinstance(a, Trained)
        assert isinstance(b, Trained)
        assert [f.val_loss for f in a.history[:4]] == pytest.approx([f.val_loss for f in b.history[:4]], rel=1e-4)
        assert a.best_epoch == b.best_epoch
        for key, weight in first.state_dict().items():
            torch.testing.assert_close(weight, second.state_dict()[key], rtol=1e-4, atol=1e-4, msg=key)


@pytest.mark.parametrize("name", ["fc", "conv"])
def test_seeds_leave_the_stack_when_their_own_patience_is_used_up(name: str) -> None:
    models = [make(name, "classifier", seed) for seed in range(4)]
    singles = copy.deepcopy(models)
    seen: list[tuple[int, int]] = []
    together = train(task(*models, epochs=40, lr=0.02, patience=2), lambda i, found: seen.append((i, found.epoch)))
    lengths = set()
    for place, result in enumerate(together):
        assert isinstance(result, Trained)
        assert len(result.history) == result.best_epoch + 2
        assert [epoch for i, epoch in seen if i == place] == [found.epoch for found in result.history]
        lengths.add(len(result.history))
        single = train_one(task(singles[place], seeds=[4 + place], epochs=40, lr=0.02, patience=2))
        shared = min(3, len(single.history), len(result.history))  # rounding parts them later
        for a, b in zip(single.history[:shared], result.history[:shared], strict=True):
            assert a.val_loss == pytest.approx(b.val_loss, rel=1e-3)
    assert len(lengths) > 1, "some seed left before another"


def test_a_network_with_buffers_of_its_own_can_be_stacked() -> None:
    def normalising(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(784, 8, bias=False),
            nn.BatchNorm1d(8),
            nn.Linear(8, 784),
            nn.Unflatten(1, (1, 28, 28)),
        )

    models = [normalising(seed) for seed in (0, 1)]
    singles = copy.deepcopy(models)
    train(task(*models, epochs=2), lambda *_: None)
    for place, single in enumerate(singles):
        train_one(task(single, seeds=[4 + place], epochs=2))
        for key, value in single.state_dict().items():
            torch.testing.assert_close(models[place].state_dict()[key], value, rtol=1e-3, atol=1e-4, msg=key)


def test_weights_used_twice_can_be_stacked() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.up = nn.Linear(784, 8), nn.Linear(8, 784)
            self.again = self.down

        def forward(self, images: Tensor) -> Tensor:
            outputs: Tensor = self.up(self.again(images.flatten(1))).view_as(images)
            return outputs

    models: list[nn.Module] = [Tied(), Tied()]
    results = train(task(*models, epochs=2), lambda *_: None)
    assert all(isinstance(result, Trained) for result in results)
    assert torch.equal(models[0].state_dict()["down.weight"], models[0].state_dict()["again.weight"])


def test_validation_figures_are_those_of_the_weights() -> None:
    one = task(make("fc", "classifier"), epochs=2)
    result = train_one(one)
    inputs, targets = (part[0] for part in one.validation.at_epoch(0, [0])(torch.arange(40).unsqueeze(0)))
    with torch.no_grad():
        logits = one.models[0](inputs)
    best = result.history[result.best_epoch - 1]
    assert best.val_loss == pytest.approx(functional.cross_entropy(logits, targets).item(), rel=1e-6)
    assert best.val_accuracy == (logits.argmax(1) == targets).double().mean().item()
    assert [found.epoch for found in result.history] == [1, 2]
    assert all(found.images_per_s > 0 and found.elapsed_s > 0 for found in result.history)


def test_an_autoencoder_has_no_accuracy() -> None:
    (found,) = train_one(task(make("fc", "autoencoder"), epochs=1)).history
    assert found.val_accuracy is None
    assert "val_accuracy" not in found.metrics()


@pytest.mark.parametrize("num_seeds", [1, 2])
def test_the_best_epochs_weights_are_put_back(num_seeds: int) -> None:
    """Random labels: validation loss soon rises, and a training that ends at the best epoch has the same weights."""
    models = [make("fc", "classifier", seed) for seed in range(num_seeds)]
    shorter = copy.deepcopy(models)
    results = train(task(*models, epochs=12, lr=0.02), lambda *_: None)
    for place, result in enumerate(results):
        assert isinstance(result, Trained)
        losses = [found.val_loss for found in result.history]
        assert result.best_epoch == losses.index(min(losses)) + 1 < 12
        again = copy.deepcopy(shorter)
        train(task(*again, epochs=result.best_epoch, lr=0.02), lambda *_: None)
        for key, weight in models[place].state_dict().items():
            assert torch.equal(weight, again[place].state_dict()[key])


@pytest.mark.parametrize("patience", [1, 3])
def test_patience_counts_epochs_without_a_lower_validation_loss(patience: int) -> None:
    history = train_one(task(make("fc", "classifier"), epochs=30, lr=0.02, patience=patience)).history
    losses = [found.val_loss for found in history]
    best = losses.index(min(losses)) + 1
    assert len(history) == best + patience < 30
    without = train_one(task(make("fc", "classifier"), epochs=len(history) + 1, lr=0.02)).history
    assert [found.val_loss for found in without][:-1] == losses


def test_a_loss_that_is_not_finite_fails_naming_the_epoch() -> None:
    seen: list[EpochResult] = []
    (failure,) = train(task(make("fc", "autoencoder"), epochs=20, lr=1e18), lambda _, found: seen.append(found))
    assert isinstance(failure, Failure)
    assert f"not finite in epoch {len(seen) + 1}:" in str(failure)
    assert all(math.isfinite(found.val_loss) for found in seen)
    assert "\n" not in str(failure)


def test_each_epoch_has_an_order_of_its_own_and_sees_every_item_once() -> None:
    orders: list[list[int]] = [[]]

    def at_epoch(epoch: int, _members: Sequence[int]) -> Select:
        if epoch:
            orders.append([])

        def select(index_SB: Tensor) -> tuple[Tensor, Tensor]:
            orders[-1].extend(index_SB.flatten().tolist() if epoch else [])
            return torch.ones(*index_SB.shape, 1), torch.ones(*index_SB.shape, 1)

        return select

    source = Examples(NUM, at_epoch, CPU)
    limits = Hyperparameters(3, BATCH, 1e-3, 0)
    train_one(Task([nn.Linear(1, 1)], [0], functional.mse_loss, source, source, False, "an order", limits))
    assert all(sorted(order) == list(range(NUM)) for order in orders[1:])
    assert len({tuple(order) for order in orders[1:]}) == 3


@pytest.mark.parametrize("num_seeds", [1, 2])
def test_several_passes_an_epoch_are_the_same_steps(num_seeds: int) -> None:
    def trained(passes: int, epochs: int) -> list[Trained]:
        one = task(*(make("fc", "classifier", seed) for seed in range(num_seeds)), epochs=epochs)
        found = train(replace(one, hyperparameters=replace(one.hyperparameters, passes=passes)), lambda *_: None)
        return [result for result in found if isinstance(result, Trained)]

    for plain, long in zip(trained(1, 6), trained(3, 2), strict=True):
        assert len(long.history) == 2
        assert all(torch.equal(weight, long.last_weights[name]) for name, weight in plain.last_weights.items())
        assert [one.val_loss for one in long.history] == [plain.history[2].val_loss, plain.history[5].val_loss]
        means = [sum(one.train_loss for one in plain.history[i : i + 3]) / 3 for i in (0, 3)]
        assert [one.train_loss for one in long.history] == pytest.approx(means, rel=1e-6)


@pytest.mark.parametrize("updates", [1, 11, 25])
def test_updates_are_counted_exactly(updates: int) -> None:
    one = task(make("fc", "classifier"), epochs=math.ceil(updates / 11))
    sizes: list[int] = []

    def at_epoch(epoch: int, members: Sequence[int]) -> Select:
        select = one.train.at_epoch(epoch, members)

        def counted(index_SB: Tensor) -> tuple[Tensor, Tensor]:
            sizes.append(index_SB.shape[1])
            return select(index_SB)

        return counted

    source = replace(one.train, at_epoch=at_epoch)
    result = train_one(replace(one, train=source, hyperparameters=replace(one.hyperparameters, updates=updates)))
    assert (len(sizes), len(result.history)) == (updates, math.ceil(updates / 11))


def test_the_last_weights_are_those_of_the_last_epoch() -> None:
    one = task(make("fc", "classifier"), epochs=12, lr=0.02)
    seen: list[dict[str, Tensor]] = []

    def look(*_: object) -> None:
        seen.append({name: weight.detach().clone() for name, weight in one.models[0].named_parameters()})

    (result,) = train(one, look)
    assert isinstance(result, Trained)
    assert all(torch.equal(weight, result.last_weights[name]) for name, weight in seen[-1].items())
    assert all(
        torch.equal(weight, seen[result.best_epoch - 1][name]) for name, weight in one.models[0].named_parameters()
    )


def test_evaluate_gives_all_outputs_in_order() -> None:
    inputs = torch.arange(2.0 * EVALUATION_BATCH + 3).view(1, -1, 1)
    outputs, targets = evaluate(lambda x: 2 * x, examples(inputs, inputs))
    assert torch.equal(outputs, 2 * inputs[0])
    assert torch.equal(targets, inputs[0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["fc", "conv"])
@pytest.mark.parametrize("kind", ["classifier", "frozen", "autoencoder"])
@pytest.mark.parametrize("num_seeds", [1, 3])
def test_recorded_steps_equal_the_reference_on_a_gpu(name: str, kind: str, num_seeds: int) -> None:
    models = [make(name, kind, seed) for seed in range(num_seeds)]
    slow = task(*copy.deepcopy(models))
    losses = [reference(slow, place, num_steps=55) for place in range(num_seeds)]
    results = train(task(*models, device=torch.device("cuda")), lambda *_: None)
    sizes = [BATCH] * 10 + [5]
    for place, result in enumerate(results):
        assert isinstance(result, Trained)
        for epoch, found in enumerate(result.history):
            expected = sum(n * loss for n, loss in zip(sizes, losses[place][epoch * 11 :], strict=False)) / NUM
            assert found.train_loss == pytest.approx(expected, rel=1e-4)


def by_torch(model: nn.Module, one: Task, optimizer: torch.optim.Optimizer, epochs: Iterable[int] = (1, 2, 3)) -> None:
    """Train a model by PyTorch's own optimizer and schedule, over the task's batches in these epochs."""
    limits = one.hyperparameters
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, limits.epochs)
    for epoch in epochs:
        generator = torch.Generator().manual_seed(derive_seed(one.seeds[0], one.order, epoch))
        select = one.train.at_epoch(epoch, [0])
        for index_B in torch.randperm(one.train.num, generator=generator).split(limits.batch_size):
            inputs, targets = select(index_B.unsqueeze(0))
            optimizer.zero_grad()
            one.loss(model(inputs[0]), targets[0]).backward()
            optimizer.step()
        if limits.schedule == "cosine":
            schedule.step()


def last_weights(model: nn.Module, **limits: Any) -> Mapping[str, Tensor]:
    one = task(model, epochs=3)
    return train_one(replace(one, hyperparameters=replace(one.hyperparameters, **limits))).last_weights


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_equal_to_pytorchs_adamw_and_its_cosine(weight_decay: float, schedule: str) -> None:
    slow = make("fc", "classifier")
    one = task(slow, epochs=3)
    one = replace(one, hyperparameters=replace(one.hyperparameters, schedule=schedule))
    by_torch(slow, one, torch.optim.AdamW(slow.parameters(), lr=1e-3, weight_decay=weight_decay, fused=True))
    found = last_weights(make("fc", "classifier"), schedule=schedule, weight_decay=weight_decay)
    for name, weight in slow.named_parameters():
        torch.testing.assert_close(found[name], weight.detach(), rtol=1e-6, atol=1e-7, msg=name)


def test_without_decay_adamw_has_the_bits_of_adam() -> None:
    slow = make("fc", "classifier")
    by_torch(slow, task(slow, epochs=3), torch.optim.Adam(slow.parameters(), lr=1e-3, fused=True))
    found = last_weights(make("fc", "classifier"))
    assert all(torch.equal(found[name], weight) for name, weight in slow.named_parameters())


@pytest.mark.parametrize("num_seeds", [1, 2])
def test_an_encoder_with_a_rate_of_its_own_and_a_head_that_learns_first(num_seeds: int) -> None:
    """Against PyTorch: the head alone for an epoch of eleven steps, then both, each at its own rate."""
    slow = make("fc", "classifier")
    network = slow.network
    assert isinstance(network, Network)
    head = getattr(network, network.trained_head)
    one = task(slow, epochs=3)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3, fused=True)
    by_torch(slow, one, optimizer, [1])
    assert torch.equal(
        network.encoder.state_dict()["0.weight"], build("fc", 0, MNIST_SHAPE).encoder.state_dict()["0.weight"]
    )
    optimizer.add_param_group({"params": list(network.encoder.parameters()), "lr": 1e-4})
    by_torch(slow, one, optimizer, [2, 3])
    stack = task(*(make("fc", "classifier", seed) for seed in range(num_seeds)), epochs=3)
    limits = replace(stack.hyperparameters, rates={"network.encoder.": Rate(1e-4, 11)})
    found, *_ = train(replace(stack, hyperparameters=limits), lambda *_: None)
    assert isinstance(found, Trained)
    for name, weight in slow.named_parameters():
        torch.testing.assert_close(found.last_weights[name], weight.detach(), rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_the_most_accurate_epoch_is_the_first_of_the_highest_validation_accuracy(num_seeds: int) -> None:
    """Its weights give that accuracy again; a seed that ends earlier keeps its own."""
    one = task(*(make("fc", "classifier", seed) for seed in range(num_seeds)), epochs=12, lr=0.01, patience=4)
    for place, result in enumerate(train(one, lambda *_: None)):
        assert isinstance(result, Trained)
        accuracies = [found.val_accuracy or 0 for found in result.history]
        assert result.most_accurate_epoch == 1 + accuracies.index(max(accuracies))
        set_weights(one.models[place], result.most_accurate_weights)
        inputs, labels = one.validation.at_epoch(0, [place])(torch.arange(one.validation.num).unsqueeze(0))
        with torch.no_grad():
            right = one.models[place](inputs[0]).argmax(1) == labels[0]
        assert right.double().mean().item() == pytest.approx(max(accuracies))
    autoencoder = train_one(task(make("fc", "autoencoder"), epochs=2))
    assert (autoencoder.most_accurate_epoch, dict(autoencoder.most_accurate_weights)) == (0, {})
