"""The embedded store: result tables in one DuckDB file, with the log position they stand at.

One process owns the file; within it one thread writes and any number read. Rows and position are
committed together, so that after a kill the store goes on exactly where it stands.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from metering.errors import MeterflowError, Unavailable, UsageError
from metering.query import Format, Query
from metering.tables import TABLES
from sinks.render import ENGINE, read_by_stretches, rendered
from sinks.store_layout import (
    CARRIED_VERSION,
    COMPARED_VERSION,
    STORE,
    STORE_VERSION,
    create_store,
    layout,
    shape,
)
from sinks.store_lift import Lifts, lifts_of
from sinks.store_merge import merge
from sinks.store_query import row_sql, row_values, selection

log = logging.getLogger(__name__)

MEMORY_LIMIT = "128MB"
"""Of DuckDB's pages and sorts; what is more goes to files beside the store. More hardly makes it faster."""
THREADS = 2
CHECKPOINT_BYTES = 32 << 20
"""The write-ahead log is folded into the file when it has grown to this."""


class Damaged(Exception):
    """The file cannot be used as it is, but everything in it can be had again from the log."""


class DuckStore:
    """Result tables by ``metering.query.Results``, and ``write``. Open it with ``open_store``.

    ``moved_aside`` names the damaged predecessor, if there was one.
    """

    moved_aside: Path | None = None

    def __init__(
        self,
        path: Path,
        *,
        memory_limit: str = MEMORY_LIMIT,
        threads: int = THREADS,
        checkpoint_bytes: int = CHECKPOINT_BYTES,
    ) -> None:
        self.path = path
        self._config: dict[str, str | bool | int | float | list[str]] = {
            **ENGINE,
            "python_enable_replacements": True,  # the merge's own Arrow tables, and no other names are used
            "memory_limit": memory_limit,
            "threads": threads,
            "wal_autocheckpoint": f"{checkpoint_bytes}B",
        }
        self._writing = threading.Lock()
        self._connecting = threading.Lock()
        self._closed = False
        self._lifts: Lifts | None = None
        self._connection = self._connect()
        try:
            self._positions = self._check_or_create()
        except BaseException:
            self._connection.close()
            raise

    def write(
        self, frames: Sequence[tuple[str, pa.Table]], position: int, rejected: int | None = None
    ) -> None:
        """Stores result rows and the offsets they reach to, all or nothing; durable when it returns.

        ``frames``: table name and rows with ``bus.frames.schema(table)``, in the order of the log.
        ``position``: the offset in the results log up to which everything is stored then;
        ``rejected``: the same of the rejected log, unchanged if None. Raises Unavailable when the
        file cannot take it now; then nothing of it is stored, and the same call may be repeated.
        """

        def merged(cursor: duckdb.DuckDBPyConnection) -> None:
            for table, its in _by_table(frames).items():
                lifted = self._lifts.lifted(cursor, layout(table), its) if self._lifts is not None else its
                if lifted:
                    merge(cursor, layout(table), lifted)

        self.change(merged, position, rejected)

    def change(
        self, put: Callable[[duckdb.DuckDBPyConnection], None], position: int, rejected: int | None = None
    ) -> None:
        """Stores what ``put`` stores; all else as in ``write``."""
        with self._writing, self._ours("write to"):
            positions = (position, self._positions[1] if rejected is None else rejected)
            with self._cursor() as cursor, _transaction(cursor):
                put(cursor)
                cursor.execute(f"UPDATE {STORE} SET results = ?, rejected = ?", list(positions))
            self._positions = positions

    def rows(self, query: Query) -> list[dict[str, Any]]:
        """See ``metering.query.Results``. Raises UsageError for an unknown table or column."""
        wanted = selection(query)
        with self._ours("read"), self._cursor() as cursor:
            found = cursor.execute(row_sql(wanted), list(wanted.parameters)).fetchall()
        return [row_values(wanted.table, row) for row in found]

    def export(self, query: Query, format: Format) -> Iterator[bytes]:
        """See ``metering.query.Results``: one state of the store, however long the reading takes."""
        wanted = selection(query)
        with self._ours("read"), self._cursor() as cursor:
            cursor.begin()
            yield from rendered(wanted.table, partial(read_by_stretches, cursor, wanted), format)

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """For SQL over one state of the stored tables."""
        with self._ours("read"), self._cursor() as cursor:
            cursor.begin()
            yield cursor

    @property
    def carried(self) -> bool:
        """Whether its story goes on from that of a store before it (store_carry.py)."""
        return self._lifts is not None and self._lifts.final

    @property
    def compared(self) -> int | None:
        """Up to which record it was compared with a store before it; None: it was not, or it is carried."""
        return None if self._lifts is None or self._lifts.final else self._lifts.position

    def look_again(self) -> None:
        """What it was carried counts from now on."""
        with self._cursor() as cursor:
            self._lifts = lifts_of(cursor, _tables(cursor))

    def position(self) -> int:
        """The results-log offset up to which everything is stored."""
        return self._positions[0]

    def rejected_position(self) -> int:
        """The same of the rejected log."""
        return self._positions[1]

    def close(self) -> None:
        """Folds the write-ahead log into the file and lets go of it."""
        with self._writing, self._connecting:
            self._closed = True
            self._connection.close()

    def _connect(self) -> duckdb.DuckDBPyConnection:
        return duckdb.connect(str(self.path), config=self._config)

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._connecting:
            cursor = self._connection.cursor()
        try:
            yield cursor
        finally:
            cursor.close()

    @contextmanager
    def _ours(self, doing: str) -> Iterator[None]:
        """Turns DuckDB's errors into ours; after a fatal one the file is opened anew for the next call."""
        try:
            yield
        except (duckdb.ProgrammingError, duckdb.DataError):
            raise  # our own mistake: trying again would hide it
        except duckdb.Error as error:
            if _is_fatal(error):
                self._reconnect()
            raise _unavailable(error, self.path, doing) from error

    def _reconnect(self) -> None:
        """A fatal error (no room for a commit) closes DuckDB's database for ever: a new one replays it."""
        with self._connecting, suppress(duckdb.Error):
            if not self._closed:
                self._connection.close()
                self._connection = self._connect()

    def _check_or_create(self) -> tuple[int, int]:
        """The stored positions. Raises Damaged for a store of another shape."""
        with self._cursor() as cursor:
            names = _tables(cursor)
            if STORE in names:
                positions = _checked(cursor, self.path)
                self._lifts = lifts_of(cursor, names)
                return positions
            if names:
                raise UsageError(
                    "this DuckDB file is no store of meterflow",
                    where=str(self.path),
                    hint="Give another data folder, or move the file away.",
                )
            with _transaction(cursor):
                for statement in create_store():
                    cursor.execute(statement)
                cursor.execute(f"INSERT INTO {STORE} VALUES (?, ?, 0, 0)", [STORE_VERSION, shape()])
        return 0, 0


def open_store(
    path: Path,
    *,
    memory_limit: str = MEMORY_LIMIT,
    threads: int = THREADS,
    checkpoint_bytes: int = CHECKPOINT_BYTES,
) -> tuple[DuckStore, bool]:
    """The store at ``path``, and whether it is empty and has to be rebuilt.

    It is when there was none, or when its file was damaged or has tables of another shape: then
    the old file is moved aside, never deleted. Whoever rebuilds lets the processors start again
    from the first reading. Raises UsageError for a file of a newer version or of something else,
    Unavailable when another process has it open or it cannot be reached.
    """

    def opened() -> DuckStore:
        return DuckStore(path, memory_limit=memory_limit, threads=threads, checkpoint_bytes=checkpoint_bytes)

    missing = not path.exists()
    if missing:
        _move_aside(path)  # a log without its file
    try:
        return opened(), missing
    except Damaged as error:
        why = str(error)
    except duckdb.Error as error:
        _raise_unless_damaged(error, path)
        why = str(error)
    aside = _move_aside(path)
    log.error("the result store cannot be used and is rebuilt; the old file is %s: %s", aside, why)
    store = opened()
    store.moved_aside = aside
    return store, True


def open_existing(path: Path, *, memory_limit: str = MEMORY_LIMIT, threads: int = THREADS) -> DuckStore:
    """The store at ``path`` as it is, for a verb that only reads: nothing is made and nothing moved.

    Raises UsageError when there is none or it is of a newer version, MeterflowError when it cannot
    be used, Unavailable when another process has it open.
    """
    if not path.exists():
        raise UsageError(
            "there are no results here", where=str(path), hint="Give the folder that `up` wrote."
        )
    try:
        return DuckStore(path, memory_limit=memory_limit, threads=threads)
    except Damaged as error:
        why = str(error)
    except duckdb.Error as error:
        _raise_unless_damaged(error, path)
        why = _first_line(error)
    hint = "Start the service on this folder: it computes the results again from the log."
    raise MeterflowError(f"the result store cannot be used: {why}", where=str(path), hint=hint)


@contextmanager
def _transaction(cursor: duckdb.DuckDBPyConnection) -> Iterator[None]:
    cursor.execute("BEGIN")
    try:
        yield
        cursor.execute("COMMIT")
    except BaseException:
        with suppress(duckdb.Error):
            cursor.execute("ROLLBACK")
        raise


def _by_table(frames: Sequence[tuple[str, pa.Table]]) -> Mapping[str, list[pa.Table]]:
    tables: dict[str, list[pa.Table]] = {name: [] for name in TABLES}
    for name, rows in frames:
        tables[name].append(rows)
    return {name: its for name, its in tables.items() if any(map(len, its))}


def _tables(cursor: duckdb.DuckDBPyConnection) -> set[str]:
    return {name for (name,) in cursor.execute("SELECT table_name FROM duckdb_tables()").fetchall()}


def _checked(cursor: duckdb.DuckDBPyConnection, path: Path) -> tuple[int, int]:
    found = cursor.execute(f"SELECT version, shape, results, rejected FROM {STORE}").fetchone()
    if found is None:
        raise Damaged("it holds no position")
    version, its_shape, results, rejected = found
    if version > COMPARED_VERSION:
        raise _newer(path)
    if version not in (STORE_VERSION, CARRIED_VERSION, COMPARED_VERSION) or its_shape != shape():
        raise Damaged("it has the tables of another version of meterflow")
    return int(results), int(rejected)


def _newer(path: Path) -> UsageError:
    return UsageError(
        "the result store was written by a newer version",
        where=str(path),
        hint="Use that version of meterflow, or another data folder.",
    )


def _is_fatal(error: duckdb.Error) -> bool:
    """After these the database object is of no use any more; the file may well be."""
    fatal = (duckdb.FatalException, duckdb.InternalException, duckdb.ConnectionException)
    return isinstance(error, fatal) or "invalidated" in str(error)


def _unavailable(error: duckdb.Error, path: Path, doing: str) -> MeterflowError:
    hint = "Check that the disk has room and works; it goes on by itself."
    return Unavailable(f"cannot {doing} the result store: {_first_line(error)}", where=str(path), hint=hint)


def _raise_unless_damaged(error: duckdb.Error, path: Path) -> None:
    """DuckDB says by its text alone what kept it from opening a file."""
    text = _first_line(error)
    if "lock on file" in text:
        raise Unavailable(
            "the result store is open in another process",
            where=str(path),
            hint="While the service runs, ask the service.",
        ) from error
    if "newer version" in text or "version number" in text:
        raise _newer(path) from error
    if not path.is_file() or any(reason in text for reason in _NOT_ITS_FAULT):
        raise Unavailable(
            f"cannot open the result store: {text}",
            where=str(path),
            hint="Check the folder, its rights and its room.",
        ) from error


_NOT_ITS_FAULT = (
    "Permission denied",
    "Read-only file system",
    "No space left",
    "Too many open files",
    "Input/output error",
    "Cannot allocate memory",
    "Out of Memory",
    "Is a directory",
)


def _first_line(error: duckdb.Error) -> str:
    return str(error).partition("\n")[0]


def _move_aside(path: Path) -> Path:
    """Renames the file and its write-ahead log; the log's name goes on following the file's."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    if path.exists():
        path.rename(aside)
    wal = path.with_name(f"{path.name}.wal")
    if wal.exists():
        wal.rename(aside.with_name(f"{aside.name}.wal"))
    return aside
