"""Estimates against values worked out by hand, against SciPy and statsmodels, and against what simulation says."""

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats as scipy_stats
from statsmodels.stats.contingency_tables import mcnemar  # type: ignore[import-untyped]
from statsmodels.stats.meta_analysis import combine_effects  # type: ignore[import-untyped]
from statsmodels.stats.multitest import multipletests  # type: ignore[import-untyped]
from statsmodels.stats.power import TTestPower  # type: ignore[import-untyped]
from statsmodels.stats.weightstats import DescrStatsW  # type: ignore[import-untyped]

from aepretrain import stats
from aepretrain.stats import Verdict
from benchmarks import coverage


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_mean_interval_by_hand() -> None:
    found = stats.mean_interval(np.array([1.0, 2.0, 3.0, 4.0]), 0.95)
    # deviation sqrt(5/3), t(0.975; 3) = 3.1824463, half width 3.1824463 · 1.2909944 / 2
    assert found.value == 2.5
    assert found.high - found.value == pytest.approx(2.0542603, abs=1e-6)
    assert found.value - found.low == pytest.approx(2.0542603, abs=1e-6)


def test_mean_interval_is_scipys() -> None:
    values_S = generator().normal(0.98, 0.001, 11)
    expected = scipy_stats.ttest_1samp(values_S, 0).confidence_interval(0.9)
    found = stats.mean_interval(values_S, 0.9)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-12)


def test_one_value_has_an_interval_without_end() -> None:
    found = stats.mean_interval(np.array([0.5]), 0.95)
    assert (found.value, found.low, found.high) == (0.5, -math.inf, math.inf)


def test_prediction_interval_by_hand() -> None:
    found = stats.prediction_interval(np.array([1.0, 2.0, 3.0, 4.0]), 0.95)
    assert found.high - 2.5 == pytest.approx(3.1824463 * 1.2909944 * math.sqrt(1.25), abs=1e-6)


def test_sign_flip_test_by_hand() -> None:
    # Of the 8 sums of ±1 ±2 ±3, 6, 4, 2, 0 and their negatives (0 twice), those at least 4 from 0 are ±6 and ±4.
    assert stats.sign_flip_test(np.array([1.0, 3.0, 2.0]), generator()) == 2 / 8
    assert stats.sign_flip_test(np.array([1.0, 3.0, -0.0]), generator()) == 4 / 8
    assert stats.sign_flip_test(np.array([-1.0, 3.0, 2.0]), generator()) == 4 / 8
    assert stats.sign_flip_test(np.zeros(5), generator()) == 1
    assert stats.sign_flip_test(np.full(8, 0.001), generator()) == 2 / 256


@pytest.mark.parametrize("num", [1, 2, 5, 11])
def test_sign_flip_test_is_the_slow_enumeration(num: int) -> None:
    differences_S = generator(num).integers(-40, 50, num) / 10_000
    signs = np.array(list(itertools.product((-1, 1), repeat=num)))
    sums = np.abs(signs @ np.round(differences_S * 10_000).astype(int))
    expected = np.mean(sums >= abs(np.round(differences_S.sum() * 10_000)))
    assert stats.sign_flip_test(differences_S, generator()) == expected


def test_sign_flip_test_is_scipys() -> None:
    first_S, second_S = generator(1).normal(0.98, 0.001, (2, 9))
    expected = scipy_stats.permutation_test(
        (first_S, second_S), lambda a, b, axis: np.mean(a - b, axis=axis), permutation_type="samples", vectorized=True
    )
    assert stats.sign_flip_test(first_S - second_S, generator()) == pytest.approx(expected.pvalue, abs=1e-12)


def test_random_flips_come_near_the_exact_p_value_and_depend_on_the_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    differences_S = generator(3).normal(0.0005, 0.001, 18)
    exact = stats.sign_flip_test(differences_S, generator())
    monkeypatch.setattr("aepretrain.stats.paired.EXACT_SEEDS", 0)
    drawn = [stats.sign_flip_test(differences_S, generator(seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn == pytest.approx([exact] * 3, abs=4 * math.sqrt(exact / 100_000))


def test_probability_of_improvement_is_scipys_wilson_interval_and_counts_ties_half() -> None:
    found = stats.probability_of_improvement(np.array([1.0, 2.0, -1.0, 3.0, 1.0]), 0.95)
    expected = scipy_stats.binomtest(4, 5).proportion_ci(0.95, method="wilson")
    assert (found.value, found.low, found.high) == pytest.approx((0.8, expected.low, expected.high), abs=1e-12)
    assert stats.probability_of_improvement(np.array([1.0, -1.0, 0.0, 0.0]), 0.95).value == 0.5


def test_effect_sizes_by_hand() -> None:
    assert stats.relative_error_reduction(np.array([0.985]), np.array([0.98])) == pytest.approx(0.25)
    assert math.isnan(stats.relative_error_reduction(np.array([1.0]), np.array([1.0])))
    assert stats.pairing_correlation(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0])) == pytest.approx(1)
    assert math.isnan(stats.pairing_correlation(np.array([1.0, 1.0, 1.0]), np.array([2.0, 4.0, 6.0])))


def test_required_seeds_is_the_textbooks() -> None:
    # Cohen (1988), paired t-test, d = 0.5, two-sided 5 %, power 80 %: 34 pairs; d = 0.8: 15; d = 1: 10.
    assert [stats.required_seeds(1.0, effect, 0.05, 0.8) for effect in (0.5, 0.8, 1.0)] == [34, 15, 10]
    assert stats.required_seeds(1.0, 1e-6, 0.05, 0.8) is None
    assert stats.required_seeds(0.0, 0.001, 0.05, 0.8) == 2
    assert stats.required_seeds(1e-17, 0.001, 0.05, 0.8) == 2
    assert stats.required_seeds(1.0, 0.0029, 0.05, 0.8) == pytest.approx(
        (1.959964 + 0.841621) ** 2 / 0.0029**2, rel=1e-4
    )


def test_a_comparison_by_hand() -> None:
    first_S, second_S = np.array([0.98, 0.97, 0.99, 0.98]), np.array([0.97, 0.98, 0.96, 0.96])
    found = stats.compare(first_S, second_S, generator(), 0.02)
    # Differences: 0.01, 0.03 and 0.02 up, 0.01 down; mean 0.0125, squares about it 0.000875.
    assert found.num_seeds == 4
    assert found.difference.value == pytest.approx(0.0125)
    assert found.std == pytest.approx(math.sqrt(0.000875 / 3))
    assert found.probability_of_improvement.value == 3 / 4
    assert found.relative_error_reduction == pytest.approx(1 - 0.02 / 0.0325)
    assert found.p_value == 6 / 16, "as far from 0 are ±0.05, in two ways each, and ±0.07"


@pytest.mark.parametrize(("num_tests", "expected"), [(4, 15), (8, 17)])
def test_seeds_needed_are_those_of_the_family(num_tests: int, expected: int) -> None:
    found = stats.compare(*differences(0.0, 0.001, 20), generator(), 0.001)
    assert stats.judge({"one": found}, num_tests)["one"].num_seeds_needed == expected
    fewer, enough = (TTestPower().power(1.0, num, 0.05 / num_tests) for num in (expected - 1, expected))
    assert fewer < 0.8 <= enough
    narrow = stats.compare(*differences(0.0, 0.0001, 20), generator(), 0.001)
    assert stats.judge({"one": narrow}, num_tests)["one"].num_seeds_needed == {4: 8, 8: 9}[num_tests], "else no verdict"
    assert stats.compare(np.ones(1), np.ones(1), generator(), 0.001).num_seeds_needed is None


def test_holm_by_hand() -> None:
    assert stats.holm([0.01, 0.04, 0.03, 0.005], 4) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.01, 0.04], 4) == pytest.approx([0.04, 0.12])  # two that are missing count with p = 1
    assert stats.holm([0.4, 0.5], 4) == [1, 1]
    assert stats.holm([], 4) == []


def differences(mean: float, deviation: float, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs whose differences have exactly this mean and deviation."""
    unit = np.resize([1.0, -1.0], num) / math.sqrt(num / (num - 1))
    return 0.98 + mean + deviation * unit, np.full(num, 0.98)


@pytest.mark.parametrize(
    ("mean", "deviation", "num", "verdict"),
    [
        (0.003, 0.001, 20, Verdict.GAIN),
        (-0.003, 0.001, 20, Verdict.LOSS),
        (0.0004, 0.0002, 20, Verdict.NEGLIGIBLE),
        (0.0, 0.0005, 20, Verdict.EQUIVALENT),
        (0.0005, 0.003, 20, Verdict.INCONCLUSIVE),
        (0.003, 0.0001, 7, Verdict.NONE),
        (0.003, 0.0001, 8, Verdict.GAIN),
    ],
)
def test_verdict_rule(mean: float, deviation: float, num: int, verdict: Verdict) -> None:
    judged = stats.judge({"one": stats.compare(*differences(mean, deviation, num), generator(), 0.001)})
    assert judged["one"].verdict is verdict


def test_what_is_not_judged_has_no_verdict_and_the_margin_is_an_option() -> None:
    pair = differences(0.0008, 0.0002, 20)
    one = stats.compare(*pair, generator(), 0.001)
    assert one.verdict is Verdict.NONE
    assert stats.judge({"": one})[""].verdict is Verdict.NEGLIGIBLE
    assert stats.judge({"": stats.compare(*pair, generator(), 0.0005)})[""].verdict is Verdict.GAIN


def test_pairs_must_match() -> None:
    with pytest.raises(ValueError, match="pairs"):
        stats.compare(np.array([]), np.array([]), generator(), 0.001)
    with pytest.raises(ValueError, match="pairs"):
        stats.compare(np.array([1.0]), np.array([1.0, 2.0]), generator(), 0.001)


def test_two_way_interval_by_hand() -> None:
    # Rows' means 1, 3; columns' 1, 2, 3; all 2. Squares: seeds 3·2 = 6 / 1, images 2·2 = 4 / 2, rest (8+…)/2.
    differences_SN = np.array([[0.0, 2.0, 1.0], [2.0, 2.0, 5.0]])
    found = stats.two_way_interval(differences_SN, 0.95)
    seeds, images, rest = 6 / 1, 4 / 2, (14 - 6 - 4) / 2
    freedom = (seeds + images - rest) ** 2 / (seeds**2 / 1 + images**2 / 2 + rest**2 / 2)
    half = scipy_stats.t.ppf(0.975, freedom) * math.sqrt((seeds + images - rest) / 6)
    assert (found.value, found.low, found.high) == pytest.approx((2, 2 - half, 2 + half))
    assert (found.seed_std, found.image_std) == pytest.approx((math.sqrt((seeds - rest) / 3), 0))
    assert found.rest_std == pytest.approx(math.sqrt(rest))


def test_two_way_interval_is_the_t_interval_of_seeds_where_images_do_not_matter() -> None:
    of_seeds_S = generator().normal(0, 1, 6)
    differences_SN = np.repeat(of_seeds_S[:, None], 50, axis=1)
    found, expected = stats.two_way_interval(differences_SN, 0.95), stats.mean_interval(of_seeds_S, 0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_crossed_bootstrap_uses_its_generator_and_comes_near_the_two_way_interval() -> None:
    draw = generator(5)
    differences_SN = 0.1 + draw.normal(0, 0.2, (30, 1)) + draw.normal(0, 1, (1, 200)) + draw.normal(0, 0.5, (30, 200))
    found = [stats.crossed_bootstrap(differences_SN, 0.95, generator(seed)) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    expected = stats.two_way_interval(differences_SN, 0.95)
    width = expected.high - expected.low
    assert found[0].value == pytest.approx(expected.value, abs=1e-6)
    assert (found[0].low, found[0].high) == pytest.approx((expected.low, expected.high), abs=0.15 * width)


def test_intervals_without_enough_rows_have_no_end() -> None:
    for found in (
        stats.two_way_interval(np.ones((1, 5)), 0.95),
        stats.two_way_interval(np.ones((5, 1)), 0.95),
        stats.crossed_bootstrap(np.ones((1, 5)), 0.95, generator()),
    ):
        assert (found.value, found.low, found.high) == (1, -math.inf, math.inf)


def test_two_way_interval_stays_on_the_safe_side_where_the_rest_outweighs_a_side() -> None:
    differences_SN = np.array([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.5, 0.5, 0.5]])  # columns' means are alike
    found = stats.two_way_interval(differences_SN, 0.95)
    expected = stats.mean_interval(differences_SN.mean(1), 0.95)  # then only the spread between seeds counts
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_the_family_has_four_members() -> None:
    pair = differences(0.003, 0.001, 20)
    with pytest.raises(ValueError, match="4 comparisons"):
        stats.judge({place: stats.compare(*pair, generator(), 0.001) for place in range(5)})


@pytest.mark.parametrize("num_seeds", [8, 20])
def test_false_claims_are_as_rare_as_promised(num_seeds: int) -> None:
    share = coverage.any_claim(num_seeds, 250)
    assert share.value <= 0.065 + 2 * share.error


def test_true_effects_are_found_and_intervals_hold_the_truth() -> None:
    assert coverage.gains(20, 0.003, 0.001, 25).value >= 0.95
    for share in (coverage.mean_coverage(8, 2000), coverage.prediction_coverage(8, 2000)):
        assert abs(share.value - 0.95) <= 3 * share.error
    assert coverage.crossed_coverage(coverage.two_way, 8, 200, 150).value >= 0.9


def test_mcnemar_by_hand() -> None:
    first_right = np.array([True] * 6 + [False] * 1 + [True] * 90)
    second_right = np.array([False] * 6 + [True] * 1 + [True] * 90)
    assert stats.mcnemar(first_right, second_right) == pytest.approx(2 * (1 + 7) / 128)
    assert stats.mcnemar(first_right, first_right) == 1


def test_holm_is_statsmodels() -> None:
    p_values = list(generator(3).uniform(0, 0.1, 6))
    assert stats.holm(p_values, 6) == pytest.approx(list(multipletests(p_values, method="holm")[1]), rel=1e-12)
    padded = multipletests([*p_values, 1.0, 1.0], method="holm")[1]
    assert stats.holm(p_values, 8) == pytest.approx(list(padded[:6]), rel=1e-12), "a missing test counts with p = 1"


def test_required_seeds_is_the_first_at_which_statsmodels_has_the_power() -> None:
    for deviation in (0.0008, 0.0021, 0.004):
        found = stats.required_seeds(deviation, 0.001, 0.0125, 0.8)
        assert found is not None
        fewer, enough = (TTestPower().power(0.001 / deviation, num, 0.0125) for num in (found - 1, found))
        assert fewer < 0.8 <= enough


def test_mcnemar_is_statsmodels() -> None:
    draw = generator(4)
    first_N, second_N = draw.random(500) < 0.95, draw.random(500) < 0.93
    table = [[np.sum(a & b) for b in (second_N, ~second_N)] for a in (first_N, ~first_N)]
    assert stats.mcnemar(first_N, second_N) == pytest.approx(mcnemar(table, exact=True).pvalue, rel=1e-9)


def test_equivalence_is_statsmodels_two_one_sided_tests() -> None:
    draw, seen = generator(5), set()
    for _ in range(50):
        differences_S = draw.normal(0.0003, 0.0012, 12)
        p_value = DescrStatsW(differences_S).ttost_mean(-0.001, 0.001)[0]
        equivalent = stats.mean_interval(differences_S, 0.9).within(0.001)
        assert equivalent == (p_value < 0.05)
        seen.add(equivalent)
    assert seen == {True, False}


@pytest.mark.parametrize(
    ("estimate", "least"), [(coverage.two_way, 0.90), (coverage.bootstrap, 0.93)], ids=["two-way", "bootstrap"]
)
def test_intervals_for_new_images_too_hold_the_truth(estimate: coverage.Estimator, least: float) -> None:
    assert coverage.crossed_coverage(estimate, 8, 500, 300).value >= least

    def half_as_wide(differences_SN: NDArray[np.int8], draw: np.random.Generator) -> stats.Estimate:
        whole = estimate(differences_SN, draw)
        return stats.Estimate(whole.value, (whole.low + whole.value) / 2, (whole.high + whole.value) / 2)

    assert coverage.crossed_coverage(half_as_wide, 8, 500, 300).value < least, "it is not wide beyond use"


def test_further_simulations_hold() -> None:
    assert abs(coverage.narrow_coverage(20, 2000).value - 0.9) < 3 * 0.0067
    # The Wilson interval of a share k of 20 holds 0.7 for k = 10 … 18: by the binomial distribution in 97.5 %.
    holding = scipy_stats.binom.cdf(18, 20, 0.7) - scipy_stats.binom.cdf(9, 20, 0.7)
    assert abs(coverage.probability_of_improvement_coverage(20, 0.7, 2000).value - holding) < 3 * 0.0035
    assert coverage.false_equivalence(20, 1000).value < 0.05 + 3 * 0.0069
    once, often = coverage.any_claim(16, 100), coverage.claim_at_any_look((8, 12, 16), 100)
    assert often.value > once.value, "who looks often claims more often"


def test_a_pooled_effect_by_hand() -> None:
    """Effects 1 and 3, standard errors 1: Q = 2, variance between = (2 − 1) / 1 = 1, weights 1/2, mean 2, spread 1."""
    found = stats.pooled_effect(np.array([1.0, 3.0]), np.array([1.0, 1.0]), 0.95)
    half = 12.7062047 * math.sqrt(1 / (1 / 2 + 1 / 2))  # t(0.975; 1)
    assert (found.value, found.high, found.low) == pytest.approx((2, 2 + half, 2 - half), abs=1e-6)
    one_sided = stats.pooled_effect(np.array([1.0, 1.5]), np.array([1.0, 0.5]), 0.95)
    assert one_sided.value == pytest.approx((1 * 1 + 4 * 1.5) / 5), "Q below 1: no variance between experiments"


@pytest.mark.parametrize(("spread", "interval"), [(3.0, 3), (1.2, 2)], ids=["different", "alike"])
def test_a_pooled_effect_is_statsmodels(spread: float, interval: int) -> None:
    """statsmodels lets the variance between experiments be negative: alike experiments are its fixed effects."""
    draw = generator(6)
    errors_K = draw.uniform(0.5, 1.5, 5)
    effects_K = draw.normal(0, spread, 5)
    expected = combine_effects(effects_K, errors_K**2, method_re="dl", use_t=True)
    assert (expected.tau2 > 0) == (spread == 3)
    found = stats.pooled_effect(effects_K, errors_K, 0.95)
    assert (found.low, found.high) == pytest.approx(tuple(expected.conf_int()[interval]), abs=1e-9)
    narrow = stats.pooled_effect(effects_K, errors_K, 0.9)
    assert (narrow.low, narrow.high) == pytest.approx(tuple(expected.conf_int(alpha=0.1)[interval]), abs=1e-9)


def test_pooling_needs_two_experiments_and_bears_one_without_spread() -> None:
    with pytest.raises(ValueError, match="two experiments"):
        stats.pooled_effect(np.array([1.0]), np.array([1.0]), 0.95)
    found = stats.pooled_effect(np.array([0.0, 2.0]), np.array([0.0, 0.0]), 0.95)
    assert found.value == pytest.approx(1)


def test_the_pooled_interval_holds_the_truth() -> None:
    for between in (0.0, 0.0005):
        assert abs(coverage.pooled_coverage(4, 20, between, 2000).value - 0.95) < 0.02
