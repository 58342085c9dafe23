"""A changed site file, a damaged store, a lost one: everything is worked out anew from the log."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.meterflow.helper import Row, Service, done, eventually, meterflow, mistake, publish
from tests.meterflow.recordings import BEGIN_MS, MINUTE_MS, works

TABLES = ("interval", "rollup", "intensity", "ledger", "verdict", "alert", "rejected")
MINUTES = 300
Serve = Callable[..., Service]
Tables = dict[str, list[Row]]


def tables(service: Service) -> Tables:
    return {name: service.rows(name) for name in TABLES}


@pytest.fixture
def filled(serve: Serve, tmp_path: Path, site: Path) -> tuple[Service, int]:
    """The works with some hours of readings, running; how many readings."""
    service = serve(site)
    service.start()
    readings = works(tmp_path / "works.ndjson", MINUTES)
    done("replay", tmp_path / "works.ndjson", "--mqtt", service.mqtt, "--speed", "max")
    service.caught_up(readings)
    return service, readings


def asides(service: Service, kind: str) -> list[Path]:
    return [
        path for path in service.folder.glob(f"results.duckdb.{kind}-*") if not path.name.endswith(".wal")
    ]


def test_a_changed_site_file_restates_everything(filled: tuple[Service, int], site: Path) -> None:
    """A point that is gone has no rows, a multiplier counts from ever, the old store is kept."""
    service, readings = filled
    publish(service.mqtt_port, "meterflow/v1/works/new", json.dumps({"time": BEGIN_MS, "value": 1}))
    eventually(lambda: len(service.rows("rejected")) == 1, 5)
    before = tables(service)
    service.stop()
    text = site.read_text().replace("multiplier: 10", "multiplier: 20").replace("9000 kW", "18000 kW")
    lines = [line for line in text.splitlines() if "id: books" not in line and "id: yuan" not in line]
    site.write_text(
        "\n".join(lines).replace(
            "id: count", "id: new, measures: water, reads: register, unit: m3}\n      - {id: count"
        )
    )

    service.start()
    service.caught_up(readings)
    after = tables(service)
    assert {row["point"] for row in after["interval"]} == {"main", "intake", "count"}
    main = [[float(r["amount"] or 0) for r in t["interval"] if r["point"] == "main"] for t in (before, after)]
    assert sum(main[1]) == pytest.approx(2 * sum(main[0]))
    assert [r["reason"] for r in after["rejected"]] == ["unknown_point"]
    assert len(asides(service, "before")) == 1
    publish(service.mqtt_port, "meterflow/v1/works/new", json.dumps({"time": BEGIN_MS, "value": 1}))
    publish(
        service.mqtt_port, "meterflow/v1/works/new", json.dumps({"time": BEGIN_MS + MINUTE_MS, "value": 2})
    )
    service.caught_up(readings + 2)
    service.stop()
    service.start()
    assert len(asides(service, "before")) == 1


def test_a_site_file_changed_before_any_state_was_saved(filled: tuple[Service, int], site: Path) -> None:
    """Killed before the first save there is no state to compare with; the results are of the new site."""
    service, readings = filled
    service.kill()
    text = site.read_text()
    site.write_text(
        "\n".join(line for line in text.splitlines() if "id: books" not in line and "id: yuan" not in line)
    )
    service.start()
    service.caught_up(readings)
    assert {row["point"] for row in service.rows("interval")} == {"main", "intake", "count"}
    assert not [row for row in service.rows("intensity") if row["id"] == "yuan"]


def test_what_was_reported_before_a_changed_site_file_can_be_asked_for(
    filled: tuple[Service, int], site: Path
) -> None:
    """Twice another multiplier: what was exported in each time comes again, running or not; what somebody
    has taken away is missed, not made up.
    """
    service, readings = filled
    said: list[tuple[str, list[Row]]] = []
    text = site.read_text()
    for multiplier in (10, 20, 5):
        site.write_text(text.replace("multiplier: 10", f"multiplier: {multiplier}").replace("9000", "18000"))
        if multiplier != 10:
            service.stop()
            service.start()
            service.caught_up(readings)
        now = datetime.now(UTC).isoformat()
        said.append((now, service.export("rollup", "--as-of", now)))
    assert len({json.dumps(rows) for _, rows in said}) == len(said)
    assert all(len(rows) > MINUTES / 60 for _, rows in said)
    for now, rows in said:
        assert service.export("rollup", "--as-of", now) == rows
        everything = service.export("rollup", "--as-of", now, "--history")
        assert all(row in everything for row in rows)
    service.stop()
    for now, rows in said:
        assert service.export("rollup", "--as-of", now) == rows
    min(asides(service, "before")).unlink()
    asked = ("export", "rollup", "--data", service.folder, "--as-of")
    for running in (False, True):
        if running:
            service.start()
            service.caught_up(readings)
        mistake(meterflow(*asked, said[0][0]), 2, "results.duckdb.before-", "not here any more")
        assert [service.export("rollup", "--as-of", now) for now, _ in said[1:]] == [r for _, r in said[1:]]


def test_a_kill_while_everything_is_made_anew(filled: tuple[Service, int], site: Path) -> None:
    """However far it had come with the new site file, the next start makes it whole."""
    service, readings = filled
    service.stop()
    site.write_text(
        site.read_text().replace("multiplier: 10", "multiplier: 20").replace("9000 kW", "18000 kW")
    )
    for wait_s in (0.4, 0.6, 0.7, 0.8, 0.9):
        service.launch()
        time.sleep(wait_s)
        service.kill()
    service.start()
    service.caught_up(readings)
    made = tables(service)
    service.stop()
    (service.folder / "results.duckdb").unlink()
    service.start()
    service.caught_up(readings)
    assert tables(service) == made


@pytest.mark.parametrize("how", ["overwritten", "cut", "gone", "empty"])
def test_a_damaged_store_is_rebuilt_from_the_log(filled: tuple[Service, int], how: str) -> None:
    """It is moved aside, and every table is as it was, its story included."""
    service, readings = filled
    before = tables(service)
    service.stop()
    store = service.folder / "results.duckdb"
    if how == "overwritten":
        store.write_bytes(b"\0" * store.stat().st_size)
    elif how == "cut":
        store.write_bytes(store.read_bytes()[:5000])
    elif how == "empty":
        store.write_bytes(b"")
    else:
        store.unlink()
    service.start()
    service.caught_up(readings)
    assert tables(service) == before
    assert len(asides(service, "damaged")) == (how != "gone")


@pytest.mark.parametrize("value", [b"", b"PK nonsense"])
def test_a_damaged_saved_state_is_worked_out_anew(filled: tuple[Service, int], value: bytes) -> None:
    """It is worth no more than none: the log has the readings."""
    service, readings = filled
    before = tables(service)
    service.stop()
    with sqlite3.connect(service.folder / "log.sqlite") as log:
        assert log.execute("UPDATE chunk SET value = ?", [value]).rowcount > 0
    service.start()
    service.caught_up(readings)
    assert tables(service) == before
    assert "the saved state is damaged" in service.said


def test_an_old_copy_of_the_store_is_brought_up_to_date(filled: tuple[Service, int]) -> None:
    """What the log has let go of by then is worked out anew."""
    service, readings = filled
    service.stop()
    store = service.folder / "results.duckdb"
    copy = store.read_bytes()
    service.start()
    for minute in range(30):
        payload = {"time": BEGIN_MS + (MINUTES + minute) * MINUTE_MS, "value": 90_000 + minute}
        publish(service.mqtt_port, "meterflow/v1/works/count", json.dumps(payload))
    service.caught_up(readings + 30)
    before = tables(service)
    service.stop()
    store.write_bytes(copy)
    service.start()
    service.caught_up(readings + 30)
    assert tables(service) == before
