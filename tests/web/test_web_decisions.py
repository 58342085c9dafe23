"""Register events that wait, on the page, and what people decide there."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.web.web_browser import Opening, now_ms
from tests.web.web_site import MINUTE_MS, Served
from web.app import Deciding

Serving = Callable[..., Served]
TOPIC = "meterflow/v1/steel-1/main/decision"


class Taken:
    """Takes what is published, or says why not."""

    def __init__(self, why: str = "") -> None:
        self.why = why
        self.messages: list[tuple[str, Any]] = []

    async def __call__(self, topic: str, payload: bytes) -> str:
        self.messages.append((topic, json.loads(payload)))
        return self.why


def event(verdict: str = "reset", status: str = "held", **other: Any) -> dict[str, Any]:
    """A row of ``verdict``: a register that fell from 4,000 to 3 kWh some minutes ago."""
    now, seen = now_ms(), {"from_value": "4000 kWh", "to_value": "3 kWh", "unit": "kWh"}
    row = {
        "plant": "steel-1", "point": "main", "serial": "A-17", "from": now - 5 * MINUTE_MS,
        "to": now - 4 * MINUTE_MS, "verdict": verdict, "status": status, "by": "rule",
        "evidence": json.dumps(seen | other.pop("seen", {})), "revision": 0, "reported": now,
    }  # fmt: skip
    return row | other


def decision(**other: Any) -> dict[str, Any]:
    """What the page posts."""
    return {"plant": "steel-1", "point": "main", "from": 1, "to": 2, "verdict": "reset", "by": "li"} | other


def test_what_waits_and_what_people_decided_can_be_asked_for(served: Serving) -> None:
    """With ids and choices; what the rule decided waits for nobody."""
    one = served(deciding=Deciding(Taken()))
    rows = [
        event(),
        event("glitch", "decided", point="intake"),
        event("plain", "refused", point="count", by="li"),
    ]
    one.site.put({"verdict": rows})
    answer = one.client.get("/api/doubts").json()
    assert (answer["may"], answer["more"]) == (True, False)
    (held,), (settled,) = answer["held"], answer["settled"]
    assert (held["point"], held["own"], held["revision"]) == ("main", "reset", 0)
    assert [choice["verdict"] for choice in held["choices"]] == ["reset", "decrease", "rollover"]
    assert held["choices"][0]["effect"] == "writes −3997 kWh off; what was used between stays unknown"
    assert (settled["point"], settled["by"]) == ("count", "li")


def test_the_page_says_that_a_limit_may_be_too_small(served: Serving, opened: Opening) -> None:
    """Above what waits, once some rises in a row would need a larger one; with that."""
    now, seen = now_ms() - 30 * MINUTE_MS, {"limit_needed": "490 kW", "to_value": "9000 kWh"}
    times: list[dict[str, Any]] = [
        {"from": now + k * MINUTE_MS, "to": now + (k + 1) * MINUTE_MS} for k in range(5)
    ]
    one = served(deciding=Deciding(Taken()))
    one.site.put({"verdict": [event("spike", seen=seen, **at) for at in times]})
    note = opened(one).locator("#doubts").get_by_text("steel-1/main: 5 rises in a row are held")
    expect(note).to_contain_text("490 kW would allow all of them")


def test_a_decision_is_published_on_the_points_topic(served: Serving) -> None:
    """As it was said, and nothing else."""
    taken = Taken()
    answer = served(deciding=Deciding(taken)).client.post("/api/decisions", json=decision(revision=3))
    assert (answer.status_code, answer.json()) == (200, {"decided": True})
    said = {name: word for name, word in decision(revision=3).items() if name not in ("plant", "point")}
    assert taken.messages == [(TOPIC, said)]


def test_what_ingest_refuses_is_told(served: Serving) -> None:
    """With its own words."""
    answer = served(deciding=Deciding(Taken("by: nobody"))).client.post("/api/decisions", json=decision())
    assert (answer.status_code, answer.json()) == (400, {"error": "by: nobody"})


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"headers": {"origin": "http://evil.example"}}, 403),
        ({"headers": {"origin": "null"}}, 403),
        ({"content": json.dumps(decision()), "headers": {"content-type": "text/plain"}}, 415),
        ({"data": {"plant": "steel-1"}}, 415),
        ({"json": [decision()]}, 400),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400),
        ({"json": decision(plant="nobody")}, 404),
        ({"json": decision(point="steel/main")}, 404),
        ({"json": decision(point=["main"])}, 404),
        ({"json": decision(by="x" * 5_000)}, 413),
    ],
)
def test_who_is_not_the_page_is_refused(served: Serving, changes: dict[str, Any], code: int) -> None:
    """Other sites' pages above all: neither their forms nor their scripts decide anything."""
    taken = Taken()
    one = served(deciding=Deciding(taken))
    given = {"json": decision()} | changes
    if "content" in changes or "data" in changes:
        del given["json"]
    assert one.client.post("/api/decisions", **given).status_code == code
    assert taken.messages == []


def test_without_the_right_the_page_says_what_to_do(served: Serving, opened: Opening) -> None:
    """403 with a reason; the events are shown all the same, without buttons."""
    one = served(deciding=Deciding(hint="start it with --decide"))
    one.site.put({"verdict": [event()]})
    answer = one.client.post("/api/decisions", json=decision())
    assert answer.status_code == 403
    assert answer.json() == {"error": "decisions are not taken here", "hint": "start it with --decide"}
    doubts = opened(one).locator("#doubts")
    expect(doubts).to_contain_text("Decisions are not taken on this page: start it with --decide.")
    expect(doubts.locator("[data-doubt]")).to_have_count(1)
    expect(doubts.get_by_role("button")).to_have_count(0)


def test_with_a_token_only_who_has_it_decides(served: Serving) -> None:
    """Like everything else there."""
    taken = Taken()
    one = served(token="a long random token", deciding=Deciding(taken))
    post = one.client.post
    assert post("/api/decisions", json=decision()).status_code == 401
    assert httpx.post(f"{one.address}/api/decisions", json=decision()).status_code == 401
    assert taken.messages == []
    allowed = {"authorization": "Bearer a long random token"}
    assert post("/api/decisions", json=decision(), headers=allowed).status_code == 200


def test_a_person_confirms_what_is_held(served: Serving, opened: Opening) -> None:
    """With a name, which is asked for once; the new row takes the event off what waits."""
    taken, row = Taken(), event()
    one = served(deciding=Deciding(taken))
    one.site.put({"verdict": [row]})
    page = opened(one)
    doubts = page.locator("#doubts")
    expect(doubts).to_contain_text("Steel works 1 main (A-17): set back to zero, held")
    expect(doubts).to_contain_text("from 4000 kWh, to 3 kWh")
    expect(doubts).to_contain_text("writes −3997 kWh off")
    confirm = doubts.get_by_role("button", name="Confirm")
    confirm.click()
    expect(doubts).to_contain_text("Give your name first")
    doubts.get_by_label("Your name").fill("Li Wei")
    confirm.click()
    expect(doubts).to_contain_text("Taken: set back to zero.")
    said = {"from": row["from"], "to": row["to"], "verdict": "reset", "by": "Li Wei", "revision": 0}
    assert taken.messages == [(TOPIC, said | {"serial": "A-17"})]
    one.site.put({"verdict": [row | {"status": "confirmed", "by": "Li Wei", "revision": 1}]})
    expect(doubts).to_contain_text("Nothing waits.")
    doubts.get_by_text("Decided by people").click()
    expect(doubts).to_contain_text("confirmed by Li Wei")
    page.reload()
    expect(doubts.get_by_label("Your name")).to_have_value("Li Wei")


def test_a_person_refuses_or_uses_another_word(served: Serving, opened: Opening) -> None:
    """Refusing says that it is as it was read; a conflict wants its value."""
    taken = Taken()
    one = served(deciding=Deciding(taken))
    high = {"to_value": "9000 kWh"}
    twice: dict[str, Any] = {"point": "count", "from": now_ms(), "to": now_ms()}
    one.site.put({"verdict": [event("spike", seen=high), event(point="intake"), event("conflict", **twice)]})
    doubts = opened(one).locator("#doubts")
    doubts.get_by_label("Your name").fill("Wang")
    for point, act in (("main", "Refuse"), ("intake", "Say so"), ("count", "Confirm")):
        item = doubts.locator("[data-doubt]", has_text=f" {point} ")
        if point == "intake":
            expect(item.get_by_role("button", name="Refuse")).to_have_count(0)
            item.get_by_label("What it was").select_option("rollover")
        if point == "count":
            item.get_by_label("The value that counts").fill("12.50")
        item.get_by_role("button", name=act).click()
        expect(item).to_contain_text("Taken")
    said = [(topic.split("/")[3], one["verdict"], one.get("value")) for topic, one in taken.messages]
    assert said == [("main", "plain", None), ("intake", "rollover", None), ("count", "conflict", "12.50")]


def test_of_two_values_one_is_chosen_by_a_click(served: Serving, opened: Opening) -> None:
    """And of reads that begin apart the one with its start, in the plant's own time."""
    taken = Taken()
    one = served(deciding=Deciding(taken))
    to_ms = 1_767_573_900_000
    starts = ["2026-01-05T00:15:00Z", "2026-01-05T00:30:00Z"]
    seen = {"values": ["6 kWh", "6 kWh"], "starts": starts}
    between: dict[str, Any] = {"from": to_ms - 1_800_000, "to": to_ms}
    one.site.put({"verdict": [event("conflict", seen=seen, **between)]})
    doubts = opened(one).locator("#doubts")
    doubts.get_by_label("Your name").fill("Wang")
    doubts.get_by_role("button", name="Confirm").click()
    expect(doubts).to_contain_text("Name the value that counts.")
    doubts.get_by_role("button", name="08:30").click()
    expect(doubts).to_contain_text("Taken")
    said = taken.messages[0][1]
    assert (said["from"], said["to"], said["value"]) == (to_ms - 900_000, to_ms, "6")


def test_an_event_is_shown_as_text(served: Serving, opened: Opening) -> None:
    """Whatever is in its names."""
    one = served(deciding=Deciding(Taken()))
    one.site.put({"verdict": [event(serial="<img src=x onerror=alert(1)>")]})
    expect(opened(one).locator("#doubts")).to_contain_text("<img src=x onerror=alert(1)>")


def test_what_was_refused_is_told_on_the_page(served: Serving, chromium: Browser) -> None:
    """As text; the event can be decided again."""
    one = served(deciding=Deciding(Taken("<b>no</b>")))
    one.site.put({"verdict": [event()]})
    page = chromium.new_page()
    page.goto(one.address)
    doubts = page.locator("#doubts")
    doubts.get_by_label("Your name").fill("Li")
    doubts.get_by_role("button", name="Confirm").click()
    expect(doubts).to_contain_text("Not taken: <b>no</b>")
    expect(doubts.get_by_role("button", name="Confirm")).to_be_enabled()
    page.close()
