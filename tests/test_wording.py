"""A verdict in plain words: singular, plural, nothing, and no more than the verdict says."""

import math

import numpy as np
import pytest

from aepretrain import stats
from aepretrain.report.wording import plain_words
from aepretrain.stats import Kind, Verdict


def verdict_of(mean: float, deviation: float, num: int = 20) -> Verdict:
    differences_S = mean + deviation * np.resize([1.0, -1.0], num)
    return stats.family_verdicts({"": differences_S}, lambda _: np.random.default_rng(0), 0.001)[""]


@pytest.mark.parametrize(
    ("mean", "deviation", "text"),
    [
        (-0.0025, 0.001, "Of 10,000 digits, about 25 fewer are read correctly; luck alone"),
        (+0.0025, 0.001, "Of 10,000 digits, about 25 more are read correctly; luck alone"),
        (-0.0009, 0.001, "Of 10,000 digits, about 9 fewer are read correctly, perhaps too few to matter; luck alone"),
        (+0.0004, 0.0001, "Of 10,000 digits, about 4 more are read correctly, too few to matter; luck alone"),
        (-0.0001, 0.00001, "Of 10,000 digits, about 1 fewer is read correctly, too few to matter; luck alone"),
        (0.00002, 0.00001, "Of 10,000 digits, slightly more are read correctly, too few to matter; luck alone"),
        (0.0, 0.0001, "Of 10,000 digits, about as many are read correctly; luck alone"),
        (-0.002, 0.01, "Of 10,000 digits, it is not known whether more or fewer are read correctly; luck alone"),
    ],
)
def test_each_verdict_in_plain_words(mean: float, deviation: float, text: str) -> None:
    said = plain_words(verdict_of(mean, deviation), 10_000, 0.0017, "digit")
    assert said == f"{text} moves a single run by about 17."


def test_only_what_was_found_is_called_more_or_fewer() -> None:
    for mean in np.linspace(-0.003, 0.003, 13):
        for deviation in (0.0001, 0.001, 0.004):
            verdict = verdict_of(mean, deviation)
            said = plain_words(verdict, 10_000, 0.0017)
            named = "more are" in said or "fewer are" in said
            assert ("slightly" in said or "about" in said.partition(";")[0]) == (verdict.kind is not Kind.UNDECIDED)
            if verdict.kind is Kind.EQUIVALENT:
                assert "as many are" in said
            elif verdict.direction:
                assert named
                assert ("fewer are" in said) == (verdict.direction < 0)


def test_too_few_runs_say_nothing() -> None:
    assert plain_words(verdict_of(0.003, 0.0001, 5), 10_000, 0.0017).startswith(
        "Of 10,000 images, it is not known whether more or fewer are read correctly, because there are too few runs; "
    )


@pytest.mark.parametrize(
    ("num_images", "std", "text"),
    [
        (1, 0.0017, "Of 1 image, about as many are read correctly; luck alone moves a single run by less than 1."),
        (360, 0.003, "Of 360 images, about as many are read correctly; luck alone moves a single run by about 1."),
        (360, 0.0, "Of 360 images, about as many are read correctly; luck alone moves a single run by less than 1."),
        (360, math.nan, "Of 360 images, about as many are read correctly."),
    ],
)
def test_small_numbers_of_images(num_images: int, std: float, text: str) -> None:
    assert plain_words(verdict_of(0.0, 0.0001), num_images, std) == text
