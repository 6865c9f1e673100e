"""What is said of judged comparisons, of a plan's and of a table's alike."""

from collections.abc import Mapping, Sequence

from aepretrain.config import SmallestEffect
from aepretrain.report.judged import Judged
from aepretrain.stats import Kind


def name_text(name: str) -> str:
    """``finetune − scratch``, with a true minus sign."""
    return name.replace(" - ", " − ")


def counts_text(results: Sequence[Judged]) -> str:
    """``better in 2 of 9 tests, worse in 1, undecided in 6``."""
    kinds = [one.verdict.kind for one in results]
    counts = [f"{kind} in {kinds.count(kind)}" for kind in Kind if kind in kinds]
    counts[0] += f" of {len(kinds)} test{'s' if len(kinds) > 1 else ''}"
    return ", ".join(counts)


def promise(results: Sequence[Judged], alpha: float, *, is_fixed: bool) -> str:
    """The chance of a false finding; empty where nothing was judged.

    `is_fixed` says whether it is known that the number of seeds was fixed before the first result.
    """
    if all(one.verdict.kind is Kind.NONE for one in results):
        return ""
    chance = f'The chance of any false "better" or "worse" in a family of tests is at most {100 * alpha:g} %'
    if any(one.is_interim for one in results):
        return f"This is an interim look, at fewer seeds than planned. {chance} only at the planned seeds."
    return f"{chance}." if is_fixed else f"{chance}, provided that the number of seeds was fixed before looking."


def effect_text(effect: SmallestEffect, shares: Mapping[str, float]) -> str:
    """``0.1 points``; of images ``10 images (0.1 points on MNIST)``, from their share by dataset."""
    if not effect.in_images:
        return f"{100 * effect.value:g} points"
    converted = ", ".join(f"{100 * share:.3g} points on {name}" for name, share in shares.items())
    return f"{effect} ({converted})" if converted else str(effect)
