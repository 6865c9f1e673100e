"""In what respects a picture differs from MNIST's images, by simple rules.

The bounds were chosen mainly on MNIST's training images. docs/serving.md says how many test images are doubted.

Shapes: H rows, W columns. Ink is 1 and ground 0.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

LEAST_INK = 0.3
"""Share of the strongest ink below which a pixel does not count for the digit's edges."""

FAINT_INK = 0.2
"""Fainter pixels do not join two parts."""

FULL_INK, CUT = 0.8, 0.1
"""A digit may be cut off where so strong ink covers outermost pixels, in number this share of its longer side."""

MOST_PARTS = 3

SECOND_PART = 0.25
"""Share of the ink from which a second part is one; smaller ones are of broken strokes."""

BESIDE = 0.08
"""The same for what lies beyond an empty row or column; the strokes of a digit overlap."""

LEAST_SIDE = 16
"""Longer side of the largest part, where the longer side of everything is 20."""

FRAME = 0.7
"""Share of ink on each side of the box; a digit touches most sides in a few pixels."""

LEAST_SUM, MOST_SUM = 26.0, 240.0
"""Bounds of the sum of all ink."""

WIDEST = 1.7
"""Width by height."""

Picture = NDArray[np.float32]


def doubts(ink_HW: Picture, digit_HW: Picture) -> list[str]:
    """What is unusual about the ink of a whole picture, and about what was cut out and scaled to 20 pixels."""
    outermost_N = np.concatenate([ink_HW[0], ink_HW[-1], ink_HW[:, 0], ink_HW[:, -1]])
    side = max(np.ptp(np.flatnonzero((ink_HW > LEAST_INK).any(axis))) + 1 for axis in (0, 1))
    sides = (digit_HW[0], digit_HW[-1], digit_HW[:, 0], digit_HW[:, -1])
    height, width = digit_HW.shape
    parts_HW, num_parts = ndimage.label(digit_HW > FAINT_INK, np.ones((3, 3)))
    ink_N = ndimage.sum_labels(digit_HW, parts_HW, range(1, num_parts + 1)) / digit_HW.sum()
    largest = ndimage.find_objects(parts_HW)[int(ink_N.argmax())]
    has_parts = num_parts > MOST_PARTS or max(_beside(digit_HW), _beside(digit_HW.T)) >= BESIDE
    has_parts |= num_parts > 1 and np.sort(ink_N)[-2] >= SECOND_PART
    found = {
        "it touches the edge of the picture, where some of it may be cut off": (outermost_N > FULL_INK).sum()
        >= CUT * side,
        "there is ink along all four sides, as of a frame": min((one > LEAST_INK).mean() for one in sides) >= FRAME,
        f"it has {num_parts} separate parts": has_parts,
        "something lies beside it, such as a speck": max(one.stop - one.start for one in largest) < LEAST_SIDE,
        "it has less ink than their digits": digit_HW.sum() < LEAST_SUM,
        "it has more ink than their digits": digit_HW.sum() > MOST_SUM,
        "it is wider than their digits": width > WIDEST * height,
    }
    return [text for text, is_so in found.items() if is_so]


def _beside(digit_HW: Picture) -> float:
    """The largest share of ink that an empty column parts from more ink."""
    before_W = digit_HW.sum(0).cumsum() / digit_HW.sum()
    is_empty_W = ~(digit_HW > FAINT_INK).any(0)
    return float(np.minimum(before_W, 1 - before_W)[is_empty_W].max(initial=0.0))
