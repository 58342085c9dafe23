"""``meterflow up --simulate``: what a newcomer sees first, and that it goes on after a stop."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bus.frames import decode_readings
from bus.log import READINGS
from bus.log_sqlite import open_log
from tests.meterflow.helper import EXAMPLES, Row, Service, check_laws, eventually, meterflow, mistake

PLANTS = ("steel-1", "dye-1", "food-1")
ROLLING = ("15m", "1h", "8h", "24h")
Serve = Callable[..., Service]


def figures(service: Service) -> dict[tuple[str, str, str], float]:
    """The newest complete figure of every plant, intensity and rolling window."""
    found = {}
    for scope in service.json("/api/overview")["scopes"]:
        for figure in scope["figures"]:
            for window, rows in figure["windows"].items():
                for row in rows["complete"]:
                    if row["value"] is not None:
                        found[scope["scope"], figure["id"], window] = row["value"]
    return found


def instants(service: Service) -> set[tuple[str, str, str, str]]:
    """The register spans that are there, with what was used in them, but for those still filling."""
    rows = service.export("interval", "--to", "2100-01-01T00:00:00Z")
    return {(r["plant"], r["point"], r["end"], r["amount"]) for r in rows if r["state"] != "open"}


def test_a_simulated_park_is_seen_within_thirty_seconds(serve: Serve) -> None:
    """Rolling kWh/t and m3/t of every plant, a group's day, an alert; a stop and a start lose nothing."""
    service = serve(None, "--simulate")
    began_s = time.monotonic()
    service.start()
    wanted = {(f"plant:{p}", i, w) for p in PLANTS for i in ("kwh-per-t", "m3-per-t") for w in ROLLING}
    eventually(lambda: wanted <= figures(service).keys(), 30 - (time.monotonic() - began_s), "figures")
    eventually(lambda: "firing" in {row["to"] for row in service.rows("alert")}, 5, "an alert")
    assert service.json("/readyz")["ready"] is True
    accepted, before = service.accepted(), instants(service)
    service.stop()

    service.start()
    eventually(lambda: service.accepted() > accepted, 15, "more readings")
    assert before <= instants(service)
    check_laws(service)
    service.stop()
    assert not (service.folder / "service.json").exists()
    received, different = asyncio.run(on_the_log(service.folder))
    hop = export_hop(service)
    assert {plant: int(row["received"]) for plant, row in hop.items()} == received
    assert {plant: int(row["accepted"]) for plant, row in hop.items()} == different


def export_hop(service: Service) -> dict[str, Row]:
    """The books of the processors by plant, after a stop: what waited was still worked in."""
    return {row["plant"]: row for row in service.export("hop")}


async def on_the_log(folder: Path) -> tuple[Counter[str], Counter[str]]:
    """Readings by plant: all that came, and how many different instants of points they are."""
    received: Counter[str] = Counter()
    seen: set[tuple[str, str | None, int]] = set()
    log = await open_log(folder)
    offset, end = 0, await log.end(READINGS)
    while offset < end:
        for record in await log.read(READINGS, offset):
            offset = record.offset + 1
            if record.value:
                readings = decode_readings(record.value)
                received[readings.plant] += len(readings)
                points = (readings.point.text(i) for i in range(len(readings)))
                seen |= {
                    (readings.plant, point, t)
                    for point, t in zip(points, readings.time.tolist(), strict=True)
                }
    await log.close()
    return received, Counter(plant for plant, _, _ in seen)


def test_what_runs_is_logged_as_json_where_nobody_looks(serve: Serve) -> None:
    """Every line on standard error is one JSON object, and one says where the page is."""
    service = serve(EXAMPLES / "first" / "site.yaml")
    service.start()
    eventually(lambda: "meterflow is running" in service.said, 5)
    service.stop()
    events = [json.loads(line) for line in service.said.splitlines()]
    running = next(event for event in events if event["event"] == "meterflow is running")
    assert running["page"] == f"http://127.0.0.1:{service.http_port}/"
    assert running["mqtt"] == service.mqtt


def test_a_stop_right_after_the_start_is_a_clean_one(serve: Serve) -> None:
    """SIGTERM while the parts are being started ends the service with 0, and it starts again."""
    service = serve(EXAMPLES / "first" / "site.yaml")
    service.launch()
    eventually((service.folder / "log.sqlite").exists, 10)
    service.stop()
    service.start()
    service.stop()


def test_another_seed_on_the_same_folder_is_a_mistake(serve: Serve) -> None:
    """The park in a folder has its seed; another one ends the service with what to do."""
    service = serve(None, "--simulate")
    service.start()
    eventually((service.folder / "publisher.json").exists, 10)
    service.stop()
    words = ("--data", service.folder, "--mqtt-port", 0, "--http-port", 0)
    mistake(meterflow("up", "--simulate", "--seed", 2, *words), 2, "seed", "publisher.json")


def test_up_without_a_site_is_a_mistake() -> None:
    """There has to be a site file, or --simulate."""
    mistake(meterflow("up"), 2, "site file", "--simulate")


def test_a_simulated_park_and_users_are_a_mistake() -> None:
    """The simulated park cannot log in."""
    mistake(meterflow("up", "--simulate", "--users", "users.yaml"), 2, "--users")
