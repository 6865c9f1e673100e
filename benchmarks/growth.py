"""Growth of training time and memory with the number of seeds in a stack, of images, and of workers.

    python -m benchmarks.growth --out benchmarks/results

Each point is measured in a separate process. For seeds and images it is the variant scratch on one thread: the fastest
of a few epochs (training and validation), and the peak memory of the dataset and the training. For workers it is the
whole command `grid`, and the peak memory of all its processes together. The exponent is the slope of a straight line
through the logarithms, over all points and over the largest three. Memory is read from Linux's /proc.
"""

import argparse
import ctypes
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from aepretrain import training
from aepretrain.config import GRID_NETWORKS, DataRequest, Settings, TrainingSpec
from aepretrain.data import Dataset, mnist
from benchmarks import measure
from benchmarks.grid import run_suite

STACK_IMAGES = 6_000
"""Number of images where seeds vary: enough steps to time, few enough for 64 seeds."""

WATCHING_S = 0.02
"""Seconds between two readings of this process's memory."""

COLOURS = {"fc": "#0072B2", "conv": "#D55E00", "grid": "#000000"}
"""Okabe and Ito's."""


@dataclass(frozen=True)
class Point:
    """One measurement: `axis` is what varies, `size` how much of it there is."""

    axis: str
    what: str
    size: int
    elapsed_s: float
    memory_mib: float


def small_mnist(num: int) -> Dataset:
    """MNIST with its first `num` training images only; the others' memory is given back (`data.load` would keep it)."""
    dataset = mnist.load(DataRequest("mnist"), None)
    return replace(dataset, images_NCHW=dataset.images_NCHW[:num].clone(), labels_N=dataset.labels_N[:num].clone())


def measure_here(network: str, num_seeds: int, num_images: int, epochs: int) -> tuple[float, float]:
    """Seconds of the fastest epoch of the whole stack, and the highest memory in MiB; to be called in a new process."""
    device = torch.device("cpu")
    _train(network, min(num_seeds, 2), measure.noise(60), 1, device)  # so that one-time set-up is not timed
    dataset = small_mnist(num_images)
    _give_back()
    dataset_mib = sum(part.nbytes for part in vars(dataset).values() if isinstance(part, torch.Tensor)) / measure.MIB
    before_mib = measure.own_mib() - dataset_mib
    training.prepare_process(1)
    with measure.MemoryWatch(measure.own_mib, WATCHING_S) as watch:
        histories = _train(network, num_seeds, dataset, epochs, device)
    return min(sum(shares) for shares in zip(*histories, strict=True)), watch.peak_mib - before_mib


def _give_back() -> None:
    """Let glibc return freed memory to the system, so that memory used to decode the dataset is not counted."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def _train(network: str, num_seeds: int, dataset: Dataset, epochs: int, device: torch.device) -> list[list[float]]:
    """Each seed's share of the seconds of each epoch."""
    settings = Settings(ae_epochs=epochs, cls_epochs=epochs, patience=0)
    specs = [TrainingSpec(variant="scratch", network=network, seed=i, settings=settings) for i in range(num_seeds)]
    histories = []
    for outcome in training.run(specs, dataset, device, [{}] * len(specs), lambda _place, _result: None):
        if not isinstance(outcome, training.Outcome):
            raise outcome
        histories.append([result.elapsed_s for result in outcome.evidence.history])
    return histories


def measure_points(options: argparse.Namespace) -> list[Point]:
    """All points, each in a process of its own."""
    points = []
    cases = [("seeds", size, size, options.stack_images) for size in options.seeds]
    cases += [("images", size, 1, size) for size in options.images]
    for axis, size, num_seeds, num_images in cases:
        for network in options.networks:
            inner = ["--point", network, num_seeds, num_images, "--epochs", options.epochs]
            found = json.loads(measure.run_program("benchmarks.growth", *inner).output)
            points.append(Point(axis, network, size, *found))
            print(points[-1], flush=True)
    for size in options.workers:
        run = run_suite(options.grid_epochs, size)
        points.append(Point("workers", "grid", size, run.whole_s, run.peak_mib))
        print(points[-1], flush=True)
    return points


def exponent(points: Sequence[Point], field: str) -> float | None:
    """The slope of the logarithms; None for fewer than two points, or where something is not above zero."""
    sizes, values = [one.size for one in points], [getattr(one, field) for one in points]
    if len(points) < 2 or min(values) <= 0:
        return None
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def curves(points: Sequence[Point]) -> dict[tuple[str, str], list[Point]]:
    """The points by what varies and what was trained, ascending."""
    found: dict[tuple[str, str], list[Point]] = {}
    for point in sorted(points, key=lambda point: point.size):
        found.setdefault((point.axis, point.what), []).append(point)
    return dict(sorted(found.items(), key=lambda item: ["seeds", "images", "workers"].index(item[0][0])))


def report(points: Sequence[Point], facts: dict[str, object]) -> list[str]:
    """Exponents first, then the points."""
    header = ["varied", "trained", "time: exponent", "largest three", "memory: exponent", "largest three"]
    rows = []
    for (axis, what), line in curves(points).items():
        slopes = [exponent(part, field) for field in ("elapsed_s", "memory_mib") for part in (line, line[-3:])]
        rows.append([axis, what, *("" if slope is None else f"{slope:.2f}" for slope in slopes)])
    measured = [
        [axis, what, one.size, f"{one.elapsed_s:.3f}", f"{one.memory_mib:.0f}"]
        for (axis, what), line in curves(points).items()
        for one in line
    ]
    lines = ["# Growth", "", *measure.markdown_table(header, rows), ""]
    lines += ["Seconds are those of one epoch of the whole stack; with workers, of the whole command.", ""]
    lines += measure.markdown_table(["varied", "trained", "size", "seconds", "memory (MiB)"], measured)
    return [*lines, "", measure.told(facts)]


def draw(points: Sequence[Point]) -> Figure:
    """A column for what varies, time above and memory below, both axes logarithmic."""
    figure = Figure(figsize=(12, 7), layout="constrained")
    axes_names = list(dict.fromkeys(axis for axis, _ in curves(points)))
    panels = figure.subplots(2, len(axes_names), squeeze=False)
    for column, axis in enumerate(axes_names):
        lines = {what: line for (varied, what), line in curves(points).items() if varied == axis}
        time_label = "whole command (s)" if axis == "workers" else "one epoch (s)"
        memory_label = "all processes (MiB)" if axis == "workers" else "dataset and training (MiB)"
        _panel(panels[0, column], axis, lines, "elapsed_s", time_label)
        _panel(panels[1, column], axis, lines, "memory_mib", memory_label)
    return figure


def _panel(axes: Axes, axis: str, lines: dict[str, list[Point]], field: str, label: str) -> None:
    for what, line in lines.items():
        slope = exponent(line, field)
        name = what if slope is None else f"{what}: exponent {slope:.2f}"
        sizes = [one.size for one in line]
        axes.plot(sizes, [getattr(one, field) for one in line], "o-", color=COLOURS[what], label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = sorted({one.size for line in lines.values() for one in line})
    axes.set_xticks(ticks, [f"{tick // 1000}k" if tick % 1000 == 0 else f"{tick}" for tick in ticks])
    axes.minorticks_off()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set(xlabel=axis if axis != "seeds" else "seeds in one stack", ylabel=label)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Measure all points and write growth.md and growth.png; or, as a part of that, measure one point and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="*", default=list(GRID_NETWORKS))
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--images", type=int, nargs="*", default=[1_000, 3_000, 10_000, 30_000, 60_000])
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--stack-images", type=int, default=STACK_IMAGES)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--grid-epochs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--point", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        network, num_seeds, num_images = options.point
        print(json.dumps(measure_here(network, int(num_seeds), int(num_images), options.epochs)))
        return
    points = measure_points(options)
    facts = measure.machine() | {"threads": 1, "epochs": options.epochs, "images in a stack": options.stack_images}
    facts |= {"epochs with workers": options.grid_epochs}
    options.out.mkdir(parents=True, exist_ok=True)
    lines = report(points, facts)
    (options.out / "growth.md").write_text("\n".join([*lines, ""]))
    draw(points).savefig(options.out / "growth.png", dpi=150)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
