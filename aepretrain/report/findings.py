"""Headlines, made by rule from numbers. None says more than its numbers do; only verdicts are called found."""

from collections.abc import Mapping, Sequence

import numpy as np

from aepretrain.report.numbers import signed
from aepretrain.stats import Estimate

NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def number_text(num: int) -> str:
    """``four``; a number above twelve in digits."""
    return NUMBERS[num] if num < len(NUMBERS) else f"{num:,}"


def of_text(num: int, total: int, noun: str) -> str:
    """``three of four experiments``; of one, ``the one experiment`` or ``none``."""
    if total == 1:
        return f"the one {noun}" if num else "none"
    return f"{number_text(num)} of {number_text(total)} {noun}s"


def range_text(values: Sequence[float], digits: int = 1) -> str:
    """``0.8 to 3.1``: the smallest and the largest, once where they are written alike."""
    ends = [f"{round(round(one, digits + 6), digits) + 0.0:.{digits}f}" for one in (min(values), max(values))]
    return " to ".join(dict.fromkeys(ends))


def described(
    differences: Mapping[str, Estimate], first: str, second: str, noun: str = "experiment", total: int | None = None
) -> str:
    """First minus second over experiments: ``frozen codes are worse than raw pixels by 1.2 to 6.5 points``.

    On one side are the differences whose 95 % interval lies there. The text is about means and gives no verdict. It
    says how many of all experiments it is about, `total` or those given, where not all have an interval. Empty where
    none has one.
    """
    known = [one for one in differences.values() if np.isfinite(one.low)]
    if not known:
        return ""
    num_all = total or len(differences)
    among = f" in {of_text(len(known), num_all, noun)}" if len(known) < num_all else ""
    above, below = sum(one.low > 0 for one in known), sum(one.high < 0 for one in known)
    points = [100 * one.value for one in known]
    digits = 1 if min(map(abs, points)) >= 0.1 and max(map(abs, points)) >= 1 else 2
    if len(known) in (above, below):
        which = "better" if above else "worse"
        return f"{first} are {which} than {second} by {range_text([abs(one) for one in points], digits)} points{among}"
    where = f"differences from {signed(min(points), digits)} to {signed(max(points), digits)} points{among}"
    if above == below == 0:
        return f"whether {first} are better or worse than {second} is open: {where}"
    return (
        f"{first} are better than {second} in {of_text(above, len(known), noun)}, and worse in {number_text(below)}, "
        f"by unadjusted intervals: {where}"
    )


def headline(text: str) -> str:
    """A text with a capital letter at its start, and the others as they are."""
    return text[:1].upper() + text[1:]


def counted(num: int, total: int, noun: str = "experiment") -> str:
    """``all four experiments``, ``three of four experiments``, ``none of four experiments``."""
    if num == total:
        return {1: f"the one {noun}", 2: f"both {noun}s"}.get(total, f"all {number_text(total)} {noun}s")
    return of_text(num, total, noun)
