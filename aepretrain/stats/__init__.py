"""Arrays in, estimates out: paired comparisons over seeds, their verdicts, and what holds for new images too.

Nothing here knows runs, files or figures. What is drawn is drawn from a generator that the caller gives.
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
    relative_error_reduction,
    required_seeds,
    sign_flip_test,
    superiority,
)
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
    "prediction_interval",
    "relative_error_reduction",
    "required_seeds",
    "sign_flip_test",
    "superiority",
    "two_way_interval",
]
