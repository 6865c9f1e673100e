"""The only training loop. It knows tensors, models and a loss, but no files, no MLflow and no variants.

It trains one seed or a stack of seeds, each as if it were alone: weights, order, batches, best weights and patience
have a leading axis of seeds. All data lie on the device, a batch is a selection by index, and numbers leave the device
once an epoch.

Shapes: S seeds of the stack, B batch, M items of a seed, T steps, K classes.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from aepretrain.config import derive_seed
from aepretrain.engine.progress import Progress
from aepretrain.engine.stacks import SingleModel, StackedModels, set_weights, weights_of
from aepretrain.engine.steps import AdamW, GraphedStep
from aepretrain.engine.task import Examples, Select, Snapshots, Task, Trained
from aepretrain.errors import Failure
from aepretrain.records import EpochResult

EVALUATION_BATCH = 200
"""Batch size of evaluation. Fixed, because it may change the last bits of a mean."""

WARM_UP_STEPS = 3
"""Steps before one is recorded as a CUDA graph: libraries initialise themselves in the first steps."""


def train(
    task: Task,
    on_epoch: Callable[[int, EpochResult], None],
    snapshots: Snapshots | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> list[Trained | Failure]:
    """Train each seed until its epochs or its patience are used up, and put the best epoch's weights into its model.

    `on_epoch` gets each epoch's numbers with the seed's place in the stack. `on_step` is called after each step and may
    raise, to stop the training. A seed whose loss is not finite fails, with the epoch in the message; the others are
    not affected. Training resumes from a snapshot with the same bits (random numbers depend on seed and epoch only, so
    no generator has a state), and `on_epoch` gets the earlier epochs too.
    """
    run = _Run(task, on_step)
    state = snapshots.load() if snapshots else None
    if state is not None:
        run.restore(state)
        for place, progress in enumerate(run.progress):
            for result in progress.history:
                on_epoch(place, result)
    saved_s = time.monotonic()
    for epoch in range(run.epochs_done + 1, task.hyperparameters.epochs + 1):
        for place, result in run.epoch(epoch):
            on_epoch(place, result)
        run.remove_finished(epoch)
        if not run.members:
            break
        if snapshots and time.monotonic() - saved_s >= snapshots.interval_s:
            snapshots.save(run.state())
            saved_s = time.monotonic()
    return run.outcomes()


class _Run:
    """The state of a stack in training: weights, optimizer, and the progress of each seed."""

    def __init__(self, task: Task, on_step: Callable[[], None]) -> None:
        self.task = task
        self.on_step = on_step
        self.members = list(range(len(task.models)))
        self.progress = [Progress() for _ in task.models]
        self.stack: SingleModel | StackedModels = (
            SingleModel(task.models[0]) if len(task.models) == 1 else StackedModels(task.models)
        )
        self.best = {name: weight.clone() for name, weight in self.stack.state().items()}
        self.most_accurate = {name: weight.clone() for name, weight in self.best.items()} if task.classifies else {}
        limits, learned = task.hyperparameters, self.stack.learned
        self.optimizer = AdamW(learned.values(), [limits.rate_of(name) for name in learned], limits.weight_decay)
        self.num_steps = 0
        self.epochs_done = 0
        self._num_steps_elsewhere = 0

    def state(self) -> dict[str, Any]:
        """All that `restore` needs to continue after this epoch."""
        return {
            "epochs_done": self.epochs_done,
            "num_steps": self.num_steps,
            "members": self.members,
            "weights": self.stack.state(),
            "best": self.best,
            "most_accurate": self.most_accurate,
            "exp_avgs": self.optimizer.exp_avgs,
            "exp_avg_sqs": self.optimizer.exp_avg_sqs,
            "steps": self.optimizer.steps,
            "progress": [one.state() for one in self.progress],
            "ended": {
                place: {name: weight.detach() for name, weight in weights_of(model).items()}
                for place, model in enumerate(self.task.models)
                if place not in self.members
            },
        }

    @torch.no_grad()
    def restore(self, state: Mapping[str, Any]) -> None:
        """Set a new run to a saved state."""
        self._keep(state["members"])
        self.epochs_done = state["epochs_done"]
        self.num_steps = self._num_steps_elsewhere = state["num_steps"]
        self.progress = [Progress.of(one) for one in state["progress"]]
        for place, weights in state["ended"].items():
            set_weights(self.task.models[place], weights)
        for name, weight in self.stack.state().items():
            weight.copy_(state["weights"][name])
            for kept, values in ((self.best, state["best"]), (self.most_accurate, state["most_accurate"])):
                if kept:
                    kept[name].copy_(values[name])
        for name in ("exp_avgs", "exp_avg_sqs", "steps"):
            for tensor, value in zip(vars(self.optimizer)[name], state[name], strict=True):
                tensor.copy_(value)

    def epoch(self, epoch: int) -> list[tuple[int, EpochResult]]:
        """Train and validate once. Gives the numbers of each seed whose losses are finite."""
        started = time.perf_counter()
        train_losses, num_items = self._learn(epoch)
        learned_s = time.perf_counter() - started
        val_losses, val_accuracies = self._validate()
        share_s = (time.perf_counter() - started) / len(self.members)
        results, improved, more_accurate = [], [], []
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
            if result.val_accuracy is not None and result.val_accuracy > progress.best_accuracy:
                more_accurate.append(i)
                progress.most_accurate_epoch = epoch
            progress.history.append(result)
            results.append((place, result))
        for kept, rows in ((self.best, improved), (self.most_accurate, more_accurate)):
            for name, weight in self.stack.state().items() if rows else ():
                kept[name][rows] = weight[rows]
        self.epochs_done = epoch
        return results

    def remove_finished(self, epoch: int) -> None:
        """Remove seeds that have ended from the stack, and put their best weights into their models."""
        ends = [self.progress[place].ends(epoch, self.task.hyperparameters) for place in self.members]
        for i, place in enumerate(self.members):
            if ends[i] and self.progress[place].failure is None:
                progress = self.progress[place]
                progress.last_weights = {name: weight[i].clone() for name, weight in self.stack.state().items()}
                progress.most_accurate_weights = {name: kept[i].clone() for name, kept in self.most_accurate.items()}
                set_weights(self.task.models[place], {name: best[i] for name, best in self.best.items()})
        self._keep([i for i, end in enumerate(ends) if not end])

    def _keep(self, rows: Sequence[int]) -> None:
        """Keep only the seeds in these rows in the stack."""
        if len(rows) == len(self.members):
            return
        self.members = [self.members[i] for i in rows]
        if rows:
            assert isinstance(self.stack, StackedModels), "a stack of one seed keeps it or ends"
            self.best = {name: best[rows] for name, best in self.best.items()}
            self.most_accurate = {name: kept[rows] for name, kept in self.most_accurate.items()}
            self.stack.keep(rows)
            self.optimizer.keep(self.stack.learned.values(), rows)

    def outcomes(self) -> list[Trained | Failure]:
        """Each seed's history, or why it failed."""
        return [
            one.failure
            or Trained(
                history=tuple(one.history),
                best_epoch=one.best_epoch,
                last_weights=one.last_weights,
                most_accurate_epoch=one.most_accurate_epoch,
                most_accurate_weights=one.most_accurate_weights,
            )
            for one in self.progress
        ]

    def _learn(self, epoch: int) -> tuple[list[float], int]:
        """Run an epoch's passes over the training items.

        Gives each seed's mean loss over the steps, and the number of its items that were used.
        """
        self.stack.model.train()
        passes = self.task.hyperparameters.passes
        losses: list[Tensor] = []
        sizes: list[int] = []
        for number in range((epoch - 1) * passes + 1, epoch * passes + 1):
            for loss_S, size in self._pass(number, self.task.hyperparameters.factor(epoch)):
                losses.append(loss_S)
                sizes.append(size)
                self.on_step()
        return _mean(losses, sizes), sum(sizes)

    def _pass(self, number: int, factor: float) -> Iterator[tuple[Tensor, int]]:
        """Run one pass over the training items in each seed's order, at `factor` times the learning rates.

        Yields each step's losses, [S], and batch size.
        """
        task = self.task
        orders = [
            torch.randperm(
                task.train.num, generator=torch.Generator().manual_seed(derive_seed(task.seeds[i], task.order, number))
            )
            for i in self.members
        ]
        batches = torch.stack(orders).to(task.train.device).split(task.hyperparameters.batch_size, dim=1)
        select = task.train.at_epoch(number, self.members)
        recorded: GraphedStep | None = None
        starts = {rate.starts_after for rate in self.optimizer.groups}
        for index_SB in batches:
            if self.num_steps == task.hyperparameters.updates:
                return
            if self.num_steps in starts:  # more weights learn from here on than a recorded step changes
                recorded = None
            if recorded is None and self._can_graph(index_SB, batches):
                recorded = GraphedStep(lambda index_SB: self._step(select, index_SB, factor), index_SB)
            fits = recorded is not None and index_SB.shape == recorded.index_SB.shape
            yield (recorded(index_SB) if recorded and fits else self._step(select, index_SB, factor)), index_SB.shape[1]
            self.num_steps += 1

    def _can_graph(self, index_SB: Tensor, batches: Sequence[Tensor]) -> bool:
        """Whether to record a step as a graph: on CUDA, launching its kernels takes longer than running them."""
        num_steps_here = self.num_steps - self._num_steps_elsewhere
        return index_SB.is_cuda and num_steps_here >= WARM_UP_STEPS and len(batches) > 1

    def _step(self, select: Select, index_SB: Tensor, factor: float) -> Tensor:
        """Update the weights from one batch; its losses, [S]."""
        inputs, targets = select(index_SB)
        losses_S = self.stack.losses(self.task.loss, self.stack(inputs), targets)
        self.optimizer.zero_grad()
        losses_S.sum().backward()  # not autograd.grad: fused Adam reads gradients in their weights' own layout
        self.optimizer.step(self.num_steps, factor)
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


def _mean(values: list[Tensor], sizes: list[int]) -> list[float]:
    """Means over items, in float64, of means over batches of these sizes. The numbers leave the device here."""
    weights_T = torch.tensor(sizes, dtype=torch.float64)
    means: list[float] = (weights_T @ torch.stack(values).cpu().double() / weights_T.sum()).tolist()
    return means


def _batches(examples: Examples) -> Sequence[Tensor]:
    """The indices of all items, in order."""
    indices: Sequence[Tensor] = torch.arange(examples.num, device=examples.device).split(EVALUATION_BATCH)
    return indices


@torch.no_grad()
def evaluate(forward: Callable[[Tensor], Tensor], examples: Examples) -> tuple[Tensor, Tensor]:
    """The outputs of `forward` for all items of the first seed, in order, and their targets."""
    select = examples.at_epoch(0, [0])
    outputs, targets = [], []
    for index_B in _batches(examples):
        inputs_1B, targets_1B = select(index_B.unsqueeze(0))
        outputs.append(forward(inputs_1B.squeeze(0)))
        targets.append(targets_1B.squeeze(0))
    return torch.cat(outputs), torch.cat(targets)
