"""``meterflow plan`` against what then happens, over the real service."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from metering.tables import TABLES
from tests.meterflow.helper import Row, Service, done, eventually, meterflow, mistake, publish
from tests.meterflow.recordings import BEGIN_MS, MINUTE_MS, works

Serve = Callable[..., Service]
MINUTES = 3000
COMPARED = ("interval", "rollup", "intensity", "verdict", "alert", "ledger")


@pytest.fixture
def service(serve: Serve, site: Path, tmp_path: Path) -> Service:
    """Two days of the works, running; and a point that its site file does not have."""
    one = serve(site)
    one.start()
    different = works(tmp_path / "works.ndjson", MINUTES)
    done("replay", tmp_path / "works.ndjson", "--mqtt", one.mqtt, "--speed", "max")
    spare = [{"time": BEGIN_MS + i * MINUTE_MS, "value": 100 + i} for i in range(60)]
    publish(one.mqtt_port, "meterflow/v1/works/spare", json.dumps(spare))
    one.caught_up(different - 5, 120)
    eventually(lambda: one.metric("meterflow_worker_lag_records") == 0, 60, "lag")
    eventually(lambda: one.metric("meterflow_sink_lag_records") == 0, 60, "lag")
    return one


def changed(site: Path, *pairs: tuple[str, str]) -> Path:
    """A site file beside the service's, with other words."""
    text = site.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new, 1)
    other = site.with_name("changed.yaml")
    other.write_text(text)
    return other


def planned(site: Path, service: Service, *words: object) -> dict[str, Any]:
    """As a script reads it."""
    return dict(json.loads(done("plan", site, "--against", service.folder, "--json", *words).stdout))


def key_of(table: str, row: Row) -> tuple[str, ...]:
    return tuple(row[name] for name in TABLES[table].key)


def differing(table: str, before: list[Row], after: list[Row]) -> dict[str, int]:
    """The counts of a plan, from what was exported before and after."""
    names = [column.name for column in TABLES[table].columns if not column.of_log]
    old, new = ({key_of(table, row): row for row in rows} for rows in (before, after))
    counts = dict.fromkeys(("same", "changed", "added", "gone", "open"), 0)
    for key in old.keys() | new.keys():
        was, now = old.get(key), new.get(key)
        if (was or now or {}).get("state") == "open":
            counts["open"] += 1
        elif was is None or now is None:
            counts["added" if was is None else "gone"] += 1
        else:
            counts["same" if all(was[n] == now[n] for n in names) else "changed"] += 1
    return counts


CHANGES = {
    "a multiplier": (("multiplier: 10", "multiplier: 11"),),
    "a point that is gone": (
        ("      - {id: books, measures: value_added, reads: interval, unit: CNY}\n", ""),
        ("      - {id: yuan, of: electricity, per: value_added, windows: [day]}\n", ""),
    ),
    "an alert": (("above: 610, clear_below: 600", "above: 500, clear_below: 400"),),
    "a zone": (("time_zone: Asia/Shanghai", "time_zone: Asia/Kathmandu"),),
    "a width": (("digits: 6, decimals: 1", "digits: 7, decimals: 1"),),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_planned_happens(service: Service, site: Path, name: str) -> None:
    """Row by row: as many are changed, new and gone in each table as the plan has said."""
    other = changed(site, *CHANGES[name])
    plan = planned(other, service)
    before = {table: service.export(table) for table in COMPARED}
    service.stop()
    service.site = other
    service.start()
    whole = len(before["interval"]) // 2
    eventually(lambda: len(service.rows("interval")) > whole, 60, "worked out anew")
    for lag in ("worker", "sink"):
        eventually(lambda lag=lag: service.metric(f"meterflow_{lag}_lag_records") == 0, 60, lag)  # type: ignore[misc]
    for table in COMPARED:
        assert plan["tables"][table] == differing(table, before[table], service.export(table)), table
    counts = plan["tables"].values()
    assert sum(one["changed"] + one["added"] + one["gone"] for one in counts) > 0


def test_a_site_file_as_it_is_changes_nothing(service: Service, site: Path) -> None:
    """Nor does a comment in it, or a name."""
    plan = planned(changed(site, ("    patience: 2m\n", "    patience: 2m  # as before\n")), service)
    assert plan["differences"] == plan["figures"] == []
    assert plan["orphaned_readings"] == {}
    assert plan["points"] == {"new": [], "vanished": []}
    assert plan["tables"]["interval"]["same"] > 3 * MINUTES - 100


def test_figures_and_periods_are_named(service: Service, site: Path, tmp_path: Path) -> None:
    """By how much a month changes; points that come and go; readings without a point; rows to look at."""
    books = "      - {id: books, measures: value_added, reads: interval, unit: CNY}\n"
    spare = "      - {id: spare, measures: water, reads: register, unit: m3, installations: [{digits: 6}]}\n"
    yuan = "      - {id: yuan, of: electricity, per: value_added, windows: [day]}\n"
    other = changed(site, ("multiplier: 10", "multiplier: 5"), (books, spare), (yuan, ""))
    plan = planned(other, service, "--out", tmp_path / "rows")
    (month,) = (
        one
        for one in plan["figures"]
        if (one["scope"], one.get("measures"), one.get("span"), one["end"])
        == ("plant:works", "electricity", "month", "2026-01-31T16:00:00Z")
    )
    assert 2 * Decimal(month["after"]) == Decimal(month["before"]) > 0
    (main,) = (
        one for one in plan["differences"] if one["table"] == "interval" and one.get("point") == "main"
    )
    assert (main["changed"], main["added"], main["gone"]) == (plan["tables"]["interval"]["changed"], 0, 0)
    assert 2 * Decimal(main["after"]) == Decimal(main["before"])
    assert main["from"] == "2026-01-01T00:00:00Z"
    assert plan["points"] == {"new": ["works/spare"], "vanished": ["works/books"]}
    assert plan["orphaned_readings"] == {"works/books": {"unknown_point": 2}}
    assert plan["resubmit"] == {"messages": 1, "readings": 60}
    rows = pq.read_table(tmp_path / "rows" / "interval.parquet").to_pylist()
    assert sum(row["change"] == "changed" for row in rows) == main["changed"]
    assert all(2 * row["amount_after"] == row["amount_before"] for row in rows if row["change"] == "changed")
    told = done("plan", other, "--against", service.folder).stdout
    assert (
        f"rollup    plant:works electricity month, until 2026-01-31T16:00:00Z, so far: {month['before']} ->"
        in told
    )
    assert "new point      works/spare" in told
    assert "orphaned       works/books: 2 readings, unknown_point" in told


def test_a_stopped_service_is_planned_for_too(service: Service, site: Path) -> None:
    """The same plan; and nothing in the folder is written to."""
    other = changed(site, ("multiplier: 10", "multiplier: 5"))
    running = planned(other, service)
    service.stop()
    files = {path: path.read_bytes() for path in service.folder.rglob("*") if path.is_file()}
    assert planned(other, service) == running
    assert {path: path.read_bytes() for path in files} == files


def test_a_mistake_is_told(site: Path, tmp_path: Path) -> None:
    """What, where, and what to do; exit 2."""
    mistake(meterflow("plan", site, "--against", tmp_path / "no"), 2, "no such data folder", "--against")
    (tmp_path / "empty").mkdir()
    mistake(meterflow("plan", site, "--against", tmp_path / "empty"), 2, "no results in this folder")
    site.write_text("meterflow: 1\n")
    mistake(meterflow("plan", site, "--against", tmp_path / "empty"), 2, "site.yaml", "plants")
