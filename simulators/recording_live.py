"""Recordings that grow while messages come, so that a kill at any moment loses little, and told so.

Of a plain file everything given is with the operating system when ``write`` returns, and on the
disk within a second; of a compressed one within a second of both. What is cut off in the last line
is found by whoever reads it.
"""

from __future__ import annotations

import os
import sys
import time
import zlib
from pathlib import Path
from typing import BinaryIO, Protocol

import zstandard

from metering.errors import UsageError
from simulators.recording import STANDARD, Gap, read_recording

SETTLE_S = 1.0


class _Packer(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self, mode: int = ..., /) -> bytes: ...


class LiveRecording:
    """An open recording. ``lines`` counts what was written; all methods raise OSError."""

    def __init__(self, name: str, *, append: bool = False) -> None:
        """Raises UsageError where there is a recording already that is not to be appended to."""
        self.lines = 0
        self.last_ms: int | None = None
        """Of what is appended to: when its last message was received."""
        self.cut_bytes = 0
        """What was taken off the end of a recording that was cut off there."""
        if name != STANDARD and Path(name).exists() and Path(name).stat().st_size:
            if not append:
                hint = "give another name, or --append"
                raise UsageError("there is a recording already", where=name, hint=hint)
            self._look_at(name)
        self._file: BinaryIO = sys.stdout.buffer if name == STANDARD else Path(name).open("ab")  # noqa: SIM115
        self._standard = name == STANDARD
        self._packer, self._sync, self._end = _packer(name)
        self._began = self._dirty = False
        self._settled_s = time.monotonic()

    def write(self, lines: bytes, count: int) -> None:
        self.lines += count
        self._began = self._dirty = True
        if self._packer is not None:
            self._file.write(self._packer.compress(lines))
            return
        self._file.write(lines)
        self._file.flush()

    def settle(self, *, at_once: bool = False) -> None:
        """Brings to the disk what was written, once a second."""
        now_s = time.monotonic()
        if not self._dirty or (not at_once and now_s - self._settled_s < SETTLE_S):
            return
        if self._packer is not None:
            self._file.write(self._packer.flush(self._sync))
        self._file.flush()
        if not self._standard:
            os.fsync(self._file.fileno())
        self._dirty = False
        self._settled_s = time.monotonic()

    def close(self) -> None:
        try:
            if self._packer is not None and self._began:
                self._file.write(self._packer.flush(self._end))
                self._dirty = True
            self._packer = None
            self.settle(at_once=True)
        finally:
            if not self._standard:
                self._file.close()

    def _look_at(self, name: str) -> None:
        ends: list[UsageError] = []

        def hear(told: Gap | UsageError) -> None:
            if isinstance(told, UsageError):
                ends.append(told)
            else:
                self.last_ms = told.received_ms

        for message in read_recording(name, hear):
            self.last_ms = message.received_ms
        if ends and name.endswith((".gz", ".zst")):
            hint = "nothing can be added behind that: give another name"
            raise UsageError("it is cut off at its end", where=name, hint=hint)
        if not name.endswith((".gz", ".zst")):
            self.cut_bytes = _close_last_line(Path(name), cut=bool(ends))


def _close_last_line(path: Path, *, cut: bool) -> int:
    """Takes off a last line that is cut off, ends one that lacks its line feed; how much was taken off."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if cut:
            keep = _last_feed(file, size)
            file.truncate(keep)
            return size - keep
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")
    return 0


def _last_feed(file: BinaryIO, size: int) -> int:
    """Behind the last line feed; 0 where there is none."""
    step, end = 1 << 16, size
    while end > 0:
        begin = max(0, end - step)
        file.seek(begin)
        found = file.read(end - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


def _packer(name: str) -> tuple[_Packer | None, int, int]:
    """What packs, and how it is told to give all it has, and that this is the end."""
    if name.endswith(".gz"):
        return zlib.compressobj(6, zlib.DEFLATED, 31), zlib.Z_SYNC_FLUSH, zlib.Z_FINISH
    if name.endswith(".zst"):
        packer = zstandard.ZstdCompressor().compressobj()
        return packer, zstandard.COMPRESSOBJ_FLUSH_BLOCK, zstandard.COMPRESSOBJ_FLUSH_FINISH
    return None, 0, 0
