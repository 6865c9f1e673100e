"""Statistics as functions from arrays to estimates: paired comparisons over seeds, verdicts, intervals for new images.

Random numbers come from a generator that the caller gives.
"""

from aepretrain.stats.comparison import Comparison, compare
from aepretrain.stats.crossed import (
    CrossedInterval,
    crossed_bootstrap,
    mcnemar,
    required_images,
    two_way_interval,
)
from aepretrain.stats.improvement import paired_probability_of_improvement, probability_of_improvement
from aepretrain.stats.paired import (
    Estimate,
    detectable_effect,
    mean_interval,
    pairing_correlation,
    prediction_interval,
    relative_error_reduction,
    required_seeds,
    sign_flip_test,
)
from aepretrain.stats.pooled import PooledEffect, pooled_effect
from aepretrain.stats.verdict import (
    ALPHA,
    Kind,
    PairedDifference,
    Verdict,
    family_verdicts,
    fewest_seeds,
    holm,
    judge,
    paired_difference,
)

__all__ = [
    "ALPHA",
    "Comparison",
    "CrossedInterval",
    "Estimate",
    "Kind",
    "PairedDifference",
    "PooledEffect",
    "Verdict",
    "compare",
    "crossed_bootstrap",
    "detectable_effect",
    "family_verdicts",
    "fewest_seeds",
    "holm",
    "judge",
    "mcnemar",
    "mean_interval",
    "paired_difference",
    "paired_probability_of_improvement",
    "pairing_correlation",
    "pooled_effect",
    "prediction_interval",
    "probability_of_improvement",
    "relative_error_reduction",
    "required_images",
    "required_seeds",
    "sign_flip_test",
    "two_way_interval",
]
