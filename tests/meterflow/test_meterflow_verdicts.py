"""``meterflow verdicts``: what waits for a person, and what a person says, over the real service."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from tests.meterflow.helper import (
    Service,
    done,
    eventually,
    meterflow,
    mistake,
    of_set,
    publish,
    rows_of,
)
from tests.meterflow.roles import PLANTS, Services

Serve = Callable[..., Service]
MINUTE_MS = 60_000
BEGIN_MS = 1_795_312_800_000
"""2026-11-22T02:00:00Z."""
TOPIC = "meterflow/v1/works/main"


def send(service: Service, values: list[float], begin: int = 0) -> None:
    """A reading a minute of the works' electricity meter."""
    rows = [{"time": BEGIN_MS + (begin + i) * MINUTE_MS, "value": v} for i, v in enumerate(values)]
    publish(service.mqtt_port, TOPIC, json.dumps(rows))


def listed(service: Service, *words: str) -> list[dict[str, Any]]:
    """The list as a script reads it."""
    return list(json.loads(done("verdicts", "list", "--json", "--data", service.folder, *words).stdout))


def booked(service: Service) -> dict[str, str]:
    """By point."""
    return {row["point"]: row["booked"] for row in service.rows("ledger")}


@pytest.fixture
def service(serve: Serve, site: Path) -> Service:
    """A service whose electricity register fell from 5,003 to 0 and counted on from there; held."""
    one = serve(site)
    one.start()
    send(one, [5_001, 5_002, 5_003, 0, 1, 2, 3])
    eventually(lambda: one.rows("verdict"), 20, "a verdict")
    return one


def test_what_waits_is_listed_with_its_evidence(service: Service) -> None:
    """With times in the plant's zone, and what each word would do; also by a service that has stopped."""
    text = done("verdicts", "list", "--data", service.folder).stdout
    for words in (
        "works/main  reset, held",
        "between  2026-11-22 10:02:00+08:00 and 2026-11-22 10:03:00+08:00 (Asia/Shanghai)",
        "evidence from 5003 kWh, to 0 kWh",
        "confirm          writes −5003 kWh off; what was used between stays unknown",
        "--as rollover",
    ):
        assert words in text
    (one,) = listed(service)
    assert (one["from"], one["verdict"], one["status"]) == ("2026-11-22T02:02:00Z", "reset", "held")
    assert text.startswith(one["id"])
    assert listed(service, "--plant", "works") == [one]
    assert listed(service, "--plant", "other") == listed(service, "--status", "confirmed") == []
    service.stop()
    assert listed(service) == [one]


MISTAKES = [
    (("confirm", "ffffffff"), "there is no such event"),
    (("confirm", "works/main", "--from", "2026-11-22T02:01:00Z"), "there is no such event"),
    (("confirm", "works/main", "--from", "yesterday"), "'yesterday' is no time"),
    (("confirm", "works/main", "--as", "magic"), "'magic' is no verdict"),
    (("confirm", "works/main", "--as", "conflict"), "cannot be said of this event"),
    (("confirm", "works/main", "--value", "7"), "only a conflict has a value"),
    (("confirm", "works/main", "--by", " "), "nobody is named who decides"),
    (("refuse", "works/main"), "it cannot be booked as it is"),
]


def test_a_mistake_is_told_and_nothing_sent(service: Service) -> None:
    """What, where, and what to do; exit 2."""
    for words, said in MISTAKES:
        mistake(meterflow("verdicts", *words, "--data", service.folder), 2, said)
    assert service.json("/api/overview")["rejected"] == []
    assert service.accepted() == 7


def test_a_folder_without_a_service_takes_no_decision(service: Service, tmp_path: Path) -> None:
    """Nor does one that is not there, or an address where nobody is."""
    (one,) = listed(service)
    away = ("--mqtt", "mqtt://127.0.0.1:1")
    mistake(meterflow("verdicts", "confirm", one["id"], "--data", service.folder, *away), 1, "no connection")
    service.stop()
    mistake(meterflow("verdicts", "confirm", one["id"], "--data", service.folder), 2, "no service runs")
    mistake(meterflow("verdicts", "list", "--data", tmp_path / "no"), 2, "no such data folder")


def test_a_limit_that_is_too_small_is_said_and_raising_it_books_what_was_held(
    serve: Serve, site: Path
) -> None:
    """The list names the limit that would do; started with it, the service holds nothing any more."""
    right = site.read_text()
    site.write_text(right.replace("limit: 9000 kW", "limit: 10 kW"))
    one = serve(site)
    one.start()
    send(one, [5_001 + k for k in range(8)])
    eventually(lambda: len(one.rows("verdict")) == 7, 20, "seven verdicts")
    told = meterflow("verdicts", "list", "--data", one.folder)
    assert "works/main: 7 rises in a row are held" in told.stderr
    needed = told.stderr.partition("too small: ")[2].partition(" would allow")[0]
    one.stop()
    site.write_text(right.replace("limit: 9000 kW", f"limit: {needed}"))
    one.start()
    send(one, [5_009], begin=8)
    eventually(lambda: {"main": "80"}.items() <= booked(one).items(), 20, "all that it rose")
    assert listed(one) == []


def test_a_confirmed_reset_restates_and_shows_who(service: Service) -> None:
    """The fall is written off; its history keeps what was said before; later decisions win."""
    (one,) = listed(service)
    before = service.rows("ledger")
    assert [row["held"] for row in before if row["point"] == "main"] == ["-50030"]
    told = done("verdicts", "confirm", one["id"][:5], "--by", "Li Wei", "--wait", "--data", service.folder)
    assert f"{one['id']}  works/main  reset, confirmed by Li Wei" in told.stdout
    (now,) = listed(service, "--status", "confirmed")
    assert (now["id"], now["by"], now["revision"]) == (one["id"], "Li Wei", 1)
    after = [row for row in service.rows("ledger") if row["point"] == "main"]
    assert [(row["held"], row["written_off"]) for row in after] == [("0", "-50030")]
    history = service.export("verdict", "--history")
    assert [(row["status"], row["by"]) for row in history] == [("held", "rule"), ("confirmed", "Li Wei")]
    words = ("verdicts", "confirm", "works/main", "--as", "rollover", "--by", "Wang", "--wait", "--json")
    said = json.loads(done(*words, "--data", service.folder).stdout)
    assert (said["decision"]["revision"], said["event"]["by"], said["event"]["verdict"]) == (
        1,
        "Wang",
        "rollover",
    )
    after = [row for row in service.rows("ledger") if row["point"] == "main"]
    assert [(row["held"], row["written_off"]) for row in after] == [("0", "-10000000")]


@pytest.mark.parametrize("form", ["parquet", "csv", "json"])
def test_what_compute_wrote_is_listed(site: Path, tmp_path: Path, form: str) -> None:
    """In any of its formats, newest first; decided it is where a service runs, or by --mqtt."""
    recording, folder = tmp_path / "works.ndjson", tmp_path / form
    readings = [{"time": BEGIN_MS + i * MINUTE_MS, "value": v} for i, v in enumerate([5_001, 0, 1, 5_900])]
    message = {"received": "2026-11-22T03:00:00Z", "topic": TOPIC, "qos": 1, "payload": readings}
    recording.write_text(json.dumps(message) + "\n")
    done("compute", recording, "--site", site, "--out", folder, "--format", form)
    found = json.loads(done("verdicts", "list", "--json", "--data", folder).stdout)
    assert [(one["verdict"], one["status"], one["to"]) for one in found] == [
        ("spike", "held", "2026-11-22T02:03:00Z"),
        ("reset", "held", "2026-11-22T02:01:00Z"),
    ]
    text = done("verdicts", "list", "--plant", "works", "--data", folder).stdout
    assert "evidence from 5001 kWh, to 0 kWh" in text
    assert json.loads(done("verdicts", "list", "--json", "--plant", "no", "--data", folder).stdout) == []
    mistake(meterflow("verdicts", "confirm", found[0]["id"], "--data", folder), 2, "no service runs")
    (folder / f"verdict.{form}").write_text("no table")
    mistake(meterflow("verdicts", "list", "--data", folder), 2, "no table that compute wrote")


def test_a_recording_holds_decisions(serve: Serve, site: Path, tmp_path: Path) -> None:
    """``compute`` and a replay into the service give the same: by the same rules as live ones."""
    recording = tmp_path / "works.ndjson"
    values = [5_001, 5_002, 5_003, 5_903, 5_904, 5_905, 1]
    readings = [{"time": BEGIN_MS + i * MINUTE_MS, "value": v} for i, v in enumerate(values)]
    leap, fall = ({"from": BEGIN_MS + i * MINUTE_MS, "to": BEGIN_MS + (i + 1) * MINUTE_MS} for i in (2, 5))
    first = leap | {"verdict": "plain", "by": "Li"}
    then = [leap | {"verdict": "spike", "by": "Wang", "revision": 1}, fall | {"verdict": "reset", "by": "Li"}]
    lines: list[tuple[str, Any]] = [
        (TOPIC, readings[:5]),
        (f"{TOPIC}/decision", first),
        (TOPIC, readings[5:]),
    ]
    lines += [(f"{TOPIC}/decision", [*then, fall | {"verdict": "magic", "by": "Li"}])]
    messages = [
        {"received": f"2026-11-22T03:00:0{i}Z", "topic": topic, "qos": 1, "payload": payload}
        for i, (topic, payload) in enumerate(lines)
    ]
    recording.write_text("".join(json.dumps(message) + "\n" for message in messages))
    done("compute", recording, "--site", site, "--out", tmp_path / "computed", "--format", "csv")
    computed = {
        name: rows_of((tmp_path / "computed" / f"{name}.csv").read_text())
        for name in ("verdict", "ledger", "interval", "rejected")
    }
    said = [(row["verdict"], row["status"], row["by"]) for row in computed["verdict"]]
    assert said == [("spike", "confirmed", "Wang"), ("reset", "confirmed", "Li")]
    assert [(row["held"], row["written_off"]) for row in computed["ledger"]] == [("0", "-50040")]
    assert [row["reason"] for row in computed["rejected"]] == ["decision_invalid"]
    service = serve(site)
    service.start()
    done("replay", recording, "--mqtt", service.mqtt, "--speed", "max")
    eventually(lambda: len(service.rows("verdict")) == 2, 20, "verdicts")
    service.caught_up(10)
    for name in ("verdict", "ledger", "interval"):
        assert of_set(name, service.rows(name)) == of_set(name, computed[name])


def test_a_conflict_is_decided_by_its_value(serve: Serve, site: Path) -> None:
    """Also a second time, by another; also of interval reads, whose row is of their end then."""
    service = serve(site)
    service.start()
    send(service, [5_001, 5_002, 5_003])
    send(service, [5_002.5], begin=1)
    for amount in (7, 8):
        read = {"start": BEGIN_MS, "time": BEGIN_MS + MINUTE_MS, "value": amount}
        publish(service.mqtt_port, "meterflow/v1/works/books", json.dumps(read))
    eventually(lambda: len(service.rows("verdict")) == 2, 20, "conflicts")
    for by, point, value in (
        ("Li", "main", "5002.5"),
        ("Wang", "main", "5002"),
        ("Li", "books", "8"),
        ("Wang", "books", "7"),
    ):
        words = ("verdicts", "confirm", f"works/{point}", "--value", value, "--by", by, "--wait", "--json")
        event = json.loads(done(*words, "--data", service.folder).stdout)["event"]
        assert (event["verdict"], event["status"], event["by"]) == ("conflict", "confirmed", by)
        assert event["evidence"]["counts"].split()[0] == value
    assert listed(service) == []


def test_an_interval_read_is_decided(serve: Serve, site: Path) -> None:
    """Of two that share time the one that counts writes the other off; the last decision counts."""
    service = serve(site)
    service.start()
    reads = [
        {"start": BEGIN_MS + low * MINUTE_MS, "time": BEGIN_MS + high * MINUTE_MS, "value": amount}
        for low, high, amount in ((0, 60, 7), (30, 90, 8))
    ]
    publish(service.mqtt_port, "meterflow/v1/works/books", json.dumps(reads))
    eventually(lambda: len(service.rows("verdict")) == 2, 20, "overlaps")
    first, second = sorted(listed(service), key=lambda one: one["to"])
    assert (first["verdict"], first["own"], first["status"]) == ("overlap", "overlap", "held")
    place = ("--wait", "--json", "--data", service.folder)
    for words, by, status in (
        (("refuse", first["id"]), "Li", "refused"),
        (("refuse", second["id"]), "Wang", "refused"),
        (("confirm", second["id"], "--as", "overlap"), "Zhao", "confirmed"),
    ):
        event = json.loads(done("verdicts", *words, "--by", by, *place).stdout)["event"]
        assert (event["by"], event["status"]) == (by, status)
        assert listed(service) == []
    said = {row["to"]: (row["verdict"], row["status"], row["by"]) for row in service.rows("verdict")}
    assert list(said.values()) == [("plain", "refused", "Li"), ("overlap", "confirmed", "Zhao")]
    rows = [row for row in service.rows("interval") if row["point"] == "books"]
    assert [(row["amount"], row["flags"]) for row in rows] == [("7", "edited"), ("", "edited")]


def test_the_roles_take_decisions_by_the_broker(services: Services) -> None:
    """By the command and by the page, each of which publishes with the login of the settings."""
    broker = services.broker
    with services.settings.open("a") as file:
        file.write(f"decisions: {{url: '{broker.url}'}}\n")
    *_, web = services.start("ingest", "process", "sink", "web")
    for plant in PLANTS[:2]:
        rows = [{"time": BEGIN_MS + i * MINUTE_MS, "value": v} for i, v in enumerate([5_001, 5_002, 0, 1])]
        publish(broker.port, f"meterflow/v1/{plant}/main", json.dumps(rows))
    place = ("--settings", services.settings)
    seen = eventually(lambda: len(found := web.json("/api/doubts")["held"]) == 2 and found, 60, "verdicts")
    by_plant = {one["plant"]: one for one in seen}
    told = done("verdicts", "confirm", f"{PLANTS[0]}/main", "--by", "Li", "--wait", *place).stdout
    assert "(Asia/Shanghai)" in told
    assert "reset, confirmed by Li" in told
    other = by_plant[PLANTS[1]]
    said = {"plant": PLANTS[1], "point": "main", "from": other["from"], "to": other["to"]}
    body = json.dumps(said | {"verdict": "decrease", "by": "Wang"}).encode()
    headers = {"content-type": "application/json"}
    request = Request(f"http://127.0.0.1:{web.port}/api/decisions", body, headers)
    with build_opener(ProxyHandler({})).open(request, timeout=20) as answer:
        assert json.load(answer) == {"decided": True}
    eventually(lambda: len(web.json("/api/doubts")["settled"]) == 2, 60, "the second decision")
    listed = json.loads(done("verdicts", "list", "--status", "confirmed", "--json", *place).stdout)
    assert {(one["plant"], one["by"]) for one in listed} == {(PLANTS[0], "Li"), (PLANTS[1], "Wang")}
