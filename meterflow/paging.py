"""Bulk state that is hardly looked at lies in files without a name, which the operating system pages in.

A part of an array is written to its file and the file is mapped over it, privately: its address stays, what
is read of it comes from the page cache or the disk, what is written to it lies in memory again and in no
file. Where the disk has no room the part stays in memory. The files go with the process, however that ends.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from processors.room import IN_MEMORY, Bools, Column, Room, stretches

Array = NDArray[Any]
_RIGHTS: Final = mmap.PROT_READ | mmap.PROT_WRITE
_MAP_FIXED, _MAP_NORESERVE = 0x10, 0x4000
"""Linux, on every processor that numpy has wheels for (asm-generic/mman-common.h, mman.h)."""
_WRITE_BYTES: Final = 64 << 20


def room_in(folder: Path) -> Room:
    """Room in a folder, which must be on a disk and not in memory; plain memory where that cannot be."""
    with suppress(OSError, AttributeError):
        if os.uname().sysname == "Linux":
            return _Paged(folder, _mapper())
    return IN_MEMORY


_Over = Callable[[int, int, int, int], None]
"""(address, bytes, descriptor, offset): maps a file there, privately. Raises OSError."""


def _mapper() -> _Over:
    map_ = ctypes.CDLL("libc.so.6", use_errno=True).mmap
    map_.restype = ctypes.c_void_p
    number, address = ctypes.c_int, ctypes.c_void_p
    map_.argtypes = (address, ctypes.c_size_t, number, number, number, ctypes.c_long)

    def over(where: int, size: int, descriptor: int, offset: int) -> None:
        if map_(where, size, _RIGHTS, mmap.MAP_PRIVATE | _MAP_FIXED, descriptor, offset) != where:
            raise OSError(ctypes.get_errno(), "a file cannot be mapped")

    return over


class _Paged:
    """Room in a folder."""

    def __init__(self, folder: Path, over: _Over) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._over = folder, over

    def column(self, size: int, kind: DTypeLike, chunk: int) -> Column:
        return _PagedColumn(self._folder, self._over, size, np.dtype(kind), chunk)

    def put_out(self, array: Array) -> Array:
        try:
            with _nameless(self._folder) as file:
                _write(file.fileno(), array, 0)
                mapped = mmap.mmap(file.fileno(), array.nbytes, flags=mmap.MAP_PRIVATE, prot=_RIGHTS)
        except OSError:
            return array
        return np.frombuffer(mapped, array.dtype)


class _PagedColumn:
    """``_out``: of each chunk whether the file has it and is mapped there."""

    def __init__(self, folder: Path, over: _Over, size: int, kind: np.dtype[Any], chunk: int) -> None:
        self._folder, self._over, self._chunk, self._bytes = folder, over, chunk, chunk * kind.itemsize
        self._file: Any = None
        self.array = _blank(size, kind)
        self._out = np.zeros(size // chunk, bool)

    def grow(self, size: int, newer: Bools) -> None:
        before, out = self.array, self._out & ~newer
        self.array = _blank(size, before.dtype)
        self._out = np.zeros(size // self._chunk, bool)
        for first, until in stretches(out):
            self._map(first, until)
        for first, until in stretches(~out):
            some = slice(first * self._chunk, until * self._chunk)
            if before[some].any():
                self.array[some] = before[some]

    def put_out(self, first: int, until: int) -> bool:
        some = self.array[first * self._chunk : until * self._chunk]
        never_written = not (some.any() or self._out[first:until].any())
        if never_written or self._bytes % mmap.PAGESIZE:
            return True
        try:
            if self._file is None:
                self._file = _nameless(self._folder)
            _write(self._file.fileno(), some, first * self._bytes)
            self._map(first, until)
        except OSError:
            return False
        return True

    def _map(self, first: int, until: int) -> None:
        at, size = first * self._bytes, (until - first) * self._bytes
        self._over(self.array.ctypes.data + at, size, self._file.fileno(), at)
        self._out[first:until] = True


def _nameless(folder: Path) -> Any:
    return tempfile.TemporaryFile(dir=folder, buffering=0)


def _blank(size: int, kind: np.dtype[Any]) -> Array:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    return np.frombuffer(mmap.mmap(-1, max(size * kind.itemsize, 1), flags=flags, prot=_RIGHTS), kind, size)


def _write(descriptor: int, array: Array, offset: int) -> None:
    """All of it. Raises OSError."""
    data, done = np.ascontiguousarray(array).view(np.uint8).data, 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done : done + _WRITE_BYTES], offset + done)
