"""Inference for new trainings and new images: both seeds and images are random.

Shapes: S seeds, N test images, R resamples.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from aepretrain.stats.paired import Estimate

Numbers = NDArray[Any]

RESAMPLED_AT_ONCE = 250


@dataclass(frozen=True)
class CrossedInterval(Estimate):
    """A mean over seeds and images, its interval, and the standard deviations of its parts."""

    seed_std: float
    """Between trainings, on the same images."""
    image_std: float
    """Between images, for the same trainings."""
    rest_std: float
    """Of the rest, the interaction of training and image."""


def two_way_interval(differences_SN: Numbers, level: float) -> CrossedInterval:
    """The mean of `differences_SN` over seeds and images, with its interval when both are random.

    Two-way random effects without replication: the variance of the mean is (MS_seeds + MS_images - MS_rest) / (S N),
    with Satterthwaite's degrees of freedom (Satterthwaite 1946; for readers and cases, Obuchowski and Rockette 1995).
    Where the sum is less than the larger of MS_seeds and MS_images, that one is used alone: the interval is wider.
    Infinite for fewer than two seeds or images.
    """
    num_seeds, num_images = differences_SN.shape
    mean = float(differences_SN.mean())
    if num_seeds < 2 or num_images < 2:
        return CrossedInterval(mean, -math.inf, math.inf, math.nan, math.nan, math.nan)
    of_seeds_S, of_images_N = differences_SN.mean(1), differences_SN.mean(0)
    freedom = np.array([num_seeds - 1, num_images - 1, (num_seeds - 1) * (num_images - 1)])
    between_seeds = num_images * float(np.sum((of_seeds_S - mean) ** 2))
    between_images = num_seeds * float(np.sum((of_images_N - mean) ** 2))
    total = float(np.sum((differences_SN - mean) ** 2))
    squares = np.array([between_seeds, between_images, max(total - between_seeds - between_images, 0.0)]) / freedom
    terms = squares * np.array([1.0, 1.0, -1.0])
    if terms.sum() < max(squares[0], squares[1]):
        largest = int(np.argmax(squares[:2]))
        terms = np.where(np.arange(3) == largest, squares, 0.0)
    seed_variance, image_variance = (squares[:2] - squares[2]).clip(min=0) / (num_images, num_seeds)
    variance = float(terms.sum()) / differences_SN.size
    degrees = float(terms.sum() ** 2 / np.sum(terms**2 / freedom)) if variance > 0 else 1.0
    half = float(scipy.special.stdtrit(degrees, (1 + level) / 2)) * math.sqrt(variance)
    stds = math.sqrt(seed_variance), math.sqrt(image_variance), math.sqrt(squares[2])
    return CrossedInterval(mean, mean - half, mean + half, *stds)


def required_images(parts: CrossedInterval, std: float) -> float:
    """The number of test images with which differences have this standard deviation over seeds; infinite for none.

    On the same images, a seed's mean difference has the variance of trainings, and that of the rest divided by the
    number of images.
    """
    of_images = std**2 - parts.seed_std**2
    return math.ceil(parts.rest_std**2 / of_images) if of_images > 0 else math.inf


def crossed_bootstrap(
    differences_SN: Numbers, level: float, generator: np.random.Generator, num_resamples: int = 2000
) -> Estimate:
    """The mean and its percentile interval when seeds and images are resampled independently.

    The pigeonhole bootstrap (Owen 2007). Its variance is too large rather than too small: the interaction of training
    and image counts up to three times. Infinite for fewer than two seeds or images.
    """
    num_seeds, num_images = differences_SN.shape
    if num_seeds < 2 or num_images < 2:
        return Estimate(float(differences_SN.mean()), -math.inf, math.inf)
    values_SN = differences_SN.astype(np.float32)
    means = []
    for start in range(0, num_resamples, RESAMPLED_AT_ONCE):
        num = min(RESAMPLED_AT_ONCE, num_resamples - start)
        seeds_RS = generator.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), num).astype(np.float32)
        images_RN = generator.multinomial(num_images, np.full(num_images, 1 / num_images), num).astype(np.float32)
        means.append(((seeds_RS @ values_SN) * images_RN).sum(1, dtype=np.float64) / differences_SN.size)
    low, high = np.quantile(np.concatenate(means), ((1 - level) / 2, (1 + level) / 2))
    return Estimate(float(differences_SN.mean()), float(low), float(high))


def mcnemar(first_right_N: NDArray[np.bool_], second_right_N: NDArray[np.bool_]) -> float:
    """The exact two-sided p-value that two classifiers err equally often on these images (McNemar 1947)."""
    only_first = int(np.count_nonzero(first_right_N & ~second_right_N))
    only_second = int(np.count_nonzero(second_right_N & ~first_right_N))
    if only_first + only_second == 0:
        return 1.0
    return float(scipy.stats.binomtest(only_first, only_first + only_second).pvalue)
