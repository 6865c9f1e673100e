"""How often intervals hold the truth, by simulation. Shapes: S seeds, N test images, G groups."""

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import stats as distributions

from aepretrain import stats
from aepretrain.stats import Estimate
from benchmarks.error_rates import Share

LEVEL = 0.95

Estimator = Callable[[NDArray[np.int8], np.random.Generator], Estimate]
"""From differences, [S, N], and a generator, a mean with its interval."""


def mean_coverage(num_seeds: int, num: int) -> Share:
    """How often the t interval holds the true mean difference."""
    draw = np.random.default_rng(2_000 + num_seeds)
    return _holding(0.001, (stats.mean_interval(draw.normal(0.001, 0.002, num_seeds), LEVEL) for _ in range(num)))


def narrow_coverage(num_seeds: int, num: int) -> Share:
    """The same of the 90 % interval."""
    draw = np.random.default_rng(6_000 + num_seeds)
    return _holding(0.001, (stats.mean_interval(draw.normal(0.001, 0.002, num_seeds), 0.9) for _ in range(num)))


def prediction_coverage(num_seeds: int, num: int) -> Share:
    """How often the prediction interval holds one further run."""
    draw = np.random.default_rng(3_000 + num_seeds)
    held = 0
    for _ in range(num):
        *known, further = draw.normal(0.98, 0.001, num_seeds + 1)
        held += _holds(stats.prediction_interval(np.array(known), LEVEL), further)
    return Share(held, num)


def paired_probability_coverage(num_seeds: int, probability: float, num: int) -> Share:
    """How often the Wilson interval holds the true probability of being better in a seed."""
    draw = np.random.default_rng(4_000 + num_seeds)
    shift = float(distributions.norm.ppf(probability))
    differences = (draw.normal(shift, 1, num_seeds) for _ in range(num))
    return _holding(probability, (stats.paired_probability_of_improvement(one, LEVEL) for one in differences))


def probability_coverage(num_seeds: int, probability: float, correlation: float, num: int) -> Share:
    """How often the interval holds the probability of improvement, with runs of a seed that are correlated."""
    draw = np.random.default_rng([9_000, num_seeds, round(100 * probability)])
    shift = math.sqrt(2) * float(distributions.norm.ppf(probability))

    def interval() -> Estimate:
        shared_S = math.sqrt(correlation) * draw.normal(0, 1, num_seeds)
        own_2S = math.sqrt(1 - correlation) * draw.normal(0, 1, (2, num_seeds))
        return stats.probability_of_improvement(shift + shared_S + own_2S[0], shared_S + own_2S[1], LEVEL)

    return _holding(probability, (interval() for _ in range(num)))


def crossed_coverage(estimate: Estimator, num_seeds: int, num_images: int, num: int) -> Share:
    """How often an interval for new seeds and new images holds the true difference of accuracies.

    A classifier is right where its level + its training's luck + the image's ease + the image's ease for this variant
    + the rest, all normal, is above 0; the level of the first is a little higher. So its true accuracy is the normal
    distribution function of its level divided by the standard deviation of the sum.
    """
    draw = np.random.default_rng(5_000 + num_seeds)
    level, gain, luck, ease, own_ease, rest = 4.3, 0.2, 0.1, 2.0, 0.3, 0.5
    total = math.sqrt(luck**2 + ease**2 + own_ease**2 + rest**2)
    accuracies = distributions.norm.cdf(np.array([level + gain, level]) / total)

    def intervals() -> Iterator[Estimate]:
        for _ in range(num):
            ease_N = draw.normal(0, ease, num_images).astype(np.float32)
            right = []
            for shift in (gain, 0.0):
                luck_S1 = draw.normal(0, luck, (num_seeds, 1)).astype(np.float32)
                own_N = draw.normal(0, own_ease, num_images).astype(np.float32)
                noise_SN = rest * draw.standard_normal((num_seeds, num_images), dtype=np.float32)
                right.append((level + shift + luck_S1 + ease_N + own_N + noise_SN > 0).astype(np.int8))
            yield estimate(right[0] - right[1], draw)

    return _holding(float(accuracies[0] - accuracies[1]), intervals())


def _holds(interval: Estimate, truth: float) -> bool:
    return interval.low <= truth <= interval.high


def _holding(truth: float, intervals: Iterator[Estimate]) -> Share:
    held = [_holds(interval, truth) for interval in intervals]
    return Share(sum(held), len(held))


def pooled_coverage(num_groups: int, between: float, num: int) -> Share:
    """How often the pooled interval holds the mean effect of groups like ours.

    Effects are normal with the standard deviation `between`. By turns, groups have 20 seeds with the deviation 0.0018,
    and 10 seeds with 0.003.
    """
    draw = np.random.default_rng([7_000, num_groups])
    turns = [((20, 0.0018), (10, 0.003))[place % 2] for place in range(num_groups)]

    def interval() -> Estimate:
        effects_G = draw.normal(0.001, between, num_groups)
        groups = [draw.normal(effect, std, size) for effect, (size, std) in zip(effects_G, turns, strict=True)]
        errors_G = np.array([one_S.std(ddof=1) / math.sqrt(len(one_S)) for one_S in groups])
        return stats.pooled_effect(np.array([one_S.mean() for one_S in groups]), errors_G, LEVEL)

    return _holding(0.001, (interval() for _ in range(num)))


def two_way(differences_SN: NDArray[np.int8], _draw: np.random.Generator) -> Estimate:
    """The two-way random-effects interval."""
    return stats.two_way_interval(differences_SN, LEVEL)


def bootstrap(differences_SN: NDArray[np.int8], draw: np.random.Generator) -> Estimate:
    """The crossed bootstrap with 500 resamples."""
    return stats.crossed_bootstrap(differences_SN, LEVEL, draw, num_resamples=500)
