"""Preparation of pictures of digits in the way of MNIST's authors.

"The original black and white (bilevel) images from NIST were size normalized to fit in a 20x20 pixel box while
preserving their aspect ratio. […] the images were centered in a 28x28 image by computing the center of mass of the
pixels, and translating the image so as to position this point at the center of the 28x28 field."
(http://yann.lecun.com/exdb/mnist/)

Shapes: H rows, W columns. Ink is 1 and ground 0, as in MNIST.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from aepretrain.errors import Failure
from aepretrain.pictures import has_16_bits, open_picture
from aepretrain.serving.doubts import LEAST_INK, doubts

FIELD, BOX = 28, 20
"""Sides of the prepared image, and of the box within which the digit is scaled."""

CENTER = 14
"""The pixel to which the centre of mass is moved. In MNIST's test images it lies between 13.5 and 14.5."""

MAX_SIDE = 1024
"""A larger picture is first reduced to this side, which is enough for a digit of 20 pixels."""

LEAST_CONTRAST = 16 / 255
"""Smaller differences from the background are paper or JPEG noise, not ink."""

LEAST_SIGNAL = 16
"""A picture of 16 bits has more than noise where it differs from the background by so many times the usual noise."""

Picture = NDArray[np.float32]


def read_picture(path: Path) -> Picture:
    """The digit in a picture file in MNIST's form: [28, 28] in [0, 1].

    Raises `Failure`, naming the file, where it is not such a picture or is empty.
    """
    return examine_picture(path)[0]


def examine_picture(path: Path) -> tuple[Picture, list[str]]:
    """`read_picture`, and in what respects the picture differs from MNIST's images (`doubts`). Raises `Failure`."""
    try:
        ink_HW = _ink(_grey(path))
    except Failure as failure:
        raise Failure(f"{path}: {failure}") from None
    digit_HW = _cut_out(ink_HW)
    return _center(digit_HW), doubts(ink_HW, digit_HW)


def prepare(grey_HW: Picture) -> Picture:
    """The digit in a grey picture in [0, 1], dark on light or light on dark, in MNIST's form, [28, 28].

    Raises `Failure` where nothing is drawn.
    """
    return _center(_cut_out(_ink(grey_HW)))


def doubts_about(grey_HW: Picture) -> list[str]:
    """In what respects a grey picture in [0, 1] differs from MNIST's images. Raises `Failure` for an empty one."""
    ink_HW = _ink(grey_HW)
    return doubts(ink_HW, _cut_out(ink_HW))


def _cut_out(ink_HW: Picture) -> Picture:
    """The digit, scaled so that its longer side is 20."""
    rows_N, columns_N = (np.flatnonzero((ink_HW > LEAST_INK).any(axis)) for axis in (1, 0))
    top, bottom, left, right = rows_N[0], rows_N[-1] + 1, columns_N[0], columns_N[-1] + 1
    return _scale(ink_HW[top:bottom, left:right])


def _grey(path: Path) -> Picture:
    """The brightness of a picture file in [0, 1], upright and without transparency."""
    return open_picture(path, _upright)


def _upright(image: Image.Image) -> Picture:
    is_wide = has_16_bits(image)  # known only before it is loaded
    image.load()
    return _brightness(ImageOps.exif_transpose(_stretch(image) if is_wide else image))


def _stretch(image: Image.Image) -> Image.Image:
    """A picture of 16 bits as one of 8 bits. Many scanners and microscopes use a part of the range, like 0 to 4,095."""
    if image.mode.startswith("I"):
        return Image.fromarray(_in_8_bits(np.asarray(image, dtype=np.float32), 65535))
    bands = (np.asarray(band, dtype=np.float32) for band in image.convert("LA").split())
    return Image.merge("LA", [Image.fromarray(_in_8_bits(band_HW, 255)) for band_HW in bands])


def _in_8_bits(values_HW: Picture, most: int) -> NDArray[np.uint8]:
    """Values scaled so that the largest is 255; if they may be noise only, so that `most` would be 255."""
    border_N = _border(values_HW)
    noise = float(np.median(np.abs(np.diff(border_N))))
    is_noise = np.abs(values_HW - np.median(border_N)).max() < LEAST_SIGNAL * noise
    scale = 255 / (most if is_noise else max(1.0, float(values_HW.max())))
    return (values_HW * scale).round().astype(np.uint8)


def _border(values_HW: Picture) -> Picture:
    return np.concatenate([values_HW[0], values_HW[-1], values_HW[:, 0], values_HW[:, -1]])


def _brightness(image: Image.Image) -> Picture:
    image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BOX)
    with_alpha_HW2 = np.asarray(image.convert("LA"), dtype=np.float32) / np.float32(255)
    grey_HW, alpha_HW = np.moveaxis(with_alpha_HW2, 2, 0)
    drawn = float((grey_HW * alpha_HW).sum() / max(float(alpha_HW.sum()), 1.0))
    ground = 0.0 if drawn > 0.5 else 1.0  # behind what is transparent: the opposite of what is drawn
    shown_HW: Picture = grey_HW * alpha_HW + ground * (1 - alpha_HW)
    return shown_HW


def _ink(grey_HW: Picture) -> Picture:
    """The strength of ink of each pixel in [0, 1]. The background is the median of the border."""
    ground, low, high = float(np.median(_border(grey_HW))), float(grey_HW.min()), float(grey_HW.max())
    if high - low < LEAST_CONTRAST:
        raise Failure("nothing is drawn in it")
    is_light = ground - low > high - ground
    ink_HW = (ground - grey_HW) / (ground - low) if is_light else (grey_HW - ground) / (high - ground)
    return ink_HW.clip(0, 1)


def _scale(ink_HW: Picture) -> Picture:
    """The digit scaled so that its longer side is 20."""
    height, width = (max(1, round(BOX * side / max(ink_HW.shape))) for side in ink_HW.shape)
    image = Image.fromarray(ink_HW).resize((width, height), Image.Resampling.HAMMING)
    return np.asarray(image).clip(0, 1)


def _center(ink_HW: Picture) -> Picture:
    """The digit in a 28×28 field, moved by whole pixels so that its centre of mass is in the middle."""
    field_HW = np.zeros((FIELD, FIELD), np.float32)
    top, left = (
        int(np.clip(CENTER - round(_center_of_mass(ink_HW.sum(1 - axis))), 0, FIELD - ink_HW.shape[axis]))
        for axis in (0, 1)
    )
    field_HW[top : top + ink_HW.shape[0], left : left + ink_HW.shape[1]] = ink_HW
    return field_HW


def _center_of_mass(mass_N: NDArray[np.float32]) -> float:
    return float((mass_N * np.arange(len(mass_N))).sum() / mass_N.sum())
