"""The API as a client meets it, over a real port and a real store."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.web.web_site import HOUR_MS, MINUTE_MS, NOON_MS, Served, figure, history

Serving = Callable[..., Served]
NOON = "2026-11-22T04:00:00Z"


def alert(at_ms: int, to: str, **other: Any) -> dict[str, Any]:
    row = {"id": "hot", "scope": "plant:steel-1", "at": at_ms, "to": to, "value": 630.5, "threshold": 620.0}
    return row | {"window_end": at_ms, "revision": 0, "reported": at_ms} | other


def test_the_site_is_given_as_the_roster_has_it(standing: Serving) -> None:
    """Plants with their points, intensities with their windows, targets and alerts."""
    found = standing().client.get("/api/site").json()
    assert [p["name"] for p in found["plants"]] == ["Steel works 1", "Dye works 1"]
    assert [p["id"] for p in found["plants"][0]["points"]] == ["main", "intake", "count"]
    assert found["intensities"][0]["windows"] == ["15m", "1h", "8h", "24h", "month"]
    assert found["targets"][0]["value"] == 600.0
    assert found["alerts"][0]["direction"] == "above"
    assert found["policy"] == {"id": "cn-2025", "edition": "2025.1"}


def test_rows_have_exact_amounts_and_utc_instants(served: Serving) -> None:
    """A decimal keeps every digit, an instant is RFC 3339, the unknown is null."""
    one = served()
    amount = Decimal("123456789012.123456789")
    one.site.put({"intensity": [figure(NOON_MS, 1.5, numerator=amount), figure(NOON_MS + 1500, None)]})
    answer = one.client.get("/api/rows/intensity")
    assert '"numerator":123456789012.123456789,' in answer.text
    first, second = answer.json()["rows"]
    assert (first["end"], second["end"]) == (NOON, "2026-11-22T04:00:01.500Z")
    assert (second["value"], second["numerator"], second["reason"]) == (None, None, "numerator_incomplete")


def test_rows_are_chosen_by_time_column_and_limit(served: Serving) -> None:
    """`from` is outside and `to` inside the span; a repeated column means either."""
    one = served()
    rows = [*history(NOON_MS, 10, float), *history(NOON_MS, 10, float, scope="plant:dye-1")]
    one.site.put({"intensity": rows})
    chosen = {"from": "2026-11-22T11:50:00+08:00", "to": NOON, "scope": "plant:dye-1"}
    found = one.client.get("/api/rows/intensity", params=chosen).json()
    assert len(found["rows"]) == 10
    assert not found["more"]
    newest = one.client.get(
        "/api/rows/intensity?newest=1&limit=2&scope=plant:dye-1&scope=plant:steel-1"
    ).json()
    assert {r["end"] for r in newest["rows"]} == {NOON}
    assert newest["more"]


def test_a_column_that_a_parameter_hides_has_a_prefix(served: Serving) -> None:
    """The alerts' `to` is the end of the span as a parameter; `column.to` is the column."""
    one = served()
    one.site.put({"alert": [alert(NOON_MS, "firing"), alert(NOON_MS + 1, "ok")]})
    rows = one.client.get("/api/rows/alert", params={"column.to": "ok"}).json()["rows"]
    assert [row["to"] for row in rows] == ["ok"]


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/api/rows/nonsense", 404, "no table 'nonsense'"),
        ("/api/rows/intensity?from=yesterday", 400, "from: 'yesterday' is not an instant"),
        ("/api/rows/intensity?to=2026-11-22T04:00:00", 400, "not an instant"),
        ("/api/rows/intensity?to=2026-02-30T04:00:00Z", 400, "day is out of range"),
        ("/api/rows/intensity?from=2026-11-22", 400, "not an instant"),
        ("/api/rows/intensity?limit=0", 400, "limit: '0' is not a whole number"),
        ("/api/rows/intensity?limit=1e3", 400, "limit: '1e3'"),
        ("/api/rows/intensity?newest=maybe", 400, "newest: 'maybe'"),
        ("/api/rows/intensity?colour=red", 400, "'colour' is no text column of intensity"),
        ("/api/rows/intensity?value=3", 400, "'value' is no text column"),
        ("/api/rows/ledger?history=1", 400, "keeps no history"),
        ("/api/export/interval?format=xlsx", 400, "format: 'xlsx' is none of csv, json, parquet"),
        ("/api/export/ledger?history=1", 400, "keeps no history"),
        ("/api/series?scope=plant:steel-1&id=kwh-per-t", 400, "window is missing"),
        ("/api/plant/nowhere", 404, "no plant 'nowhere'"),
        ("/nowhere", 404, "Not Found"),
        ("/static/../app.py", 404, ""),
        ("/static/nothing.js", 404, "no such page"),
    ],
)
def test_a_request_that_cannot_be_answered_says_why(
    standing: Serving, path: str, status: int, words: str
) -> None:
    """A status of the client's, and JSON that names the parameter and what was wrong with it."""
    answer = standing().client.get(path)
    assert answer.status_code == status
    assert words in answer.json()["error"]


def test_a_plus_that_became_a_blank_is_still_a_zone(served: Serving) -> None:
    """An unescaped +08:00 arrives as a blank in a query; nothing else can have been meant."""
    one = served()
    one.site.put({"intensity": [figure(NOON_MS, 1.0)]})
    answer = one.client.get("/api/rows/intensity?to=2026-11-22T12:00:00+08:00")
    assert len(answer.json()["rows"]) == 1


@pytest.mark.parametrize("format", ["csv", "json", "parquet"])
def test_an_export_is_the_whole_table_as_a_file(served: Serving, format: str) -> None:
    """All rows in all formats, named for saving, and the same as the store gives them."""
    one = served()
    one.site.put({"intensity": history(NOON_MS, 2_000, lambda back: 600 + back / 8)})
    answer = one.client.get(f"/api/export/intensity?format={format}&from=2026-11-21T00:00:00Z")
    assert answer.headers["content-disposition"] == f'attachment; filename="intensity.{format}"'
    assert len(_ends(answer.content, format)) == 1_680


def _ends(body: bytes, format: str) -> list[Any]:
    if format == "parquet":
        return list(pq.read_table(io.BytesIO(body)).column("end").to_pylist())
    if format == "csv":
        return [row["end"] for row in csv.DictReader(io.StringIO(body.decode()))]
    return [row["end"] for row in json.loads(body)]


def test_an_export_of_history_has_the_superseded_rows(served: Serving) -> None:
    """After a restatement the history holds both rows, the table the newer."""
    one = served()
    one.site.put({"intensity": [figure(NOON_MS, 600.0)]})
    revised = figure(NOON_MS, 610.0, state="revised", revision=1, cause="late", reported=NOON_MS + HOUR_MS)
    one.site.put({"intensity": [revised]})
    lines = one.client.get("/api/export/intensity").text.strip().splitlines()
    with_history = one.client.get("/api/export/intensity?history=1").text.strip().splitlines()
    assert (len(lines), len(with_history)) == (2, 3)


def test_the_overview_has_the_newest_complete_window_and_the_open_one(served: Serving) -> None:
    """A window that still fills never stands in for a figure."""
    one = served()
    last = NOON_MS + 3 * MINUTE_MS
    one.site.put(
        {"intensity": [*history(NOON_MS, 30, lambda back: 600.0 + back), figure(last, None, state="open")]}
    )
    windows = one.client.get("/api/overview").json()["scopes"][0]["figures"][0]["windows"]
    assert [row["value"] for row in windows["1h"]["complete"]] == [600.0]
    assert [row["end"] for row in windows["1h"]["open"]] == ["2026-11-22T04:03:00Z"]
    assert windows["8h"] == {"complete": [], "open": []}


def test_a_month_that_still_fills_does_not_move_the_charts(served: Serving) -> None:
    """Charts end where figures do, not at the end of a calendar window that has begun."""
    one = served()
    month = figure(NOON_MS + 8 * 24 * HOUR_MS, None, window="month", start=NOON_MS - HOUR_MS, state="open")
    one.site.put({"intensity": [*history(NOON_MS, 30, lambda _: 600.0), month]})
    assert one.client.get("/api/overview").json()["horizon"] == "2026-11-22T04:00:00Z"


def test_a_plant_long_silent_keeps_its_last_figure(served: Serving) -> None:
    """Its newest figure lies far behind those of the others and is found all the same."""
    one = served()
    busy = history(NOON_MS, 600, float, scope="plant:dye-1")
    one.site.put({"intensity": [*busy, figure(NOON_MS - 20 * HOUR_MS, 777.0)]})
    steel = one.client.get("/api/overview").json()["scopes"][0]["figures"][0]["windows"]["1h"]
    assert [row["value"] for row in steel["complete"]] == [777.0]


def test_each_product_has_a_figure_of_its_own(served: Serving) -> None:
    """Two products of one intensity are two rows, not one."""
    one = served()
    one.site.put({"intensity": [figure(NOON_MS, 1.0), figure(NOON_MS, 2.0, product="wire")]})
    complete = one.client.get("/api/overview").json()["scopes"][0]["figures"][0]["windows"]["1h"]["complete"]
    assert [(row["product"], row["value"]) for row in complete] == [("billet", 1.0), ("wire", 2.0)]


@pytest.mark.parametrize(
    ("changes", "fires"),
    [
        ([(0, "firing")], True),
        ([(0, "firing"), (5, "ok")], False),
        ([(0, "ok"), (5, "firing")], True),
        ([(0, "firing"), (5, "ok"), (9, "withdrawn")], False),
        ([(0, "firing"), (5, "withdrawn")], True),
        ([], False),
    ],
)
def test_what_fires_is_the_newest_change_that_stands(
    served: Serving, changes: list[tuple[int, str]], fires: bool
) -> None:
    """A withdrawn change never was, so the one before it holds."""
    one = served()
    one.site.put({"alert": [alert(NOON_MS + minute * MINUTE_MS, to) for minute, to in changes]})
    firing = one.client.get("/api/overview").json()["alerts"]["firing"]
    assert [row["id"] for row in firing] == (["hot"] if fires else [])


def test_last_seen_comes_from_the_service_or_from_the_intervals(served: Serving) -> None:
    """What the service knows of a point wins; else the end of its newest interval counts."""
    one = served()
    row = {"plant": "steel-1", "measures": "water", "unit": "m3", "quality": "valid", "state": "final"}
    times = {"start": NOON_MS - MINUTE_MS, "end": NOON_MS, "amount": Decimal(1), "reported": NOON_MS}
    missing = {"point": "count", "quality": "missing", "amount": None}
    one.site.put({"interval": [row | times | {"point": "intake"}, row | times | missing]})
    one.site.status(last_seen_ms={"steel-1/main": NOON_MS + 1000})
    seen = one.client.get("/api/overview").json()["seen"]
    assert seen == {"steel-1/main": "2026-11-22T04:00:01Z", "steel-1/intake": NOON}


def test_the_overview_shows_rejected_messages_in_excerpts(served: Serving) -> None:
    """Ten megabytes of nonsense are on the page with their beginning only."""
    one = served()
    row = {"received": NOON_MS, "topic": "meterflow/v1/x", "reason": "not_json", "payload": "x" * 100_000}
    one.site.put({"rejected": [row]})
    (shown,) = one.client.get("/api/overview").json()["rejected"]
    assert len(shown["payload"]) == 240
    assert shown["reason"] == "not_json"


def test_a_change_shows_in_the_very_next_overview(served: Serving) -> None:
    """The picture is shared by those who ask at once, but never older than the store."""
    one = served()
    for value in (1.0, 2.0, 3.0):
        one.site.put({"intensity": [figure(NOON_MS, value, revision=int(value))]})
        windows = one.client.get("/api/overview").json()["scopes"][0]["figures"][0]["windows"]
        assert windows["1h"]["complete"][0]["value"] == value


def test_a_series_is_columns_oldest_first_with_unknowns_as_null(served: Serving) -> None:
    """What a chart draws: ends in milliseconds, null where there is no figure, its reason beside it."""
    one = served()
    one.site.put({"intensity": history(NOON_MS, 2, lambda back: None if back == 1 else 600.0 + back)})
    found = one.client.get("/api/series?scope=plant:steel-1&id=kwh-per-t&window=1h").json()
    assert found["end"] == [NOON_MS - 2 * MINUTE_MS, NOON_MS - MINUTE_MS, NOON_MS]
    assert found["value"] == [602.0, None, 600.0]
    assert found["reason"] == ["", "numerator_incomplete", ""]
    assert found["share"] == [1.0, 0.5, 1.0]
    assert found["state"] == "fff"
    assert found["complete"]


def test_a_plant_has_its_points_days_and_hours(served: Serving) -> None:
    """What the page of one plant needs beyond the overview."""
    one = served()
    times = {"end": NOON_MS, "reported": NOON_MS, "state": "final", "quality": "valid", "measured_share": 1.0}
    interval = {"plant": "steel-1", "point": "main", "measures": "electricity", "start": NOON_MS - MINUTE_MS}
    rollup = {"scope": "plant:steel-1", "measures": "electricity", "product": "", "unit": "kWh"}
    hour = {"span": "hour", "start": NOON_MS - HOUR_MS, "amount": Decimal("12.5")}
    one.site.put(
        {
            "interval": [interval | times | {"amount": Decimal("0.125"), "unit": "kWh"}],
            "rollup": [rollup | times | hour, rollup | times | hour | {"span": "day"}],
        }
    )
    found = one.client.get("/api/plant/steel-1").json()
    assert [p["point"] for p in found["points"]] == ["main", "intake", "count"]
    assert found["points"][0]["interval"]["amount"] == 0.125
    assert found["points"][1]["interval"] is None
    assert (len(found["days"]), found["hours"][0]["amount"]) == (1, 12.5)


def test_large_answers_are_compressed_for_those_who_can(served: Serving) -> None:
    """A phone on a slow network gets a fraction of the bytes."""
    one = served()
    one.site.put({"intensity": history(NOON_MS, 500, float)})
    path = "/api/rows/intensity"
    packed = one.client.get(path)
    plain = one.client.get(path, headers={"accept-encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.json() == plain.json()
    assert packed.num_bytes_downloaded * 5 < len(plain.content)


def test_a_file_that_the_browser_has_is_not_sent_again(standing: Serving) -> None:
    """The page's files are asked for each time and answered with 304 while they are the same."""
    client = standing().client
    first = client.get("/static/app.js")
    again = client.get("/static/app.js", headers={"if-none-match": first.headers["etag"]})
    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")
