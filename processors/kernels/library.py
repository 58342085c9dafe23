"""The library of the compiled loops whose C sources are beside this file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bus import compiled as loader
from bus.compiled import (
    BOOL,
    BYTE,
    FLOAT,
    INT8,
    INT16,
    INT32,
    INT64,
    OUT_BOOL,
    OUT_BYTE,
    OUT_INT8,
    OUT_INT32,
    OUT_INT64,
    SIZE,
    Column,
    Number,
    chosen,
)

__all__ = [
    "BOOL",
    "BYTE",
    "COMPILED",
    "FLOAT",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "OUT_BOOL",
    "OUT_BYTE",
    "OUT_INT8",
    "OUT_INT32",
    "OUT_INT64",
    "SIZE",
    "Column",
    "Number",
    "chosen",
    "compiled",
]

_LIBRARY = loader.opened(loader.beside(__file__))
COMPILED = _LIBRARY is not None
"""Whether the compiled loops are used."""


def compiled(name: str, arguments: Sequence[Column | Number]) -> Callable[..., int] | None:
    """The loop of this name (bus.compiled), None where it is not built."""
    return loader.compiled(_LIBRARY, name, arguments)
