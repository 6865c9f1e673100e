"""The only training loop, of one seed or a stack of seeds, with best-validation weights and snapshots."""

from aepretrain.engine.loop import EVALUATION_BATCH, evaluate, train
from aepretrain.engine.stacks import set_weights
from aepretrain.engine.steps import Adam
from aepretrain.engine.task import Examples, Hyperparameters, Loss, Select, Snapshots, Task, Trained

__all__ = [
    "EVALUATION_BATCH",
    "Adam",
    "Examples",
    "Hyperparameters",
    "Loss",
    "Select",
    "Snapshots",
    "Task",
    "Trained",
    "evaluate",
    "set_weights",
    "train",
]
