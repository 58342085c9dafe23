"""What the charts draw, and what they must not, in a real Chromium."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.web.web_browser import FIRST, Opening, Serving, drawn, ink, now_ms
from tests.web.web_site import HOUR_MS, MINUTE_MS, figure, history, wait_until, wave


def test_a_restated_window_changes_in_the_chart(served: Serving, opened: Opening) -> None:
    """A late reading's new revision replaces the old point; the figure says that it was revised."""
    one, now = served(), now_ms()
    one.site.put({"intensity": history(now, 60, lambda _: 600.0)})
    page = opened(one)
    drawn(page)
    late = [
        figure(now - back * MINUTE_MS, 630.0, state="revised", revision=1, cause="late") for back in (0, 30)
    ]
    one.site.put({"intensity": late})
    wait_until(lambda: drawn(page)["data"][3].count(630.0) == 2)
    expect(page.locator(f"{FIRST} .notes")).to_have_text("revised (late)")


@pytest.mark.parametrize("rows", ["empty", "absent"])
def test_a_gap_is_a_gap(served: Serving, opened: Opening, rows: str) -> None:
    """Where there is no figure no line is drawn, whether the row is empty or not there at all."""
    one, now = served(), now_ms()

    def value(back: int) -> float | None:
        return None if 60 <= back < 120 else 600.0 + back / 10

    found = history(now, 400, value)
    one.site.put({"intensity": [r for r in found if rows == "empty" or r["value"] is not None]})
    page = opened(one)
    chart = drawn(page)
    gap = (now - 119 * MINUTE_MS, now - 60 * MINUTE_MS)
    within = [
        v for x, v in zip(chart["data"][0], chart["data"][3], strict=True) if gap[0] <= x * 1000 <= gap[1]
    ]
    assert within
    assert set(within) == {None}
    assert all(0 not in column for column in chart["data"][1:])
    assert ink(page, gap[0] + 5 * MINUTE_MS, gap[1] - 5 * MINUTE_MS) == 0
    assert ink(page, now - 300 * MINUTE_MS, now - 150 * MINUTE_MS) > 50
    assert chart["gaps"] == 2, "the one in the middle, and the time before the first figure"


def test_a_plant_that_fell_silent_shows_no_figure_for_the_silence(served: Serving, opened: Opening) -> None:
    """The chart's right edge stays now: the line ends where the figures end."""
    one, now = served(), now_ms()
    one.site.put({"intensity": history(now - 70 * MINUTE_MS, 300, wave)})
    page = opened(one)
    drawn(page)
    assert ink(page, now - 65 * MINUTE_MS, now) == 0
    expect(page.locator(f"{FIRST} .when")).to_contain_text(re.compile(r"7\d min ago"))


def test_estimated_parts_are_not_drawn_as_measured(served: Serving, opened: Opening) -> None:
    """A window measured in part, or to an unknown extent, is on the dashed line; the figure says how much."""
    one, now = served(), now_ms()
    rows = history(now, 100, wave)
    for row in rows[40:60]:
        row["measured_share"] = 0.75
    rows[60]["measured_share"], rows[-1]["measured_share"] = None, 0.875
    one.site.put({"intensity": rows})
    page = opened(one)
    _, _, dashed, solid = drawn(page)["data"]
    assert [v is None for v in solid] == [40 <= i <= 60 or i == 100 for i in range(101)]
    assert [v is not None for v in dashed] == [39 <= i <= 61 or i >= 99 for i in range(101)]
    expect(page.locator(f"{FIRST} .notes")).to_have_text("13 % estimated")


def test_hours_without_amounts_are_no_bars(served: Serving, opened: Opening) -> None:
    """Bars of one plant: unknown hours are empty, open and estimated ones are not filled."""
    one = served()
    top = now_ms() // HOUR_MS * HOUR_MS
    hour = {"scope": "plant:steel-1", "measures": "electricity", "product": "", "span": "hour", "unit": "kWh"}
    states = {0: ("open", "partial", 0.5), 3: ("final", "estimated", 0.5)}
    rows = []
    for back in (0, 1, 3, 4):
        state, quality, share = states.get(back, ("final", "valid", 1.0))
        times = {"start": top - back * HOUR_MS, "end": top - (back - 1) * HOUR_MS, "reported": top}
        rows.append(
            hour | times | {"amount": 100 + back, "state": state, "quality": quality, "measured_share": share}
        )
    one.site.put({"rollup": rows})
    page = opened(one, "/#/plant/steel-1")
    page.wait_for_selector(".bars canvas")
    _, filled, outlined = page.eval_on_selector(".bars .chart", "e => e.plot.data.map(c => [...c])")
    assert filled[-5:] == [104, None, None, 101, None]
    assert outlined[-5:] == [None, 103, None, None, 100]
    assert set(filled[:-5]) | set(outlined[:-5]) == {None}
