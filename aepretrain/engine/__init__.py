"""The only training loop, of one seed or a stack of seeds, with best-validation weights and snapshots."""

from aepretrain.engine.loop import EVALUATION_BATCH, evaluate, train
from aepretrain.engine.stacks import set_weights
from aepretrain.engine.steps import AdamW
from aepretrain.engine.task import Examples, Hyperparameters, Rate, Select, Snapshots, Task, Trained

__all__ = [
    "EVALUATION_BATCH",
    "AdamW",
    "Examples",
    "Hyperparameters",
    "Rate",
    "Select",
    "Snapshots",
    "Task",
    "Trained",
    "evaluate",
    "set_weights",
    "train",
]
