"""The variants as calls of the one training loop. The only package that touches test images."""

from aepretrain.variants.machine import describe_machine, prepare_process, resolve_device
from aepretrain.variants.own import Variant, register
from aepretrain.variants.training import Outcome, run, training_key
from aepretrain.variants.weights import dump_weights, encoding_module, parse_weights, scoring_module

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
