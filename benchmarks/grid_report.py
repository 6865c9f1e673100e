"""Results of `grid.py` as a Markdown table, a CSV table and a figure."""

import csv
import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aepretrain.config import GRID_NETWORKS
from benchmarks.measure import markdown_table, told

COLOURS = {
    "obvious": "#999999",
    "lightning": "#CC79A7",
    "skorch": "#E69F00",
    "suite": "#0072B2",
    "limit": "#000000",
}
"""Okabe and Ito's colours, which colour-blind people can tell apart."""

NOTES = (
    "The limit is the arithmetic of the layers as listed, divided by the speed of a 2048×2048 float32 matrix product "
    "on one thread. A frozen training without augmentation computes its codes once, before its first epoch: that is "
    "part of the limit and of the whole command, not of the suite's loop."
)


@dataclass(frozen=True)
class Program:
    """A program's runs: whole commands, sums of all trainings' loops (one of each a repeat), and medians."""

    name: str
    processes: int
    whole_s: list[float]
    loops_s: list[float]
    trainings: dict[str, float]
    peak_mib: float

    @property
    def spread_s(self) -> list[float]:
        """The loops spread over the program's processes, in each repeat."""
        return [seconds / self.processes for seconds in self.loops_s]


@dataclass(frozen=True)
class Results:
    """All that was measured: `gflop` are each training's operations, `gflops` the machine's speed on one thread."""

    programs: list[Program]
    gflop: dict[str, float]
    gflops: float
    epochs: int
    facts: dict[str, object]

    def program(self, name: str) -> Program:
        """The program of this name."""
        return next(one for one in self.programs if one.name == name)

    def limit_s(self, training: str) -> float:
        """The limit of a training on one core."""
        return self.gflop[training] / self.gflops


def write(results: Results, out: Path) -> list[str]:
    """Write grid.md, grid.csv and grid.png; gives the lines of the first."""
    out.mkdir(parents=True, exist_ok=True)
    lines = ["# The whole grid", "", *whole_table(results), ""]
    lines += ["## Against the limit of one core", "", *limit_table(results), ""]
    lines += ["## Single trainings", "", *training_table(results), "", NOTES, "", told(results.facts)]
    (out / "grid.md").write_text("\n".join([*lines, ""]))
    names = [one.name for one in results.programs]
    with (out / "grid.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["training", *(f"{name}_s" for name in names), "limit_s", "gflop"])
        for training, gflop in results.gflop.items():
            seconds = [f"{one.trainings[training]:.3f}" for one in results.programs]
            writer.writerow([training, *seconds, f"{results.limit_s(training):.3f}", f"{gflop:.1f}"])
    draw(results).savefig(out / "grid.png", dpi=150)
    return lines


def ratio(slow: list[float], fast: list[float]) -> str:
    """The median of the repeats' ratios; with several repeats, also their range."""
    ratios = sorted(a / b for a, b in zip(slow, fast, strict=True))
    middle = f"{statistics.median(ratios):.1f}"
    return middle if len(ratios) == 1 else f"{middle} ({ratios[0]:.1f} to {ratios[-1]:.1f})"


def whole_table(results: Results) -> list[str]:
    """Each program on the whole grid, as a command and as the loops of its trainings."""
    obvious = results.program("obvious")
    header = ["program", "processes", "whole command (s)", "obvious / it", "loops, summed (s)"]
    header += ["loops over its processes (s)", "obvious / it", "peak memory (MiB)"]
    rows = []
    for one in results.programs:
        row = [one.name, str(one.processes), f"{statistics.median(one.whole_s):.1f}"]
        row += [ratio(obvious.whole_s, one.whole_s), f"{statistics.median(one.loops_s):.1f}"]
        row += [f"{statistics.median(one.spread_s):.1f}", ratio(obvious.loops_s, one.spread_s), f"{one.peak_mib:.0f}"]
        rows.append(row)
    processes = results.program("suite").processes
    summed_s = sum(results.gflop.values()) / results.gflops
    limit_s = [summed_s / processes] * len(obvious.loops_s)
    limit = ["limit", processes, "", "", f"{summed_s:.1f}", f"{limit_s[0]:.1f}", ratio(obvious.loops_s, limit_s), ""]
    return markdown_table(header, [*rows, limit])


def limit_table(results: Results) -> list[str]:
    """The loops of each network's eight trainings compared with their arithmetic."""
    header = ["network", "GFLOP", "limit (s)", "suite's loops (s)", "times the limit"]
    header += ["obvious loops (s)", "times the limit", "obvious / suite", "over the suite's processes"]
    suite, obvious = results.program("suite"), results.program("obvious")
    rows = []
    for network in GRID_NETWORKS:
        trainings = [one for one in results.gflop if one.startswith(f"{network}-")]
        gflop = sum(results.gflop[one] for one in trainings)
        limit_s = gflop / results.gflops
        fast, slow = (sum(program.trainings[one] for one in trainings) for program in (suite, obvious))
        row = [network, f"{gflop:.0f}", f"{limit_s:.2f}", f"{fast:.2f}", f"{fast / limit_s:.2f}"]
        row += [f"{slow:.2f}", f"{slow / limit_s:.1f}", f"{slow / fast:.1f}", f"{slow / fast * suite.processes:.1f}"]
        rows.append(row)
    return markdown_table(header, rows)


def training_table(results: Results) -> list[str]:
    """Each training's seconds in every program, one after the other, and its limit."""
    names = [one.name for one in results.programs]
    suite, obvious = results.program("suite"), results.program("obvious")
    header = ["training", *(f"{name} (s)" for name in names), "limit (s)", "obvious / suite", "suite / limit"]
    rows = []
    for training in results.gflop:
        fast, limit_s = suite.trainings[training], results.limit_s(training)
        seconds = [f"{one.trainings[training]:.2f}" for one in results.programs]
        ratios = [f"{obvious.trainings[training] / fast:.1f}", f"{fast / limit_s:.2f}"]
        rows.append([training, *seconds, f"{limit_s:.2f}", *ratios])
    return markdown_table(header, rows)


def draw(results: Results) -> Figure:
    """Seconds an epoch of each training: a panel for each network, a group of bars for each training."""
    bars = {one.name: one.trainings for one in results.programs}
    bars["limit"] = {training: results.limit_s(training) for training in results.gflop}
    bars = {name: bars[name] for name in COLOURS if name in bars}
    figure = Figure(figsize=(12, 8.5), layout="constrained")
    panels = figure.subplots(1, len(GRID_NETWORKS), sharex=True)
    for axes, network in zip(panels, GRID_NETWORKS, strict=True):
        _panel(axes, network, bars, results.epochs)
    names = {
        "limit": "limit of the arithmetic, one core",
        "suite": "this suite, one core",
        "obvious": "obvious program",
    }
    handles = panels[0].containers
    figure.legend(handles, [names.get(name, name) for name in bars], loc="outside lower center", ncols=5, frameon=False)
    others = ", ".join(one.name for one in results.programs if one.name != "suite")
    figure.suptitle(f"Seconds of one epoch of each training ({others}: all {results.facts['cores']} cores)")
    return figure


def _panel(axes: Axes, network: str, bars: dict[str, dict[str, float]], epochs: int) -> None:
    trainings = [one for one in bars["limit"] if one.startswith(f"{network}-")]
    height = 0.84 / len(bars)
    for place, (name, seconds) in enumerate(bars.items()):
        at = np.arange(len(trainings)) + (place - (len(bars) - 1) / 2) * height
        drawn = axes.barh(at, [seconds[one] / epochs for one in trainings], height * 0.92, color=COLOURS[name])
        axes.bar_label(drawn, fmt="%.2f", padding=2, fontsize=7)
    axes.set_yticks(range(len(trainings)), [one.removeprefix(f"{network}-").replace("-", "\n") for one in trainings])
    axes.invert_yaxis()
    axes.set(title=network, xlabel="seconds an epoch")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
