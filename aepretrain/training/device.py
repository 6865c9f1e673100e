"""The device and the process that a training runs in."""

import ctypes
import platform
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import torch

from aepretrain.errors import UsageError

COMPUTING = ("torch", "numpy", "numba", "scikit-learn")
"""The packages whose versions may change a result's last digits."""

LOOPS = "2"
"""The version of the compiled loops (`aepretrain.convolution`): another one where a change of them changes rounding."""


@lru_cache(maxsize=4)
def describe_machine(device: torch.device) -> dict[str, str]:
    """What changes a result's bits: the processor or card by its name, its vector instructions, and versions.

    A processor of the same name may have fewer instructions, as in a virtual machine.
    """
    packages = ", ".join(f"{name} {version(name)}" for name in COMPUTING)
    processor = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "processor": processor,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "loops": LOOPS,
        "versions": f"Python {platform.python_version()}, {packages}",
    }


def _processor() -> str:
    """The processor's name as Linux tells it, elsewhere as Python does."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def resolve_device(name: str) -> torch.device:
    """The device of a name; ``auto`` takes the accelerator that is there, or else the CPU. Raises `UsageError`."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if name == "auto":
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"device={name!r} is not known: use auto, cpu, cuda or mps") from None
    if device.type != "cpu" and (accelerator is None or accelerator.type != device.type):
        raise UsageError(f"device={name!r} is not available on this machine")
    return device


def prepare_process(num_threads: int) -> None:
    """Let this process compute with so many threads, and keep the memory that a training step frees for the next.

    Two processes with one thread beat one process with two. glibc would give large freed blocks back to the system
    and have every step fault them in again, a tenth of a convolutional step; other C libraries are left alone.
    """
    torch.set_num_threads(num_threads)
    torch.backends.cudnn.deterministic = True  # the same bits on the same card, and full float32 products
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False  # the environment may have it on, as in NVIDIA's containers
    if platform.libc_ver()[0] == "glibc":
        trim_threshold, mmap_threshold = -1, -3  # mallopt(3)
        libc = ctypes.CDLL(None)
        for parameter in (trim_threshold, mmap_threshold):
            libc.mallopt(parameter, 1 << 30)
