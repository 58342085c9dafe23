"""Random readings of days that are like each other, with gaps in the last of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

from tests.processors.histories import _CHANGES, DAY_MS, HOUR_MS, History, _changed, roster_of, utc_ms
from tests.processors.log_driver import MINUTE_MS, Reading

if TYPE_CHECKING:
    from metering.roster import Point

SITE = "weekly"
ANCHORS = {
    "2025-03-30T00:00Z": (7, 7, 14, 1),
    "2025-10-26T00:00Z": (7, 7, 14, 1),
    "2025-03-31T20:00Z": (3, 4, 7, 1),
    "2025-11-06T08:00Z": (1, 2, 3, 6, 7),
    "2025-11-05T21:00Z": (1, 2, 5, 6),
    "2026-01-31T22:00Z": (7, 7, 14),
    "2025-11-10T06:00Z": (3, 4, 5, 2),
}
"""Instants at which gaps begin (clocks put forward and back, a Monday, evenings, a month's end), and how many
days before them there are readings."""


@st.composite
def _of_a_point(draw: st.DrawFn, plant: str, point: Point, anchor: str) -> list[Reading]:
    """Readings of some hours of several days; of the last one only a few."""
    anchor_ms, days = utc_ms(anchor), draw(st.sets(st.sampled_from(ANCHORS[anchor]), min_size=1, max_size=4))
    hours, step_ms = draw(st.integers(3, 6)), point.expect_ms
    count = hours * HOUR_MS // step_ms
    jitter_ms = draw(st.sampled_from([0, 0, 7 * MINUTE_MS, 1234]))
    first = draw(st.integers(0, 1))
    gap = {0, 1, count} if draw(st.booleans()) else {0, count // 3, count, count + 1}
    shown = {
        (anchor_ms - day * DAY_MS) + (number - first) * step_ms for day in days for number in range(count + 2)
    }
    shown |= {anchor_ms + number * step_ms for number in gap}
    times = sorted(shown)
    rises = draw(st.lists(st.sampled_from([0, 1, 2, 5, 13, 20, 40]), min_size=5, max_size=12))
    value, out = draw(st.sampled_from([100, 9_900])), []
    for number, time_ms in enumerate(times):
        value += rises[number % len(rises)] * max(1, (time_ms - times[max(0, number - 1)]) // HOUR_MS)
        width = point.installations[0].width
        register = value if width is None else value % (width // 1_000_000)
        out.append(Reading(plant, point.id, time_ms + jitter_ms, str(register)))
    return out


@st.composite
def weekly(draw: st.DrawFn) -> History:
    """Some readings come late, into days that gaps refer to or into gaps; some are corrected."""
    roster, anchor = roster_of(SITE), draw(st.sampled_from(sorted(ANCHORS)))
    points = draw(
        st.lists(st.sampled_from(roster.points), min_size=1, max_size=2, unique_by=lambda p: p.index)
    )
    every: list[Reading] = []
    for point in points:
        every += draw(_of_a_point(roster.plants[point.plant].id, point, anchor))
    order = {id(reading): reading.time_ms for reading in every}
    end_ms = max(order.values())
    before = [reading for reading in every if reading.time_ms < utc_ms(anchor) - 6 * HOUR_MS]
    for reading in draw(st.lists(st.sampled_from(before) | st.sampled_from(every), min_size=2, max_size=6)):
        order[id(reading)] = end_ms + draw(st.integers(-1, 3)) * HOUR_MS
    for reading, change in draw(
        st.lists(st.tuples(st.sampled_from(every), st.sampled_from(_CHANGES)), max_size=2)
    ):
        every.append(_changed(reading, change))
        order[id(every[-1])] = draw(st.sampled_from([reading.time_ms, end_ms, end_ms + HOUR_MS]))
    return History(SITE, tuple(sorted(every, key=lambda reading: order[id(reading)])))
