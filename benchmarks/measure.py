"""Shared by the benchmarks: facts about the machine, its peak speed, programs as processes, and their memory."""

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from aepretrain.data import Dataset, with_digest

SAMPLING_S = 1.0
"""Seconds between two readings of the memory of a process tree; a reading costs a few milliseconds per process."""

MIB = 1 << 20


@dataclass(frozen=True)
class Finished:
    """A program that has run: what it printed, its seconds as a whole, and its highest memory, all processes together.

    Memory that several processes share counts once (on Linux, by PSS; elsewhere RSS is summed).
    """

    output: str
    elapsed_s: float
    peak_mib: float


def run_program(module: str, *arguments: object, sampling_s: float = SAMPLING_S) -> Finished:
    """Run ``python -m module arguments``, imports included, and look at its memory every `sampling_s` seconds.

    Raises `RuntimeError` with the end of its error output where it fails.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=errors)
        with MemoryWatch(lambda: tree_mib(process.pid), sampling_s) as watch:
            process.wait()
        elapsed_s = time.perf_counter() - started
        for file in (output, errors):
            file.seek(0)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {errors.read()[-2000:]}")
        return Finished(output.read(), elapsed_s, watch.peak_mib)


class MemoryWatch:
    """Peak memory while the block runs, from regular readings."""

    def __init__(self, look: Callable[[], float], interval_s: float) -> None:
        self.peak_mib = 0.0
        self._look = look
        self._interval_s = interval_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(self._interval_s):
            self.peak_mib = max(self.peak_mib, self._look())


def tree_mib(pid: int) -> float:
    """The memory of a process and its descendants now, in MiB; 0 where it has ended."""
    import psutil

    try:
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    total = 0
    for process in processes:
        try:
            memory = process.memory_full_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        total += getattr(memory, "pss", memory.rss)
    return total / MIB


def own_mib() -> float:
    """The memory that this process has asked for and uses now (Linux's ``RssAnon``), in MiB.

    Not getrusage's ru_maxrss: a child begins with the highest value of the process that started it, and files that are
    mapped, as libraries are, come and go with what else the machine is doing.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon:"))


def noise(num: int = 600) -> Dataset:
    """Noise images for a warm-up."""
    images_NHW = torch.randint(0, 256, (num, 28, 28), dtype=torch.uint8)
    labels_N = torch.arange(num) % 10
    return with_digest("noise", "none", images_NHW, labels_N, images_NHW, labels_N)


def peak_gflops(repeats: int = 15, size: int = 2048) -> float:
    """GFLOP/s of a float32 matrix product of this size on one thread of this process: the median."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    left, right = torch.rand(size, size), torch.rand(size, size)
    product = torch.empty(size, size)
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        torch.mm(left, right, out=product)
        seconds.append(time.perf_counter() - started)
    torch.set_num_threads(threads)
    return 2 * size**3 / statistics.median(seconds) / 1e9


def machine() -> dict[str, object]:
    """Facts that every measurement states: processor, usable cores and versions."""
    return {
        "processor": processor_name(),
        "cores": num_cores(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def num_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor_name() -> str:
    """The processor's name from Linux, else from Python."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def device_name(device: torch.device) -> str:
    """The name of the card, or of the processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """The lines of a table."""
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(map(str, line)) + " |" for line in lines]


def told(facts: dict[str, object]) -> str:
    """Facts as one sentence of a report."""
    return "Measured on: " + ", ".join(f"{name} {value}" for name, value in facts.items()) + "."
