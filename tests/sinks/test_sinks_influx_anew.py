"""A row that was revised is read as it was written last, wherever InfluxDB holds its older values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from metering.query import Query
from metering.tables import POSITION
from sinks.influx_client import InfluxSettings
from sinks.influx_layout import measurement
from sinks.influx_points import points
from sinks.influx_store import InfluxStore
from sinks.influx_stored import Lookup
from sinks.store_influx import InfluxResults
from tests.real.influxd import InfluxServer
from tests.real.server import wait_until
from tests.sinks.influx_histories import Row, table_of
from tests.sinks.influx_running import row

LATE, REVISED = 5, 10
MINUTES = [minute for minute in range(1, 1_102) if minute != LATE]
"""More than InfluxDB answers at once of a series, and one is missing before the one that is revised."""
OLD, NEW = 1, 2


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InfluxSettings]:
    """A bucket with rows in a file, and behind them, in InfluxDB's memory, a revised row and a late one."""
    folder = tmp_path_factory.mktemp("influxd")
    server = InfluxServer(folder, options=["--storage-cache-snapshot-memory-size=20000"])
    with server:
        its = InfluxSettings(server.url, server.org, server.bucket, server.token)
        _store(its, [row(minute, OLD) for minute in MINUTES])
        wait_until(lambda: bool(_files(folder)), "a file of InfluxDB")
        _store(its, [row(LATE, NEW), revised()])
        assert len(_files(folder)) == 1
        yield its


def revised() -> Row:
    return row(REVISED, NEW, revision=1, state="revised") | {POSITION: 5_000}


def _store(settings: InfluxSettings, rows: list[Row]) -> None:
    store = InfluxStore(settings)
    assert store.store([table_of("interval", rows)]) == []
    store.close()


def _files(folder: Path) -> list[Path]:
    return list(folder.glob("engine/data/*/*/*/*.tsm"))


def test_a_revised_row_is_not_answered_as_it_was_before(settings: InfluxSettings) -> None:
    """InfluxDB 2.7 says the file's values again behind those of its memory, for minutes (its issue 26690)."""
    results = InfluxResults(settings)
    rows = results.rows(Query("interval"))
    results.close()
    assert len(rows) == len(MINUTES) + 1
    new = [(i + 1, each["revision"]) for i, each in enumerate(rows) if each["amount"] == NEW]
    assert new == [(LATE, 0), (REVISED, 1)]


def test_what_is_looked_up_is_what_was_stored_last(settings: InfluxSettings) -> None:
    """Else an older row could go into the history in its place."""
    layout = measurement("interval")
    _, frame = table_of("interval", [row(1), row(LATE), revised()])
    its, lookup = points(layout, frame), Lookup(settings)
    found = lookup.find(layout, [(its.tags[0], time) for time in its.times.tolist()])
    lookup.close()
    stands = found.rows.take(list(found.where.values())).to_pylist()
    assert [(each["amount"], each["revision"]) for each in stands] == [(OLD, 0), (NEW, 0), (NEW, 1)]
