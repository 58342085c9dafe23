"""What is looked up before it is overwritten: found wherever it stands, without reading everything."""

from __future__ import annotations

import pyarrow as pa
import pytest

from sinks.influx_client import InfluxSettings
from sinks.influx_layout import measurement
from sinks.influx_points import points
from sinks.influx_store import InfluxStore
from sinks.influx_stored import Found, Lookup
from sinks.store_influx_ask import Influx as Asking
from tests.real.influxd import Influx
from tests.sinks.influx_histories import FIRST_MS, MINUTE_MS, Row, table_of

SERIES, MINUTES, DAY_MS = 20, 1000, 86_400_000


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The questions from now on."""
    questions: list[str] = []
    ask = Asking.ask

    def counted(self: Asking, text: str, *rest: object) -> bytes:
        questions.append(text)
        return ask(self, text, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Asking, "ask", counted)
    return questions


@pytest.fixture
def settings(influxdb: Influx) -> InfluxSettings:
    """A bucket of the test's own."""
    return InfluxSettings(influxdb.url, influxdb.org, influxdb.bucket(), influxdb.token)


def interval(k: int) -> Row:
    end = FIRST_MS + k // SERIES * MINUTE_MS
    key = {"plant": "p", "point": f"q{k % SERIES}", "start": end - MINUTE_MS, "end": end}
    return key | {"amount": k, "state": "final", "revision": 0, "reported": end, "position": k}


def day(k: int) -> Row:
    end = FIRST_MS + k * DAY_MS
    key = {"scope": "plant:p", "measures": "output", "product": "", "span": "day", "end": end}
    return key | {"start": end - DAY_MS, "state": "final", "revision": 0, "reported": end, "position": k}


def stored(settings: InfluxSettings, table: str, rows: list[Row]) -> None:
    store = InfluxStore(settings)
    assert store.store([table_of(table, rows)]) == []
    store.close()


def found(settings: InfluxSettings, table: str, rows: list[Row]) -> Found:
    """What stands there of the keys of these rows."""
    frame: pa.Table = table_of(table, rows)[1]
    its = points(measurement(table), frame)
    keys = [(its.tags[s], t) for s, t in zip(its.series.tolist(), its.times.tolist(), strict=True)]
    lookup = Lookup(settings)
    there = lookup.find(measurement(table), keys)
    lookup.close()
    assert len(there.where) == len(rows)
    return there


def test_what_stands_between_keys_far_apart_is_not_read(settings: InfluxSettings) -> None:
    """Ten keys over a day of twenty series: some hundred rows at most, of twenty thousand."""
    stored(settings, "interval", [interval(k) for k in range(SERIES * MINUTES)])
    there = found(settings, "interval", [interval(k) for k in range(7, SERIES * MINUTES, 2001)])
    assert len(there.rows) <= 200


def test_keys_near_each_other_are_asked_for_at_once(settings: InfluxSettings, asked: list[str]) -> None:
    """An hour of all series, and a quarter of days: one question each."""
    stored(settings, "interval", [interval(k) for k in range(SERIES * 60)])
    stored(settings, "rollup", [day(k) for k in range(90)])
    del asked[:]
    found(settings, "interval", [interval(k) for k in range(0, SERIES * 60, 3)])
    found(settings, "rollup", [day(k) for k in range(0, 90, 2)])
    assert len(asked) == 2
