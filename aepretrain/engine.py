"""The only training loop. It knows tensors, a model and a loss; no files, no MLflow, no variants.

Everything lies in memory on the device, a batch is a selection by index, and numbers leave the device once an epoch.

Shapes: N items, B batch, K classes.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aepretrain.records import EpochResult
from aepretrain.spec import Failure, derive_seed

EVALUATION_BATCH = 1000
"""Images at once where nothing is learned; fixed, because it may change the last bits of a mean."""


@dataclass(frozen=True)
class Examples:
    """Where batches come from.

    `at_epoch(epoch)` gives the function that selects by index: int64 [B] → inputs [B, …] and targets [B, …]. What
    an epoch needs drawn is drawn there, once.
    """

    num: int
    at_epoch: Callable[[int], Callable[[Tensor], tuple[Tensor, Tensor]]]
    device: torch.device


@dataclass(frozen=True)
class Phase:
    """How long and how fast to learn; the fields are those of `spec.Settings`."""

    epochs: int
    batch_size: int
    lr: float
    patience: int


@dataclass(frozen=True)
class Task:
    """One training: those of the model's weights that require gradients are learned.

    `loss` takes outputs and targets to the mean over the batch, a scalar. `classifies` says that outputs are logits
    [B, K] and targets classes [B], so that validation accuracy can be taken.
    """

    model: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    train: Examples
    validation: Examples
    classifies: bool
    seed: int
    order: str
    """The purpose that names the random stream of the order of training items."""
    phase: Phase


@dataclass(frozen=True)
class Trained:
    """What a training gave. The model holds the weights of `best_epoch`, the one with the lowest validation loss."""

    history: tuple[EpochResult, ...]
    best_epoch: int


def train(task: Task, on_epoch: Callable[[EpochResult], None]) -> Trained:
    """Train until the epochs are used up or patience is, and put the best epoch's weights back into the model.

    `on_epoch` gets each epoch's numbers. Raises `Failure`, naming the epoch, when a loss is not finite.
    """
    weights = [weight for weight in task.model.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(weights, lr=task.phase.lr, fused=True)
    history: list[EpochResult] = []
    best, best_weights = math.inf, _copy_weights(task.model)
    best_epoch = 0
    for epoch in range(1, task.phase.epochs + 1):
        result = _run_epoch(task, optimizer, epoch)
        if not (math.isfinite(result.train_loss) and math.isfinite(result.val_loss)):
            raise Failure(
                f"the loss is not finite in epoch {epoch}: training {result.train_loss}, validation {result.val_loss}"
            )
        history.append(result)
        if result.val_loss < best:
            best, best_epoch, best_weights = result.val_loss, epoch, _copy_weights(task.model)
        on_epoch(result)
        if task.phase.patience and epoch - best_epoch >= task.phase.patience:
            break
    task.model.load_state_dict(best_weights)
    return Trained(tuple(history), best_epoch)


def _run_epoch(task: Task, optimizer: torch.optim.Optimizer, epoch: int) -> EpochResult:
    started = time.perf_counter()
    train_loss = _learn(task, optimizer, epoch)
    learned_s = time.perf_counter() - started
    val_loss, val_accuracy = _validate(task)
    return EpochResult(
        epoch=epoch,
        train_loss=train_loss,
        val_loss=val_loss,
        val_accuracy=val_accuracy,
        elapsed_s=time.perf_counter() - started,
        images_per_s=task.train.num / learned_s,
    )


def _learn(task: Task, optimizer: torch.optim.Optimizer, epoch: int) -> float:
    """One pass over the training items in this epoch's order; the mean loss as it was met on the way."""
    task.model.train()
    generator = torch.Generator().manual_seed(derive_seed(task.seed, task.order, epoch))
    order_N = torch.randperm(task.train.num, generator=generator).to(task.train.device)
    select = task.train.at_epoch(epoch)
    losses, sizes = [], []
    for index_B in order_N.split(task.phase.batch_size):
        inputs, targets = select(index_B)
        loss = task.loss(task.model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        sizes.append(len(index_B))
    return _mean(losses, sizes)


@torch.no_grad()
def _validate(task: Task) -> tuple[float, float | None]:
    """Mean loss and, for a classifier, accuracy on the validation items."""
    task.model.eval()
    select = task.validation.at_epoch(0)
    losses, correct, sizes = [], [], []
    for index_B in torch.arange(task.validation.num, device=task.validation.device).split(EVALUATION_BATCH):
        inputs, targets = select(index_B)
        outputs = task.model(inputs)
        losses.append(task.loss(outputs, targets))
        sizes.append(len(index_B))
        if task.classifies:
            correct.append((outputs.argmax(1) == targets).sum())
    accuracy = int(torch.stack(correct).sum()) / task.validation.num if task.classifies else None
    return _mean(losses, sizes), accuracy


def _mean(values: list[Tensor], sizes: list[int]) -> float:
    """The mean over items of means over batches of these sizes, in float64; here, at once, they leave the device."""
    weights = torch.tensor(sizes, dtype=torch.float64)
    return float(torch.stack(values).cpu().double() @ weights / weights.sum())


@torch.no_grad()
def evaluate(forward: Callable[[Tensor], Tensor], examples: Examples) -> Tensor:
    """The outputs of `forward` for the inputs of all items, in order."""
    select = examples.at_epoch(0)
    indices = torch.arange(examples.num, device=examples.device).split(EVALUATION_BATCH)
    return torch.cat([forward(select(index_B)[0]) for index_B in indices])


def _copy_weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.state_dict().items()}
