"""The page's API answers from InfluxDB what it answers from the embedded store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest

from bus.frames import decode_table, encode_rows
from sinks.store_duckdb import DuckStore, open_store
from sinks.store_influx import InfluxResults
from tests.real.influxd import Influx
from tests.sinks.influx_filled import fill_from_store, settings_for
from tests.web.grafana_site import Row, alert, intervals
from tests.web.web_site import (
    DYE,
    HOUR_MS,
    NOON_MS,
    STEEL,
    WINDOWS,
    Served,
    Site,
    history,
    site,
    wave,
)

ADDRESSES = (
    "/api/series?scope=plant:steel-1&id=kwh-per-t&window=1h",
    "/api/plant/steel-1",
    "/api/rows/intensity?limit=7&newest=1",
    "/api/rows/interval?point=main&limit=20",
    "/api/rows/alert?column.to=firing",
    "/api/rows/ledger",
    "/api/export/interval?format=csv&from=2026-11-22T03:50:00Z",
    "/api/export/intensity?format=json",
)


class Pair(NamedTuple):
    """The same site served from either store."""

    duck: Served
    influx: Served


@pytest.fixture(scope="module")
def pair(influxdb: Influx, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    path: Path = tmp_path_factory.mktemp("page") / "results.duckdb"
    store, _ = open_store(path)
    store.write([decode_table(encode_rows(name, rows, 1)) for name, rows in results().items()], 1)
    store.close()
    bucket = influxdb.bucket()
    fill_from_store(influxdb, bucket, path)
    roster = site(STEEL, DYE)
    with ExitStack() as stack:
        duck = stack.enter_context(closing(open_store(path)[0]))
        influx = stack.enter_context(
            closing(InfluxResults(settings_for(influxdb, bucket), position=lambda: 1))
        )
        served = [Served(Site(roster, its)) for its in (duck, cast(DuckStore, influx))]
        for its in served:
            stack.callback(its.stop)
        yield Pair(*served)


def results() -> dict[str, list[Row]]:
    """Two plants with every window, the newest open, some unknown; a dye works that stopped two hours ago."""
    figures = [row for window in WINDOWS for row in history(NOON_MS, 90, wave, window=window)]
    figures += history(NOON_MS - 2 * HOUR_MS, 30, lambda _: None, scope="plant:dye-1", product="cloth")
    figures[90] |= {"state": "open"}
    return {
        "intensity": figures,
        "interval": [
            *intervals("steel-1", "main", NOON_MS, 60),
            *intervals("steel-1", "count", NOON_MS, 9),
            *intervals("dye-1", "main", NOON_MS - 2 * HOUR_MS, 9),
        ],
        "alert": [alert(NOON_MS, "firing", "plant:steel-1"), alert(NOON_MS - HOUR_MS, "ok", "plant:dye-1")],
        "ledger": [
            {"plant": "steel-1", "point": "main", "serial": None, "first": 1, "last": 2, "balance": 0}
        ],
    }


def plain(answer: Any) -> Any:
    """Without the instant of the answer; an empty text and an unknown one are the same to the page."""
    if isinstance(answer, dict):
        return {name: plain(value) for name, value in answer.items() if name != "now"}
    if isinstance(answer, list):
        return [plain(value) for value in answer]
    return answer or None if isinstance(answer, str) else answer


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_answers_the_same(pair: Pair, address: str) -> None:
    """Rows, series and files."""
    found = [its.client.get(address) for its in pair]
    assert [answer.status_code for answer in found] == [200, 200]
    if "format=csv" in address:
        assert found[0].text == found[1].text
        assert found[0].text.count("\n") > 5
    else:
        assert plain(found[0].json()) == plain(found[1].json())


def test_the_first_screen_is_the_same(pair: Pair) -> None:
    """The newest complete and open figures of every window, who was seen, what fires, the books."""
    duck, influx = (plain(its.client.get("/api/overview").json()) for its in pair)
    assert duck == influx
    assert duck["scopes"][0]["figures"][0]["windows"]["1h"]["complete"]
