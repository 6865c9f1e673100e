"""Loops on NumPy arrays, compiled by Numba at the first call and cached on disk where that is possible."""

from collections.abc import Callable
from typing import Any

from numba import njit

# Sums may be reordered, so that they can be vectorised. NaN and infinity keep their meaning.
OPTIONS: dict[str, Any] = {"fastmath": {"reassoc", "contract", "nsz"}, "error_model": "numpy"}


def compiled(loop: Callable[..., Any]) -> Any:
    """The loop, compiled at its first call."""
    try:
        return njit(cache=True, **OPTIONS)(loop)
    except RuntimeError:  # neither beside this file nor in the home can a cache be written: each process compiles it
        return njit(**OPTIONS)(loop)
