"""Estimates against values worked out by hand, against SciPy and statsmodels, and against what simulation says."""

import itertools
import math
from collections.abc import Callable

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
from aepretrain.stats import Kind
from benchmarks import coverage, error_rates, simulations


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


def test_paired_probability_of_improvement_is_scipys_wilson_interval_and_counts_ties_half() -> None:
    found = stats.paired_probability_of_improvement(np.array([1.0, 2.0, -1.0, 3.0, 1.0]), 0.95)
    expected = scipy_stats.binomtest(4, 5).proportion_ci(0.95, method="wilson")
    assert (found.value, found.low, found.high) == pytest.approx((0.8, expected.low, expected.high), abs=1e-12)
    assert stats.paired_probability_of_improvement(np.array([1.0, -1.0, 0.0, 0.0]), 0.95).value == 0.5


def test_probability_of_improvement_is_mann_whitneys_u_by_the_number_of_pairs() -> None:
    first_F, second_S = generator(7).integers(0, 8, 15) / 10, generator(8).integers(0, 8, 9) / 10
    found = stats.probability_of_improvement(first_F, second_S, 0.95)
    assert found.value == pytest.approx(scipy_stats.mannwhitneyu(first_F, second_S).statistic / (15 * 9), abs=1e-12)
    turned = stats.probability_of_improvement(second_S, first_F, 0.95)
    assert (turned.value, turned.low, turned.high) == pytest.approx((1 - found.value, 1 - found.high, 1 - found.low))


def test_interval_of_the_probability_of_improvement_by_hand() -> None:
    """One run each: the share of pairs is one trial, and the interval Wilson's."""
    found = stats.probability_of_improvement(np.array([1.0]), np.array([0.0]), 0.95)
    expected = scipy_stats.binomtest(1, 1).proportion_ci(0.95, method="wilson")
    assert (found.value, found.low, found.high) == pytest.approx((1, expected.low, 1), abs=1e-9)
    # At the ends of the interval, the share is z standard errors away; Hanley and McNeil's error for 6 runs each.
    found = stats.probability_of_improvement(
        np.array([1.0, 2, 3, 4, 5, 7]), np.array([0.5, 1.5, 2.5, 3.5, 4.5, 6]), 0.9
    )
    for end in (found.low, found.high):
        first, second = end / (2 - end) - end**2, 2 * end**2 / (1 + end) - end**2
        variance = (end * (1 - end) + 5 * first + 5 * second) / 36
        assert abs(found.value - end) == pytest.approx(1.6448536 * math.sqrt(variance), abs=1e-6)
    assert math.isnan(stats.probability_of_improvement(np.array([]), np.array([1.0]), 0.95).value)


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
    found = stats.compare(first_S, second_S, generator())
    # Differences: 0.01, 0.03 and 0.02 up, 0.01 down; mean 0.0125, squares about it 0.000875.
    assert found.num_seeds == 4
    assert found.difference.value == pytest.approx(0.0125)
    assert found.std == pytest.approx(math.sqrt(0.000875 / 3))
    assert found.paired_probability_of_improvement.value == 3 / 4
    assert found.probability_of_improvement.value == (3.5 + 2.5 + 4 + 3.5) / 16
    assert found.second_std == pytest.approx(np.std(second_S, ddof=1))
    assert found.relative_error_reduction == pytest.approx(1 - 0.02 / 0.0325)
    assert found.p_value == 6 / 16, "as far from 0 are ±0.05, in two ways each, and ±0.07"


def judged(differences_S: NDArray[np.float64], effect: float = 0.001, num_tests: int = 4) -> stats.Verdict:
    """The verdict of one member of a family."""
    return stats.family_verdicts({"": differences_S}, lambda _: generator(), effect, num_tests=num_tests)[""]


@pytest.mark.parametrize(("num_tests", "expected"), [(4, 15), (8, 17)])
def test_seeds_needed_are_those_of_the_family(num_tests: int, expected: int) -> None:
    assert judged(differences(0.0, 0.001, 20), num_tests=num_tests).num_seeds_needed == expected
    fewer, enough = (TTestPower().power(1.0, num, 0.05 / num_tests) for num in (expected - 1, expected))
    assert fewer < 0.8 <= enough
    narrow = judged(differences(0.0, 0.0001, 20), num_tests=num_tests)
    assert narrow.num_seeds_needed == {4: 8, 8: 9}[num_tests], "else no verdict"
    assert judged(np.zeros(1)).num_seeds_needed is None


@pytest.mark.parametrize(("num_tests", "fewest"), [(1, 6), (2, 7), (4, 8), (8, 9), (18, 10), (26, 11)])
def test_fewest_seeds_are_those_at_which_one_sign_is_enough(num_tests: int, fewest: int) -> None:
    assert stats.fewest_seeds(num_tests) == fewest
    one_sign = [judged(np.full(num, 0.01), num_tests=num_tests) for num in (fewest - 1, fewest)]
    assert [one.kind for one in one_sign] == [Kind.NONE, Kind.BETTER]
    assert one_sign[0].min_seeds == fewest
    assert one_sign[0].adjusted_p >= 0.05 > one_sign[1].adjusted_p, "no sooner than the test allows"


def test_a_family_too_large_for_the_random_flips_is_refused() -> None:
    assert stats.fewest_seeds(5_000) < 20
    with pytest.raises(ValueError, match="6000 tests is too large"):
        stats.fewest_seeds(6_000)


def test_holm_by_hand() -> None:
    assert stats.holm([0.01, 0.04, 0.03, 0.005], 4) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.01, 0.04], 4) == pytest.approx([0.04, 0.12])  # two that are missing count with p = 1
    assert stats.holm([0.4, 0.5], 4) == [1, 1]
    assert stats.holm([], 4) == []


def differences(mean: float, deviation: float, num: int) -> NDArray[np.float64]:
    """Differences with exactly this mean and deviation."""
    return mean + deviation * np.resize([1.0, -1.0], num) / math.sqrt(num / (num - 1))


@pytest.mark.parametrize(
    ("mean", "deviation", "num", "kind", "direction", "is_settled"),
    [
        (0.003, 0.001, 20, Kind.BETTER, 1, True),
        (-0.003, 0.001, 20, Kind.WORSE, -1, True),
        (0.0012, 0.001, 20, Kind.BETTER, 1, False),
        (-0.0009, 0.001, 20, Kind.WORSE, -1, False),
        (0.0004, 0.0002, 20, Kind.NEGLIGIBLE, 1, True),
        (-0.0004, 0.0002, 20, Kind.NEGLIGIBLE, -1, True),
        (0.0, 0.0005, 20, Kind.EQUIVALENT, 0, True),
        (0.0005, 0.003, 20, Kind.UNDECIDED, 0, False),
        (0.003, 0.0001, 7, Kind.NONE, 0, False),
        (0.003, 0.0001, 8, Kind.BETTER, 1, True),
    ],
)
def test_verdict_rule(mean: float, deviation: float, num: int, kind: Kind, direction: int, is_settled: bool) -> None:
    found = judged(differences(mean, deviation, num))
    assert (found.kind, found.direction, found.size_settled) == (kind, direction, is_settled)
    assert found.difference.value == pytest.approx(mean, abs=deviation / 7), "with 7 seeds one is left over"
    assert (found.num_seeds, found.min_seeds) == (num, 8)
    assert found.words == f"{kind}{', size unsettled' if direction and not is_settled else ''}"


def test_what_the_test_does_not_find_is_undecided_even_where_the_interval_lies_beyond() -> None:
    """Of 18 tests, 10 seeds with one of the other sign cannot pass Holm's first step."""
    one_other_S = np.array([0.005] * 9 + [-0.0001])
    found = judged(one_other_S, num_tests=18)
    assert found.narrow.beyond(0.001)
    assert (found.kind, found.size_settled, found.words) == (Kind.UNDECIDED, False, "undecided")
    assert judged(one_other_S, num_tests=4).words == "better"


def test_the_smallest_effect_and_the_level_are_options() -> None:
    differences_S = differences(0.0008, 0.0002, 20)
    assert judged(differences_S).kind is Kind.NEGLIGIBLE
    assert judged(differences_S, 0.0005).kind is Kind.BETTER
    strict = stats.family_verdicts({"": differences_S}, lambda _: generator(), 0.001, alpha=1e-4)[""]
    assert (strict.kind, strict.min_seeds) == (Kind.NEGLIGIBLE, 15)


def test_members_of_a_family_may_have_effects_of_their_own() -> None:
    members = {"small": differences(0.0008, 0.0002, 20), "large": differences(0.0008, 0.0002, 20)}
    found = stats.family_verdicts(members, lambda _: generator(), {"small": 0.0005, "large": 0.001})
    assert (found["small"].kind, found["large"].kind) == (Kind.BETTER, Kind.NEGLIGIBLE)
    assert found["small"].adjusted_p == found["large"].adjusted_p


@pytest.mark.parametrize(("num", "alpha"), [(2, 0.05), (6, 0.05), (8, 0.0125), (20, 0.05), (40, 0.001)])
def test_the_effect_that_seeds_find_is_that_of_statsmodels(num: int, alpha: float) -> None:
    found = stats.detectable_effect(0.004, num, alpha, 0.8)
    expected = TTestPower().solve_power(nobs=num, alpha=alpha, power=0.8)
    assert found == pytest.approx(0.004 * float(expected), rel=1e-4)
    assert stats.required_seeds(0.004, found * 1.0001, alpha, 0.8) == num
    assert math.isnan(stats.detectable_effect(math.nan, num, alpha, 0.8))


def test_the_images_that_would_be_enough_by_hand() -> None:
    parts = stats.CrossedInterval(0.0, -1.0, 1.0, seed_std=0.003, image_std=0.2, rest_std=0.4)
    assert stats.required_images(parts, 0.005) == 10_000, "0.4² / (0.005² − 0.003²)"
    assert stats.required_images(parts, 0.003) == math.inf, "trainings alone vary as much"


def test_the_variance_over_seeds_is_that_of_its_parts() -> None:
    """Simulated differences: 0.01 between trainings, and a rest of 0.5 on 400 images, so 0.025 from images."""
    draw = generator()
    seeds_S, rest_SN = draw.normal(0, 0.01, (2_000, 1)), draw.normal(0, 0.5, (2_000, 400))
    spread = float(np.std((seeds_S + rest_SN).mean(1), ddof=1))
    assert spread == pytest.approx(math.hypot(0.01, 0.025), rel=0.05)
    parts = stats.two_way_interval(seeds_S + rest_SN, 0.95)
    assert stats.required_images(parts, spread) == pytest.approx(400, rel=0.02)
    assert stats.required_images(parts, 0.02) == pytest.approx(0.5**2 / (0.02**2 - 0.01**2), rel=0.1)


def test_a_member_without_seeds_has_no_verdict_and_counts() -> None:
    found = stats.family_verdicts(
        {"none": np.array([]), "some": differences(0.003, 0.001, 20)}, lambda _: generator(), 0.001
    )
    assert (found["none"].kind, found["none"].p_value) == (Kind.NONE, 1)
    assert found["some"].adjusted_p == pytest.approx(2 * found["some"].p_value)
    assert stats.family_verdicts({}, lambda _: generator(), 0.001) == {}


def test_pairs_must_match() -> None:
    with pytest.raises(ValueError, match="pairs"):
        stats.compare(np.array([]), np.array([]), generator())
    with pytest.raises(ValueError, match="pairs"):
        stats.compare(np.array([1.0]), np.array([1.0, 2.0]), generator())


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


def test_a_family_has_no_more_members_than_tests() -> None:
    members = {place: stats.paired_difference(differences(0.003, 0.001, 20), generator()) for place in range(5)}
    with pytest.raises(ValueError, match="4 tests, not 5"):
        stats.judge(members, 0.001, num_tests=4)


@pytest.mark.parametrize(("num_seeds", "num"), [([8] * 4, 500), ([20, 20, 10, 10], 500), ([10] * 18, 150)])
def test_false_differences_are_as_rare_as_promised(num_seeds: list[int], num: int) -> None:
    share = error_rates.false_difference(num_seeds, 0.004, num)
    assert share.value <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / num)


@pytest.mark.parametrize("wrong", [error_rates.false_equivalence, error_rates.false_size])
@pytest.mark.parametrize("num_seeds", [8, 20])
def test_false_sizes_are_as_rare_as_promised(wrong: Callable[[int, int], error_rates.Share], num_seeds: int) -> None:
    assert wrong(num_seeds, 2000).value <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


def test_power_is_that_of_the_paired_t_test_but_for_the_family_and_few_seeds() -> None:
    """The sign-flip test has nearly the power of the t-test, of which statsmodels knows the power."""
    (found, settled) = error_rates.power(20, 4, 0.0015, 0.0018, 400)
    expected = TTestPower().power(0.0015 / 0.0018, 20, 0.05 / 4)
    assert abs(found.value - expected) < 0.03 + 3 * found.error
    assert settled.times < found.times
    assert error_rates.power(20, 18, 0.005, 0.0018, 50)[1].value == 1


def test_intervals_hold_the_truth() -> None:
    for share in (coverage.mean_coverage(8, 2000), coverage.prediction_coverage(8, 2000)):
        assert abs(share.value - 0.95) <= 3 * share.error
    assert coverage.crossed_coverage(coverage.two_way, 8, 200, 150).value >= 0.9


def test_the_page_of_statistics_has_the_tables_of_the_script() -> None:
    _, begin, rest = simulations.PAGE.read_text().partition(simulations.BEGIN)
    table, end, _ = rest.partition(simulations.END)
    assert begin
    assert end
    written = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")]
    rows = [*simulations.verdict_rows(), *simulations.coverage_rows()]
    names = [(f"| {what}", wanted, f"{num:,} |") for what, wanted, num, _ in rows]
    assert names == [(row[0], row[1], row[3]) for row in written if len(row) == 4 and "%" in row[2]]
    cases = [
        (f"| {size}", f"{tests}", f"{std:g}", f"{effect:g}") for size, tests, std, effect, _ in simulations.power_rows()
    ]
    assert cases == [tuple(row[:4]) for row in written if len(row) == 7 and "%" in row[4]]


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
    assert abs(coverage.paired_probability_coverage(20, 0.7, 2000).value - holding) < 3 * 0.0035
    for probability in (0.5, 0.95):
        assert coverage.probability_coverage(20, probability, 0.0, 1000).value > 0.95 - 3 * 0.0069
    once, often = (
        error_rates.false_difference([16] * 4, 0.004, 200),
        error_rates.false_difference_at_any_look((8, 12, 16), 200),
    )
    assert often.value > once.value, "who looks often claims more often"


def test_a_pooled_effect_by_hand() -> None:
    """Effects 1 and 3, standard errors 1: Q = 2, variance between = (2 − 1) / 1 = 1, weights 1/2, mean 2, spread 1."""
    found = stats.pooled_effect(np.array([1.0, 3.0]), np.array([1.0, 1.0]), 0.95)
    half = 12.7062047 * math.sqrt(1 / (1 / 2 + 1 / 2))  # t(0.975; 1)
    assert (found.value, found.high, found.low) == pytest.approx((2, 2 + half, 2 - half), abs=1e-6)
    assert found.num_groups == 2
    assert (found.between_variance, found.heterogeneity) == pytest.approx((1, 1 / 2))
    alike = stats.pooled_effect(np.array([1.0, 1.5]), np.array([1.0, 0.5]), 0.95)
    assert alike.value == pytest.approx((1 * 1 + 4 * 1.5) / 5), "Q below 1: no variance between experiments"
    assert (alike.between_variance, alike.heterogeneity) == (0, 0)


@pytest.mark.parametrize(("spread", "interval"), [(3.0, 3), (1.2, 2)], ids=["different", "alike"])
def test_a_pooled_effect_is_statsmodels(spread: float, interval: int) -> None:
    """statsmodels lets the variance between experiments be negative: alike experiments are its fixed effects."""
    draw = generator(6)
    errors_K = draw.uniform(0.5, 1.5, 5)
    effects_K = draw.normal(0, spread, 5)
    expected = combine_effects(effects_K, errors_K**2, method_re="dl", use_t=True)
    assert (expected.tau2 > 0) == (spread == 3)
    found = stats.pooled_effect(effects_K, errors_K, 0.95)
    assert found.between_variance == pytest.approx(max(expected.tau2, 0), rel=1e-9)
    assert found.heterogeneity == pytest.approx(max(1 - 4 / expected.q, 0), rel=1e-9)
    assert (found.low, found.high) == pytest.approx(tuple(expected.conf_int()[interval]), abs=1e-9)
    narrow = stats.pooled_effect(effects_K, errors_K, 0.9)
    assert (narrow.low, narrow.high) == pytest.approx(tuple(expected.conf_int(alpha=0.1)[interval]), abs=1e-9)


def test_one_group_says_nothing_of_other_groups() -> None:
    found = stats.pooled_effect(np.array([1.0]), np.array([0.5]), 0.95)
    assert (found.value, found.low, found.high, found.num_groups) == (1, -math.inf, math.inf, 1)
    assert math.isnan(found.between_variance)
    assert math.isnan(found.heterogeneity)


def test_groups_count_alike_where_one_has_no_spread() -> None:
    effects_G = np.array([0.0, 2.0, 2.5])
    expected = stats.mean_interval(effects_G, 0.95)
    for errors_G in (np.zeros(3), np.array([0.0, 1.0, 0.1])):
        found = stats.pooled_effect(effects_G, errors_G, 0.95)
        assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))
        spread = np.var(effects_G, ddof=1) - np.mean(errors_G**2)
        assert found.between_variance == pytest.approx(spread), "the method of moments with equal weights"
    same = stats.pooled_effect(np.ones(2), np.zeros(2), 0.95)
    assert (same.low, same.high, same.between_variance, same.heterogeneity) == (1, 1, 0, 0)


@pytest.mark.parametrize(
    ("effects", "errors"), [([], []), ([1.0], [1.0, 2.0]), ([1.0, math.nan], [1.0, 1.0]), ([1.0, 2.0], [1.0, -1.0])]
)
def test_what_cannot_be_pooled_is_refused(effects: list[float], errors: list[float]) -> None:
    with pytest.raises(ValueError, match="standard errors"):
        stats.pooled_effect(np.array(effects), np.array(errors), 0.95)


@pytest.mark.parametrize("num_groups", [2, 4, 8])
def test_the_pooled_interval_holds_the_truth(num_groups: int) -> None:
    for between in (0.0, 0.002):
        share = coverage.pooled_coverage(num_groups, between, 1000)
        assert abs(share.value - 0.95) < 0.02 + 3 * 0.0069, "the method is approximate"


def test_a_family_recomputed_with_scipy_and_statsmodels() -> None:
    """Everything in the verdicts of four experiments by other code: p-values, Holm, intervals, kinds, pooled."""
    draw = generator(11)
    cases = {"a": (0.003, 20), "b": (0.0, 20), "c": (-0.0012, 10), "d": (0.0003, 10)}
    family = {name: np.round(draw.normal(mean, 0.0012, num), 4) for name, (mean, num) in cases.items()}
    found = stats.family_verdicts(family, lambda _: generator(), 0.001)
    p_values = [_sign_flip_of_scipy(one_S) for one_S in family.values()]
    assert [one.p_value for one in found.values()] == pytest.approx(p_values, abs=2e-3)
    is_found, adjusted, *_ = multipletests([one.p_value for one in found.values()], 0.05, method="holm")
    assert [one.adjusted_p for one in found.values()] == pytest.approx(list(adjusted), rel=1e-12)
    for one_S, verdict, detected in zip(family.values(), found.values(), is_found, strict=True):
        described = DescrStatsW(one_S)
        assert (verdict.difference.low, verdict.difference.high) == pytest.approx(described.tconfint_mean(0.05))
        low, high = described.tconfint_mean(0.10)
        assert (verdict.narrow.low, verdict.narrow.high) == pytest.approx((low, high))
        inside, outside = low > -0.001 and high < 0.001, low > 0.001 or high < -0.001
        side = "better" if one_S.mean() > 0 else "worse"
        of_found = "different, but negligibly" if inside else side if outside else f"{side}, size unsettled"
        assert verdict.words == (of_found if detected else "equivalent" if inside else "undecided")
    means_G, errors_G = (np.array([f(one) for one in family.values()]) for f in (np.mean, scipy_stats.sem))
    expected = combine_effects(means_G, errors_G**2, method_re="dl", use_t=True)
    pooled = stats.pooled_effect(means_G, errors_G, 0.95)
    assert expected.tau2 > 0
    assert (pooled.low, pooled.high) == pytest.approx(tuple(expected.conf_int()[3]), rel=1e-9)


def _sign_flip_of_scipy(differences_S: NDArray[np.float64]) -> float:
    whole_S = np.round(differences_S * 10_000)  # whole test images: sums are exact
    done = scipy_stats.permutation_test(
        (whole_S, np.zeros_like(whole_S)),
        lambda first, second, axis: np.sum(first - second, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=1 << 16,
        rng=generator(12),
    )
    return float(done.pvalue)


def test_seeds_without_any_spread_need_no_further_images() -> None:
    # Two seeds on a small set of test images often differ by the same number of images, or by none.
    verdict = stats.family_verdicts({"a": np.full(2, 0.25)}, lambda _: np.random.default_rng(0), 0.001)["a"]
    parts = stats.CrossedInterval(0.0, -1.0, 1.0, seed_std=0.0, image_std=0.2, rest_std=0.4)
    assert verdict.detectable_effect == 0
    assert verdict.num_images_needed(parts) == 0
