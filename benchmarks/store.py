"""The embedded store: bulk speed, flush latency on a big store, growth of the file, export, memory.

``run()`` gives the figures; ``python -m benchmarks.store`` prints them.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa

from bus.frames import schema
from metering.query import Format, Query
from metering.tables import TABLES, Kind
from sinks.render import write_table
from sinks.store_duckdb import DuckStore, open_store

_MINUTE_MS = 60_000
_FIRST_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
_POINTS = 1000
_TEXTS = {"measures": "electricity", "unit": "kWh", "quality": "measured", "span": "15m", "window": "1h"}


def rows(table: str, minute: int, minutes: int, state: str, position: int, series: int = _POINTS) -> pa.Table:
    """A row of each series and minute, with keys like a plant's and figures that do not compress away."""
    n = series * minutes
    end_ms = _FIRST_MS + np.repeat(np.arange(minute, minute + minutes), series) * _MINUTE_MS
    who = np.tile(np.arange(series), minutes)
    shape = schema(TABLES[table])
    kinds = {column.name: column.kind for column in TABLES[table].columns}
    columns = [_column(field.name, kinds.get(field.name), end_ms, who, state, position, n) for field in shape]
    return pa.table([c.cast(field.type) for c, field in zip(columns, shape, strict=True)], names=shape.names)


def run(settled_rows: int = 2_000_000, flushes: int = 300, churn: int = 1000) -> dict[str, float]:
    """Rows a second, milliseconds, megabytes; with 10,000,000 and 10,000 it takes some minutes."""
    with tempfile.TemporaryDirectory(prefix="meterflow-bench-") as folder:
        path = Path(folder) / "results.duckdb"
        store, _ = open_store(path)
        minute, figures = _bulk(store, settled_rows)
        figures |= {"settled_rows": settled_rows, "file_bulk_mb": _megabytes(path)}
        figures |= _flushes(store, minute, flushes)
        figures |= _reads(store, minute)
        figures |= _churn(store, path, minute + flushes, churn)
        figures["memory_mb"] = _resident_megabytes()
        store.close()
        figures["file_closed_mb"] = _megabytes(path)
        started = time.perf_counter()
        open_store(path)[0].close()
        figures["open_and_close_ms"] = _since_ms(started)
        figures |= _render(Path(folder))
    return {name: round(value, 3) for name, value in figures.items()}


def _bulk(store: DuckStore, wanted: int) -> tuple[int, dict[str, float]]:
    """Rows as a backfill brings them: settled at once, 100,000 a flush."""
    spent, minute, step = 0.0, 0, 100
    for _ in range(0, wanted, _POINTS * step):
        frame = rows("interval", minute, step, "final", minute)
        minute += step
        started = time.perf_counter()
        store.write([("interval", frame)], minute)
        spent += time.perf_counter() - started
    return minute, {"bulk_rows_per_s": wanted / spent}


def _live(minute: int, step: int) -> list[tuple[str, pa.Table]]:
    """A live flush: some 1,000 rows, nearly all open and there already; ten a minute.

    With the first of a minute the one before it is settled.
    """
    position = minute * 1000 + step
    frames = [
        ("interval", rows("interval", minute, 1, "open", position, 400)),
        ("rollup", rows("rollup", minute // 15 * 15, 1, "open", position, 250)),
        ("intensity", rows("intensity", minute, 1, "open", position, 300)),
        ("ledger", rows("ledger", 0, 1, "", position, 50)),
    ]
    if step % 10 == 0:
        frames.append(("interval", rows("interval", minute - 1, 1, "final", position, 400)))
        frames.append(("intensity", rows("intensity", minute - 1, 1, "final", position, 300)))
    return frames


def _flushes(store: DuckStore, minute: int, flushes: int) -> dict[str, float]:
    took = []
    for step in range(flushes):
        frames = _live(minute + step // 10, step)
        started = time.perf_counter()
        store.write(frames, minute + step)
        took.append(_since_ms(started))
    late = []
    for step in range(20):
        frame = rows("interval", minute // 2 + step * 7, 1, "revised", (minute + flushes) * 1000 + step)
        started = time.perf_counter()
        store.write([("interval", frame)], minute + flushes)
        late.append(_since_ms(started))
    p50, p99, most = np.percentile(took, (50, 99, 100))
    return {
        "flush_p50_ms": float(p50),
        "flush_p99_ms": float(p99),
        "flush_max_ms": float(most),
        "flush_restating_p50_ms": float(np.median(late)),
    }


def _reads(store: DuckStore, minute: int) -> dict[str, float]:
    last_ms = _FIRST_MS + minute * _MINUTE_MS
    hour = Query("interval", from_ms=last_ms - 60 * _MINUTE_MS, equal={"point": ("point-7",)})
    latest = Query("interval", newest_first=True, limit=100)
    told = Query("interval", from_ms=last_ms - 60 * _MINUTE_MS, as_of_ms=last_ms)
    names = ("read_hour_ms", "read_latest_ms", "read_as_of_ms")
    return {name: _read_ms(store, query) for name, query in zip(names, (hour, latest, told), strict=True)}


def _read_ms(store: DuckStore, query: Query) -> float:
    store.rows(query)
    started = time.perf_counter()
    store.rows(query)
    return _since_ms(started)


def _churn(store: DuckStore, path: Path, minute: int, churn: int) -> dict[str, float]:
    """What thousands of flushes leave behind: the file and its write-ahead log at their biggest."""
    before, most = _megabytes(path), 0.0
    started = time.perf_counter()
    for step in range(churn):
        store.write(_live(minute + step // 10, step), minute + step)
        most = max(most, _megabytes(path))
    return {
        "churn_flushes": churn,
        "churn_flushes_per_s": churn / (time.perf_counter() - started),
        "churn_grown_mb": _megabytes(path) - before,
        "churn_grown_most_mb": most - before,
    }


def _render(folder: Path) -> dict[str, float]:
    frame = rows("interval", 0, 300, "final", 0)
    figures = {}
    for kind in get_args(Format):
        started = time.perf_counter()
        write_table("interval", frame, folder / f"interval.{kind}", kind)
        figures[f"render_300000_rows_{kind}_s"] = time.perf_counter() - started
    return figures


def _column(
    name: str, kind: Kind | None, end_ms: Any, who: Any, state: str, position: int, n: int
) -> pa.Array:
    random = np.random.default_rng(position)
    if name == "state":
        return _words([state], np.zeros(n, np.int32))
    if kind is Kind.TEXT and name in ("plant", "point", "scope"):
        words = [f"{name}-{i // 100 if name == 'plant' else i}" for i in range(int(who.max()) + 1)]
        return _words(words, who.astype(np.int32))
    if kind is Kind.TEXT:
        return _words([_TEXTS.get(name, "")], np.zeros(n, np.int32))
    if kind is Kind.TIME:
        return pa.array(end_ms + {"start": -_MINUTE_MS, "reported": 10_000}.get(name, 0))
    if kind is Kind.AMOUNT:
        return pa.array(random.integers(0, 10**6, n)).cast(pa.decimal128(38, 9))
    if kind is Kind.NUMBER:
        return pa.array(random.random(n))
    return pa.array(np.full(n, {"open": 0, "final": 0, "revised": 1}.get(state, 0) if kind else position))


def _words(words: list[str], codes: Any) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(words)).cast(pa.utf8())


def _since_ms(started: float) -> float:
    return (time.perf_counter() - started) * 1000


def _megabytes(path: Path) -> float:
    return sum(file.stat().st_size for file in _files(path)) / 1e6


def _files(path: Path) -> Iterator[Path]:
    return (file for file in (path, path.with_name(f"{path.name}.wal")) if file.exists())


def _resident_megabytes() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
