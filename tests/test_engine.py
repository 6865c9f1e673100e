"""The training loop against a slow and obvious one, and its promises: best weights, patience, clear failure."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from aepretrain.engine import EVALUATION_BATCH, Examples, Phase, Task, evaluate, train
from aepretrain.networks import Classifier, Reconstructor, build
from aepretrain.records import EpochResult
from aepretrain.spec import Failure, derive_seed

CPU = torch.device("cpu")
BATCH = 12
NUM = 10 * BATCH + 5  # 11 steps an epoch, the last of them with 5 items


def examples(inputs_N: Tensor, targets_N: Tensor) -> Examples:
    return Examples(len(inputs_N), lambda _: lambda index_B: (inputs_N[index_B], targets_N[index_B]), CPU)


def task(
    model: nn.Module, *, epochs: int = 5, lr: float = 1e-3, patience: int = 0, dtype: torch.dtype = torch.float32
) -> Task:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(NUM + 40, 1, 28, 28, generator=generator, dtype=dtype)
    labels = torch.randint(0, 10, (NUM + 40,), generator=generator)
    classifies = isinstance(model, Classifier)
    targets = labels if classifies else images
    return Task(
        model=model.to(dtype),
        loss=functional.cross_entropy if classifies else functional.mse_loss,
        train=examples(images[:NUM], targets[:NUM]),
        validation=examples(images[NUM:], targets[NUM:]),
        classifies=classifies,
        seed=4,
        order="an order",
        phase=Phase(epochs=epochs, batch_size=BATCH, lr=lr, patience=patience),
    )


def reference(task: Task, num_steps: int) -> list[float]:
    """Adam written out (Kingma and Ba 2015, Algorithm 1) over batches taken one by one; the losses of its steps."""
    weights = [weight for weight in task.model.parameters() if weight.requires_grad]
    first, second = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
    inputs, targets = task.train.at_epoch(1)(torch.arange(task.train.num))
    losses: list[float] = []
    epoch = 0
    while True:
        epoch += 1
        generator = torch.Generator().manual_seed(derive_seed(task.seed, task.order, epoch))
        order = torch.randperm(task.train.num, generator=generator).tolist()
        for start in range(0, len(order), task.phase.batch_size):
            if len(losses) == num_steps:
                return losses
            index = order[start : start + task.phase.batch_size]
            loss = task.loss(task.model(inputs[index]), targets[index])
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
                    weight.sub_(task.phase.lr * corrected_m / (corrected_v.sqrt() + 1e-8))


def make(name: str, kind: str) -> nn.Module:
    network = build(name, 0)
    if kind == "autoencoder":
        return Reconstructor(network)
    network.encoder.requires_grad_(kind != "frozen")
    return Classifier(network, network.trained_head, frozen=kind == "frozen")


@pytest.mark.parametrize("name", ["fc", "conv"])
@pytest.mark.parametrize("kind", ["classifier", "frozen", "autoencoder"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-9)], ids=str)
def test_equal_to_the_reference_over_50_steps(name: str, kind: str, dtype: torch.dtype, tolerance: float) -> None:
    model = make(name, kind)
    slow = task(copy.deepcopy(model), dtype=dtype)
    losses = reference(slow, num_steps=55)
    # Patience is off and the fifth epoch ends with step 55; the last epoch's weights are compared, not the best.
    fast = task(model, epochs=5, dtype=dtype)
    seen: list[dict[str, Tensor]] = []
    result = train(fast, lambda _: seen.append(copy.deepcopy(fast.model.state_dict())))
    for key, weight in slow.model.state_dict().items():
        torch.testing.assert_close(seen[-1][key], weight, rtol=tolerance, atol=tolerance, msg=key)
    sizes = [BATCH] * 10 + [5]
    for epoch, found in enumerate(result.history):
        expected = sum(n * loss for n, loss in zip(sizes, losses[epoch * 11 :], strict=False)) / NUM
        assert found.train_loss == pytest.approx(expected, rel=tolerance)


def test_validation_figures_are_those_of_the_weights() -> None:
    one = task(make("fc", "classifier"), epochs=2)
    result = train(one, lambda _: None)
    inputs, targets = one.validation.at_epoch(0)(torch.arange(40))
    with torch.no_grad():
        logits = one.model(inputs)
    best = result.history[result.best_epoch - 1]
    assert best.val_loss == pytest.approx(functional.cross_entropy(logits, targets).item(), rel=1e-6)
    assert best.val_accuracy == (logits.argmax(1) == targets).float().mean().item()
    assert [found.epoch for found in result.history] == [1, 2]
    assert all(found.images_per_s > 0 and found.elapsed_s > 0 for found in result.history)


def test_an_autoencoder_has_no_accuracy() -> None:
    (found,) = train(task(make("fc", "autoencoder"), epochs=1), lambda _: None).history
    assert found.val_accuracy is None
    assert "val_accuracy" not in found.metrics()


def test_the_best_epochs_weights_are_put_back() -> None:
    one = task(make("fc", "classifier"), epochs=12, lr=0.02)  # random labels: validation loss soon rises
    kept: dict[int, dict[str, Tensor]] = {}
    result = train(one, lambda found: kept.update({found.epoch: copy.deepcopy(one.model.state_dict())}))
    losses = [found.val_loss for found in result.history]
    assert result.best_epoch == losses.index(min(losses)) + 1 < 12
    for key, weight in one.model.state_dict().items():
        assert torch.equal(weight, kept[result.best_epoch][key])


@pytest.mark.parametrize("patience", [1, 3])
def test_patience_counts_epochs_without_a_lower_validation_loss(patience: int) -> None:
    history = train(task(make("fc", "classifier"), epochs=30, lr=0.02, patience=patience), lambda _: None).history
    losses = [found.val_loss for found in history]
    best = losses.index(min(losses)) + 1
    assert len(history) == best + patience < 30
    without = train(task(make("fc", "classifier"), epochs=len(history) + 1, lr=0.02), lambda _: None).history
    assert [found.val_loss for found in without][:-1] == losses


def test_a_loss_that_is_not_finite_fails_naming_the_epoch() -> None:
    seen: list[EpochResult] = []
    one = task(make("fc", "autoencoder"), epochs=20, lr=1e18)
    with pytest.raises(Failure, match=rf"not finite in epoch {len(seen) + 1}") as error:
        train(one, seen.append)
    assert all(math.isfinite(found.val_loss) for found in seen)
    assert "\n" not in str(error.value)


def test_each_epoch_has_an_order_of_its_own_and_sees_every_item_once() -> None:
    orders: list[list[int]] = [[]]

    def at_epoch(epoch: int) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        if epoch:
            orders.append([])

        def select(index_B: Tensor) -> tuple[Tensor, Tensor]:
            orders[-1].extend(index_B.tolist() if epoch else [])
            return torch.ones(len(index_B), 1), torch.ones(len(index_B), 1)

        return select

    source = Examples(NUM, at_epoch, CPU)
    train(
        Task(nn.Linear(1, 1), functional.mse_loss, source, source, False, 0, "an order", Phase(3, BATCH, 1e-3, 0)),
        lambda _: None,
    )
    assert all(sorted(order) == list(range(NUM)) for order in orders[1:])
    assert len({tuple(order) for order in orders[1:]}) == 3


def test_evaluate_gives_all_outputs_in_order() -> None:
    inputs = torch.arange(2.0 * EVALUATION_BATCH + 3).unsqueeze(1)
    assert torch.equal(evaluate(lambda x: 2 * x, examples(inputs, inputs)), 2 * inputs)
