"""A process that writes to a store until it is killed, saying on standard output what is durable.

Batch n brings a final row of minute n for each series, the open row of minute n + 1, and a rejected
row. So a store at position n has exactly n final rows and one open row of each series.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa

from bus.frames import schema
from metering.tables import TABLES
from sinks.store_duckdb import open_store

SERIES = 40
CHECKPOINT_BYTES = 100_000
"""So small that every few commits fold the log into the file, and kills fall into that too."""
FIRST_MS = 1_767_225_600_000


def batch(n: int) -> list[tuple[str, pa.Table]]:
    final = [_interval(n, series, n, "final") for series in range(SERIES)]
    filling = [_interval(n + 1, series, n, "open") for series in range(SERIES)]
    rejected = [{"received": FIRST_MS + n, "topic": f"t/{n}", "reason": "no JSON", "position": n}]
    frames = {"interval": final + filling, "rejected": rejected}
    return [(table, _table(table, rows)) for table, rows in frames.items()]


def _interval(minute: int, series: int, n: int, state: str) -> dict[str, object]:
    end = FIRST_MS + minute * 60_000
    who = {"plant": "p", "point": f"s{series}", "state": state, "revision": 0, "position": n}
    return who | {"start": end - 60_000, "end": end, "cause": f"batch {n}"}


def _table(table: str, rows: list[dict[str, object]]) -> pa.Table:
    wanted = schema(TABLES[table])
    columns = [pa.array([row.get(field.name) for row in rows], field.type) for field in wanted]
    return pa.table(columns, schema=wanted)


def main() -> None:
    store, _ = open_store(Path(sys.argv[1]), checkpoint_bytes=CHECKPOINT_BYTES)
    for n in range(store.position(), 1_000_000):
        store.write(batch(n), n + 1, n + 1)
        sys.stdout.write(f"{n + 1}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
