"""The only training loop. It knows tensors, models and a loss; no files, no MLflow, no variants.

It carries one seed or a stack of them, each as if alone: parameters, order, batches, best weights and patience have a
leading axis of seeds. Everything lies in memory on the device, a batch is a selection by index, and numbers leave the
device once an epoch.

Shapes: S seeds of the stack, B batch, M items of a seed, T steps, K classes.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from aepretrain.records import EpochResult
from aepretrain.spec import Failure, derive_seed

EVALUATION_BATCH = 200
"""Images at once where nothing is learned; fixed, because it may change the last bits of a mean."""

WARM_UP_STEPS = 3
"""Steps before the first one is recorded as a CUDA graph: libraries set themselves up in the first ones."""

Select = Callable[[Tensor], tuple[Tensor, Tensor]]
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Examples:
    """Where batches come from; each seed of the stack has `num` items.

    `at_epoch(epoch, members)` gives, for those seeds (by their places in the stack as it began), the function that
    selects by index: int64 [S, B] → inputs [S, B, …] and targets [S, B, …]. What an epoch needs drawn is drawn there.
    """

    num: int
    at_epoch: Callable[[int, Sequence[int]], Select]
    device: torch.device


@dataclass(frozen=True)
class Phase:
    """How long and how fast to learn; the first fields are those of `spec.Settings`.

    An epoch ends with a validation. It is one pass over the training items, or several where they are few; the last
    one is cut short where `updates`, the number of all steps, is reached.
    """

    epochs: int
    batch_size: int
    lr: float
    patience: int
    passes: int = 1
    updates: int | None = None


@dataclass(frozen=True)
class Task:
    """The trainings of a stack, alike but for their seeds: those weights that require gradients are learned.

    `loss` takes one seed's outputs and targets to the mean over the batch, a scalar. `classifies` says that outputs are
    logits [B, K] and targets classes [B], so that validation accuracy can be taken.
    """

    models: Sequence[nn.Module]
    seeds: Sequence[int]
    loss: Loss
    train: Examples
    validation: Examples
    classifies: bool
    order: str
    """The purpose that names the random stream of the order of training items."""
    phase: Phase


@dataclass(frozen=True)
class Trained:
    """What a training gave. Its model holds the weights of `best_epoch`, the one with the lowest validation loss."""

    history: tuple[EpochResult, ...]
    best_epoch: int
    last_weights: Mapping[str, Tensor]
    """The weights after the last epoch, as `set_weights` takes them."""


def train(task: Task, on_epoch: Callable[[int, EpochResult], None]) -> list[Trained | Failure]:
    """Train each seed until its epochs or its patience are used up, and put its best epoch's weights into its model.

    `on_epoch` gets each epoch's numbers with the seed's place in the stack. A seed whose loss is not finite fails, with
    the epoch in the message; the others go on as if it had never been there.
    """
    run = _Run(task)
    for epoch in range(1, task.phase.epochs + 1):
        for place, result in run.epoch(epoch):
            on_epoch(place, result)
        run.part_with_finished(epoch)
        if not run.members:
            break
    return run.outcomes()


@dataclass
class _Progress:
    """How far one seed has come."""

    history: list[EpochResult] = field(default_factory=list)
    best_epoch: int = 0
    last_weights: Mapping[str, Tensor] = field(default_factory=dict)
    failure: Failure | None = None

    @property
    def best_loss(self) -> float:
        return self.history[self.best_epoch - 1].val_loss if self.best_epoch else math.inf

    def ends(self, epoch: int, phase: Phase) -> bool:
        """Whether the seed's training is over after this epoch."""
        impatient = phase.patience > 0 and epoch - self.best_epoch >= phase.patience
        return self.failure is not None or epoch == phase.epochs or impatient


class _Run:
    """A stack on its way: its weights and optimizer, and the progress of each seed."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.members = list(range(len(task.models)))
        self.progress = [_Progress() for _ in task.models]
        self.stack: _One | _Many = _One(task.models[0]) if len(task.models) == 1 else _Many(task.models)
        self.best = {name: weight.clone() for name, weight in self.stack.state().items()}
        self.optimizer = Adam(self.stack.learned, task.phase.lr)
        self.num_steps = 0

    def epoch(self, epoch: int) -> list[tuple[int, EpochResult]]:
        """One pass over the training items and one over the validation items; the numbers of each seed that has any."""
        started = time.perf_counter()
        train_losses, num_items = self._learn(epoch)
        learned_s = time.perf_counter() - started
        val_losses, val_accuracies = self._validate()
        share_s = (time.perf_counter() - started) / len(self.members)
        results, improved = [], []
        for i, place in enumerate(self.members):
            result = EpochResult(
                epoch=epoch,
                train_loss=train_losses[i],
                val_loss=val_losses[i],
                val_accuracy=val_accuracies[i] if val_accuracies else None,
                elapsed_s=share_s,
                images_per_s=num_items * len(self.members) / learned_s,
            )
            progress = self.progress[place]
            if not (math.isfinite(result.train_loss) and math.isfinite(result.val_loss)):
                progress.failure = Failure(
                    f"the loss is not finite in epoch {epoch}: training {result.train_loss}, "
                    f"validation {result.val_loss}"
                )
                continue
            if result.val_loss < progress.best_loss:
                improved.append(i)
                progress.best_epoch = epoch
            progress.history.append(result)
            results.append((place, result))
        if improved:
            for name, weight in self.stack.state().items():
                self.best[name][improved] = weight[improved]
        return results

    def part_with_finished(self, epoch: int) -> None:
        """Let seeds that are through leave the stack, each with its best weights in its model."""
        ends = [self.progress[place].ends(epoch, self.task.phase) for place in self.members]
        for i, place in enumerate(self.members):
            if ends[i] and self.progress[place].failure is None:
                self.progress[place].last_weights = {
                    name: weight[i].clone() for name, weight in self.stack.state().items()
                }
                set_weights(self.task.models[place], {name: best[i] for name, best in self.best.items()})
        rows = [i for i, end in enumerate(ends) if not end]
        if len(rows) == len(ends):
            return
        self.members = [self.members[i] for i in rows]
        if rows:
            assert isinstance(self.stack, _Many), "one seed alone leaves nobody behind"
            self.best = {name: best[rows] for name, best in self.best.items()}
            self.stack.keep(rows)
            self.optimizer.keep(self.stack.learned, rows)

    def outcomes(self) -> list[Trained | Failure]:
        """Each seed's history, or why it failed."""
        return [one.failure or Trained(tuple(one.history), one.best_epoch, one.last_weights) for one in self.progress]

    def _learn(self, epoch: int) -> tuple[list[float], int]:
        """An epoch's passes over the training items.

        Gives each seed's mean loss as it was met on the way, and the number of its items that were learned from.
        """
        self.stack.model.train()
        passes = self.task.phase.passes
        losses: list[Tensor] = []
        sizes: list[int] = []
        for number in range((epoch - 1) * passes + 1, epoch * passes + 1):
            for loss_S, size in self._pass(number):
                losses.append(loss_S)
                sizes.append(size)
        return _mean(losses, sizes), sum(sizes)

    def _pass(self, number: int) -> Iterator[tuple[Tensor, int]]:
        """One pass over the training items in each seed's order: each step's losses, [S], and its number of items."""
        task = self.task
        orders = [
            torch.randperm(
                task.train.num, generator=torch.Generator().manual_seed(derive_seed(task.seeds[i], task.order, number))
            )
            for i in self.members
        ]
        batches = torch.stack(orders).to(task.train.device).split(task.phase.batch_size, dim=1)
        select = task.train.at_epoch(number, self.members)
        recorded: _Recorded | None = None
        for index_SB in batches:
            if self.num_steps == task.phase.updates:
                return
            if recorded is None and self._worth_recording(index_SB, batches):
                recorded = _Recorded(lambda index_SB: self._step(select, index_SB), index_SB)
            fits = recorded is not None and index_SB.shape == recorded.index_SB.shape
            yield (recorded(index_SB) if recorded and fits else self._step(select, index_SB)), index_SB.shape[1]
            self.num_steps += 1

    def _worth_recording(self, index_SB: Tensor, batches: Sequence[Tensor]) -> bool:
        """On CUDA, launching a step's kernels one by one takes longer than running them."""
        return index_SB.is_cuda and self.num_steps >= WARM_UP_STEPS and len(batches) > 1

    def _step(self, select: Select, index_SB: Tensor) -> Tensor:
        """Learn from one batch; its losses, [S]."""
        inputs, targets = select(index_SB)
        losses_S = self.stack.losses(self.task.loss, self.stack(inputs), targets)
        self.optimizer.zero_grad()
        losses_S.sum().backward()  # not autograd.grad: fused Adam reads gradients in their weights' own layout
        self.optimizer.step()
        return losses_S.detach()

    @torch.no_grad()
    def _validate(self) -> tuple[list[float], list[float]]:
        """Mean losses and, for classifiers, accuracies on the validation items."""
        task = self.task
        self.stack.model.eval()
        select = task.validation.at_epoch(0, self.members)
        losses, correct, sizes = [], [], []
        for index_B in _batches(task.validation):
            inputs, targets = select(index_B.expand(len(self.members), -1))
            outputs = self.stack(inputs)
            losses.append(self.stack.losses(task.loss, outputs, targets))
            sizes.append(len(index_B))
            if task.classifies:
                correct.append((outputs.argmax(2) == targets).sum(1))
        if not task.classifies:
            return _mean(losses, sizes), []
        return _mean(losses, sizes), [num / task.validation.num for num in torch.stack(correct).sum(0).tolist()]


class _One:
    """One model as a stack: the axis of seeds has length 1."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.learned = [weight for weight in model.parameters() if weight.requires_grad]

    def __call__(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.model(inputs.squeeze(0))
        return outputs.unsqueeze(0)

    def losses(self, loss: Loss, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of each seed, [S]."""
        return loss(outputs.squeeze(0), targets.squeeze(0)).unsqueeze(0)

    def state(self) -> dict[str, Tensor]:
        """All weights and buffers, [S, …] each; views of those in use."""
        return {name: weight.detach().unsqueeze(0) for name, weight in _weights(self.model).items()}


class _Many:
    """Several models as one: their weights stacked, and one model that is called with each seed's in turn."""

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self.model = copy.deepcopy(models[0])
        self.parameters, self.buffers = torch.func.stack_module_state(list(models))
        self._forward = torch.vmap(self._call)

    @property
    def learned(self) -> list[Tensor]:
        return [weight for weight in self.parameters.values() if weight.requires_grad]

    def _call(self, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        outputs: Tensor = torch.func.functional_call(self.model, (dict(parameters), dict(buffers)), (inputs,))
        return outputs

    def __call__(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self._forward(self.parameters, self.buffers, inputs)
        return outputs

    def losses(self, loss: Loss, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of each seed, [S]."""
        losses_S: Tensor = torch.vmap(loss)(outputs, targets)
        return losses_S

    def state(self) -> dict[str, Tensor]:
        """All weights and buffers, [S, …] each; views of those in use."""
        return {name: weight.detach() for name, weight in {**self.parameters, **self.buffers}.items()}

    def keep(self, rows: Sequence[int]) -> None:
        """Leave only the seeds in these rows."""
        self.parameters = {
            name: weight.detach()[rows].requires_grad_(weight.requires_grad) for name, weight in self.parameters.items()
        }
        self.buffers = {name: buffer[rows] for name, buffer in self.buffers.items()}


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers by name; one that is used in two places has one name."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@torch.no_grad()
def set_weights(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Give a model these weights and buffers, by name."""
    for name, weight in _weights(model).items():
        weight.copy_(values[name])


class Adam:
    """Adam (Kingma and Ba 2015) with PyTorch's defaults, as its fused kernel.

    `torch.optim.Adam` does the same, but what it does around the kernel takes a tenth of a step of a small network.
    """

    def __init__(self, weights: Sequence[Tensor], lr: float) -> None:
        self.weights = list(weights)
        self.lr = lr
        self.averages = [torch.zeros_like(weight) for weight in weights]
        self.averages_of_squares = [torch.zeros_like(weight) for weight in weights]
        self.steps = [torch.zeros((), device=weight.device) for weight in weights]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for weight in self.weights:
            weight.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Learn from the gradients; a weight that took no part in the loss has none and stays as it is."""
        taking_part = [i for i, weight in enumerate(self.weights) if weight.grad is not None]
        adam(
            [self.weights[i] for i in taking_part],
            [weight.grad for weight in self.weights if weight.grad is not None],
            [self.averages[i] for i in taking_part],
            [self.averages_of_squares[i] for i in taking_part],
            [],
            [self.steps[i] for i in taking_part],
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self.lr,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )

    def keep(self, weights: Sequence[Tensor], rows: Sequence[int]) -> None:
        """Go on with these weights, which are these rows of the ones before."""
        self.weights = list(weights)
        self.averages = [average[rows] for average in self.averages]
        self.averages_of_squares = [average[rows] for average in self.averages_of_squares]


class _Recorded:
    """A step recorded as a CUDA graph, replayed for every batch of the shape that it was recorded with."""

    def __init__(self, step: Callable[[Tensor], Tensor], index_SB: Tensor) -> None:
        self.index_SB = index_SB.clone()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):  # records only: nothing is learned here
            self._losses_S = step(self.index_SB)

    def __call__(self, index_SB: Tensor) -> Tensor:
        self.index_SB.copy_(index_SB)
        self._graph.replay()
        return self._losses_S.clone()


def _mean(values: list[Tensor], sizes: list[int]) -> list[float]:
    """The means over items of means over batches of these sizes, in float64; here, at once, they leave the device."""
    weights_T = torch.tensor(sizes, dtype=torch.float64)
    means: list[float] = (weights_T @ torch.stack(values).cpu().double() / weights_T.sum()).tolist()
    return means


def _batches(examples: Examples) -> Sequence[Tensor]:
    """The indices of all items, in order."""
    indices: Sequence[Tensor] = torch.arange(examples.num, device=examples.device).split(EVALUATION_BATCH)
    return indices


@torch.no_grad()
def evaluate(forward: Callable[[Tensor], Tensor], examples: Examples) -> tuple[Tensor, Tensor]:
    """The outputs of `forward` for the inputs of all items of the first seed, in order, and their targets."""
    select = examples.at_epoch(0, [0])
    outputs, targets = [], []
    for index_B in _batches(examples):
        inputs_1B, targets_1B = select(index_B.unsqueeze(0))
        outputs.append(forward(inputs_1B.squeeze(0)))
        targets.append(targets_1B.squeeze(0))
    return torch.cat(outputs), torch.cat(targets)
