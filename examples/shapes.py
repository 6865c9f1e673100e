"""Class folders of small colour pictures: discs, rings and bars of random colours, for trying things out.

python -m examples.shapes FOLDER --size 32x32 --pictures 100
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLASSES = ("bar", "disc", "ring")


def draw(kind: str, size: tuple[int, int], generator: np.random.Generator) -> NDArray[np.uint8]:
    """A picture [H, W, 3] with one shape somewhere on an even ground, and noise."""
    rows_HW, columns_HW = np.indices(size)
    radius = generator.uniform(5, 8)
    row, column = (generator.uniform(radius, side - radius) for side in size)
    distance_HW = np.hypot(rows_HW - row, columns_HW - column)
    covered_HW = {
        "bar": (abs(rows_HW - row) < radius / 3) & (abs(columns_HW - column) < radius),
        "disc": distance_HW < radius,
        "ring": (distance_HW < radius) & (distance_HW > radius - 2.5),
    }[kind]
    ground_C = generator.uniform(0, 255, 3)
    ink_C = (ground_C + generator.uniform(80, 175, 3)) % 255
    picture_HWC = np.where(covered_HW[..., None], ink_C, ground_C) + generator.normal(0, 10, (*size, 3))
    return picture_HWC.clip(0, 255).astype(np.uint8)


def write_pictures(folder: Path, size: tuple[int, int], num: int, seed: int = 0) -> None:
    """Write so many pictures of each class as ``folder/CLASS/0001.png`` and so on."""
    generator = np.random.default_rng(seed)
    for kind in CLASSES:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(1, num + 1):
            Image.fromarray(draw(kind, size, generator)).save(folder / kind / f"{number:04}.png")


def main() -> None:
    """Write the pictures that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", default="32x32", help="rows and columns")
    parser.add_argument("--pictures", type=int, default=100, help="of each class")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    height, width = map(int, options.size.split("x"))
    write_pictures(options.folder, (height, width), options.pictures, options.seed)


if __name__ == "__main__":
    main()
