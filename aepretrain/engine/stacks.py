"""One model, or several with stacked weights, behind one interface.

Shapes: S seeds of the stack.
"""

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from aepretrain.engine.task import Loss


class SingleModel:
    """A stack of one model: the axis of seeds has length 1."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.learned = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}

    def __call__(self, inputs: Tensor) -> Tensor:
        """The outputs of each seed for its inputs, [S, B, …]."""
        outputs: Tensor = self.model(inputs.squeeze(0))
        return outputs.unsqueeze(0)

    def losses(self, loss: Loss, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of each seed, [S]."""
        return loss(outputs.squeeze(0), targets.squeeze(0)).unsqueeze(0)

    def state(self) -> dict[str, Tensor]:
        """All weights and buffers, [S, …] each, as views."""
        return {name: weight.detach().unsqueeze(0) for name, weight in weights_of(self.model).items()}


class StackedModels:
    """Several models with their weights stacked, computed at once by `torch.vmap`."""

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self.model = copy.deepcopy(models[0])
        self.parameters, self.buffers = torch.func.stack_module_state(list(models))
        self._forward = torch.vmap(self._call)

    @property
    def learned(self) -> dict[str, Tensor]:
        """The weights that are learned by name, [S, …] each."""
        return {name: weight for name, weight in self.parameters.items() if weight.requires_grad}

    def _call(self, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        outputs: Tensor = torch.func.functional_call(self.model, (dict(parameters), dict(buffers)), (inputs,))
        return outputs

    def __call__(self, inputs: Tensor) -> Tensor:
        """The outputs of each seed for its inputs, [S, B, …]."""
        outputs: Tensor = self._forward(self.parameters, self.buffers, inputs)
        return outputs

    def losses(self, loss: Loss, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of each seed, [S]."""
        losses_S: Tensor = torch.vmap(loss)(outputs, targets)
        return losses_S

    def state(self) -> dict[str, Tensor]:
        """All weights and buffers, [S, …] each, as views."""
        return {name: weight.detach() for name, weight in {**self.parameters, **self.buffers}.items()}

    def keep(self, rows: Sequence[int]) -> None:
        """Keep only the seeds in these rows."""
        self.parameters = {
            name: weight.detach()[rows].requires_grad_(weight.requires_grad) for name, weight in self.parameters.items()
        }
        self.buffers = {name: buffer[rows] for name, buffer in self.buffers.items()}


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers by name; a shared one appears once."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@torch.no_grad()
def set_weights(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Copy these weights and buffers, given by name, into a model."""
    for name, weight in weights_of(model).items():
        weight.copy_(values[name])
