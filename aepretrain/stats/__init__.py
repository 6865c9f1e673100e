"""Statistics as functions from arrays to estimates: paired comparisons over seeds, verdicts, intervals for new images.

Random numbers come from a generator that the caller gives.
"""

from aepretrain.stats.crossed import (
    CrossedInterval,
    crossed_bootstrap,
    mcnemar,
    two_way_interval,
)
from aepretrain.stats.paired import (
    Estimate,
    mean_interval,
    pairing_correlation,
    prediction_interval,
    probability_of_improvement,
    relative_error_reduction,
    required_seeds,
    sign_flip_test,
)
from aepretrain.stats.pooled import pooled_effect
from aepretrain.stats.verdict import (
    ALPHA,
    MIN_SEEDS,
    Comparison,
    Verdict,
    compare,
    holm,
    judge,
)

__all__ = [
    "ALPHA",
    "MIN_SEEDS",
    "Comparison",
    "CrossedInterval",
    "Estimate",
    "Verdict",
    "compare",
    "crossed_bootstrap",
    "holm",
    "judge",
    "mcnemar",
    "mean_interval",
    "pairing_correlation",
    "pooled_effect",
    "prediction_interval",
    "probability_of_improvement",
    "relative_error_reduction",
    "required_seeds",
    "sign_flip_test",
    "two_way_interval",
]
