"""Numbers as text, for tables and sentences."""

import numpy as np

from aepretrain.stats import Estimate


def signed(value: float, digits: int = 4) -> str:
    """A difference with a true minus sign; what rounds to zero has none.

    Rounded twice: a half may come out one bit above or below from two computations, and is written alike.
    """
    return f"{round(round(value, digits + 6), digits) + 0.0:+.{digits}f}".replace("-", "−")


def in_points(value: float) -> str:
    """A difference of two accuracies in percentage points, ``−0.095``."""
    return signed(100 * value, 3)


def interval_text(estimate: Estimate, of: str = "") -> str:
    """In percentage points ``+0.120 (+0.030 to +0.210)``; with `of`, ``… to +0.210, n = 9)``."""
    ends = [ends_text(estimate)] if np.isfinite(estimate.low) else []
    inside = ", ".join([*ends, *([of] if of else [])])
    return f"{in_points(estimate.value)} ({inside})" if inside else in_points(estimate.value)


def ends_text(estimate: Estimate) -> str:
    """In percentage points ``+0.030 to +0.210``."""
    return f"{in_points(estimate.low)} to {in_points(estimate.high)}" if np.isfinite(estimate.low) else "undefined"


def spread_text(std: float) -> str:
    """A standard deviation or error in percentage points."""
    return "undefined" if np.isnan(std) else f"{100 * std:.3f}"


def p_text(p_value: float) -> str:
    """A p-value; never zero."""
    return f"{p_value:.4f}" if p_value >= 0.0001 else "below 0.0001"
