r"""Values as Flux literals, so that a query holds texts of any kind and none of them is code.

What a site file calls a plant may hold quotes, backslashes and ``${``. Every byte but letters, digits
and a few harmless signs is written as ``\xHH`` (Flux specification, "String literals").
"""

from __future__ import annotations

from collections.abc import Iterable

EACH_TIME_ONCE = '|> aggregateWindow(every: 1ns, fn: first, createEmpty: false, timeSrc: "_start")'
"""A step that keeps what InfluxDB answers first for each time of a series. It costs nothing directly behind
range and filter.

InfluxDB 2.7 may answer with values of a file once more, behind the newer ones that have replaced them (its
issue 26690): where what it still holds in memory, not yet in a file, has a time that the file lacks, and
nothing behind the file's end. For minutes a query then shows rows as they were before they were revised.
"""
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _-.:/+,=()")


def text(value: str) -> str:
    """A string literal that means exactly this text."""
    return '"' + "".join(chr(b) if b in _PLAIN else f"\\x{b:02x}" for b in value.encode()) + '"'


def texts(values: Iterable[str]) -> str:
    """An array literal of strings."""
    return f"[{', '.join(map(text, values))}]"


def instant(at_ms: int) -> str:
    """An expression for UTC milliseconds."""
    return f"time(v: {at_ms * 1_000_000:d})"
