"""Estimates from one value a seed, or from one pair of values a seed.

Shapes: S seeds.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

EXACT_SEEDS = 20
"""Up to this many seeds the sign-flip test counts all 2^S flips."""

NUM_FLIPS = 100_000
"""With more seeds it draws this many random flips."""

MAX_REQUIRED = 1_000_000
"""The largest number of seeds that `required_seeds` gives."""

ROUNDING = 1e-12
"""Standard deviations of accuracies below this are rounding errors."""


@dataclass(frozen=True)
class Estimate:
    """An estimate and its interval."""

    value: float
    low: float
    high: float

    def within(self, margin: float) -> bool:
        """Whether the whole interval lies between minus and plus the margin."""
        return -margin < self.low and self.high < margin

    def beyond(self, margin: float) -> bool:
        """Whether the whole interval lies above the margin, or below minus the margin."""
        return self.low > margin or self.high < -margin


def mean_interval(values_S: Floats, level: float) -> Estimate:
    """The mean and its Student-t interval; infinite for fewer than two values."""
    return _t_interval(values_S, level, 1 / max(len(values_S), 1))


def prediction_interval(values_S: Floats, level: float) -> Estimate:
    """The mean, and the Student-t interval into which one further value falls (Hahn and Meeker 1991, section 4.7)."""
    return _t_interval(values_S, level, 1 + 1 / max(len(values_S), 1))


def _t_interval(values_S: Floats, level: float, share: float) -> Estimate:
    """The mean ± quantile of t · standard deviation · √share."""
    num = len(values_S)
    if num < 2:
        return Estimate(float(np.mean(values_S)) if num else math.nan, -math.inf, math.inf)
    mean = float(np.mean(values_S))
    half = float(scipy.special.stdtrit(num - 1, (1 + level) / 2) * np.std(values_S, ddof=1) * math.sqrt(share))
    return Estimate(mean, mean - half, mean + half)


def sign_flip_test(differences_S: Floats, generator: np.random.Generator) -> float:
    """The two-sided p-value of the mean difference; without an effect, both signs are equally likely.

    Exact up to `EXACT_SEEDS` differences. Beyond, from `NUM_FLIPS` random flips and the observed one (Phipson and
    Smyth 2010). 1 where there are no differences.
    """
    num = len(differences_S)
    if num == 0:
        return 1.0
    observed = abs(float(np.sum(differences_S)))
    observed -= 1e-9 * float(np.sum(np.abs(differences_S)))  # sums of the same numbers differ in their last bits
    if num <= EXACT_SEEDS:
        return _share_of_flips(differences_S, observed)
    signs = generator.integers(0, 2, (NUM_FLIPS, num), dtype=np.int8)
    sums = np.abs((2 * signs - 1) @ differences_S)
    return float((1 + np.count_nonzero(sums >= observed)) / (1 + NUM_FLIPS))


def _share_of_flips(differences_S: Floats, observed: float) -> float:
    """The share of all 2^S flips whose sum is at least as far from 0, counted from sums of two halves."""
    middle = len(differences_S) // 2
    first, second = _all_sums(differences_S[:middle]), np.sort(_all_sums(differences_S[middle:]))
    above = len(second) - np.searchsorted(second, observed - first, side="left")
    below = np.searchsorted(second, -observed - first, side="right")
    overlap = np.maximum(above + below - len(second), 0)  # if observed is 0, both counts include all
    return float(np.sum(above + below - overlap) / (len(first) * len(second)))


def _all_sums(differences_S: Floats) -> Floats:
    """The sums of all 2^S flips."""
    sums: Floats = np.zeros(1)
    for difference in differences_S:
        sums = np.concatenate((sums + difference, sums - difference))
    return sums


def relative_error_reduction(first_S: Floats, second_S: Floats) -> float:
    """The share of the second's mean error that the first avoids, from accuracies; NaN where there is no error."""
    errors = 1 - float(np.mean(second_S))
    return 1 - (1 - float(np.mean(first_S))) / errors if errors > 0 else math.nan


def pairing_correlation(first_S: Floats, second_S: Floats) -> float:
    """Pearson's correlation of the two sides. NaN for fewer than three pairs, or where one side does not vary."""
    if len(first_S) < 3 or np.ptp(first_S) == 0 or np.ptp(second_S) == 0:
        return math.nan
    return float(np.corrcoef(first_S, second_S)[0, 1])


def required_seeds(std: float, effect: float, alpha: float, power: float) -> int | None:
    """The number of pairs with which a two-sided t-test finds this mean difference with this power.

    From the non-central t distribution (Cohen 1988, section 2.5); None beyond a million.
    """
    if std < ROUNDING:
        return 2
    low, high = 1, 2
    while _power(high, effect / std, alpha) < power:
        low, high = high, 2 * high
        if low > MAX_REQUIRED:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _power(middle, effect / std, alpha) >= power else (middle, high)
    return high if high <= MAX_REQUIRED else None


def detectable_effect(std: float, num: int, alpha: float, power: float) -> float:
    """The mean difference that a two-sided t-test finds with so many pairs with this power: the inverse of
    `required_seeds`. NaN where the standard deviation is unknown.
    """
    if math.isnan(std):
        return math.nan
    high = 1.0
    while _power(num, high, alpha) < power:
        high *= 2
    return std * float(scipy.optimize.brentq(lambda standardised: _power(num, standardised, alpha) - power, 0.0, high))


def _power(num: int, standardised: float, alpha: float) -> float:
    critical = scipy.special.stdtrit(num - 1, 1 - alpha / 2)
    shift = standardised * math.sqrt(num)
    other_tail = np.nan_to_num(scipy.stats.nct.cdf(-critical, num - 1, shift))  # SciPy gives NaN for some below 1e-10
    return float(scipy.stats.nct.sf(critical, num - 1, shift) + other_tail)
