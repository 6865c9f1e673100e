"""How often the statistics are right, by simulation, as tables in Markdown.

    python -m benchmarks.simulations --write

`--write` puts the tables into docs/statistics.md. The states of all generators are fixed, so the same figures come out
again.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks import coverage, error_rates
from benchmarks.error_rates import Share

PAGE = Path(__file__).parents[1] / "docs" / "statistics.md"
BEGIN, END = "<!-- simulations: python -m benchmarks.simulations --write -->\n", "<!-- end of simulations -->\n"

MANY, FEW, FEWEST = 10_000, 2_000, 400

Row = tuple[str, str, int, Callable[[int], Share]]
"""What is simulated, what it should be, the number of simulations, and the simulation."""

PowerRow = tuple[int, int, float, float, int]
"""Seeds, tests in the family, standard deviation of the differences, true effect, number of simulations."""


def verdict_rows() -> Iterator[Row]:
    """Wrong verdicts."""
    for seeds, std, num in (
        ([8] * 4, 0.004, FEW),
        ([20, 20, 10, 10], 0.004, FEW),
        ([20, 20, 10, 10], 0.0018, FEW),
        ([40, 40, 20, 20], 0.004, 2 * FEWEST),
        ([20] * 9, 0.004, FEW // 2),
        ([10] * 9, 0.004, FEW // 2),
    ):
        what = f"difference found in any of {len(seeds)} tests, no true difference, deviation {std:g}, {_seeds(seeds)}"
        yield what, "at most 5 %", num, partial(error_rates.false_difference, seeds, std)
    looks = (8, 12, 16, 20)
    yield (
        f"the same of 4 tests at any of the looks at {', '.join(map(str, looks))} seeds, deviation 0.004",
        "more than for one look",
        FEW,
        partial(error_rates.false_difference_at_any_look, looks),
    )
    for size in (8, 10, 20, 40):
        what = f"equivalent or negligible, true difference ±0.001, deviation 0.002, {size} seeds"
        yield what, "at most 5 %", MANY, partial(error_rates.false_equivalence, size)
    for size in (8, 10, 20, 40):
        what = f"size settled as beyond ±0.001, true difference ±0.001, deviation 0.002, {size} seeds"
        yield what, "at most 5 %", MANY, partial(error_rates.false_size, size)


def _seeds(seeds: list[int]) -> str:
    return f"{' and '.join(map(str, dict.fromkeys(seeds)))} seeds"


def coverage_rows() -> Iterator[Row]:
    """Intervals that hold the truth."""
    for size in (8, 10, 20, 40):
        what = f"t interval of the mean difference, {size} seeds"
        yield what, "95 %", MANY, partial(coverage.mean_coverage, size)
    for size in (8, 10, 20, 40):
        what = f"90 % t interval, which the verdict uses, {size} seeds"
        yield what, "90 %", MANY, partial(coverage.narrow_coverage, size)
    for size in (8, 20, 40):
        what = f"prediction interval of one run, {size} seeds"
        yield what, "95 %", MANY, partial(coverage.prediction_coverage, size)
    yield from pooled_rows()
    yield from probability_rows()
    for size in (8, 20):
        yield (
            f"two-way interval, {size} seeds × 2,000 images",
            "95 %",
            FEWEST,
            partial(coverage.crossed_coverage, coverage.two_way, size, 2000),
        )
        yield (
            f"crossed bootstrap, {size} seeds × 2,000 images",
            "95 % or more",
            FEWEST,
            partial(coverage.crossed_coverage, coverage.bootstrap, size, 2000),
        )
    yield (
        "two-way interval, 20 seeds × 10,000 images",
        "95 %",
        FEWEST // 2,
        partial(coverage.crossed_coverage, coverage.two_way, 20, 10_000),
    )


def pooled_rows() -> Iterator[Row]:
    """The pooled interval."""
    for size in (2, 4, 8):
        for between in (0.0, 0.0005, 0.002):
            what = f"pooled over {size} groups of 20 and 10 seeds, deviation between groups {between:g}"
            yield what, "95 %", MANY // 2, partial(coverage.pooled_coverage, size, between)


def probability_rows() -> Iterator[Row]:
    """Intervals of the probability of improvement."""
    for size in (10, 20, 40):
        for probability in (0.5, 0.7, 0.95):
            what = f"probability of improvement {probability}, {size} seeds, correlation 0"
            yield what, "95 %", MANY // 2, partial(coverage.probability_coverage, size, probability, 0.0)
    yield (
        "probability of improvement 0.7, 20 seeds, correlation 0.5",
        "95 % or more",
        MANY // 2,
        partial(coverage.probability_coverage, 20, 0.7, 0.5),
    )
    for size in (8, 20, 40):
        what = f"the same within a seed (Wilson), 0.7, {size} seeds"
        yield what, "95 %", MANY, partial(coverage.paired_probability_coverage, size, 0.7)


def power_rows() -> list[PowerRow]:
    """A plan's seeds (fc 20, conv 10; in the source's grid 40 and 20) with effects that are plausible."""
    of_grid = [(size, 4, 0.0018, effect) for size in (10, 20, 40) for effect in (0.001, 0.002, 0.005)]
    of_map = [
        (size, 9, std, effect)
        for size in (10, 20)
        for std, effects in ((0.0018, (0.002, 0.005)), (0.008, (0.01, 0.02)))
        for effect in effects
    ]
    return [(*case, FEWEST if case[0] == 40 else FEW) for case in of_grid + of_map]


def tables(scale: float) -> Iterator[str]:
    """The lines of the three tables, with a share of the simulations."""
    for heading, rows in {"Wrong verdicts": verdict_rows(), "Intervals": coverage_rows()}.items():
        yield f"**{heading}**\n"
        yield "| what | should be | is, ± its Monte-Carlo standard error | simulations |\n| --- | --- | --- | --- |"
        for what, wanted, num, simulate in rows:
            share = simulate(round(num * scale))
            yield f"| {what} | {wanted} | {share} | {share.num:,} |"
        yield ""
    yield "**Power**: how often a true effect is called better, and how often with a settled size\n"
    yield "| seeds | tests in the family | deviation | true effect | better | size settled | simulations |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for size, num_tests, std, effect, num in power_rows():
        found, settled = error_rates.power(size, num_tests, effect, std, round(num * scale))
        yield f"| {size} | {num_tests} | {std:g} | {effect:g} | {found} | {settled} | {found.num:,} |"


def main() -> None:
    """Simulate, print the tables and, if wanted, put them into the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="Share of the simulations to run.")
    parser.add_argument("--write", action="store_true", help="Put the tables into docs/statistics.md.")
    given = parser.parse_args()
    lines = []
    for line in tables(given.scale):
        print(line, flush=True)
        lines.append(line)
    if given.write:
        before, begin, rest = PAGE.read_text().partition(BEGIN)
        _, end, after = rest.partition(END)
        PAGE.write_text(before + begin + "\n" + "\n".join(lines) + "\n\n" + end + after)


if __name__ == "__main__":
    main()
