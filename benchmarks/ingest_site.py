"""The plants that the ingest benchmark publishes for, and their messages."""

from __future__ import annotations

from metering.policy import Policy
from metering.roster import REGISTER, Plant, Point, Roster
from metering.units import UNITS

PLANTS, POINTS = 4, 50
FIRST_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z


def roster() -> Roster:
    """A few plants with registers of electricity."""
    points = tuple(_point(i) for i in range(PLANTS * POINTS))
    plants = tuple(
        Plant(p, f"p{p}", f"p{p}", "UTC", "", (), tuple(range(p * POINTS, (p + 1) * POINTS)), ())
        for p in range(PLANTS)
    )
    names = {plant.id: {points[i].id: i for i in plant.points} for plant in plants}
    return Roster("bench", Policy("bench", "1", "", {}, {}, {}), plants, (), points, (), (), (), names)


def _point(index: int) -> Point:
    return Point(
        index,
        index // POINTS,
        f"m{index % POINTS}",
        "electricity",
        REGISTER,
        UNITS["kWh"],
        "",
        "",
        "supply",
        1,
        60_000,
        60_000,
        600_000,
        None,
        (),
    )


def message(number: int) -> tuple[bytes, bytes]:
    """Topic and payload of the number-th message: each point counts up, a reading a second."""
    point, turn = number % (PLANTS * POINTS), number // (PLANTS * POINTS)
    topic = b"meterflow/v1/p%d/m%d" % (point // POINTS, point % POINTS)
    return topic, b'{"time":%d,"value":%d.%02d}' % (FIRST_MS + turn * 1000, 100_000 + turn, point % 100)
