"""Picture files as pixels, read within bounds. Shapes: N images, C channels, H rows, W columns."""

import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from aepretrain.errors import Failure

FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "BMP": (".bmp",),
    "PPM": (".ppm", ".pgm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
"""The formats that torchvision's ImageFolder reads, with the ends of their names."""

SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)

MAX_PIXELS = 2**26
"""A picture with more pixels is refused before it is decoded."""

MODES = ("L", "LA", "RGB", "RGBA")
"""Pillow's names for 8-bit images of 1 to 4 channels."""

Pixels = NDArray[np.uint8]
T = TypeVar("T")


def open_picture(file: Path | IO[bytes], use: Callable[[Image.Image], T]) -> T:
    """What `use` makes of the picture in a file, which is open meanwhile.

    Raises `Failure`, which does not name the file, where it is no picture, is damaged or has too many pixels.
    """
    try:
        if isinstance(file, Path) and not stat.S_ISREG(file.stat().st_mode):
            raise Failure("is a folder, not a picture" if file.is_dir() else "is no ordinary file")
        with (
            warnings.catch_warnings(action="ignore"),  # Pillow's, about what is refused or harmless here
            Image.open(file, formats=tuple(FORMATS)) as image,
        ):
            if image.width * image.height > MAX_PIXELS:
                raise Failure(f"has {image.width:,} × {image.height:,} pixels: at most {MAX_PIXELS:,} are read")
            return use(image)
    except Failure:
        raise
    except Image.DecompressionBombError:  # raised by Pillow at some 180 million
        raise Failure(f"has far too many pixels: at most {MAX_PIXELS:,} are read") from None
    except UnidentifiedImageError:
        raise Failure(f"is no picture that can be read: {', '.join(FORMATS)}") from None
    except OSError as error:
        raise Failure(f"cannot be read: {error.strerror or error}") from None
    except Exception as error:  # noqa: BLE001  # Pillow documents no class for what a damaged file raises
        raise Failure(f"is a damaged picture ({' '.join(str(error).split())[:100]})") from None


def has_16_bits(image: Image.Image) -> bool:
    """Whether a picture has more than 8 bits a channel. Pillow cuts colours to 8."""
    tiles = getattr(image, "tile", [])  # of pictures from files
    tile = str(tiles[0].args) if tiles else ""
    return image.mode.startswith(("I", "F")) or "16" in tile


def read_pixels(file: Path | IO[bytes]) -> Pixels:
    """A picture, upright, as [1, H, W] if it is grey, else [3, H, W]. What is transparent is shown on white.

    Raises `Failure` as `open_picture`, and for more than 8 bits a channel.
    """
    return open_picture(file, _as_pixels)


def _as_pixels(image: Image.Image) -> Pixels:
    if has_16_bits(image):
        raise Failure("has 16 bits a channel: convert it to 8 bits")
    upright = ImageOps.exif_transpose(image)
    is_grey = upright.mode in ("1", "L", "LA")
    if upright.mode == "LA" or upright.mode == "RGBA" or "transparency" in upright.info:
        shown = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown)
    return _pixels(upright.convert("L" if is_grey else "RGB"))


def fit(pixels_CHW: Pixels, size: tuple[int, int]) -> Pixels:
    """Pixels scaled to so many rows and columns. What does not have their shape is cut off on both sides alike."""
    if pixels_CHW.shape[1:] == size:
        return pixels_CHW
    return _pixels(ImageOps.fit(_image(pixels_CHW), size[::-1], Image.Resampling.BILINEAR))


def to_grey(pixels_CHW: Pixels) -> Pixels:
    """Pixels of 1 to 4 channels as grey ones, [1, H, W], by the luma of ITU-R 601."""
    return pixels_CHW if len(pixels_CHW) == 1 else _pixels(_image(pixels_CHW).convert("L"))


def _image(pixels_CHW: Pixels) -> Image.Image:
    bands = [Image.fromarray(band_HW) for band_HW in pixels_CHW]
    return bands[0] if len(bands) == 1 else Image.merge(MODES[len(bands) - 1], bands)


def _pixels(image: Image.Image) -> Pixels:
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(np.moveaxis(pixels, 2, 0))
