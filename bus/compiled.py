"""Libraries of compiled loops: C sources in a folder, built by scripts/build-kernels into its folder build/.

A library is used only when it was built from the very sources that are there, so that a changed source
never meets an old library. METERFLOW_KERNELS=off leaves all of them alone.
"""

from __future__ import annotations

import ctypes
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

SWITCH = "METERFLOW_KERNELS"
F = TypeVar("F", bound=Callable[..., Any])
_START = ctypes.c_char * 0


@dataclass(frozen=True, slots=True)
class Column:
    """An array argument: its type, and whether the loop writes into it."""

    kind: np.dtype[Any]
    written: bool = False


@dataclass(frozen=True, slots=True)
class Number:
    """An argument that is one whole number (int64_t)."""


INT64, INT32, INT16 = (Column(np.dtype(kind)) for kind in (np.int64, np.int32, np.int16))
INT8, BYTE, BOOL = (Column(np.dtype(kind)) for kind in (np.int8, np.uint8, np.bool_))
FLOAT = Column(np.dtype(np.float64))
OUT_INT64, OUT_INT32 = Column(np.dtype(np.int64), written=True), Column(np.dtype(np.int32), written=True)
OUT_INT8, OUT_BYTE = Column(np.dtype(np.int8), written=True), Column(np.dtype(np.uint8), written=True)
OUT_BOOL = Column(np.dtype(np.bool_), written=True)
SIZE = Number()


def digest(folder: Path) -> str:
    """What the C sources are, in eight digits: part of the library's name."""
    value = 0
    for source in sorted(folder.glob("*.[ch]")):
        value = zlib.crc32(source.read_bytes(), value)
    return f"{value:08x}"


def path_of_library(folder: Path) -> Path:
    """Where the library of a folder's sources is on this kind of machine, if it was built."""
    machine = os.uname()
    return folder / "build" / f"kernels-{machine.sysname}-{machine.machine}-{digest(folder)}.so".lower()


def beside(file: str) -> Path:
    """The folder of a module."""
    return Path(file).resolve().parent


def opened(folder: Path) -> ctypes.CDLL | None:
    """The library of a folder; None: switched off, not built, built for another C library, not a Unix."""
    if os.environ.get(SWITCH, "").lower() == "off":
        return None
    try:
        return ctypes.CDLL(str(path_of_library(folder)))
    except (AttributeError, OSError):
        return None


def compiled(
    library: ctypes.CDLL | None, name: str, arguments: Sequence[Column | Number]
) -> Callable[..., int] | None:
    """The loop of this name as a function of arrays and numbers, which returns its int64_t; None: not built.

    Arrays must be contiguous and of the very type that ``arguments`` says.
    """
    if library is None:
        return None
    function = getattr(library, f"meterflow_{name}")
    function.restype = ctypes.c_int64
    function.argtypes = [ctypes.c_void_p if isinstance(one, Column) else ctypes.c_int64 for one in arguments]

    kinds = [one.kind if isinstance(one, Column) else None for one in arguments]
    written = [isinstance(one, Column) and one.written for one in arguments]

    def call(*values: Any) -> int:
        assert len(values) == len(kinds), name
        return int(function(*map(_passed, kinds, written, values)))

    return call


def _passed(kind: np.dtype[Any] | None, written: bool, value: Any) -> Any:
    """An argument as ctypes takes it: the way by the buffer is several times faster than numpy's own."""
    if kind is None:
        return int(value)
    if type(value) is bytes:
        assert kind == np.uint8
        assert not written
        return value
    assert value.dtype == kind, f"{value.dtype} for {kind}"
    try:
        return _START.from_buffer(value)
    except (TypeError, ValueError):  # not writable, or not contiguous
        assert value.flags.c_contiguous
        assert not written
    return value.ctypes.data


def chosen(loop: Callable[..., int] | None, with_loop: F, twin: F) -> F:
    """The function that uses the compiled loop where it is there, else its twin."""
    return twin if loop is None else with_loop
