"""One effect from several groups that share nothing, such as experiments or datasets. Shapes: G groups."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from aepretrain.stats.paired import ROUNDING, Estimate

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class PooledEffect(Estimate):
    """The mean effect over a population of groups, and how much the groups differ."""

    num_groups: int
    between_variance: float
    """τ², the variance of the groups' true effects; NaN for a single group."""
    heterogeneity: float
    """I², the share of the effects' variation that is not chance within groups; NaN for a single group."""


def pooled_effect(effects_G: Floats, standard_errors_G: Floats, level: float) -> PooledEffect:
    """The pooled effect with its Hartung-Knapp interval.

    Random effects: each group has an effect of its own. τ² is that of DerSimonian and Laird (1986), never below zero;
    the interval has G − 1 degrees of freedom (Hartung and Knapp 2001); I² is that of Higgins and Thompson (2002). One
    group says nothing about other groups: its interval is infinite. Where a standard error is zero, weights by it would
    be infinite, so all groups count alike, and the interval is the t interval of the groups' effects. Raises
    `ValueError` for no group and for numbers that are not finite or, as standard errors, negative.
    """
    _check(effects_G, standard_errors_G)
    num = len(effects_G)
    if num == 1:
        return PooledEffect(float(effects_G[0]), -math.inf, math.inf, 1, math.nan, math.nan)
    variances_G = np.maximum(standard_errors_G, ROUNDING) ** 2
    if np.min(standard_errors_G) < ROUNDING:
        weights_G = np.ones(num)
        between = _between_variance(effects_G, variances_G, weights_G)
    else:
        between = _between_variance(effects_G, variances_G, 1 / variances_G)
        weights_G = 1 / (variances_G + between)
    mean = float(np.average(effects_G, weights=weights_G))
    error = math.sqrt(_squares(effects_G, weights_G) / (num - 1) / float(weights_G.sum()))
    half = float(scipy.special.stdtrit(num - 1, (1 + level) / 2)) * error
    cochran = _squares(effects_G, 1 / variances_G)
    heterogeneity = max(1 - (num - 1) / cochran, 0.0) if cochran > 0 else 0.0
    return PooledEffect(mean, mean - half, mean + half, num, between, heterogeneity)


def _check(effects_G: Floats, standard_errors_G: Floats) -> None:
    if len(effects_G) == 0 or len(effects_G) != len(standard_errors_G):
        raise ValueError(
            f"groups are needed, not {len(effects_G)} effects and {len(standard_errors_G)} standard errors"
        )
    if not (np.isfinite(effects_G).all() and np.isfinite(standard_errors_G).all() and np.min(standard_errors_G) >= 0):
        raise ValueError("effects must be finite, and standard errors finite and at least 0")


def _between_variance(effects_G: Floats, variances_G: Floats, weights_G: Floats) -> float:
    """τ² by the method of moments with these weights (DerSimonian and Kacker 2007)."""
    total = float(weights_G.sum())
    expected = float(np.sum(weights_G * variances_G) - np.sum(weights_G**2 * variances_G) / total)
    products_GG = np.outer(weights_G, weights_G)
    np.fill_diagonal(products_GG, 0)
    return max((_squares(effects_G, weights_G) - expected) / (float(products_GG.sum()) / total), 0.0)


def _squares(effects_G: Floats, weights_G: Floats) -> float:
    """The weighted sum of squares about the weighted mean."""
    return float(np.sum(weights_G * (effects_G - np.average(effects_G, weights=weights_G)) ** 2))
