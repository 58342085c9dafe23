"""Fills a new store with the rows of a whole calculation, at a third of what the merge costs.

Rows of a series (the texts of a key) come in the order of their time, nearly all: a row that is later than
every row of its series before it is the first of its key. Nothing stored has to be looked for then, and it is
appended. Every other row goes through the merge behind those that came before it, so that newest rows and
history are those that the merge makes of all of them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from metering.errors import UsageError
from metering.tables import TABLES, Kind
from sinks.store_duckdb import open_store
from sinks.store_layout import OPEN, YEAR_1_MS, Layout, layout, storable
from sinks.store_merge import Connection, add, merge

WRITE_ROWS: Final = 1 << 19
"""So many are stored at once, while as many more are gathered."""
MERGE_ROWS: Final = 1 << 17
"""Of those that go through the merge."""
_WIDEST: Final = 1 << 62

Bools = NDArray[np.bool_]
Frames = Sequence[tuple[str, pa.Table]]


class Filling:
    """A store on its way to ``path``, where it stands whole when ``finish`` returns, and never before.

    Until then it is a file beside it, which ``discard`` removes; one that a kill has left is begun anew.
    Raises UsageError where there are results already, or where another process fills the same path.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._part = path, path.with_name(f"{path.name}.part")
        self._lock = _Lock(path)
        try:
            if path.exists():
                raise UsageError("there are results already", where=str(path), hint="Name another folder.")
            self._clear()
            self._store, _ = open_store(self._part, threads=1)
        except BaseException:
            self._lock.release()
            raise
        self._filled = {name: _Filled(layout(name)) for name in TABLES}
        self._frames: list[tuple[str, pa.Table]] = []
        self._rows = self._position = 0
        self._writer = ThreadPoolExecutor(1, "filling")
        self._writing: Future[None] | None = None

    def add(self, name: str, rows: pa.Table) -> None:
        """Takes rows of a table; a thread of their own stores them. Raises what ``DuckStore`` raises."""
        self._frames.append((name, rows))
        self._rows += len(rows)
        if self._rows >= WRITE_ROWS:
            self._write(last=False)

    def finish(self) -> None:
        """Stores what waits, and puts the file in its place."""
        self._write(last=True)
        self._written()
        self._close()
        self._part.rename(self._path)
        self._lock.release()

    def discard(self) -> None:
        """Leaves nothing behind. It waits for what is being stored."""
        self._close()
        self._clear()
        self._lock.release()

    def _write(self, *, last: bool) -> None:
        self._written()
        self._position += len(self._frames)
        self._writing = self._writer.submit(self._put, self._frames, self._position, last)
        self._frames, self._rows = [], 0

    def _written(self) -> None:
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def _put(self, frames: Frames, position: int, last: bool) -> None:
        for name, rows in frames:
            self._filled[name].take(rows)

        def put(connection: Connection) -> None:
            for filled in self._filled.values():
                filled.put(connection, merging=last)

        self._store.change(put, position)

    def _close(self) -> None:
        self._writer.shutdown()
        self._store.close()

    def _clear(self) -> None:
        for suffix in ("", ".wal"):
            self._part.with_name(f"{self._part.name}{suffix}").unlink(missing_ok=True)
        shutil.rmtree(self._part.with_name(f"{self._part.name}.tmp"), ignore_errors=True)


@contextmanager
def filling(path: Path) -> Iterator[Filling]:
    """A new store, which is there when all went well; nothing of it is when not."""
    filled = Filling(path)
    try:
        yield filled
        filled.finish()
    except BaseException:
        filled.discard()
        raise


class _Lock:
    """Held by the one process that fills a path; a kill releases it."""

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(f"{path.name}.filling")
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise UsageError(
                "another process is writing results here", where=str(path), hint="Name another folder."
            ) from None

    def release(self) -> None:
        with suppress(FileNotFoundError):
            self._path.unlink()
        os.close(self._file)


class _Filled:
    """What waits of one table: new keys, reported or open, and rows for the merge, each in their order."""

    def __init__(self, its: Layout) -> None:
        self._layout = its
        self._reach = _Reach(its) if its.table.time in its.table.key else None
        self._new: dict[str, list[pa.Table]] = {name: [] for name in its.newest_tables}
        self._others: list[pa.Table] = []
        self._waiting = 0

    def take(self, rows: pa.Table) -> None:
        rows = storable(self._layout, rows, coded=True)
        if self._reach is None:
            self._wait(rows)
            return
        first = self._reach.first(rows)
        if not first.all():
            self._wait(rows.filter(pa.array(~first)))
            rows = rows.filter(pa.array(first))
        if self._layout.fills:
            is_open = _equal(rows, "state", OPEN)
            self._add(self._layout.current, rows, is_open)
            self._add(self._layout.settled, rows, ~is_open)
        else:
            self._new[self._layout.newest_tables[0]].append(rows)

    def put(self, connection: Connection, *, merging: bool) -> None:
        """Into the store's open transaction; ``merging``: also few rows that the merge has to take."""
        for table, parts in self._new.items():
            if parts:
                add(connection, self._layout, table, pa.concat_tables(parts))
                parts.clear()
        if self._waiting >= MERGE_ROWS or (merging and self._waiting):
            merge(connection, self._layout, self._others)
            self._others, self._waiting = [], 0

    def _add(self, table: str, rows: pa.Table, which: Bools) -> None:
        if which.any():
            self._new[table].append(rows if which.all() else rows.filter(pa.array(which)))

    def _wait(self, rows: pa.Table) -> None:
        self._others.append(rows)
        self._waiting += len(rows)


class _Reach:
    """How far each series of a table has come: the latest time of its rows."""

    def __init__(self, its: Layout) -> None:
        texts = {column.name for column in its.table.columns if column.kind is Kind.TEXT}
        self._texts = [name for name in its.table.key if name in texts]
        self._time = its.table.time
        self._latest: dict[tuple[str | None, ...], int] = {}

    def first(self, rows: pa.Table) -> Bools:
        """Which rows are later than every row of their series so far: the first of their key."""
        if not len(rows):
            return np.zeros(0, bool)
        texts = [_coded(rows, name) for name in self._texts]
        time = rows[self._time].cast(pa.int64()).fill_null(YEAR_1_MS - 1).to_numpy()
        changes = np.any([np.diff(codes) != 0 for codes, _ in texts], axis=0)
        begins = np.concatenate([[0], np.flatnonzero(changes) + 1])
        before = self._follow(texts, begins, np.maximum.reduceat(time, begins))
        run = np.repeat(np.arange(len(begins)), np.diff(begins, append=len(time)))
        least, width = int(time.min()), int(np.ptp(time)) + 1
        if width * len(begins) >= _WIDEST:
            return np.zeros(len(time), bool)
        lifted = time - least + run * width
        later = np.diff(np.maximum.accumulate(lifted), prepend=-1) > 0
        found: Bools = later & (time > before[run])
        return found

    def _follow(
        self, texts: list[tuple[NDArray[np.int32], list[str | None]]], begins: Any, latest: Any
    ) -> NDArray[np.int64]:
        """The latest time of each run's series before it, which then is at least the run's own."""
        words = [[its[code] for code in codes[begins].tolist()] for codes, its in texts]
        before = []
        for key, time in zip(zip(*words, strict=True), latest.tolist(), strict=True):
            known = self._latest.get(key, YEAR_1_MS - 1)
            self._latest[key] = max(known, time)
            before.append(known)
        return np.array(before, np.int64)


def _coded(rows: pa.Table, name: str) -> tuple[NDArray[np.int32], list[str | None]]:
    """Numbers of words, and the words: the last is that of no text, whose number is -1."""
    column = rows[name].combine_chunks()
    return column.indices.fill_null(-1).to_numpy(), [*column.dictionary.to_pylist(), None]


def _equal(rows: pa.Table, name: str, word: str) -> Bools:
    codes, words = _coded(rows, name)
    found: Bools = np.array([one == word for one in words])[codes]
    return found
