"""Time the engine against the obvious program on resnet8, with colour images of noise: training by training, in pairs.

    python -m benchmarks.resnet8 --images 2000 --epochs 1 --repeats 3

Both train the same eight networks (four variants, with and without erasing) in this process on one thread; in every
other repeat the order is turned round. Training and validation are timed. What the suite does beside them is not: the
obvious program has no figures of the best weights, no diagnostics and no store. Only the ratios count, as the machine
may have other work.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms

from aepretrain import data, training
from aepretrain.config import AUGMENTATIONS, Settings, TrainingSpec
from aepretrain.data import Dataset, with_digest
from aepretrain.networks import build
from aepretrain.variants import GRID_VARIANTS
from benchmarks import engine, measure, obvious

CPU = torch.device("cpu")


class Pictures(TorchDataset[obvious.Example]):
    """Pictures in memory, transformed one by one when they are read, as torchvision's CIFAR10 does."""

    def __init__(self, images_NCHW: Tensor, labels_N: Tensor, transform: transforms.Compose) -> None:
        self.pixels_NHWC = images_NCHW.permute(0, 2, 3, 1).numpy()
        self.labels = labels_N.tolist()
        self.transform = transform

    def __len__(self) -> int:
        """The number of pictures."""
        return len(self.labels)

    def __getitem__(self, index: int) -> obvious.Example:
        """A picture and its class."""
        return self.transform(Image.fromarray(self.pixels_NHWC[index])), self.labels[index]


def noise(num: int) -> Dataset:
    """Colour noise of 32×32 in ten classes; a tenth as many test images."""
    images_NCHW = torch.randint(0, 256, (num, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels_N = torch.arange(num) % 10
    return with_digest("noise", "none", images_NCHW, labels_N, images_NCHW[: num // 10], labels_N[: num // 10])


def pictures(dataset: Dataset, settings: Settings, augmentation: str) -> tuple[Pictures, Pictures]:
    """Pictures for training and for validation."""
    erasing = transforms.RandomErasing(p=1, scale=settings.erase_scale, ratio=settings.erase_ratio)
    plain, rows = transforms.Compose([transforms.ToTensor()]), data.split(dataset, settings.split, 0)
    augmented = transforms.Compose([transforms.ToTensor(), erasing]) if augmentation == "erasing" else plain

    def part(rows_N: Tensor, transform: transforms.Compose) -> Pictures:
        return Pictures(dataset.images_NCHW[rows_N], dataset.labels_N[rows_N], transform)

    return part(rows.train_N, augmented), part(rows.validation_N, plain)


def time_obvious(dataset: Dataset, settings: Settings) -> dict[str, float]:
    """Seconds of each training of the obvious program."""
    found = {}
    for augmentation in AUGMENTATIONS:
        parts = pictures(dataset, settings, augmentation)
        pretrained: dict[str, Tensor] = {}
        for variant in GRID_VARIANTS:
            network = build("resnet8", 0, dataset.shape)
            if variant in ("frozen", "finetune"):
                network.encoder.load_state_dict(pretrained)
            started = time.perf_counter()
            obvious.train(network, variant, *parts, settings.cls_epochs)
            found[f"{augmentation}-{variant}"] = time.perf_counter() - started
            if variant == "pretrain":
                pretrained = copy.deepcopy(network.encoder.state_dict())
    return found


def time_engine(dataset: Dataset, settings: Settings) -> dict[str, float]:
    """Seconds of each training of the engine."""
    found = {}
    for augmentation in AUGMENTATIONS:
        pretrained: Sequence[Mapping[str, Tensor]] = []
        make = partial(TrainingSpec, network="resnet8", augmentation=augmentation, settings=settings)
        for variant in GRID_VARIANTS:
            spec, measured = make(variant=variant), engine.Measured()
            given = [{"pretrain": one} for one in pretrained] if spec.sources else [{}]
            weights = engine.train_chunk([spec], dataset, CPU, given, measured)
            found[f"{augmentation}-{variant}"] = measured.loop_s
            if variant == "pretrain":
                pretrained = weights
    return found


def report(slow_runs: Sequence[dict[str, float]], fast_runs: Sequence[dict[str, float]]) -> list[str]:
    """A line per training and the total: medians, and the median and the range of the ratios of pairs."""
    rows = []
    for name in [*slow_runs[0], "all"]:
        slow, fast = ([run.get(name, sum(run.values())) for run in runs] for runs in (slow_runs, fast_runs))
        ratios = [a / b for a, b in zip(slow, fast, strict=True)]
        spread = f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"
        rows.append([name, f"{statistics.median(slow):.1f}", f"{statistics.median(fast):.1f}", spread])
    return measure.markdown_table(["training", "obvious (s)", "engine (s)", "ratio"], rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    training.prepare_process(1)
    settings = Settings(ae_epochs=options.epochs, cls_epochs=options.epochs, patience=0)
    programs = (time_obvious, time_engine)
    for program in programs:  # one-time set-up is not timed
        program(noise(200), settings)
    dataset = noise(options.images)
    times: dict[object, list[dict[str, float]]] = {program: [] for program in programs}
    for repeat in range(options.repeats):
        for program in programs if repeat % 2 == 0 else reversed(programs):
            times[program].append(program(dataset, settings))
    print("\n".join(report(times[time_obvious], times[time_engine])))
    print(measure.told(measure.machine() | vars(options) | {"threads": 1}))


if __name__ == "__main__":
    main()
