"""How trainings are carried out."""

import math
from dataclasses import dataclass

from aepretrain.config.names import MAX_PROCESSES, MAX_SEEDS
from aepretrain.config.settings import require_allowed


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How trainings are carried out. Never part of an identity; recorded as tags, because it may change rounding."""

    device: str = "auto"
    """``auto`` (an accelerator if there is one and it passes a self-check), ``cpu``, ``cuda`` or ``mps``."""
    threads: int = 1
    """Threads of each training."""
    jobs: int | None = None
    """Stacks trained at once, each in a process. Default: the number of physical cores, or 2 on a GPU."""
    stack: int | None = None
    """Seeds trained as one stack. Default: 1 on a CPU, up to 100 on a GPU."""
    data_dir: str | None = None
    """Folder of the dataset's files. Default: ``./data``, then ``../shared/data``."""
    force: bool = False
    """Train again what is finished."""
    plugins: tuple[str, ...] = ()
    """Modules to import first, which register networks, datasets and so on."""
    outage_s: float = 120.0
    """Seconds to wait for a tracking server that does not answer."""

    def __post_init__(self) -> None:
        for name, most in (("threads", MAX_PROCESSES), ("jobs", MAX_PROCESSES), ("stack", MAX_SEEDS)):
            _check_optional(name, getattr(self, name), most)
        require_allowed("outage_s", self.outage_s, lambda value: 0 <= value < math.inf, "a finite number >= 0")


def _check_optional(name: str, value: int | None, most: int) -> None:
    require_allowed(name, value, lambda value: value is None or 1 <= value <= most, f"an integer from 1 to {most}")
