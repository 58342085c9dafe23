"""What is old goes from the log when it is archived and saved, and comes back from the archive."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bus.log import RESULTS
from bus.log_sqlite import open_log
from tests.meterflow.helper import (
    Row,
    Service,
    done,
    eventually,
    meterflow,
    mistake,
    of_set,
    publish,
    rows_of,
)
from tests.meterflow.recordings import BEGIN_MS, MINUTE_MS, works

TABLES = ("interval", "rollup", "intensity", "verdict", "ledger")
MINUTES = 300
Serve = Callable[..., Service]


def kept(service: Service, days: float = 0) -> dict[str, Any]:
    """What a command says of the log."""
    words = ("archive", "kept", "--data", service.folder, "--keep-log", days, "--json")
    return dict(json.loads(done(*words).stdout))


def tables(service: Service) -> dict[str, list[Row]]:
    return {name: service.rows(name) for name in TABLES}


def one_more(service: Service, minute: int) -> None:
    """A reading behind all others."""
    payload = {"time": BEGIN_MS + minute * MINUTE_MS, "value": 90_000 + minute}
    publish(service.mqtt_port, "meterflow/v1/works/count", json.dumps(payload))


def test_readings_leave_the_log_and_come_back(serve: Serve, tmp_path: Path, site: Path) -> None:
    """Results stay; what would be made of a part is refused; put back, all is as if nothing had gone."""
    service = serve(site)
    service.start()
    readings = works(tmp_path / "works.ndjson", MINUTES)
    done("replay", tmp_path / "works.ndjson", "--mqtt", service.mqtt, "--speed", "max")
    service.caught_up(readings)
    before = tables(service)
    assert kept(service)["records"] == 0  # nothing is archived yet
    service.stop()
    due = kept(service)
    assert (due["first"], due["records"] > 0, kept(service, 1)["records"]) == (0, True, 0)

    service.options += ["--keep-log", "0"]
    service.start()
    eventually(lambda: "the log has let go of" in service.said, 20)
    assert f'event="log_records_let_go"}} {due["records"]}' in service.get("/metrics")[1].decode()
    one_more(service, MINUTES)
    service.caught_up(readings + 1)
    assert service.export("interval", "--to", "2026-01-01T02:00:00Z") == [
        row for row in before["interval"] if row["end"] <= "2026-01-01T02:00:00Z"
    ]
    service.kill()
    other = tmp_path / "other.yaml"
    other.write_text(site.read_text().replace("multiplier: 10", "multiplier: 20").replace("9000", "18000"))
    aged = planned_from_the_archive(service, site, other)
    service.options, service.site = [], other
    refused(service)
    service.site = site
    service.start()
    one_more(service, MINUTES + 1)
    service.caught_up(readings + 2)
    service.stop()
    assert kept(service)["first"] == due["records"]

    more = planned(other, service)
    done("archive", "restore", "--data", service.folder)
    assert kept(service)["first"] == 0
    assert planned(other, service) == more != aged
    service.site = other
    service.start()
    service.caught_up(readings + 2)
    again = tables(service)
    service.stop()
    done("archive", "check", "--data", service.folder)
    made = ("--data", service.folder, "--out", tmp_path / "again")
    done("archive", "rebuild", other, *made, "--against", service.folder)
    for name in TABLES:
        rebuilt = rows_of(done("export", name, "--data", tmp_path / "again").stdout)
        assert of_set(name, again[name]) == of_set(name, rebuilt), name


def planned(site: Path, service: Service, *words: object) -> dict[str, Any]:
    """What a site file would change."""
    found = done("plan", site, "--against", service.folder, "--json", *words).stdout
    return dict(json.loads(found))


def planned_from_the_archive(service: Service, site: Path, other: Path) -> dict[str, Any]:
    """What another site file would change, the one in force nothing; without the archive nobody knows."""
    same = planned(site, service)["tables"].values()
    assert [one["changed"] + one["added"] + one["gone"] for one in same] == [0] * len(same)
    found = planned(other, service)
    assert found["tables"]["interval"]["changed"] > MINUTES / 2
    place = service.folder / "archive"
    hidden = place.rename(service.folder / "hidden")
    mistake(meterflow("plan", other, "--against", service.folder), 2, "let go", "archive check")
    assert planned(other, service, "--archive", hidden) == found
    hidden.rename(place)
    return found


def aged(serve: Serve, tmp_path: Path, site: Path) -> tuple[Service, int, dict[str, list[Row]]]:
    """A stopped service whose log has let go of all readings; how many there were, and its tables."""
    service = serve(site)
    service.start()
    readings = works(tmp_path / "works.ndjson", 60)
    done("replay", tmp_path / "works.ndjson", "--mqtt", service.mqtt, "--speed", "max")
    service.caught_up(readings)
    before = tables(service)
    service.stop()
    service.options = ["--keep-log", "0"]
    service.start()
    eventually(lambda: "the log has let go of" in service.said, 20)
    service.stop()
    return service, readings, before


def refused(service: Service) -> None:
    """A start that says what is to be done first."""
    service.launch()
    assert service.process is not None
    assert service.process.wait(60) == 2
    assert "archive restore" in service.said
    service.process = None


async def without_results(folder: Path) -> None:
    """The log forgets the results, as it does when there are many."""
    log = await open_log(folder)
    await log.trim(RESULTS, await log.end(RESULTS))
    await log.close()


def test_a_lost_store_is_not_made_of_a_part_of_the_readings(serve: Serve, tmp_path: Path, site: Path) -> None:
    """It is refused, again and again, until the archive has given the readings back."""
    service, readings, before = aged(serve, tmp_path, site)
    (service.folder / "results.duckdb").unlink()
    asyncio.run(without_results(service.folder))
    for _ in range(2):
        refused(service)
    service.options = []
    done("archive", "restore", "--data", service.folder)
    service.start()
    service.caught_up(readings)
    assert tables(service) == before


def test_a_lost_store_is_filled_from_the_results_that_are_on_the_log(
    serve: Serve, tmp_path: Path, site: Path
) -> None:
    """Nothing is worked out anew for it, so it needs no readings."""
    service, _, before = aged(serve, tmp_path, site)
    (service.folder / "results.duckdb").unlink()
    service.start()
    eventually(lambda: tables(service) == before, 30, "as before")
