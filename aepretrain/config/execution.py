"""How trainings are carried out."""

import math
from dataclasses import dataclass

from aepretrain.config.names import MAX_PROCESSES, MAX_SEEDS
from aepretrain.config.settings import require_allowed


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How trainings are carried out. Never part of an identity; recorded as tags, because it may change rounding."""

    device: str = "auto"
    threads: int = 1
    jobs: int | None = None
    stack: int | None = None
    data_dir: str | None = None
    force: bool = False
    plugins: tuple[str, ...] = ()
    outage_s: float = 120.0

    def __post_init__(self) -> None:
        for name, most in (("threads", MAX_PROCESSES), ("jobs", MAX_PROCESSES), ("stack", MAX_SEEDS)):
            _check_optional(name, getattr(self, name), most)
        require_allowed("outage_s", self.outage_s, lambda value: 0 <= value < math.inf, "a finite number >= 0")


def _check_optional(name: str, value: int | None, most: int) -> None:
    require_allowed(name, value, lambda value: value is None or 1 <= value <= most, f"an integer from 1 to {most}")
