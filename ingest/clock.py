"""The machine's clock, as ingest stamps with it what it receives."""

from __future__ import annotations

import time


def wall_clock_ms() -> int:
    """UTC milliseconds."""
    return time.time_ns() // 1_000_000
