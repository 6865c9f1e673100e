"""Finished trainings as values: a flat record each, the numbers of its epochs, and its evidence."""

from aepretrain.records.epochs import EPOCH_METRICS, EpochResult, curve_of
from aepretrain.records.evidence import (
    CLASSES,
    FILTERS,
    OUTCOMES,
    PER_CLASS,
    PREDICTIONS,
    CodeMaps,
    Evidence,
    Outcomes,
    Predictions,
    Reconstructions,
    filters_from_bytes,
    filters_to_bytes,
)
from aepretrain.records.record import DIGITS, NO_FILTER, WEIGHTS, Archive, Record, check_run_id, of_newest_images

__all__ = [
    "CLASSES",
    "DIGITS",
    "EPOCH_METRICS",
    "FILTERS",
    "NO_FILTER",
    "OUTCOMES",
    "PER_CLASS",
    "PREDICTIONS",
    "WEIGHTS",
    "Archive",
    "CodeMaps",
    "EpochResult",
    "Evidence",
    "Outcomes",
    "Predictions",
    "Reconstructions",
    "Record",
    "check_run_id",
    "curve_of",
    "filters_from_bytes",
    "filters_to_bytes",
    "of_newest_images",
]
