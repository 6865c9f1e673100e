"""The optimizer, and on CUDA a training step as one graph.

Shapes: S seeds of the stack, B batch.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam


class Adam:
    """Adam (Kingma and Ba 2015) with PyTorch's defaults, as PyTorch's fused kernel.

    `torch.optim.Adam` computes the same, but its code around the kernel takes a tenth of a step of a small network.
    """

    def __init__(self, weights: Sequence[Tensor], lr: float) -> None:
        self.weights = list(weights)
        self.lr = lr
        self.exp_avgs = [torch.zeros_like(weight) for weight in weights]
        self.exp_avg_sqs = [torch.zeros_like(weight) for weight in weights]
        self.steps = [torch.zeros((), device=weight.device) for weight in weights]

    def zero_grad(self) -> None:
        """Remove the gradients."""
        for weight in self.weights:
            weight.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update the weights that have gradients."""
        updated = [i for i, weight in enumerate(self.weights) if weight.grad is not None]
        adam(
            [self.weights[i] for i in updated],
            [weight.grad for weight in self.weights if weight.grad is not None],
            [self.exp_avgs[i] for i in updated],
            [self.exp_avg_sqs[i] for i in updated],
            [],
            [self.steps[i] for i in updated],
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
