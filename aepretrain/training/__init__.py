"""The variants as calls of the one training loop. The only package that touches test images."""

from aepretrain.training.checkpoints import dump_weights, encoding_module, parse_weights, scoring_module
from aepretrain.training.custom import Variant, register
from aepretrain.training.device import describe_machine, prepare_process, resolve_device
from aepretrain.training.recipe import Outcome, run, training_key

__all__ = [
    "Outcome",
    "Variant",
    "describe_machine",
    "dump_weights",
    "encoding_module",
    "parse_weights",
    "prepare_process",
    "register",
    "resolve_device",
    "run",
    "scoring_module",
    "training_key",
]
