"""What a broken clock sends may cost little: time and room grow with the readings, not with the years."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

from metering.site_compile import compile_roster
from metering.site_load import load_site
from tests.processors.log_driver import MINUTE_MS, Arrival, Driver, Reading, as_records

SITE = """
meterflow: 1
plants:
  - id: p
    time_zone: UTC
    products: [{id: x, unit: t}]
    points:
      - {id: e, measures: electricity, reads: register, unit: kWh, expect_every: 60s, limit: 500 kW}
      - {id: o, measures: output, reads: register, unit: t, expect_every: 60s, limit: 90 t/h}
    intensity: [{id: k, of: electricity, per: x, windows: [1h]}]
    alerts: [{id: hot, when: k, window: 1h, above: 0.5, for: 10m}]
"""
NOW_MS = 1_767_571_200_000  # 2026-01-05T00:00Z
CLOCK_RESET_MS = 978_307_200_000  # 2001-01-01T00:00Z
ROOM_BYTES = 50_000_000


def driver_of(folder: Path) -> Driver:
    (folder / "site.yaml").write_text(SITE)
    return Driver(compile_roster(load_site(folder / "site.yaml")))


def both(stamp_ms: int, time_ms: int, value: int) -> Arrival:
    return Arrival(stamp_ms, tuple(Reading("p", point, time_ms, str(value)) for point in ("e", "o")))


def _peak_bytes(driver: Driver, arrivals: list[Arrival]) -> int:
    tracemalloc.start()
    try:
        driver.feed(as_records(arrivals))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_reading_of_2001_before_those_of_today_takes_little_room(tmp_path: Path) -> None:
    """A gateway that started with its clock reset, and then got the time."""
    arrivals = [both(NOW_MS, CLOCK_RESET_MS, 0)]
    arrivals += [both(NOW_MS + m * MINUTE_MS, NOW_MS + m * MINUTE_MS, m + 1) for m in range(90)]
    driver = driver_of(tmp_path)
    assert _peak_bytes(driver, arrivals) < ROOM_BYTES
    assert [row["to"] for row in driver.tables["alert"].values()] == ["firing"]


def test_a_reading_of_2001_after_those_of_today_takes_little_room(tmp_path: Path) -> None:
    """The alerts behind a late reading are worked out again where something is known, and nowhere else."""
    arrivals = [both(NOW_MS + m * MINUTE_MS, NOW_MS + m * MINUTE_MS, m + 1) for m in range(90)]
    arrivals += [both(NOW_MS + 90 * MINUTE_MS, CLOCK_RESET_MS + m * MINUTE_MS, m) for m in range(90)]
    driver = driver_of(tmp_path)
    assert _peak_bytes(driver, arrivals) < ROOM_BYTES
    assert [row["to"] for row in driver.tables["alert"].values()] == ["firing"]


def test_a_clock_that_stands_still_costs_each_reading_the_same(tmp_path: Path) -> None:
    """20,000 values for one instant are one conflict; copying all of them for each would take minutes."""
    readings = tuple(Reading("p", "e", NOW_MS, str(value)) for value in range(20_000))
    driver = driver_of(tmp_path)
    began_s = time.process_time()
    driver.feed(as_records([Arrival(NOW_MS, readings)]))
    assert time.process_time() - began_s < 10
    ((revision, variants),) = driver.engine.admission.variants.values()
    assert (revision, len(variants)) == (0, 20_000)
