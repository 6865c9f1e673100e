"""One effect from several experiments. Shapes: K experiments."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from aepretrain.stats.paired import ROUNDING, Estimate

Floats = NDArray[np.floating[Any]]


def pooled_effect(effects_K: Floats, standard_errors_K: Floats, level: float) -> Estimate:
    """The mean effect over a population of experiments, with its Hartung-Knapp interval.

    Random effects: each experiment has an effect of its own. The variance between experiments is that of DerSimonian
    and Laird (1986), the interval has k − 1 degrees of freedom (Hartung and Knapp 2001). Raises `ValueError` for fewer
    than two experiments.
    """
    num = len(effects_K)
    if num < 2:
        raise ValueError(f"at least two experiments are needed, not {num}")
    variances_K = np.maximum(standard_errors_K, ROUNDING) ** 2
    weights_K = 1 / (variances_K + _variance_between(effects_K, variances_K))
    mean = float(np.average(effects_K, weights=weights_K))
    spread = float(np.sum(weights_K * (effects_K - mean) ** 2)) / (num - 1)
    half = float(stats.t.ppf((1 + level) / 2, num - 1)) * math.sqrt(spread / float(np.sum(weights_K)))
    return Estimate(mean, mean - half, mean + half)


def _variance_between(effects_K: Floats, variances_K: Floats) -> float:
    """The variance of the experiments' true effects, by the method of moments; never below zero."""
    weights_K = 1 / variances_K
    heterogeneity = float(np.sum(weights_K * (effects_K - np.average(effects_K, weights=weights_K)) ** 2))
    products_KK = np.outer(weights_K, weights_K)
    np.fill_diagonal(products_KK, 0)
    scale = float(products_KK.sum() / weights_K.sum())
    return max((heterogeneity - (len(effects_K) - 1)) / scale, 0.0)
