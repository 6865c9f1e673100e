"""Names of metrics in MLflow, whose UI shows a section of charts for each text before the ``/``, in alphabetical order.

Elsewhere in the package metrics have the names of `EpochResult` and `Record`.
"""

import re
from functools import lru_cache

NAMES = {
    "val_accuracy": "accuracy/validation",
    "best_val_accuracy": "accuracy/validation_at_best_epoch",
    "test_accuracy": "accuracy/test",
    "last_val_accuracy": "accuracy/validation_at_last_epoch",
    "last_test_accuracy": "accuracy/test_at_last_epoch",
    "most_accurate_val_accuracy": "accuracy/validation_at_most_accurate_epoch",
    "most_accurate_test_accuracy": "accuracy/test_at_most_accurate_epoch",
    "dead_units": "encoder/dead_units",
    "effective_rank": "encoder/effective_rank",
    "effective_rank_centred": "encoder/effective_rank_centred",
    "probe_accuracy": "encoder/probe_accuracy",
    "train_loss": "loss/train",
    "val_loss": "loss/validation",
    "best_val_loss": "loss/validation_at_best_epoch",
    "test_loss": "loss/test",
    "last_test_loss": "loss/test_at_last_epoch",
    "most_accurate_test_loss": "loss/test_at_most_accurate_epoch",
    "best_val_macro_f1": "macro_f1/validation_at_best_epoch",
    "test_macro_f1": "macro_f1/test",
    "last_test_macro_f1": "macro_f1/test_at_last_epoch",
    "most_accurate_test_macro_f1": "macro_f1/test_at_most_accurate_epoch",
    "best_epoch": "training/best_epoch",
    "most_accurate_epoch": "training/most_accurate_epoch",
    "num_epochs": "training/num_epochs",
    "num_labels": "training/num_labels",
    "training_s": "training/seconds",
    "elapsed_s": "training/seconds_per_epoch",
    "images_per_s": "training/images_per_second",
}
"""MLflow's name for each of ours. Other names stay as they are, except those of `PREFIXES`."""

PREFIXES = {"robustness/": r"\w+_at_\d+", "similarity/": r"cka_\w+"}
"""What is put before the names of evaluations' figures, and the pattern that they match."""

OURS = {stored: name for name, stored in NAMES.items()}


def stored_name(name: str) -> str:
    """The name in MLflow of a metric of ours."""
    prefix = next((prefix for prefix, pattern in PREFIXES.items() if re.fullmatch(pattern, name)), "")
    return NAMES.get(name, prefix + name)


@lru_cache(maxsize=1000)
def our_name(stored: str) -> str:
    """Our name of a metric in MLflow. Runs of version 1 have our names in MLflow too."""
    for prefix in PREFIXES:
        stored = stored.removeprefix(prefix)
    return OURS.get(stored, stored)
