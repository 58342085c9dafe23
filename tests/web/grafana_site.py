"""Results of a small site in InfluxDB, and questions to it as Grafana puts them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from influxdb_client.client.influxdb_client import InfluxDBClient

from bus.frames import decode_table, encode_rows
from sinks.store_duckdb import open_store
from tests.real.influxd import Influx
from tests.sinks.influx_filled import fill_from_store
from tests.web.web_site import HOUR_MS, MINUTE_MS, NOON_MS, figure, history

Row = dict[str, Any]
FROM_MS, TO_MS = NOON_MS - 3 * HOUR_MS - 30_000, NOON_MS + 90_000
"""What is shown; between minutes, since Grafana's ranges begin, and ours end, with an instant."""
CHOSEN = {
    "plant": 'a "works"',
    "point": "主表",
    "line": 'line:a "works"/melt',
    "intensity": "kwh-per-t",
    "window": "1h",
}


def filled_in(
    flux: str,
    bucket: str,
    variables: Mapping[str, str] = CHOSEN,
    period: str = "1m0s",
    shown: tuple[int, int] = (FROM_MS, TO_MS),
) -> str:
    """A query as Grafana 11 sends it: its macros, and variables in the format ``doublequote``."""
    stamps = [f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}" for ms in shown]
    macros = {"timeRangeStart": stamps[0], "timeRangeStop": stamps[1], "windowPeriod": period}
    macros["defaultBucket"] = f'"{bucket}"'
    for word, name in re.findall(r"([a-zA-Z]+)\.([a-zA-Z]+)", flux):
        if name in macros:
            flux = flux.replace(f"{word}.{name}", macros[name])

    def quoted(found: re.Match[str]) -> str:
        return '"' + variables[found[1]].replace('"', '\\"') + '"'

    flux = re.sub(r"\$\{(\w+):doublequote\}", quoted, flux)
    assert "$" not in flux, "a variable that Grafana would fill in otherwise"
    return flux


@dataclass(frozen=True)
class Series:
    """One table of an answer: its labels (what it is grouped by) and rows."""

    labels: dict[str, str]
    rows: list[Row]


def ask(influxdb: Influx, flux: str) -> list[Series]:
    """What Grafana makes of an answer: empty labels and those of the range are left out."""
    with InfluxDBClient(influxdb.url, influxdb.token, org=influxdb.org) as client:
        found = []
        for table in client.query_api().query(flux):
            names = [column.label for column in table.get_group_key()]
            first = table.records[0].values
            labels = {
                n: first[n] for n in names if first.get(n) not in {None, ""} and n not in {"_start", "_stop"}
            }
            found.append(Series(labels, [_plain(record.values) for record in table.records]))
        return found


def _plain(values: Mapping[str, Any]) -> Row:
    """Times as milliseconds, blank texts unknown."""
    row = {name: value for name, value in values.items() if name not in {"result", "table"}}
    for name, value in row.items():
        if isinstance(value, datetime):
            row[name] = round(value.timestamp() * 1000)
        elif isinstance(value, str) and not value.strip():
            row[name] = None
    return row


Tables = Mapping[str, list[Row]]


def store_of(folder: Path, tables: Tables, withdrawn: Tables | None = None) -> Path:
    """A closed store with these rows, at position 1; those ``withdrawn`` are no more since position 2."""
    path = folder / "results.duckdb"
    store, _ = open_store(path)
    for position, its in ((1, tables), (-3, withdrawn or {})):
        store.write([decode_table(encode_rows(name, rows, position)) for name, rows in its.items()], 1)
    store.close()
    return path


def load(influxdb: Influx, folder: Path, tables: Tables, withdrawn: Tables | None = None) -> str:
    """A new bucket with these rows."""
    bucket = influxdb.bucket()
    fill_from_store(influxdb, bucket, store_of(folder, tables, withdrawn))
    return bucket


def intervals(plant: str, point: str, last_ms: int, minutes: int) -> Iterator[Row]:
    """A minute's grid; the newest is open, the one before it is unknown, every seventh is too."""
    for back in range(minutes):
        end_ms = last_ms - back * MINUTE_MS
        unknown = back == 1 or back % 7 == 3
        yield {
            "plant": plant,
            "point": point,
            "measures": "electricity",
            "start": end_ms - MINUTE_MS,
            "end": end_ms,
            "amount": None if unknown else Decimal(back) / 10,
            "unit": "kWh",
            "quality": "missing" if unknown else "valid",
            "measured_share": 0.0 if unknown else 1.0,
            "state": "open" if back == 0 else "final",
            "revision": 0,
            "reported": end_ms + 1000,
        }


def alert(at_ms: int, to: str, scope: str = 'plant:a "works"', id: str = "hot") -> Row:
    return {
        "id": id,
        "scope": scope,
        "at": at_ms,
        "to": to,
        "value": 630.5,
        "threshold": 620.0,
        "window_end": at_ms,
        "revision": 0,
        "reported": at_ms + 1000,
    }


def results() -> dict[str, list[Row]]:
    """Rows of all tables: two plants, unknown figures, open rows, alerts that fire and one that is over."""
    works, line = 'plant:a "works"', CHOSEN["line"]
    hours = [NOON_MS - back * HOUR_MS for back in range(5)]
    return {
        "interval": [
            *intervals('a "works"', "主表", NOON_MS, 200),
            *intervals('a "works"', "count", NOON_MS, 20),
            *intervals("steel-1", "main", NOON_MS - HOUR_MS, 30),
        ],
        "rollup": [
            _rollup(scope, end_ms, state="open" if end_ms == NOON_MS else "final")
            for scope in (works, line, "line:steel-1/roll", 'point:a "works"/主表')
            for end_ms in hours
        ],
        "intensity": [
            *history(NOON_MS, 190, lambda back: None if back % 11 == 5 else 600 + back / 8, scope=works),
            *history(NOON_MS, 20, lambda back: 10.0 + back, scope=works, window="15m", target=None),
            *history(NOON_MS, 20, lambda back: 500.0 + back, product="rail"),
            figure(NOON_MS + MINUTE_MS, 1.0, scope=works, state="open"),
        ],
        "alert": [
            alert(NOON_MS - 90 * 24 * HOUR_MS, "firing"),
            alert(NOON_MS - 2 * HOUR_MS, "firing", "plant:steel-1"),
            alert(NOON_MS - HOUR_MS, "ok", "plant:steel-1"),
            alert(NOON_MS - HOUR_MS, "firing", "plant:steel-1", "thirsty"),
        ],
        **_stories(),
    }


def withdrawn() -> Tables:
    """Rows that are no more, each where it would be seen: newest, alone, or beside one that stands."""
    end_ms = NOON_MS - 3 * MINUTE_MS
    beside = {"start": end_ms - 90_000, "end": end_ms, "state": "final", "revision": 1}
    verdict, ledger = (_stories()[name][0] for name in ("verdict", "ledger"))
    works = 'plant:a "works"'
    return {
        "interval": [
            *intervals("gone", "main", NOON_MS, 9),
            *intervals('a "works"', "gone", NOON_MS, 9),
            *intervals("steel-1", "main", NOON_MS, 9),
            {"plant": 'a "works"', "point": "主表", "amount": Decimal(7), **beside},
        ],
        "rollup": [
            _rollup(CHOSEN["line"], NOON_MS - HOUR_MS, measures="water"),
            _rollup('line:a "works"/gone', NOON_MS - HOUR_MS),
            _rollup('point:a "works"/主表', NOON_MS - HOUR_MS, product="rail"),
        ],
        "intensity": [
            figure(NOON_MS, 1.0, scope=works, id="gone"),
            figure(NOON_MS, 1.0, scope=works, window="gone"),
            figure(NOON_MS + MINUTE_MS, 1.0, scope=works, window="15m"),
        ],
        "alert": [alert(NOON_MS, "ok"), alert(NOON_MS, "firing", id="gone")],
        "verdict": [verdict | {"from": verdict["from"] - 1}],
        "ledger": [ledger | {"serial": "gone"}],
    }


def _stories() -> dict[str, list[Row]]:
    """What happened to readings: one held fall, three refusals, a meter that came back."""
    return {
        "verdict": [
            {
                "plant": 'a "works"',
                "point": "主表",
                "serial": "A-17",
                "installed": NOON_MS - 86_400_000,
                "verdict": "decrease",
                "from": NOON_MS - 2 * MINUTE_MS,
                "to": NOON_MS - MINUTE_MS,
                "status": "held",
                "by": "rule",
                "evidence": '{"from_value": 5, "to_value": 0}',
                "revision": 0,
                "reported": NOON_MS,
            }
        ],
        "rejected": [
            {
                "received": NOON_MS - back * MINUTE_MS,
                "topic": "meterflow/v1/x",
                "time": NOON_MS,
                "point": point,
                "reason": "not_json",
                "detail": "at 1",
                "payload": "{" * back,
            }
            for back, point in enumerate(('a "works"/主表', "steel-1/main", 'a "works"/主表'), 1)
        ],
        "ledger": [
            {
                "plant": 'a "works"',
                "point": "主表",
                "serial": "A-17",
                "installed": installed,
                "from": 1,
                "to": to,
                "first": 0,
                "last": 7,
                "booked": 5,
                "held": 2,
                "written_off": 0,
                "balance": 0,
            }
            for installed, to in ((NOON_MS - 86_400_000, NOON_MS), (None, NOON_MS - 90_000_000))
        ],
    }


def _rollup(scope: str, end_ms: int, **other: Any) -> Row:
    row = {
        "scope": scope,
        "measures": "electricity",
        "product": None,
        "span": "hour",
        "start": end_ms - HOUR_MS,
        "end": end_ms,
        "amount": Decimal("120.5"),
        "unit": "kWh",
        "quality": "valid",
        "measured_share": 1.0,
        "state": "final",
        "revision": 0,
        "reported": end_ms + 1000,
    }
    return row | other
