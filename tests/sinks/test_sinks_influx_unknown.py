"""What became unknown is never shown again, though InfluxDB keeps what older rows said of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from metering.query import Query
from sinks.influx_client import InfluxClient, InfluxSettings
from sinks.influx_layout import UNKNOWN, measurement
from sinks.influx_lines import lines
from sinks.influx_points import points
from sinks.influx_store import InfluxStore
from sinks.store_duckdb import open_store
from sinks.store_influx import InfluxResults
from tests.real.influxd import Influx, InfluxServer
from tests.sinks.influx_histories import FIRST_MS, MINUTE_MS, Row, table_of

SNAPSHOTS = 4
"""How often InfluxDB writes its cache to a file while rows become unknown."""
TOGETHER, SERIES = 100, 20


def row(position: int, minute: int = 0, **said: Any) -> Row:
    """What is said of a minute."""
    end = FIRST_MS + minute * MINUTE_MS
    key = {"plant": "p", "point": "q", "start": end - MINUTE_MS, "end": end}
    return key | {"state": "open", "revision": 0, "reported": end, "position": position} | said


@pytest.fixture
def settings(influxdb: Influx) -> InfluxSettings:
    """A bucket of the test's own."""
    return InfluxSettings(influxdb.url, influxdb.org, influxdb.bucket(), influxdb.token)


def store(settings: InfluxSettings, *batches: list[Row]) -> None:
    """Batch by batch, each by a sink that remembers nothing."""
    for batch in batches:
        opened = InfluxStore(settings)
        assert opened.store([table_of("interval", batch)]) == []
        opened.close()


def rows(settings: InfluxSettings, **query: Any) -> list[Row]:
    results = InfluxResults(settings)
    found = results.rows(Query("interval", **query))
    results.close()
    return found


def figures(settings: InfluxSettings, **query: Any) -> list[tuple[Any, Any]]:
    return [(each["amount"], each["measured_share"]) for each in rows(settings, **query)]


@contextmanager
def filling(settings: InfluxSettings) -> Iterator[None]:
    """Other rows meanwhile, as many as InfluxDB takes: its cache is full again and again."""
    stopping = threading.Event()

    def fill() -> None:
        client, n = InfluxClient(settings), 0
        while not stopping.is_set():
            some = (
                f"other,p=q{k % SERIES} a={k},b={k},c={k} {FIRST_MS * 10**6 + (n + k) // SERIES * 10**9}"
                for k in range(2000)
            )
            client.write("\n".join(some).encode())
            n += 2000
        client.close()

    thread = threading.Thread(target=fill)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def written(engine: Path) -> int:
    """How many files InfluxDB has made of its cache."""
    return max((int(file.name[:9]) for file in engine.rglob("*.tsm")), default=0)


def test_a_field_that_became_unknown_is_never_shown_again(tmp_path: Path) -> None:
    """The trap: a deletion passes over what InfluxDB 2.7 is just writing to a file. Nothing is deleted."""
    small = ("--storage-cache-snapshot-memory-size=1048576",)
    with InfluxServer(tmp_path, options=small) as server:
        settings = InfluxSettings(server.url, server.org, server.bucket, server.token, timeout_s=60)
        opened, position = InfluxStore(settings), 0
        with filling(settings):
            while written(tmp_path / "engine") < SNAPSHOTS:
                minutes = range(position, position + TOGETHER)
                for share in (1.0, None):
                    known = {"amount": 1, "measured_share": share}
                    said = [row(position + n, minute, **known) for n, minute in enumerate(minutes)]
                    opened.store([table_of("interval", said)])
                    position += TOGETHER
        opened.close()
        found = figures(settings)
    assert len(found) == position // 2
    assert set(found) == {(1, None)}


def test_a_field_that_is_known_again_is_shown(settings: InfluxSettings) -> None:
    """Known, unknown, known: each time what was said last."""
    for position, share in enumerate((1.0, None, 0.5, None)):
        store(settings, [row(position, amount=position, measured_share=share)])
        assert figures(settings) == [(position, share)]


def test_a_row_that_is_no_more_is_not_shown_until_its_key_has_one_again(settings: InfluxSettings) -> None:
    """And then without what its predecessor said."""
    store(settings, [row(0, amount=5, measured_share=1.0), row(1, minute=1, amount=1)])
    store(settings, [row(-3)])
    assert figures(settings) == [(1, None)]
    store(settings, [row(3, amount=6)])
    assert figures(settings) == [(6, None), (1, None)]


def test_an_older_row_that_comes_again_does_not_bring_a_key_back(settings: InfluxSettings) -> None:
    """A log that is read again from further back says all of it again; meanwhile nothing is shown."""
    store(settings, [row(0, amount=5)], [row(-3)], [row(0, amount=5), row(1, amount=5)])
    assert figures(settings) == []


def test_the_history_has_what_was_reported_before_and_after_a_row_was_no_more(
    settings: InfluxSettings, tmp_path: Path
) -> None:
    """As the embedded store has it, at any time asked about, each row by itself or all at once."""
    said = [
        row(0, state="final", amount=5, measured_share=1.0, reported=FIRST_MS),
        row(-2, state="revised", revision=1, reported=FIRST_MS + 1),
        row(2, state="revised", revision=2, measured_share=0.5, reported=FIRST_MS + 2),
        row(3, state="revised", revision=3, amount=7, reported=FIRST_MS + 3),
    ]
    duck, _ = open_store(tmp_path / "results.duckdb")
    for each in said:
        store(settings, [each])
        duck.write([table_of("interval", [each])], 0)
    queries: list[dict[str, Any]] = [
        {},
        {"history": True},
        *({"as_of_ms": FIRST_MS + i} for i in range(-1, 4)),
    ]
    for query in queries:
        wanted = [(each["amount"], each["measured_share"]) for each in duck.rows(Query("interval", **query))]
        assert figures(settings, **query) == wanted, query
    duck.close()


def test_rows_of_an_earlier_version_say_all_that_they_have(settings: InfluxSettings) -> None:
    """They have no such field. One that a later row has takes its place."""
    layout, frame = measurement("interval"), table_of("interval", [row(0, amount=5, measured_share=1.0)])[1]
    line = lines(layout, frame, points(layout, frame)).body(0, 1)
    client = InfluxClient(settings)
    client.write(line.replace(f',{UNKNOWN}=" "'.encode(), b""))
    client.close()
    assert figures(settings) == [(5, 1.0)]
    store(settings, [row(1, measured_share=0.5)])
    assert figures(settings) == [(None, 0.5)]
