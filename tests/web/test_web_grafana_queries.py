"""Every query that Grafana is given answers what an export of the embedded store says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from metering.instants import rfc3339
from metering.query import Query
from sinks.store_duckdb import open_existing
from tests.real.influxd import Influx
from tests.sinks.influx_filled import fill_from_store, write
from tests.web.grafana_site import CHOSEN, FROM_MS, TO_MS, Row, ask, filled_in, results, store_of, withdrawn
from tests.web.web_site import MINUTE_MS, NOON_MS
from web.grafana.queries import LISTED_MAX, QUERIES

COMPLETE = ("final", "revised")
PLANT, POINT = CHOSEN["plant"], CHOSEN["point"]


class Loaded(NamedTuple):
    """The bucket, and all rows of each table as the embedded store gives them."""

    influxdb: Influx
    bucket: str
    tables: dict[str, list[Row]]

    def answer(self, name: str, **more: Any) -> list[Row]:
        found = ask(self.influxdb, filled_in(QUERIES[name], self.bucket, **more))
        return [row for series in found for row in series.rows]


@pytest.fixture(scope="module")
def loaded(influxdb: Influx, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    path: Path = store_of(tmp_path_factory.mktemp("grafana"), results(), withdrawn())
    bucket = influxdb.bucket()
    fill_from_store(influxdb, bucket, path)
    store = open_existing(path)
    tables = {name: store.rows(Query(name)) for name in results()}
    store.close()
    return Loaded(influxdb, bucket, tables)


def shown(rows: Iterable[Row], time: str = "end") -> list[Row]:
    """Rows of the time that the dashboard shows."""
    return [row for row in rows if FROM_MS < row[time] <= TO_MS]


def complete(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row["state"] in COMPLETE]


def values(rows: Iterable[Row], column: str) -> list[Row]:
    """What a variable's query gives."""
    return [{"_value": value} for value in sorted({row[column] for row in rows})]


def cells(rows: Iterable[Row], time: str, *columns: str) -> list[Row]:
    """Rows as a query gives them: the time as ``_time``, amounts as doubles."""
    wanted = [{"_time": row[time], **{name: row[name] for name in columns}} for row in rows]
    return [{n: float(v) if isinstance(v, Decimal) else v for n, v in row.items()} for row in wanted]


def newest(rows: Iterable[Row], time: str, *key: str) -> list[Row]:
    """The newest row of each key."""
    found = {tuple(row[name] for name in key): row for row in sorted(rows, key=lambda row: row[time])}
    return list(found.values())


def seen(rows: Iterable[Row]) -> list[Row]:
    known = newest([row for row in rows if row["amount"] is not None], "end", "plant", "point")
    return [{"seen": row["end"], "plant": row["plant"], "point": row["point"]} for row in known]


def since(rows: Iterable[Row]) -> list[Row]:
    """With ``installed`` as the tag that it is."""
    return [row | {"installed": rfc3339(row["installed"])} for row in rows]


Tables = Mapping[str, list[Row]]
FIGURE = ("scope", "id", "product", "window")


def _of_plant(tables: Tables) -> list[Row]:
    return [row for row in tables["interval"] if row["plant"] == PLANT]


def _of_point(tables: Tables) -> list[Row]:
    return shown(row for row in _of_plant(tables) if row["point"] == POINT)


def _of_scope(rows: Iterable[Row], scope: str) -> list[Row]:
    return shown(row for row in rows if row["scope"] == scope)


WANTED: dict[str, Callable[[Tables], list[Row]]] = {
    "variable_plants": lambda t: values(shown(t["interval"]), "plant"),
    "variable_points": lambda t: values(shown(_of_plant(t)), "point"),
    "variable_lines": lambda _: [{"_value": CHOSEN["line"]}],
    "variable_intensities": lambda t: values(_of_scope(t["intensity"], f"plant:{PLANT}"), "id"),
    "variable_windows": lambda t: values(_of_scope(t["intensity"], f"plant:{PLANT}"), "window"),
    "firing": lambda t: cells(
        [row for row in newest(t["alert"], "at", "id", "scope") if row["to"] == "firing"],
        *("at", "id", "scope", "value", "threshold"),
    ),
    "newest_figures": lambda t: cells(
        newest(complete(shown(t["intensity"])), "end", *FIGURE),
        *("end", *FIGURE, "value", "unit", "target", "measured_share", "covers", "reason", "state"),
    ),
    "intensity": lambda t: cells(
        complete(row for row in _of_scope(t["intensity"], f"plant:{PLANT}") if row["window"] == "1h"),
        *("end", *FIGURE, "value", "target"),
    ),
    "completeness": lambda t: cells(complete(shown(t["intensity"])), "end", *FIGURE, "measured_share"),
    "last_seen": lambda t: seen(t["interval"]),
    "plant_points": lambda t: seen(_of_plant(t)),
    "line_hours": lambda t: cells(
        complete(_of_scope(t["rollup"], CHOSEN["line"])), "end", "measures", "product", "scope", "amount"
    ),
    "point_intervals": lambda t: cells(complete(_of_point(t)), "end", "plant", "point", "amount"),
    "point_share": lambda t: cells(complete(_of_point(t)), "end", "plant", "point", "measured_share"),
    "point_rows": lambda t: cells(
        _of_point(t),
        *("end", "amount", "unit", "quality", "flags", "measured_share", "state", "revision", "cause"),
    ),
    "point_hours": lambda t: cells(
        complete(_of_scope(t["rollup"], f"point:{PLANT}/{POINT}")), "end", "measures", "product", "amount"
    ),
    "point_verdicts": lambda t: cells(
        since(t["verdict"]), "to", "serial", "installed", "verdict", "status", "by", "evidence", "revision"
    ),
    "point_ledger": lambda t: cells(
        since(t["ledger"]),
        *("to", "serial", "installed", "first", "last", "booked", "held", "written_off", "balance"),
    ),
    "point_rejected": lambda t: cells(
        [row for row in t["rejected"] if row["point"] == f"{PLANT}/{POINT}"],
        *("received", "topic", "reason", "detail", "payload"),
    ),
}


def comparable(rows: Iterable[Row]) -> list[str]:
    """Rows in any order, without the cells that are unknown."""
    return sorted(str(sorted((n, v) for n, v in row.items() if v is not None and v != "")) for row in rows)


@pytest.mark.parametrize("name", WANTED)
def test_a_query_gives_the_rows_of_an_export(loaded: Loaded, name: str) -> None:
    """Each against the same rows of the embedded store, picked out in plain Python."""
    wanted = WANTED[name](loaded.tables)
    assert wanted
    assert comparable(loaded.answer(name)) == comparable(wanted)


def test_rows_of_an_earlier_version_say_all_that_they_have(influxdb: Influx) -> None:
    """They have no field that names what is unknown. Beside rows that have one, too."""
    bucket = influxdb.bucket()
    for back, unknown in ((0, ""), (1, ',unknown="amount"'), (2, ',unknown=" "')):
        said = f'amount=1,position=1i,state="final"{unknown} {(NOON_MS - back * MINUTE_MS) * 10**6}'
        write(influxdb, bucket, f"interval,length=60,plant=p,point=q {said}".encode())
        found = Loaded(influxdb, bucket, {}).answer("point_intervals", variables={"plant": "p", "point": "q"})
        assert [row.get("amount") for row in found] == [1, None, 1][back::-1]


def test_every_query_is_tested() -> None:
    """Those of the alert rules have tests of their own."""
    assert WANTED.keys() | {"alert_firing", "alert_silent"} == QUERIES.keys()


def test_drawn_rows_come_in_their_order_with_gaps(loaded: Loaded) -> None:
    """Series by series by time; an unknown value is a row without one, so that no line is drawn over it."""
    rows = loaded.answer("intensity")
    assert [row["_time"] for row in rows] == sorted(row["_time"] for row in rows)
    assert any(row["value"] is None for row in rows)


def test_a_longer_period_gives_fewer_of_the_same_rows(loaded: Loaded) -> None:
    """One row stands for each period of the picture, as it is: nothing is averaged."""
    every, some = (comparable(loaded.answer("intensity", period=period)) for period in ("1m0s", "20m0s"))
    assert len(some) in range(9, 12)
    assert set(some) < set(every)


def test_tables_begin_with_the_newest(loaded: Loaded) -> None:
    """So a limit keeps what matters."""
    rows = loaded.answer("point_rows")
    assert rows[0]["_time"] == NOON_MS
    assert len(rows) < LISTED_MAX


def test_values_that_are_chosen_are_no_code(loaded: Loaded) -> None:
    """A name with quotes in it selects nothing else, and breaks nothing."""
    other = CHOSEN | {"plant": 'x" or true or "" == "'}
    assert loaded.answer("point_rows", variables=other) == []
