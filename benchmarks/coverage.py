"""How often the statistics are right, by simulation, with figures as a table in Markdown.

    python -m benchmarks.coverage

The states of all generators are fixed, so the same figures come out again. Shapes: S seeds, N test images.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats as distributions

from aepretrain import stats
from aepretrain.config import SMALLEST_EFFECT
from aepretrain.stats import Comparison, Estimate, Verdict

NUM_IMAGES = 10_000
LEVEL = 0.95

Pairs = list[NDArray[np.float64]]
"""Of each experiment the accuracies of both sides, [2, S]."""

Estimator = Callable[[NDArray[np.int8], np.random.Generator], Estimate]
"""From differences, [S, N], and a generator, a mean with its interval."""


@dataclass(frozen=True)
class Share:
    """How often something happened in so many simulations."""

    times: int
    num: int

    @property
    def value(self) -> float:
        """The share."""
        return self.times / self.num

    @property
    def error(self) -> float:
        """Its Monte-Carlo standard error."""
        return math.sqrt(max(self.value * (1 - self.value), 1 / self.num) / self.num)

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % ± {100 * self.error:.1f}"


def simulated_pairs(num_seeds: int, effect: float, std: float, draw: np.random.Generator) -> Pairs:
    """Four experiments of paired accuracies, in whole test images; `effect` and `std` are those of the differences."""
    pairs = []
    for _ in range(4):
        shared_S = draw.normal(0.98, 0.001, num_seeds)
        own_2S = draw.normal(0, std / math.sqrt(2), (2, num_seeds))
        pairs.append(np.round((shared_S + own_2S + [[effect], [0]]) * NUM_IMAGES) / NUM_IMAGES)
    return pairs


def judged(pairs: Pairs, draw: np.random.Generator) -> list[Comparison]:
    """The experiments with their verdicts."""
    compared = {
        place: stats.compare(first_S, second_S, draw, SMALLEST_EFFECT)
        for place, (first_S, second_S) in enumerate(pairs)
    }
    return list(stats.judge(compared).values())


def has_claim(pairs: Pairs, draw: np.random.Generator) -> bool:
    """Whether there is a gain or a loss."""
    return any(one.verdict in (Verdict.GAIN, Verdict.LOSS) for one in judged(pairs, draw))


def any_claim(num_seeds: int, num_stores: int, std: float = 0.004) -> Share:
    """How often a gain or a loss is found in any experiment although there is no effect."""
    draw = np.random.default_rng(num_seeds)
    claims = (has_claim(simulated_pairs(num_seeds, 0.0, std, draw), draw) for _ in range(num_stores))
    return Share(sum(claims), num_stores)


def claim_at_any_look(looks: Sequence[int], num_stores: int) -> Share:
    """How often who looks at the same growing store several times finds one at any of the looks."""
    draw = np.random.default_rng(7_000)
    found = 0
    for _ in range(num_stores):
        pairs = simulated_pairs(looks[-1], 0.0, 0.004, draw)
        found += any(has_claim([pair_2S[:, :num] for pair_2S in pairs], draw) for num in looks)
    return Share(found, num_stores)


def false_equivalence(num_seeds: int, num: int) -> Share:
    """How often a true difference of just the smallest effect of interest is called equivalent or negligible."""
    draw = np.random.default_rng(8_000 + num_seeds)
    found = [
        stats.mean_interval(draw.normal(SMALLEST_EFFECT, 0.002, num_seeds), 0.9).within(SMALLEST_EFFECT)
        for _ in range(num)
    ]
    return Share(sum(found), num)


def gains(num_seeds: int, effect: float, std: float, num_stores: int) -> Share:
    """How often a true effect is called a gain, over all experiments."""
    draw = np.random.default_rng(1_000 + num_seeds)
    found = [
        one.verdict is Verdict.GAIN
        for _ in range(num_stores)
        for one in judged(simulated_pairs(num_seeds, effect, std, draw), draw)
    ]
    return Share(sum(found), len(found))


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


def probability_of_improvement_coverage(num_seeds: int, probability: float, num: int) -> Share:
    """How often the Wilson interval holds the true probability of being better."""
    draw = np.random.default_rng(4_000 + num_seeds)
    shift = float(distributions.norm.ppf(probability))
    differences = (draw.normal(shift, 1, num_seeds) for _ in range(num))
    return _holding(probability, (stats.probability_of_improvement(one, LEVEL) for one in differences))


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


def pooled_coverage(num_experiments: int, num_seeds: int, between: float, num: int) -> Share:
    """How often the pooled interval holds the mean effect, with effects that differ between experiments."""
    draw = np.random.default_rng(7_000 + num_seeds)

    def interval() -> Estimate:
        effects_K = draw.normal(0.001, between, (num_experiments, 1))
        differences_KS = draw.normal(effects_K, 0.002, (num_experiments, num_seeds))
        errors_K = differences_KS.std(1, ddof=1) / math.sqrt(num_seeds)
        return stats.pooled_effect(differences_KS.mean(1), errors_K, LEVEL)

    return _holding(0.001, (interval() for _ in range(num)))


def two_way(differences_SN: NDArray[np.int8], _draw: np.random.Generator) -> Estimate:
    """The two-way random-effects interval."""
    return stats.two_way_interval(differences_SN, LEVEL)


def bootstrap(differences_SN: NDArray[np.int8], draw: np.random.Generator) -> Estimate:
    """The crossed bootstrap with 500 resamples."""
    return stats.crossed_bootstrap(differences_SN, LEVEL, draw, num_resamples=500)


def rows(scale: float) -> Iterator[tuple[str, str, Share]]:
    """What is simulated, what it should be, and what it is."""
    many, few = round(2000 * scale), round(400 * scale)
    for num in (8, 20, 40):
        yield (
            f"gain or loss in any experiment, no true effect, deviation 0.004, {num} seeds",
            "at most 6.5 %",
            any_claim(num, many),
        )
    for num in (8, 20, 40):
        yield (
            f"equivalent or negligible, true effect 0.001, deviation 0.002, {num} seeds",
            "at most 5 %",
            false_equivalence(num, 5 * many),
        )
    looks = (8, 12, 16, 20)
    yield (
        f"gain or loss in any experiment at any of the looks at {', '.join(map(str, looks))} seeds, no true effect",
        "more than for one look",
        claim_at_any_look(looks, many),
    )
    yield "gain, true effect 0.003, deviation 0.001, 20 seeds", "at least 95 %", gains(20, 0.003, 0.001, many)
    for num in (8, 20, 40):
        yield f"t interval of the mean difference, {num} seeds", "95 %", mean_coverage(num, 5 * many)
        yield f"prediction interval of one run, {num} seeds", "95 %", prediction_coverage(num, 5 * many)
        wilson = probability_of_improvement_coverage(num, 0.7, 5 * many)
        yield f"Wilson interval of P(better) = 0.7, {num} seeds", "95 %", wilson
    for between in (0.0, 0.0005):
        what = f"pooled over 4 experiments of 20 seeds, deviation between experiments {between:g}"
        yield what, "95 %", pooled_coverage(4, 20, between, 5 * many)
    for num in (8, 20):
        yield f"90 % t interval, which decides on equivalence, {num} seeds", "90 %", narrow_coverage(num, 5 * many)
    for num in (8, 20):
        yield f"two-way interval, {num} seeds × 2,000 images", "95 %", crossed_coverage(two_way, num, 2000, few)
        bootstrapped = crossed_coverage(bootstrap, num, 2000, few)
        yield f"crossed bootstrap, {num} seeds × 2,000 images", "95 % or more", bootstrapped
    yield "two-way interval, 20 seeds × 10,000 images", "95 %", crossed_coverage(two_way, 20, 10_000, few // 2)


def main() -> None:
    """Simulate and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="Share of the simulations to run.")
    print("| what | should be | is, ± its Monte-Carlo standard error | simulations |\n| --- | --- | --- | --- |")
    for what, wanted, share in rows(parser.parse_args().scale):
        print(f"| {what} | {wanted} | {share} | {share.num:,} |", flush=True)


if __name__ == "__main__":
    main()
