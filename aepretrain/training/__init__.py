"""One training from its specification to its outcome. The only package that uses test images."""

from aepretrain.training.checkpoints import dump_weights, encoding_module, parse_weights, scoring_module
from aepretrain.training.device import describe_machine, prepare_process, resolve_device
from aepretrain.training.recipe import Outcome, check, run, training_key

__all__ = [
    "Outcome",
    "check",
    "describe_machine",
    "dump_weights",
    "encoding_module",
    "parse_weights",
    "prepare_process",
    "resolve_device",
    "run",
    "scoring_module",
    "training_key",
]
