"""How a step is taken: the optimizer, and on CUDA the step as one recorded graph.

Shapes: S seeds of the stack, B batch.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.optim.adam import adam


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


class Recorded:
    """A step recorded as a CUDA graph, replayed for every batch of the shape that it was recorded with."""

    def __init__(self, step: Callable[[Tensor], Tensor], index_SB: Tensor) -> None:
        self.index_SB = index_SB.clone()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):  # records only: nothing is learned here
            self._losses_S = step(self.index_SB)

    def __call__(self, index_SB: Tensor) -> Tensor:
        """Take the step with this batch; its losses, [S]."""
        self.index_SB.copy_(index_SB)
        self._graph.replay()
        return self._losses_S.clone()
