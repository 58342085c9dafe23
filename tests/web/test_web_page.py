"""The page in a real Chromium, over a real port and a real store."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from tests.web.web_site import (
    DYE,
    HOUR_MS,
    MINUTE_MS,
    STEEL,
    WINDOWS,
    Served,
    figure,
    history,
    site,
    wait_until,
    wave,
)
from web.live import LiveFeed

Serving = Callable[..., Served]
Opening = Callable[..., Page]
FIRST = ".card[data-scope='plant:steel-1'] .figure[data-id='kwh-per-t']"
PHONE, DESK, WALL = (ViewportSize(width=w, height=h) for w, h in ((360, 740), (1366, 900), (1920, 1080)))


def now_ms() -> int:
    return int(time.time() * 1000) // MINUTE_MS * MINUTE_MS


@pytest.fixture
def opened(chromium: Browser) -> Iterator[Opening]:
    """Opens pages that must stay free of errors and must ask nobody but their own service."""
    contexts, complaints, foreign = [], list[str](), list[str]()

    def open_page(one: Served, path: str = "/", **options: Any) -> Page:
        settings = {"viewport": DESK, "timezone_id": "America/New_York", "locale": "en-US", **options}
        context = chromium.new_context(**settings)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on(
            "request", lambda r: foreign.append(r.url) if urlsplit(r.url).hostname != "127.0.0.1" else None
        )
        page.goto(one.address + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert (complaints, foreign) == ([], [])


def drawn(page: Page, where: str = FIRST) -> dict[str, Any]:
    """What the chart library was given to draw, and the stretches marked as empty."""
    page.wait_for_selector(f"{where} .chart canvas")
    return page.eval_on_selector(  # type: ignore[no-any-return]
        f"{where} .chart", "e => ({data: e.plot.data.map(c => [...c]), gaps: Number(e.dataset.gaps)})"
    )


def ink(page: Page, from_ms: int, to_ms: int, where: str = FIRST) -> int:
    """How many pixels of the line's colour lie between two instants."""
    script = """(e, [from, to]) => {
        const u = e.plot, [left, right] = [from, to].map(t => u.valToPos(t / 1000, 'x', true));
        const pen = document.createElement('canvas').getContext('2d');
        pen.fillStyle = getComputedStyle(e).getPropertyValue('--series'); pen.fillRect(0, 0, 1, 1);
        const [r, g, b] = pen.getImageData(0, 0, 1, 1).data;
        const copy = document.createElement('canvas');
        [copy.width, copy.height] = [right - left, u.bbox.height];
        const into = copy.getContext('2d', {willReadFrequently: true});
        into.drawImage(u.ctx.canvas, -left, -u.bbox.top);
        const {data} = into.getImageData(0, 0, right - left, u.bbox.height);
        let count = 0;
        for (let i = 0; i < data.length; i += 4)
            if (Math.abs(data[i] - r) + Math.abs(data[i + 1] - g) + Math.abs(data[i + 2] - b) < 60) count++;
        return count; }"""
    return page.eval_on_selector(f"{where} .chart", script, [from_ms, to_ms])  # type: ignore[no-any-return]


def test_a_card_shows_the_newest_complete_figure_against_its_target(served: Serving, opened: Opening) -> None:
    """Figure, unit, difference in words, the window's end in the plant's zone, and what still fills."""
    one, now = served(), now_ms()
    rows = [*history(now - 4 * MINUTE_MS, 60, wave), figure(now - 3 * MINUTE_MS, 654.25)]
    one.site.put({"intensity": [*rows, figure(now, None, state="open")]})
    page = opened(one)
    card = page.locator(FIRST)
    expect(card.locator("h3")).to_have_text("Electricity per tonne of billet")
    expect(card.locator(".value")).to_have_text("654.3kWh/t")
    expect(card.locator(".target")).to_have_text("9 % above target 600 kWh/t")
    expect(card.locator(".target .icon-up")).to_be_visible()
    end = time.strftime("%H:%M", time.gmtime((now - 3 * MINUTE_MS + 8 * HOUR_MS) / 1000))
    expect(card.locator(".when")).to_contain_text(f"1 h to {end}")
    expect(card.locator(".when")).to_contain_text("still filling: 1 h to")
    expect(page.locator(".card").first.locator(".zone")).to_have_text("Asia/Shanghai (UTC+8)")
    expect(page.locator("#connection")).to_have_text("Live")
    expect(page).to_have_title("Changsha park · meterflow")


def test_a_new_figure_shows_without_a_reload(served: Serving, opened: Opening) -> None:
    """Stored, told, fetched and drawn within two seconds, on the figure and in the chart."""
    one, now = served(), now_ms()
    one.site.put({"intensity": history(now - MINUTE_MS, 60, lambda _: 610.0)})
    page = opened(one)
    expect(page.locator(f"{FIRST} .number")).to_have_text("610.0")
    assert drawn(page)["data"][3][-1] == 610.0
    page.evaluate("window.same = true")
    page.wait_for_timeout(1_500)
    one.site.put({"intensity": [figure(now, 587.5)]})
    expect(page.locator(f"{FIRST} .number")).to_have_text("587.5", timeout=2_000)
    wait_until(lambda: drawn(page)["data"][3][-1] == 587.5, 2)
    assert page.evaluate("window.same")


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


def test_a_missing_figure_says_why(served: Serving, opened: Opening) -> None:
    """No zero, no last value in its place: a dash, and the reason in words."""
    reasons = {
        "numerator_incomplete": "readings of electricity are missing",
        "denominator_incomplete": "readings of the output are missing",
        "denominator_zero": "nothing was made in this window",
        "denominator_coarser": "the output is only known for longer spans",
        "factor_unknown": "no coefficient is known",
    }
    one, now = served(site(*((f"p{i}", f"Plant {i}", "x") for i in range(len(reasons))))), now_ms()
    for i, reason in enumerate(reasons):
        known = figure(now - MINUTE_MS, 600.0, scope=f"plant:p{i}")
        one.site.put({"intensity": [known, figure(now, None, reason=reason, scope=f"plant:p{i}")]})
    page = opened(one)
    for i, words in enumerate(reasons.values()):
        card = page.locator(f".card[data-scope='plant:p{i}'] .figure[data-id='kwh-per-t']")
        expect(card.locator(".number")).to_have_text("–")
        expect(card.locator(".notes")).to_contain_text(f"No figure: {words}")


def test_every_window_can_be_chosen_and_is_remembered(served: Serving, opened: Opening) -> None:
    """The choice changes all figures and survives a reload."""
    one, now = served(), now_ms()
    one.site.put({"intensity": [figure(now, 500.0 + i, window=w) for i, w in enumerate(WINDOWS)]})
    page = opened(one)
    for i, label in enumerate(("15 min", "1 h", "8 h", "24 h")):
        page.locator("#windows").get_by_role("button", name=label, exact=True).click()
        expect(page.locator(f"{FIRST} .number")).to_have_text(f"{500 + i}.0")
    page.reload()
    expect(page.locator(f"{FIRST} .number")).to_have_text("503.0")


def test_a_figure_in_standard_coal_names_what_it_covers(served: Serving, opened: Opening) -> None:
    """Electricity alone is never called comprehensive."""
    one, now = served(), now_ms()
    one.site.put({"intensity": [figure(now, 75.0, unit="kgce/t", covers="electricity")]})
    page = opened(one)
    expect(page.locator(f"{FIRST} .notes")).to_have_text("covers electricity only, not all energies")
    row = figure(now + MINUTE_MS, 75.0, unit="kgce/t", covers="comprehensive: coke+electricity")
    one.site.put({"intensity": [row]})
    expect(page.locator(f"{FIRST} .notes")).to_have_text("comprehensive: coke + electricity")


def test_alerts_rejections_and_books_are_on_the_page(served: Serving, opened: Opening) -> None:
    """What fires, what was not taken and why, and the sums, in numbers with their verdict."""
    one, now = served(), now_ms()
    alert = {
        "id": "hot",
        "scope": "plant:steel-1",
        "at": now,
        "to": "firing",
        "value": 634.2,
        "threshold": 620.0,
    }
    rejected = {"received": now, "topic": "meterflow/v1/steel-1/main", "reason": "time_without_zone"}
    hop = {
        "hop": "ingest",
        "received": 1_200,
        "accepted": 1_000,
        "duplicate": 150,
        "rejected": 50,
        "balance": 0,
    }
    one.site.put(
        {
            "alert": [alert | {"window_end": now, "revision": 0, "reported": now}],
            "rejected": [
                rejected | {"payload": '{"value": 1}', "detail": "no zone in '2026-11-22T08:00:00'"}
            ],
            "hop": [hop | {"plant": plant, "reported": now} for plant in ("steel-1", "dye-1")],
        }
    )
    page = opened(one)
    expect(page.locator(".alarm")).to_contain_text(
        "Steel works 1 Electricity per tonne of billet, 1 h: 634.2 kWh/t"
    )
    expect(page.locator("#changes")).to_contain_text("fires")
    expect(page.locator("#rejected")).to_contain_text("Time without zone: no zone in '2026-11-22T08:00:00'")
    expect(page.locator("#rejected code")).to_have_text('{"value": 1}')
    book = page.locator("[data-book=ingest]")
    expect(book).to_have_text("Ingest 2,400 received = 2,000 accepted + 300 duplicate + 100 rejected")
    expect(book.locator(".icon-check")).to_be_visible()
    one.site.put({"hop": [hop | {"plant": "steel-1", "accepted": 999, "reported": now + 1}]})
    expect(book).to_contain_text("2,400 received ≠ 1,999 accepted")
    expect(book.locator(".icon-cross")).to_be_visible()


def test_names_and_payloads_are_text_whatever_they_contain(served: Serving, opened: Opening) -> None:
    """Markup in a plant's name, a product, a topic or a payload is shown, and does nothing."""
    evil = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    one, now = served(site((STEEL[0], evil, evil), DYE)), now_ms()
    one.site.put(
        {
            "intensity": [figure(now, 600.0, product=evil)],
            "rejected": [{"received": now, "topic": evil, "reason": evil, "detail": evil, "payload": evil}],
        }
    )
    page = opened(one)
    expect(page.locator(".card h2").first).to_have_text(evil)
    expect(page.locator("#rejected code")).to_have_text(evil)
    page.get_by_role("link", name="<img").click()
    expect(page.locator("#detail h2")).to_have_text(evil)
    assert page.evaluate("document.querySelectorAll('main img, main script').length") == 0


def test_a_plant_opens_by_keyboard_and_the_way_back_works(served: Serving, opened: Opening) -> None:
    """Tab to its name, Enter, read, and Back; the address can be kept."""
    one, now = served(), now_ms()
    one.site.put({"intensity": [figure(now, 612.5)]})
    page = opened(one)
    page.get_by_role("link", name="Steel works 1").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#detail h2")).to_be_focused()
    expect(page.locator("#detail .windows")).to_contain_text("612.5 kWh/t")
    expect(page.locator("#detail .points")).to_contain_text("intake")
    assert page.url.endswith("#/plant/steel-1")
    page.reload()
    expect(page.locator("#detail h2")).to_have_text("Steel works 1")
    page.go_back()
    expect(page.locator(".card").first).to_be_visible()


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


def test_a_lost_service_is_said_and_found_again(served: Serving, chromium: Browser) -> None:
    """The page says that it is not connected, connects by itself when the service is back, and goes on."""
    one, now = served(), now_ms()
    one.site.put({"intensity": [figure(now, 600.0)]})
    page = chromium.new_page()
    page.goto(one.address)
    expect(page.locator("#connection")).to_have_text("Live")
    address = (one.server.host, one.server.port)
    one.stop()
    expect(page.locator("#connection")).to_have_text("Not connected, trying again")
    one.site.live = LiveFeed()
    one.start(*address)
    expect(page.locator("#connection")).to_have_text("Live", timeout=15_000)
    one.site.put({"intensity": [figure(now, 599.0, revision=1)]})
    expect(page.locator(f"{FIRST} .number")).to_have_text("599.0")
    page.close()


def test_with_a_token_a_browser_logs_in_and_sees_the_page(served: Serving, chromium: Browser) -> None:
    """The form is styled by itself, says what is wrong, and leads to the figures."""
    one, now = served(token="a long and random token"), now_ms()
    one.site.put({"intensity": [figure(now, 600.0)]})
    page = chromium.new_page()
    page.goto(one.address)
    page.get_by_label("Token").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("That is not the token.")
    page.get_by_label("Token").fill("a long and random token")
    page.get_by_role("button").click()
    expect(page.locator(f"{FIRST} .number")).to_have_text("600.0")
    expect(page.locator("#connection")).to_have_text("Live")
    page.close()


@pytest.mark.parametrize("size", [PHONE, DESK, WALL], ids=["phone", "desk", "wall"])
def test_the_page_fits_its_screen(
    served: Serving, opened: Opening, tmp_path: Path, size: ViewportSize
) -> None:
    """Nothing sticks out sideways, figures are large, light and dark differ; pictures are kept."""
    one, now = served(), now_ms()
    ids = [("kwh-per-t", "kWh/t", 600.0), ("m3-per-t", "m3/t", None)]
    rows = [
        row
        for scope, product in (("plant:steel-1", "billet"), ("plant:dye-1", "cloth"))
        for name, unit, target in ids
        for row in history(now, 300, wave, scope=scope, id=name, unit=unit, target=target, product=product)
    ]
    one.site.put({"intensity": rows})
    page = opened(one, viewport=size)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        drawn(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        assert (
            page.eval_on_selector(f"{FIRST} .number", "e => parseFloat(getComputedStyle(e).fontSize)") >= 36
        )
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        lightness = sum(map(int, re.findall(r"\d+", ground)[:3])) / 3
        assert (lightness > 128) == (scheme == "light")
        page.screenshot(path=tmp_path / f"{size['width']}-{scheme}.png", full_page=True)


def test_the_theme_can_be_chosen_against_the_system(served: Serving, opened: Opening) -> None:
    """Auto, light, dark; the choice is there again before the first paint of the next visit."""
    page = opened(served(), color_scheme="light")
    button = page.locator("#theme")
    button.click()
    button.click()
    expect(button).to_have_text(" Dark")
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_numbers_are_written_as_the_reader_writes_them(served: Serving, opened: Opening) -> None:
    """Numbers follow the reader's system; units stay as they are."""
    one, now = served(), now_ms()
    one.site.put({"intensity": [figure(now, 1234.5, target=1000.0)]})
    page = opened(one, locale="de-DE")
    expect(page.locator(f"{FIRST} .value")).to_have_text("1.235kWh/t")
