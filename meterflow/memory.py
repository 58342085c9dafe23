"""What the service asks of the allocators: to give back what it does not use."""

from __future__ import annotations

import ctypes
from contextlib import suppress

import pyarrow as pa

_M_TRIM_THRESHOLD, _M_ARENA_MAX = -1, -8
"""Parameters of glibc's mallopt (malloc.h)."""
_ARENAS, _TRIM_BYTES = 2, 1 << 20


def spare() -> None:
    """To be called before threads start; does nothing where the C library is another one.

    By default glibc gives every thread an arena and keeps what is freed, and so does Arrow's own
    pool: a service with three simulated plants then holds 390 MB instead of 250.
    """
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(_M_ARENA_MAX, _ARENAS)
        library.mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)
    pa.set_memory_pool(pa.system_memory_pool())
