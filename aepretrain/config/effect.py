"""The smallest effect of interest: a difference of accuracies, or a number of test images."""

import re
from dataclasses import dataclass

from aepretrain.errors import UsageError

ALLOWED_EFFECT = "a number between 0 and 1, like 0.001, or a number of test images, like 10 images"


@dataclass(frozen=True)
class SmallestEffect:
    """The smallest difference of accuracies that matters.

    Raises `UsageError`, naming the value and what is allowed.
    """

    value: float
    """A share of the test images, or a number of them."""
    in_images: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.value < (float("inf") if self.in_images else 1):
            raise _refused(str(self))

    def __str__(self) -> str:
        if not self.in_images:
            return f"{self.value:g}"
        return f"{self.value:g} image{'' if self.value == 1 else 's'}"

    def share(self, num_images: int | None, dataset: str) -> float:
        """The effect as a difference of accuracies on a dataset with so many test images; None stands for unknown.

        Raises `UsageError` where it is given in images, and the number of test images is unknown or not larger.
        """
        if not self.in_images:
            return self.value
        if num_images is None:
            raise UsageError(
                f"smallest_effect={str(self)!r}: the number of test images of {dataset} is not known, so give a number "
                "like 0.001"
            )
        if self.value >= num_images:
            raise UsageError(f"smallest_effect={str(self)!r} is not allowed: {dataset} has {num_images} test images")
        return self.value / num_images


def parse_effect(value: object) -> SmallestEffect:
    """A smallest effect from a number, or from a text like ``0.001`` or ``10 images``. Raises `UsageError`."""
    if isinstance(value, SmallestEffect):
        return value
    number = r"(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
    found = re.fullmatch(rf"\s*({number})\s*(images?)?\s*", str(value), re.ASCII)
    if found is None:
        raise _refused(value)
    return SmallestEffect(float(found[1]), in_images=found[4] is not None)


def _refused(value: object) -> UsageError:
    return UsageError(f"smallest_effect={value!r} is not allowed: it must be {ALLOWED_EFFECT}")
