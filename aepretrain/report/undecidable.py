"""Where the data cannot decide, and what could: more seeds, more test images, or a larger smallest effect."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from aepretrain.report.table import Row, Table, table_of
from aepretrain.stats import CrossedInterval, Kind, Verdict

MANY_SEEDS = 1_000
"""If more seeds than this are needed to find the smallest effect, the data cannot decide.

They are needed where the standard deviation over seeds is about nine times the smallest effect. Published studies of
many seeds have about a hundred (McCoy et al. 2020); a larger effect or more test images then cost less than seeds.
"""

TITLE = "Where the data cannot decide, and what could"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Undecidable:
    """An undecided comparison that these data cannot decide."""

    cell: Row
    """What is compared, by the headings of the table."""
    verdict: Verdict
    num_images: int | None
    """The number of test images; None where it is unknown."""
    parts: CrossedInterval | None = None
    """How much of the spread over seeds is due to the number of test images; None where it is unknown."""

    @property
    def effect_in_images(self) -> float | None:
        """The smallest effect as a number of test images."""
        return None if self.num_images is None else _in_images(self.verdict, self.num_images)

    @property
    def num_images_needed(self) -> float | None:
        """The number of test images with which these seeds find the smallest effect: infinite where none is enough.

        Without `parts` it is the least number, of which the smallest effect is one image.
        """
        least = math.ceil(round(1 / self.verdict.smallest_effect, 6))
        if self.parts is None or math.isnan(self.parts.seed_std):
            return least if self.num_images is not None and least > self.num_images else None
        return max(least, self.verdict.num_images_needed(self.parts))


def cannot_decide(verdict: Verdict, num_images: int | None) -> bool:
    """Whether a comparison is undecided, and its smallest effect is below one test image or needs too many seeds."""
    if verdict.kind not in (Kind.UNDECIDED, Kind.NONE) or math.isnan(verdict.smallest_effect):
        return False
    return _is_below_one_image(verdict, num_images) or needs_many_seeds(verdict)


def _in_images(verdict: Verdict, num_images: int) -> float:
    return round(verdict.smallest_effect * num_images, 6)


def _is_below_one_image(verdict: Verdict, num_images: int | None) -> bool:
    return num_images is not None and _in_images(verdict, num_images) < 1


def needs_many_seeds(verdict: Verdict) -> bool:
    """Whether more than `MANY_SEEDS` would be needed to find the smallest effect."""
    if math.isnan(verdict.std):
        return False
    return verdict.num_seeds_needed is None or verdict.num_seeds_needed > MANY_SEEDS


def undecidable_text(found: Sequence[Undecidable], num: int, noun: str) -> str:
    """In which of `num` experiments or tests (the `noun`) the data cannot decide, and what could; empty for none."""
    if not found:
        return ""
    which = f"In {len(found)} of {num} {noun}s" if num > 1 else f"In the one {noun}"
    few = {one.num_images: one.verdict for one in found if _is_below_one_image(one.verdict, one.num_images)}
    sentences = [_below_one_image(num_images, verdict) for num_images, verdict in few.items() if num_images]
    many = [one.verdict for one in found if needs_many_seeds(one.verdict)]
    return " ".join([f"{which} the data cannot decide.", *sentences, *([_many_seeds(many)] if many else [])])


def _below_one_image(num_images: int, verdict: Verdict) -> str:
    effect = verdict.smallest_effect
    return (
        f"The smallest effect, {100 * effect:.3g} points, is less than one of {num_images:,} test images: at least "
        f"{math.ceil(round(1 / effect, 6)):,} test images are needed, or a smallest effect of one image "
        f"({100 / num_images:.3g} points) or more."
    )


def _many_seeds(verdicts: Sequence[Verdict]) -> str:
    effects = _range([f"{100 * one:.3g}" for one in sorted({one.smallest_effect for one in verdicts})])
    needed = sorted(verdicts, key=lambda one: one.num_seeds_needed or math.inf)
    found = sorted(one.detectable_effect for one in verdicts)
    return (
        f"To find {effects} points, {_range([seeds_text(one) for one in needed])} seeds are needed at the observed "
        f"spread over seeds. The seeds that are there find {_range([f'{100 * one:.3g}' for one in found])} points."
    )


def _range(texts: Sequence[str]) -> str:
    """``0.1``, or ``0.1 to 2.5``: the first and the last."""
    return " to ".join(dict.fromkeys([texts[0], texts[-1]]))


def seeds_text(verdict: Verdict) -> str:
    """The number of seeds that find the smallest effect."""
    if math.isnan(verdict.std):
        return UNKNOWN
    return "more than a million" if verdict.num_seeds_needed is None else f"{verdict.num_seeds_needed:,}"


def undecidable_tables(found: Sequence[Undecidable]) -> list[Table]:
    """What could decide each of these comparisons; no table for none."""
    return [table_of(TITLE, map(_row, found))] if found else []


def _row(one: Undecidable) -> Row:
    verdict, images, needed = one.verdict, one.effect_in_images, one.num_images_needed
    detectable = verdict.detectable_effect
    return {
        **one.cell,
        "smallest effect in points": f"{100 * verdict.smallest_effect:.3g}",
        "in test images": UNKNOWN if images is None else f"{images:.3g} of {one.num_images:,}",
        "seeds": f"{verdict.num_seeds:,}",
        "seeds that would find it": seeds_text(verdict),
        "points that these seeds find": UNKNOWN if math.isnan(detectable) else f"{100 * detectable:.3g}",
        "test images with which these seeds find it": _images_text(needed, is_least=one.parts is None),
    }


def _images_text(needed: float | None, *, is_least: bool) -> str:
    if needed is None:
        return UNKNOWN
    return f"{'at least ' if is_least else ''}{needed:,.0f}" if math.isfinite(needed) else "no number is enough"
