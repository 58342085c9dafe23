r"""Values as Flux literals, so that a query holds texts of any kind and none of them is code.

What a site file calls a plant may hold quotes, backslashes and ``${``. Every byte but letters, digits
and a few harmless signs is written as ``\xHH`` (Flux specification, "String literals").
"""

from __future__ import annotations

from collections.abc import Iterable

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
