"""What identifies a training: every option with its default, and the key made from them.

Nothing here trains or stores anything. `Settings` holds the options that a whole grid shares, `TrainingSpec` adds
which cell and seed is meant, and `TrainingSpec.identity` names exactly those fields that the result depends on.
`Execution` is apart: how a training is carried out is never part of what it is.
"""

from aepretrain.config.command import changed_settings, command_text, dataset_option
from aepretrain.config.effect import ALLOWED_EFFECT, SmallestEffect, parse_effect
from aepretrain.config.execution import Execution
from aepretrain.config.images import MNIST_SHAPE, DataRequest, Shape, dataset_name, source_of
from aepretrain.config.names import (
    AUGMENTATIONS,
    CORRUPTIONS,
    DATASETS,
    EMNIST,
    GRID_NETWORKS,
    IN_EVERY_IDENTITY,
    LABELS,
    MASK_SHARES,
    NETWORKS,
    OBJECTIVES,
    OF_DIGITS,
    OF_MNIST,
    SCHEMA,
    SMALLEST_EFFECT,
    SOURCES,
    STUDIES,
    UPDATES_BETWEEN_VALIDATIONS,
    VARIED_BY_STUDIES,
)
from aepretrain.config.seeds import derive_seed, format_seeds, parse_seeds
from aepretrain.config.settings import Settings
from aepretrain.config.training import (
    TrainingSpec,
    canonical_json,
    grid_key,
    grid_options,
    grid_specs,
    identity_key,
    setting_of,
)

__all__ = [
    "ALLOWED_EFFECT",
    "AUGMENTATIONS",
    "CORRUPTIONS",
    "DATASETS",
    "EMNIST",
    "GRID_NETWORKS",
    "IN_EVERY_IDENTITY",
    "LABELS",
    "MASK_SHARES",
    "MNIST_SHAPE",
    "NETWORKS",
    "OBJECTIVES",
    "OF_DIGITS",
    "OF_MNIST",
    "SCHEMA",
    "SMALLEST_EFFECT",
    "SOURCES",
    "STUDIES",
    "UPDATES_BETWEEN_VALIDATIONS",
    "VARIED_BY_STUDIES",
    "DataRequest",
    "Execution",
    "Settings",
    "Shape",
    "SmallestEffect",
    "TrainingSpec",
    "canonical_json",
    "changed_settings",
    "command_text",
    "dataset_name",
    "dataset_option",
    "derive_seed",
    "format_seeds",
    "grid_key",
    "grid_options",
    "grid_specs",
    "identity_key",
    "parse_effect",
    "parse_seeds",
    "setting_of",
    "source_of",
]
