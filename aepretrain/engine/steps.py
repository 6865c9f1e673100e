"""The optimizer, and on CUDA a training step as one graph.

Shapes: S seeds of the stack, B batch.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam

from aepretrain.engine.task import Rate


class AdamW:
    """AdamW (Loshchilov and Hutter 2019) with PyTorch's defaults, as PyTorch's fused kernel; without decay it is Adam.

    `torch.optim.AdamW` computes the same, but its code around the kernel takes a tenth of a step of a small network.
    `rates` has the rate of each weight. A weight that does not learn yet is not changed, nor are its averages.
    """

    def __init__(self, weights: Iterable[Tensor], rates: Sequence[Rate], weight_decay: float = 0.0) -> None:
        self.weights = list(weights)
        self.weight_decay = weight_decay
        self.groups = {rate: [i for i, other in enumerate(rates) if other == rate] for rate in dict.fromkeys(rates)}
        self.exp_avgs = [torch.zeros_like(weight) for weight in self.weights]
        self.exp_avg_sqs = [torch.zeros_like(weight) for weight in self.weights]
        self.steps = [torch.zeros((), device=weight.device) for weight in self.weights]

    def zero_grad(self) -> None:
        """Remove the gradients."""
        for weight in self.weights:
            weight.grad = None

    @torch.no_grad()
    def step(self, num_before: int = 0, factor: float = 1.0) -> None:
        """Update the weights that have gradients and learn after so many steps, at `factor` times their rates."""
        for rate, places in self.groups.items():
            updated = [(i, grad) for i in places if (grad := self.weights[i].grad) is not None]
            if not updated or num_before < rate.starts_after:
                continue
            adam(
                [self.weights[i] for i, _ in updated],
                [grad for _, grad in updated],
                [self.exp_avgs[i] for i, _ in updated],
                [self.exp_avg_sqs[i] for i, _ in updated],
                [],
                [self.steps[i] for i, _ in updated],
                fused=True,
                decoupled_weight_decay=True,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=rate.lr * factor,
                weight_decay=self.weight_decay,
                eps=1e-8,
                maximize=False,
            )

    def keep(self, weights: Iterable[Tensor], rows: Sequence[int]) -> None:
        """Continue with these weights, which are these rows of the previous ones."""
        self.weights = list(weights)
        self.exp_avgs = [average[rows] for average in self.exp_avgs]
        self.exp_avg_sqs = [average[rows] for average in self.exp_avg_sqs]


class GraphedStep:
    """A training step as a CUDA graph, replayed for every batch of the same shape."""

    def __init__(self, step: Callable[[Tensor], Tensor], index_SB: Tensor) -> None:
        self.index_SB = index_SB.clone()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):  # records only: nothing is learned here
            self._losses_S = step(self.index_SB)

    def __call__(self, index_SB: Tensor) -> Tensor:
        """Run the step with this batch; its losses, [S]."""
        self.index_SB.copy_(index_SB)
        self._graph.replay()
        return self._losses_S.clone()
