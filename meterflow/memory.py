"""What the service asks of the allocators: to keep little, and to give back what it does not use."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""Parameters of glibc's mallopt (malloc.h)."""
_ARENAS, _TRIM_BYTES, _MAP_BYTES = 2, 64 << 20, 8 << 20


def spare() -> None:
    """To be called before threads start and Arrow is imported, whose own pool takes 6 MB unused.

    Of the C library it asks nothing where that is another one.

    By default glibc gives every thread an arena and keeps what is freed, and so does Arrow's own
    pool. What is larger than
    a batch's arrays is mapped by itself, so that it leaves no hole when it goes; batches' own arrays are
    not, as every page of a new mapping is a fault and is cleared: half a microsecond a reading in all. Of
    what is free at the end 64 MB are kept from one batch to the next, until ``give_back``.
    """
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(_M_ARENA_MAX, _ARENAS)
        library.mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)
        library.mallopt(_M_MMAP_THRESHOLD, _MAP_BYTES)  # fixed, or it stays at 128 kB when the other is set
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    import pyarrow as pa

    pa.set_memory_pool(pa.system_memory_pool())  # should it have been imported before


def give_back() -> None:
    """To be called where much was freed, as when a state was saved: whole pages between what is used go back.

    glibc keeps them for the next batch, a fifth of a process of 50,000 points; what it needs of them again is
    a fault a page, some milliseconds in all. Other C libraries are asked nothing.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
