"""What was reported before: a plant as of an instant, each revision of a figure; the API and the page."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from playwright.sync_api import expect

from tests.web.web_browser import Opening, Serving
from tests.web.web_site import HOUR_MS, MINUTE_MS, NOON_MS, figure

DAY_MS = 24 * HOUR_MS
SAID_MS = NOON_MS + MINUTE_MS
"""When the first figures were reported; the next ones come an hour after each other."""


def day(amount: str, revision: int) -> dict[str, Any]:
    """What the plant used on a day, as it was said the first time, the second, ..."""
    return {
        "scope": "plant:steel-1",
        "measures": "electricity",
        "product": "",
        "span": "day",
        "start": NOON_MS - DAY_MS,
        "end": NOON_MS,
        "amount": Decimal(amount),
        "unit": "kWh",
        "quality": "valid",
        "measured_share": 1.0,
        "state": "revised" if revision else "final",
        "revision": revision,
        "cause": "late" if revision else "",
        "reported": SAID_MS + revision * HOUR_MS,
    }


def window(value: float, revision: int) -> dict[str, Any]:
    row = day("1", revision)
    story = {name: row[name] for name in ("state", "revision", "cause", "reported")}
    return figure(NOON_MS, value, **story)


def fill(one: Any) -> None:
    """A day and a window that were said three times."""
    for revision, amount in enumerate(("100", "101.5", "103")):
        hour = day(amount, revision) | {"span": "hour", "start": NOON_MS - HOUR_MS}
        rows = {"rollup": [day(amount, revision), hour], "intensity": [window(600 + 10 * revision, revision)]}
        one.site.put(rows)


def as_of(hours: int) -> str:
    return f"2026-11-22T{4 + hours:02}:30:00Z"


def test_a_plant_as_it_was_reported(served: Serving) -> None:
    """Before anything was said nothing is there; then each revision in its time."""
    one = served()
    fill(one)
    for hours, amount, value in ((-1, None, None), (0, 100, 600.0), (1, 101.5, 610.0), (2, 103, 620.0)):
        found = one.client.get("/api/plant/steel-1", params={"as_of": as_of(hours)}).json()
        assert [row["amount"] for row in found["days"]] == ([] if amount is None else [amount])
        assert [row["value"] for row in found["windows"]] == ([] if value is None else [value])
    now = one.client.get("/api/plant/steel-1").json()
    assert (now["as_of"], now["windows"], now["days"][0]["amount"]) == (None, [], 103)


def test_what_is_no_instant_is_refused(served: Serving) -> None:
    """By its name, as elsewhere."""
    one = served()
    for asked, words in (({"as_of": "yesterday"}, "as_of"), ({"at": as_of(0)}, "'at'")):
        answer = one.client.get("/api/plant/steel-1", params=asked)
        assert (answer.status_code, words in answer.json()["error"]) == (400, True)


def test_the_page_shows_a_plant_as_it_was(served: Serving, opened: Opening) -> None:
    """In the plant's zone; and back to how it stands now."""
    one = served()
    fill(one)
    page = opened(one, "#/plant/steel-1")
    days = page.locator(".days tbody tr")
    expect(days).to_contain_text("103 kWh")
    page.fill("#as-of", "2026-11-22T13:30:00")  # Shanghai's clocks: 05:30 UTC
    page.get_by_role("button", name="Show").click()
    expect(days).to_contain_text("101.5 kWh")
    expect(page.locator(".windows tbody")).to_contain_text("610.0 kWh/t")
    expect(page.get_by_role("status").filter(has_text="reported by")).to_contain_text("13:30:00")
    expect(page.locator(".bars canvas")).to_have_count(1)
    page.fill("#as-of", "2026-11-22T11:59:59")
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".days")).to_contain_text("No day")
    expect(page.locator(".bars canvas")).to_have_count(0)
    page.get_by_role("button", name="As it stands now").click()
    expect(days).to_contain_text("103 kWh")
    expect(page.locator(".bars canvas")).to_have_count(1)


def test_the_page_shows_each_revision_of_a_figure(served: Serving, opened: Opening) -> None:
    """What was said, when, and why anew; of then where the plant is shown as of then."""
    one = served()
    fill(one)
    page = opened(one, "#/plant/steel-1")
    page.locator(".days").get_by_role("button", name="revision 2").click()
    rows = page.locator("dialog tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.nth(0)).to_contain_text("100 kWh")
    expect(rows.nth(1)).to_contain_text("101.5 kWh")
    expect(rows.nth(1)).to_contain_text("13:01:00")
    expect(rows.nth(2)).to_contain_text("a reading came late")
    page.get_by_role("button", name="Close").click()
    expect(page.locator("dialog")).to_have_count(0)
    page.locator(".windows").get_by_role("button", name="revision 2").click()
    expect(rows).to_have_count(3)
    expect(rows.nth(1)).to_contain_text("610.0 kWh/t")
    page.keyboard.press("Escape")
    page.fill("#as-of", "2026-11-22T13:30:00")
    page.get_by_role("button", name="Show").click()
    page.locator(".days").get_by_role("button", name="revision 1").click()
    expect(rows).to_have_count(2)
