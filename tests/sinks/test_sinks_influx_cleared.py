"""Points that are to be removed before others take their place: InfluxDB may pass over them."""

from __future__ import annotations

from typing import Any

import pytest

from metering.query import Query
from sinks.influx_client import InfluxClient, InfluxSettings
from sinks.influx_store import InfluxStore
from sinks.store_influx import InfluxResults
from tests.real.influxd import Influx
from tests.sinks.influx_histories import FIRST_MS, MINUTE_MS, Row, table_of


def row(position: int, **said: Any) -> Row:
    """The one row, as it is said."""
    key = {"plant": "p", "point": "q", "start": FIRST_MS - MINUTE_MS, "end": FIRST_MS}
    return key | {"state": "open", "revision": 0, "reported": FIRST_MS, "position": position} | said


@pytest.mark.parametrize("gone", [False, True])
def test_what_influxdb_did_not_remove_is_removed_again(
    influxdb: Influx, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    """A deletion does not reach values that are just written to a file. An old share must not stay."""
    calls = [0]
    delete = InfluxClient.delete

    def sometimes(self: InfluxClient, *point: Any) -> None:
        calls[0] += 1
        if calls[0] > 2:
            delete(self, *point)

    monkeypatch.setattr(InfluxClient, "delete", sometimes)
    settings = InfluxSettings(influxdb.url, influxdb.org, influxdb.bucket(), influxdb.token)
    store = InfluxStore(settings)
    store.store([table_of("interval", [row(1, amount=5, measured_share=1.0)])])
    store.store([table_of("interval", [row(-3 if gone else 2, amount=6)])])
    store.close()
    results = InfluxResults(settings)
    stored = [(each["amount"], each["measured_share"]) for each in results.rows(Query("interval"))]
    results.close()
    assert stored == ([] if gone else [(6, None)])
