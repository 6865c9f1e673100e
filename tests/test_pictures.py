"""Pictures from anywhere become what MNIST would show, and what is no picture is refused in a line."""

import io
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from aepretrain import data
from aepretrain.config import DataRequest
from aepretrain.errors import Failure
from aepretrain.serving import doubts_about, prepare, read_picture
from benchmarks.pictures import RENDERINGS, agreement, doubted
from tests.conftest import MNIST_DIR, needs_mnist

Pixels = NDArray[np.uint8]

HOOK = np.zeros((28, 28), np.float32)
"""What becomes of the letter L below: 20 rows, its centre of mass (11 rows and 3 columns into it) at pixel 14."""
HOOK[3:23, 11:16] = 1
HOOK[18:23, 11:21] = 1


def hook(top: int = 7, left: int = 51) -> Pixels:
    """A white L, 80 high and 40 wide, somewhere on a black ground; of such a size that no pixel is cut."""
    drawn = np.zeros((120, 120), np.uint8)
    drawn[top : top + 80, left : left + 20] = 255
    drawn[top + 60 : top + 80, left : left + 40] = 255
    return drawn


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def check_hook(image_HW: NDArray[np.float32]) -> None:
    """That it is the hook: a pixel further to any side would make a difference of 0.05, soft inner edges do of 0.01."""
    assert image_HW.shape == (28, 28)
    assert image_HW.dtype == np.float32
    assert np.abs(image_HW - HOOK).mean() < 0.015


@pytest.mark.parametrize("place", [(7, 51), (30, 1), (0, 80)])
def test_a_digit_is_cut_out_scaled_and_centred(place: tuple[int, int]) -> None:
    check_hook(prepare(hook(top=place[0], left=place[1]).astype(np.float32) / np.float32(255)))


@pytest.mark.parametrize("ground", [0.0, 0.2, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("ink", [0.0, 0.35, 0.65, 1.0])
def test_neither_colour_nor_contrast_matter(ground: float, ink: float) -> None:
    if abs(ground - ink) > 0.1:
        check_hook(prepare(np.where(hook() > 0, ink, ground).astype(np.float32)))


def test_what_is_heavy_at_one_end_stays_within_the_field() -> None:
    pin = np.zeros((60, 60), np.float32)
    pin[10:50, 29:31] = 0.4
    pin[10:14, 20:40] = 1
    rows_N = np.flatnonzero(prepare(pin).any(1))
    assert (rows_N[0], rows_N[-1]) == (8, 27), "centred by its mass, it would end two rows below the field"


@needs_mnist
def test_mnists_own_images_stay_what_they_are() -> None:
    images_NHW = data.load(DataRequest("mnist"), str(MNIST_DIR)).test_images_NCHW[:200, 0].numpy()
    differences_N = np.array(
        [np.abs(prepare(one.astype(np.float32) / 255) - one / one.max()).mean() for one in images_NHW]
    )
    assert np.median(differences_N) < 1e-4
    assert np.mean(differences_N) < 0.005, "a stroke so faint that it does not count makes some a pixel smaller"


@needs_mnist
def test_mnists_images_in_other_sizes_colours_and_files_are_nearly_always_taken_for_the_same(tmp_path: Path) -> None:
    images_NHW = data.load(DataRequest("mnist"), str(MNIST_DIR)).test_images_NCHW[:200, 0].numpy()
    shares = {str(rendering): share for rendering, share in agreement(images_NHW, tmp_path)}
    assert len(shares) == len(RENDERINGS)
    assert min(shares.values()) >= 0.98, shares


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "RGBA", "LA", "I;16", "CMYK"])
def test_every_kind_of_picture_is_read(tmp_path: Path, mode: str) -> None:
    grey = Image.fromarray(255 - hook())
    image = Image.fromarray((255 - hook()).astype(np.uint16) * 257) if mode == "I;16" else grey.convert(mode)
    check_hook(read_picture(saved(tmp_path / "picture", image, format="JPEG" if mode == "CMYK" else "PNG")))


def png_of_16_bits(values_HWC: NDArray[np.uint16], color_type: int) -> bytes:
    """A PNG as other programs write it; Pillow writes no colours of 16 bits."""
    height, width, _ = values_HWC.shape
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values_HWC)
    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    return png([(b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")])


GREY = [(most, 0, 1) for most in (1, 255, 1023)]
COLORS = [(most, *kind) for most in (4095, 16383, 65535) for kind in ((0, 1), (2, 3), (4, 2), (6, 4))]


@pytest.mark.parametrize(("most", "color_type", "channels"), [*GREY, *COLORS])
@pytest.mark.parametrize("is_dark", [False, True])
def test_16_bits_of_which_a_part_is_used(
    tmp_path: Path, most: int, color_type: int, channels: int, is_dark: bool
) -> None:
    drawn = hook() == 0 if is_dark else hook() > 0
    values_HWC = np.repeat(drawn[:, :, np.newaxis] * np.uint16(most), channels, 2).astype(np.uint16)
    if channels in (2, 4):
        values_HWC[:, :, -1] = 65535 if is_dark else most
    (tmp_path / "scan.png").write_bytes(png_of_16_bits(values_HWC, color_type))
    check_hook(read_picture(tmp_path / "scan.png"))


@pytest.mark.parametrize("level", [0, 4095, 32768, 65535])
@pytest.mark.parametrize("noise", [0, 5, 300])
def test_an_empty_sheet_of_16_bits_is_told_so(tmp_path: Path, level: int, noise: int) -> None:
    values_HW = level + noise * np.random.default_rng(0).standard_normal((300, 300))
    (tmp_path / "sheet.png").write_bytes(
        png_of_16_bits(values_HW.clip(0, 65535).astype(np.uint16)[:, :, np.newaxis], 0)
    )
    with pytest.raises(Failure, match="nothing is drawn in it"):
        read_picture(tmp_path / "sheet.png")


@pytest.mark.parametrize("ink", [0, 255], ids=["black", "white"])
def test_what_is_transparent_is_ground(tmp_path: Path, ink: int) -> None:
    image = Image.merge("LA", [Image.new("L", (120, 120), ink), Image.fromarray(hook())])
    check_hook(read_picture(saved(tmp_path / "picture.png", image)))


def test_a_photo_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    lying = Image.fromarray(hook()).transpose(Image.Transpose.ROTATE_90)
    check_hook(read_picture(saved(tmp_path / "photo.jpg", lying, exif=exif, quality=95)))


def test_a_large_picture_is_reduced(tmp_path: Path) -> None:
    large = Image.fromarray(hook()).resize((3000, 3000), Image.Resampling.NEAREST)
    check_hook(read_picture(saved(tmp_path / "large.png", large)))


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50), np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def bomb(side: int) -> bytes:
    """A PNG of a few bytes that claims to be a large square."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    return png(chunks)


def png(chunks: Sequence[tuple[bytes, bytes]]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


BAD = {
    "empty": (b"", "is no picture that can be read"),
    "text": (b"seven", "is no picture that can be read"),
    "GIF": (encoded("GIF"), "is no picture that can be read"),
    "PNG cut": (encoded("PNG")[:-500], "cannot be read|damaged"),
    "JPEG cut": (encoded("JPEG")[:-500], "cannot be read|damaged"),
    "header only": (encoded("PNG")[:20], "is no picture that can be read|damaged|cannot be read"),
    "name of a chunk wrong": (
        encoded("PNG").replace(b"IDAT", b"IDAU"),
        "is no picture that can be read|damaged|cannot be read",
    ),
    "header cut": (png([(b"IHDR", bytes(5))]), r"is a damaged picture \(Truncated IHDR chunk\)"),
    "bomb": (bomb(30_000), "has far too many pixels: at most"),
    "smaller bomb": (bomb(10_000), "has 10,000 × 10,000 pixels: at most"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_picture_is_told_in_a_line(tmp_path: Path, name: str) -> None:
    content, message = BAD[name]
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    with pytest.raises(Failure, match=message) as error:
        read_picture(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_an_empty_sheet_is_told_so(tmp_path: Path, level: int) -> None:
    noise = np.random.default_rng(0).integers(-4, 5, (90, 90))
    sheet = Image.fromarray((level + noise).clip(0, 255).astype(np.uint8))
    with pytest.raises(Failure, match="nothing is drawn in it"):
        read_picture(saved(tmp_path / "sheet.jpg", sheet))


@needs_mnist
def test_few_of_mnists_images_are_doubted() -> None:
    images_NHW = data.load(DataRequest("mnist"), str(MNIST_DIR)).test_images_NCHW[:500, 0].numpy()
    shares = dict(doubted(images_NHW))
    assert shares.pop("as they are") < 0.01
    assert min(shares.values()) > 0.9, shares


def sheet(*parts: tuple[int, int, int, int], side: int = 200) -> Pixels:
    """A black sheet with white rectangles: top, left, height, width."""
    drawn = np.zeros((side, side), np.uint8)
    for top, left, height, width in parts:
        drawn[top : top + height, left : left + width] = 255
    return drawn


ONE = (60, 90, 80, 12)
"""A vertical stroke in the middle of the sheet."""
FRAME = ((20, 20, 160, 4), (20, 176, 160, 4), (20, 20, 4, 160), (176, 20, 4, 160))

UNLIKE = {
    "two digits": (sheet((60, 60, 80, 12), (60, 100, 80, 12)), "2 separate parts"),
    "two digits, one above the other": (sheet((20, 90, 60, 12), (110, 90, 60, 12)), "2 separate parts"),
    "five specks and a digit": (sheet(ONE, *((20 + 30 * n, 140, 6, 6) for n in range(5))), "6 separate parts"),
    "a frame": (sheet(ONE, *FRAME), "separate parts"),
    "a frame that the digit touches": (sheet((20, 90, 160, 12), *FRAME), "all four sides"),
    "a frame at the edge": (255 - sheet((4, 4, 192, 192)) + sheet(ONE), "all four sides"),
    "a speck far away": (sheet(ONE, (4, 4, 5, 5)), "something lies beside it"),
    "cut off": (sheet((120, 60, 80, 12), (120, 60, 12, 60)), "touches the edge"),
    "a line on the paper": (sheet(ONE, (150, 0, 3, 200)), "wider"),
    "a block": (sheet((60, 60, 80, 80)), "more ink"),
    "a hair": (sheet((20, 98, 160, 3)), "less ink"),
    "a dash": (sheet((90, 40, 20, 120)), "wider"),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_what_is_unlike_mnist_is_doubted(name: str) -> None:
    image_HW, doubt = UNLIKE[name]
    assert doubt in "; ".join(doubts_about(image_HW.astype(np.float32) / np.float32(255)))


def test_a_usual_digit_is_not_doubted() -> None:
    for usual_HW in (hook(), sheet((40, 80, 20, 40), (60, 100, 90, 20))):
        assert doubts_about(usual_HW.astype(np.float32) / np.float32(255)) == []


def test_what_is_no_file_is_told_in_a_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, message in {"": "is a folder", "nowhere.png": "No such file", "pipe": "no ordinary file"}.items():
        with pytest.raises(Failure, match=message):
            read_picture(tmp_path / name)
