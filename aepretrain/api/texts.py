"""Points of time and sizes as text."""

from datetime import UTC, datetime


def size_text(num_bytes: float) -> str:
    """``40 kB``, ``7 MB`` or ``1.2 GB``."""
    if num_bytes < 1e6:
        return f"{num_bytes / 1e3:.0f} kB"
    return f"{num_bytes / 1e6:,.0f} MB" if num_bytes < 1e9 else f"{num_bytes / 1e9:,.1f} GB"


def time_text(time: datetime) -> str:
    """``2026-11-29 14:05``, in UTC."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M}"
