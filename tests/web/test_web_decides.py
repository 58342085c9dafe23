"""From the meter to the page and back: what is held, who decides, and what is said anew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.meterflow.helper import Service, check_laws, eventually, publish

SITE = """\
meterflow: 1
plants:
  - id: works
    name: The works
    time_zone: Asia/Shanghai
    patience: 2m
    points:
      - {id: main, measures: electricity, reads: register, unit: kWh, expect_every: 60s, limit: 900 kW,
         installations: [{digits: 6, decimals: 0}]}
"""
BEGIN_MS, MINUTE_MS = 1_795_312_800_000, 60_000


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """The works, whose register leaps by 997 kWh within a minute and goes on from there."""
    (tmp_path / "site.yaml").write_text(SITE)
    one = Service(tmp_path / "data", tmp_path / "site.yaml")
    one.start()
    values = [5_001, 5_002, 5_003, 6_000, 6_001, 6_002, 6_003]
    rows = [{"time": BEGIN_MS + i * MINUTE_MS, "value": value} for i, value in enumerate(values)]
    publish(one.mqtt_port, "meterflow/v1/works/main", json.dumps(rows))
    eventually(lambda: one.rows("verdict"), 20, "a verdict")
    yield one
    check_laws(one)
    one.stop()


def leap(service: Service) -> tuple[str, str]:
    """Amount and quality of the minute of the leap."""
    (row,) = (row for row in service.rows("interval") if row["end"] == "2026-11-22T02:03:00Z")
    return row["amount"], row["quality"]


def test_what_a_person_refuses_on_the_page_is_booked(service: Service, chromium: Browser) -> None:
    """Held and missing first; then an estimate, and the history has both with who decided."""
    assert leap(service) == ("", "missing")
    page = chromium.new_page()
    page.goto(f"http://127.0.0.1:{service.http_port}/")
    doubts = page.locator("#doubts")
    expect(doubts).to_contain_text("The works main: spike, held")
    doubts.get_by_label("Your name").fill("Li Wei")
    doubts.get_by_role("button", name="Refuse").click()
    expect(doubts).to_contain_text("Nothing waits.")
    doubts.get_by_text("Decided by people").click()
    expect(doubts).to_contain_text("as it was read, refused by Li Wei")
    eventually(lambda: leap(service) == ("997", "estimated"), 5, "the amount")
    said = [(row["verdict"], row["status"], row["by"]) for row in service.export("verdict", "--history")]
    assert said == [("spike", "held", "rule"), ("plain", "refused", "Li Wei")]
    doubts.get_by_label("What it was").select_option("spike")
    doubts.get_by_role("button", name="Say so").click()
    expect(doubts).to_contain_text("spike, confirmed by Li Wei")
    eventually(lambda: leap(service) == ("", "missing"), 5, "the amount")
    ledger = [(row["booked"], row["held"], row["written_off"]) for row in service.rows("ledger")]
    assert ledger == [("5", "0", "997")]
    page.close()
