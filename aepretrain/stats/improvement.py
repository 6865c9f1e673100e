"""The probability of improvement. Shapes: F runs of the first, S runs of the second, or S seeds that have both."""

import math
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from aepretrain.stats.paired import Estimate

Floats = NDArray[np.floating[Any]]

EDGE = 1e-9
"""A probability so close to 0 lies inside every interval of a share of 0."""


def probability_of_improvement(first_F: Floats, second_S: Floats, level: float) -> Estimate:
    """The probability P(X > Y) that a run of the first is better than one of the second, over all pairs of runs.

    Ties count half, so it is the Mann-Whitney U divided by the number of pairs (Agarwal et al. 2021). The interval
    is Newcombe's score interval (2006, method 5) for independent runs. Runs that share a seed are positively
    correlated as a rule; the interval is then wider than necessary. 0 to 1 where a side has no run.
    """
    if len(first_F) == 0 or len(second_S) == 0:
        return Estimate(math.nan, 0.0, 1.0)
    above_FS = np.sign(first_F[:, None] - second_S)
    share = float((1 + above_FS.mean()) / 2)
    z = float(scipy.special.ndtri((1 + level) / 2))

    def beyond(probability: float) -> float:
        """Negative where the observed share is within z standard errors of this probability."""
        variance = _share_variance(probability, len(first_F), len(second_S))
        return (share - probability) ** 2 - z**2 * variance

    inside = min(max(share, EDGE), 1 - EDGE)  # at 0 and 1 the variance is 0 too
    low = float(scipy.optimize.brentq(beyond, 0.0, inside)) if share > 0 else 0.0
    high = float(scipy.optimize.brentq(beyond, inside, 1.0)) if share < 1 else 1.0
    return Estimate(share, low, high)


def _share_variance(probability: float, num_first: int, num_second: int) -> float:
    """The variance of the share of pairs (Hanley and McNeil 1982), both sides taken to have the mean number of runs."""
    others = (num_first + num_second) / 2 - 1
    inflation = 1 + others * ((1 - probability) / (2 - probability) + probability / (1 + probability))
    return probability * (1 - probability) * inflation / (num_first * num_second)


def paired_probability_of_improvement(differences_S: Floats, level: float) -> Estimate:
    """The probability that the first is better than the second of the same seed, with its Wilson interval (1927).

    Ties count half. 0 to 1 where there is no seed.
    """
    num = len(differences_S)
    if num == 0:
        return Estimate(math.nan, 0.0, 1.0)
    share = (np.count_nonzero(differences_S > 0) + np.count_nonzero(differences_S == 0) / 2) / num
    z = float(scipy.special.ndtri((1 + level) / 2))
    middle = (share + z**2 / (2 * num)) / (1 + z**2 / num)
    half = z / (1 + z**2 / num) * math.sqrt(share * (1 - share) / num + z**2 / (4 * num**2))
    return Estimate(float(share), max(float(middle - half), 0.0), min(float(middle + half), 1.0))
