"""Random erasing against torchvision's per-image transform and against its own definition.

Two-sample tests at level 0.001 each, with fixed seeds.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import ks_2samp
from torchvision import transforms

from aepretrain.augment import RandomErasing
from aepretrain.config import Settings

NUM = 4000
LEVEL = 0.001
SCALE, RATIO = (0.1, 0.15), (0.3, 3.3)


def rectangles_of(images_N1HW: torch.Tensor) -> NDArray[np.int64]:
    """Top, left, height and width of the erased (zero) rectangle of each image of ones, [N, 4]."""
    rows = []
    for image_HW in images_N1HW[:, 0] == 0:
        at = image_HW.nonzero()
        top, left = at.min(0).values.tolist() if len(at) else (0, 0)
        height, width = (at.max(0).values - at.min(0).values + 1).tolist() if len(at) else (0, 0)
        assert len(at) == height * width, "what is erased is one rectangle"
        rows.append((top, left, height, width))
    return np.array(rows)


def erasing(
    scale: tuple[float, float] = SCALE, ratio: tuple[float, float] = RATIO, value: float = 0.0
) -> RandomErasing:
    return RandomErasing(Settings(erase_scale=scale, erase_ratio=ratio, erase_value=value))


def draw(num: int, augmentation: RandomErasing, seed: int = 0) -> torch.Tensor:
    return augmentation.draw(num, (1, 28, 28), torch.Generator().manual_seed(seed))


def ours(scale: tuple[float, float], ratio: tuple[float, float], seed: int) -> NDArray[np.int64]:
    augmentation = erasing(scale, ratio)
    return rectangles_of(augmentation.apply(torch.ones(NUM, 1, 28, 28), draw(NUM, augmentation, seed)))


def torchvisions(scale: tuple[float, float], ratio: tuple[float, float], seed: int) -> NDArray[np.int64]:
    transform = transforms.RandomErasing(p=1, scale=scale, ratio=ratio)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return rectangles_of(torch.stack([transform(torch.ones(1, 28, 28)) for _ in range(NUM)]))


@pytest.mark.parametrize(
    ("scale", "ratio"),
    [(SCALE, RATIO), ((0.02, 0.33), RATIO), ((0.3, 0.9), (0.2, 5.0))],
    ids=["default", "torchvision's default", "often too large at first"],
)
def test_same_distribution_as_torchvision(scale: tuple[float, float], ratio: tuple[float, float]) -> None:
    a, b = ours(scale, ratio, 1), torchvisions(scale, ratio, 2)
    figures: dict[str, Callable[[NDArray[np.int64]], NDArray[Any]]] = {
        "top": lambda r: r[:, 0],
        "left": lambda r: r[:, 1],
        "area": lambda r: r[:, 2] * r[:, 3],
        "aspect": lambda r: np.log(np.maximum(r[:, 2], 1) / np.maximum(r[:, 3], 1)),
        "height": lambda r: r[:, 2],
        "centre row": lambda r: r[:, 0] + r[:, 2] / 2,
    }
    for name, figure in figures.items():
        assert ks_2samp(figure(a), figure(b)).pvalue > LEVEL, name


def test_the_two_sample_test_can_fail() -> None:
    assert ks_2samp(ours(SCALE, RATIO, 1)[:, 2], torchvisions(SCALE, (0.4, 3.3), 2)[:, 2]).pvalue < LEVEL


def test_area_stays_within_rounding_of_the_scale() -> None:
    found = ours(SCALE, RATIO, 3)
    share = found[:, 2] * found[:, 3] / 784
    assert share.min() >= 0.089
    assert share.max() <= 128 / 784


def test_every_image_has_its_own_rectangle() -> None:
    assert len(np.unique(ours(SCALE, RATIO, 4), axis=0)) > NUM / 4


def test_what_fits_nowhere_is_left_whole() -> None:
    whole = erasing((1.0, 1.0), (1.0, 1.0))
    images = torch.rand(50, 1, 28, 28)
    assert torch.equal(whole.apply(images, draw(50, whole)), images)


def test_erases_to_the_value_and_nothing_else() -> None:
    images = torch.rand(64, 1, 28, 28)
    before = images.clone()
    augmentation = erasing(value=7.0)
    drawn = draw(64, augmentation)
    erased = augmentation.apply(images, drawn)
    assert torch.equal(images, before)
    for index in range(64):
        expected = before[index].clone()
        top, left, height, width = drawn[index].tolist()
        expected[:, top : top + height, left : left + width] = 7.0
        assert torch.equal(erased[index], expected)


def test_a_rectangle_of_no_size_erases_nothing_and_is_not_drawn_again() -> None:
    top_left_height_width = draw(50, erasing((1e-9, 1e-9)))
    assert int(top_left_height_width[:, 2].max()) == 0


def test_same_generator_same_rectangles() -> None:
    assert np.array_equal(ours(SCALE, RATIO, 5), ours(SCALE, RATIO, 5))
    assert not np.array_equal(ours(SCALE, RATIO, 5), ours(SCALE, RATIO, 6))
