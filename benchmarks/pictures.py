"""How often pictures of digits from elsewhere are taken for what the originals are taken for.

MNIST's test images are enlarged, inverted, padded and saved as PNG and JPEG, then read and prepared as `aepretrain
predict` does. The classifier is the one that it would choose from evidence/: that with the lowest validation loss.

    python -m benchmarks.pictures --data-dir ../shared/data
    python -m benchmarks.pictures --data-dir ../shared/data --save docs/pictures    # those that the README shows
"""

import argparse
import io
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aepretrain import data, serving, tracking
from aepretrain.config import DataRequest
from aepretrain.training import parse_weights, scoring_module

BUNDLE = Path(__file__).parent.parent / "evidence"

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Rendering:
    """How an image [28, 28], light on dark, becomes a file: enlarged, with margins, perhaps inverted."""

    side: int
    margin: float
    """Largest width of each of the four margins, as a share of the side; each is drawn evenly from 0."""
    dark_on_light: bool
    format: str
    quality: int = 90
    smooth: bool = True
    """Enlarged with bicubic interpolation, or else by repeating pixels."""

    def draw(self, image_HW: Pixels, generator: np.random.Generator) -> bytes:
        """The file's content."""
        how = Image.Resampling.BICUBIC if self.smooth else Image.Resampling.NEAREST
        large_HW = np.asarray(Image.fromarray(image_HW).resize((self.side, self.side), how))
        top, bottom, left, right = generator.integers(0, 1 + int(self.margin * self.side), 4)
        padded_HW = np.pad(large_HW, ((top, bottom), (left, right)))
        buffer = io.BytesIO()
        options = {"quality": self.quality} if self.format == "JPEG" else {}
        Image.fromarray(255 - padded_HW if self.dark_on_light else padded_HW).save(buffer, self.format, **options)
        return buffer.getvalue()

    def __str__(self) -> str:
        how = "" if self.smooth else ", pixels repeated"
        kind = f"JPEG {self.quality}" if self.format == "JPEG" else self.format
        colours = "dark on light" if self.dark_on_light else "light on dark"
        return f"{self.side}×{self.side}{how}, margins up to {100 * self.margin:.0f} %, {colours}, {kind}"


RENDERINGS = (
    Rendering(28, 0.0, dark_on_light=False, format="PNG"),
    Rendering(28, 1.0, dark_on_light=True, format="PNG"),
    Rendering(28, 1.0, dark_on_light=True, format="JPEG"),
    Rendering(45, 0.5, dark_on_light=False, format="JPEG"),
    Rendering(100, 1.0, dark_on_light=True, format="PNG"),
    Rendering(200, 0.0, dark_on_light=True, format="PNG", smooth=False),
    Rendering(280, 1.0, dark_on_light=False, format="JPEG", quality=60),
    Rendering(500, 1.0, dark_on_light=True, format="JPEG"),
)


def agreement(images_NHW: Pixels, folder: Path) -> Iterator[tuple[Rendering, float]]:
    """For each rendering, the share of the images of which it is given the same class as the original."""
    bundle = tracking.read_bundle(BUNDLE)
    record = serving.best(bundle.records().values(), "mnist")
    assert record is not None
    model = scoring_module(record.spec, record.shape, parse_weights(bundle.artifact(record, "weights.pt")))
    original_N = serving.apply(model, images_NHW[:, None].astype(np.float32) / np.float32(255)).argmax(1)
    for rendering in RENDERINGS:
        generator, prepared = np.random.default_rng(0), []
        for image_HW in images_NHW:
            path = folder / "picture"
            path.write_bytes(rendering.draw(image_HW, generator))
            prepared.append(serving.read_picture(path))
        yield rendering, float((serving.apply(model, np.stack(prepared)[:, None]).argmax(1) == original_N).mean())


def with_speck(image_HW: Pixels) -> Pixels:
    """A digit with a speck of 2×2 pixels, 11 pixels beyond its image."""
    padded_HW = np.pad(image_HW, 14)
    padded_HW[3:5, 3:5] = 255
    return padded_HW


SPOILED: dict[str, Callable[[Pixels, Pixels], Pixels]] = {
    "as they are": lambda image_HW, _: image_HW,
    "two side by side": lambda image_HW, other_HW: np.hstack([image_HW, other_HW]),
    "one above another": lambda image_HW, other_HW: np.vstack([image_HW, other_HW]),
    "in a frame": lambda image_HW, _: np.pad(np.pad(np.pad(image_HW, 6), 1, constant_values=255), 2),
    "with a speck": lambda image_HW, _: with_speck(image_HW),
    "cut off in the middle": lambda image_HW, _: image_HW[:14],
}


def doubted(images_NHW: Pixels) -> Iterator[tuple[str, float]]:
    """The share of images that are said to be unlike MNIST's, as they are and spoiled."""
    others_NHW = np.roll(images_NHW, 1, axis=0)
    for name, spoil in SPOILED.items():
        pictures = [
            spoil(*pair).astype(np.float32) / np.float32(255) for pair in zip(images_NHW, others_NHW, strict=True)
        ]
        yield name, float(np.mean([bool(serving.doubts_about(picture_HW)) for picture_HW in pictures]))


def main() -> None:
    """Measure and print, or save the first images, each as another rendering has it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir")
    parser.add_argument("--images", type=int, default=10_000, help="how many of the test images, from the first")
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="write pictures there and measure nothing")
    options = parser.parse_args()
    images_NHW = data.load(DataRequest("mnist"), options.data_dir).test_images_NCHW[: options.images, 0].numpy()
    if options.save is not None:
        generator = np.random.default_rng(0)
        for number, (rendering, image_HW) in enumerate(zip(RENDERINGS, images_NHW, strict=False), 1):
            path = options.save / f"{number}.{'png' if rendering.format == 'PNG' else 'jpg'}"
            path.write_bytes(rendering.draw(image_HW, generator))
        return
    print(f"| {len(images_NHW):,} test images as | same class as the original |\n| --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for rendering, share in agreement(images_NHW, Path(folder)):
            print(f"| {rendering} | {100 * share:.2f} % |", flush=True)
    print(f"\n| {len(images_NHW):,} test images | said to be unlike MNIST's |\n| --- | --- |")
    for name, share in doubted(images_NHW):
        print(f"| {name} | {100 * share:.2f} % |", flush=True)


if __name__ == "__main__":
    main()
