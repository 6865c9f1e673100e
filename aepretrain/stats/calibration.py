"""How well a classifier's probabilities say how often it is right.

Shapes: N test images.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

NUM_BINS = 15


def calibration_error(confidence_N: NDArray[np.floating[Any]], right_N: NDArray[np.bool_]) -> float:
    """The expected calibration error with 15 bins of equal width (Guo et al. 2017, section 2).

    `confidence_N` is the probability given to the predicted class. Bins are open below and closed above: over all
    images, the mean absolute difference between a bin's mean confidence and its share of right predictions.
    """
    bins_N = np.clip(np.ceil(confidence_N.astype(np.float64) * NUM_BINS).astype(int) - 1, 0, NUM_BINS - 1)
    excess = np.bincount(bins_N, confidence_N - right_N, NUM_BINS)
    return float(np.abs(excess).sum() / len(right_N))
