"""One training from its specification to its outcome. The only package that uses test images."""

from aepretrain.training.checkpoints import dump_weights, encoding_module, parse_weights, scoring_module
from aepretrain.training.device import describe_machine, prepare_process, resolve_device
from aepretrain.training.recipe import Digests, Outcome, check_names, run, training_key, try_out
from aepretrain.training.selfcheck import check_device, report_on

__all__ = [
    "Digests",
    "Outcome",
    "check_device",
    "check_names",
    "describe_machine",
    "dump_weights",
    "encoding_module",
    "parse_weights",
    "prepare_process",
    "report_on",
    "resolve_device",
    "run",
    "scoring_module",
    "training_key",
    "try_out",
]
