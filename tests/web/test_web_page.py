"""The page in a real Chromium, over a real port and a real store."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ViewportSize, expect

from ingest.reasons import Reason
from tests.web.web_browser import FIRST, Opening, Serving, drawn, now_ms
from tests.web.web_site import (
    DYE,
    HOUR_MS,
    MINUTE_MS,
    STEEL,
    WINDOWS,
    figure,
    history,
    site,
    wait_until,
    wave,
)
from web.live import LiveFeed

PHONE, DESK, WALL = (ViewportSize(width=w, height=h) for w, h in ((360, 740), (1366, 900), (1920, 1080)))


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


def test_every_reason_of_ingest_reads_as_words(served: Serving, opened: Opening) -> None:
    """Known ones in words of their own, all others with blanks instead of underscores."""
    one, now = served(), now_ms()
    reasons = [reason.value for reason in Reason][:20]
    one.site.put({"rejected": [{"received": now, "topic": "t", "reason": reason} for reason in reasons]})
    page = opened(one)
    titles = page.locator("#rejected li strong")
    expect(titles).to_have_count(len(reasons))
    assert not [text for text in titles.all_inner_texts() if "_" in text or not text[0].isupper()]
