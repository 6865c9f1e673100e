"""Rows of tables about judged comparisons, of a plan's and of a table's alike. Differences are in percentage points."""

from collections.abc import Sequence

import numpy as np

from aepretrain.config import format_seeds
from aepretrain.report.answer_tables import probability_text
from aepretrain.report.judged import Judged, pool
from aepretrain.report.judged_wording import name_text
from aepretrain.report.numbers import ends_text, interval_text, p_text, signed
from aepretrain.report.table import MISSING, Row
from aepretrain.report.wording import verdict_words


def family_title(name: str, results: Sequence[Judged]) -> str:
    """``finetune − scratch: test accuracy, 9 tests corrected together``."""
    tests = f"{len(results)} test{'s' if len(results) > 1 else ''}"
    return f"{name_text(name)}: test accuracy, {tests} corrected together"


def judged_row(one: Judged) -> Row:
    """What was found in one comparison."""
    verdict, effects = one.verdict, one.comparison
    return {
        "verdict": verdict_words(verdict, is_interim=one.is_interim),
        "seeds": _seeds_text(one),
        "difference in points (95 % interval)": interval_text(verdict.difference) if effects else MISSING,
        "90 % interval": ends_text(verdict.narrow) if effects else "",
        "p, Holm": p_text(verdict.adjusted_p) if effects else "",
        "probability of improvement": probability_text(effects.probability_of_improvement) if effects else "",
    }


def _seeds_text(one: Judged) -> str:
    """``18 of 20 planned (100-117)``; without a plan ``18 (100-117)``."""
    seeds = sorted(one.first.index.intersection(one.second.index).tolist())
    planned = "" if one.seeds is None else f" of {len(one.seeds)} planned"
    return f"{len(seeds)}{planned}{f' ({format_seeds(seeds)})' if seeds else ''}"


def pooled_row(group: Sequence[Judged]) -> Row:
    """The mean difference over experiments like these."""
    mean = pool(group, 0.95)
    return {
        "experiments": str(len(group)),
        "difference in points (95 % interval)": interval_text(mean),
        "90 % interval": ends_text(pool(group, 0.90)),
        "τ, in points": signed(100 * np.sqrt(mean.between_variance), 3).lstrip("+"),
        "I²": f"{100 * mean.heterogeneity:.0f} %",
    }


def difference_text(one: Judged, figure: str) -> str:
    """The mean difference in another figure."""
    mean = one.difference(figure)
    return MISSING if mean is None else interval_text(mean)
