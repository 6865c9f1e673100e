"""Seeds: the random streams derived from one, and many of them as text."""

import hashlib
from collections.abc import Sequence

from aepretrain.config.names import MAX_SEEDS
from aepretrain.errors import UsageError


def derive_seed(seed: int, purpose: str, epoch: int = 0) -> int:
    """The state from which the random stream of one purpose in one epoch starts: 32 bits.

    Streams are independent of each other and of the order in which they are used, so the number of workers or a
    restart change nothing. 32 bits is all that PyTorch's CPU generator takes in.
    """
    digest = hashlib.sha256(f"{seed}/{purpose}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds from ``0-19``, ``0,3,7`` or a mixture, in order, each once. Raises `UsageError`."""
    seeds: dict[int, None] = {}
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (_is_integer(first) and (_is_integer(last) if dash else True)):
            raise UsageError(f"seeds={text!r} is not allowed: it must look like 0-19 or 0,3,7")
        low, high = int(first), int(last) if dash else int(first)
        if high < low:
            raise UsageError(f"seeds={text!r} is not allowed: the range {part.strip()} runs backwards")
        if high - low + len(seeds) >= MAX_SEEDS:
            raise UsageError(f"seeds={text!r} is not allowed: more than {MAX_SEEDS:,} seeds")
        seeds.update(dict.fromkeys(range(low, high + 1)))
    return tuple(seeds)


def format_seeds(seeds: Sequence[int]) -> str:
    """Ascending seeds as `parse_seeds` reads them: ``0-4,7``."""
    ranges: list[list[int]] = []
    for seed in seeds:
        if ranges and seed == ranges[-1][-1] + 1:
            ranges[-1][1:] = [seed]
        else:
            ranges.append([seed])
    return ",".join("-".join(map(str, one)) for one in ranges)


def _is_integer(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18
