"""``meterflow history``: a figure by its key, every revision with its cause and the readings behind it."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.meterflow.helper import Row, Service, done, meterflow, mistake, publish
from tests.meterflow.test_meterflow_evidence import TOPIC, payload

Serve = Callable[..., Service]
LATE = payload(2).replace(b'"2.50"', b'"2.75"')
DECISION = b'{"from": %d, "to": %d, "verdict": "reset", "by": "ada", "revision": 0}'


def told(service: Service, table: str, key: dict[str, str], *words: object) -> list[dict[str, Any]]:
    """The revisions of a figure."""
    named = [f"{name}={value}" for name, value in key.items()]
    shown = done("history", table, *named, "--data", service.folder, "--json", *words).stdout
    return [json.loads(line) for line in shown.splitlines()]


def key_of(row: Row, *names: str) -> dict[str, str]:
    return {name: row[name] for name in names}


def late(serve: Serve, site: Path, *words: str) -> Service:
    """A service to which a reading came late, when what it changes was final."""
    service = serve(site, "--raw", *words)
    service.start()
    for minute in (0, 1, 3, 5, 200):
        publish(service.mqtt_port, TOPIC, payload(minute))
    service.caught_up(5)
    publish(service.mqtt_port, TOPIC, LATE)
    service.caught_up(6)
    return service


def revised(service: Service, table: str, **equal: str) -> Row:
    """A row that the late reading changed."""
    rows = service.export(table)
    found = [row for row in rows if row["cause"] == "late" and equal.items() <= row.items()]
    return min(found, key=lambda row: row["end"])


def test_a_revision_is_named_by_its_key(serve: Serve, site: Path) -> None:
    """Of an interval: what stood behind it first, with neighbours, and the late reading with its message."""
    service = late(serve, site)
    row = revised(service, "interval", point="count")
    found = told(service, "interval", key_of(row, "plant", "point", "start", "end"))  # not archived yet
    assert [one["row"]["cause"] for one in found] == ["", "late"]
    assert found[-1]["row"] == row
    first, second = found
    assert [one["value"] for one in first["readings"]] == ["1.50", "3.50"]
    assert (first["came"], second["came"]) == (2, 1)
    (reading,) = second["readings"]
    assert (reading["value"], reading["topic"]) == ("2.75", TOPIC)
    assert reading["sha256"] == sha256(LATE).hexdigest()
    assert first["row"]["reported"] < reading["received"] <= row["reported"]
    service.stop()
    assert told(service, "interval", key_of(row, "plant", "point", "end")) == found  # from the archive
    (only,) = told(service, "interval", key_of(row, "point", "end"), "--revision", "1", "--payloads")
    assert only["readings"][0]["payload"] == LATE.decode()


def test_sums_and_ratios_are_followed_to_the_readings_of_their_points(serve: Serve, site: Path) -> None:
    """A plant's output is of its counter alone; an intensity of both sides."""
    service = late(serve, site)
    publish(service.mqtt_port, TOPIC.replace("count", "intake"), payload(4))
    for minute in (0, 4, 200):
        publish(service.mqtt_port, TOPIC.replace("count", "main"), payload(minute))
    service.caught_up(10)
    service.stop()
    row = revised(service, "rollup", scope="plant:works", span="15m")
    newest = told(service, "rollup", key_of(row, "scope", "measures", "product", "span", "end"))[-1]
    assert {one["point"] for one in newest["readings"]} == {"count"}
    every = [row for row in service.export("intensity", "--history") if row["revision"] != "0"]
    key = key_of(every[0], "scope", "id", "product", "window", "end")
    found = told(service, "intensity", key, "--readings", "1000")
    assert {one["point"] for each in found for one in each["readings"]} == {"count", "main"}
    assert [one["row"]["revision"] for one in found] == [
        row["revision"] for row in service.export("intensity", "--history") if key.items() <= row.items()
    ]


def test_a_decision_is_told_where_no_reading_came(serve: Serve, site: Path) -> None:
    """What somebody decided is behind the revision that it caused."""
    service = serve(site)
    service.start()
    begin = json.loads(payload(0))["time"]
    values = {0: "5000.0", 1: "5001.0", 2: "3.0", 3: "4.0", 200: "201.0"}
    for minute, value in values.items():
        text = json.dumps({"time": begin + minute * 60_000, "value": value})
        publish(service.mqtt_port, "meterflow/v1/works/count", text)
    service.caught_up(len(values))
    (event,) = service.export("verdict")
    publish(service.mqtt_port, TOPIC + "/decision", DECISION % (begin + 60_000, begin + 120_000))
    service.caught_up(len(values))
    service.stop()
    newest = told(service, "verdict", key_of(event, "plant", "point", "to"))[-1]
    assert (newest["came"], [one["by"] for one in newest["decisions"]]) == (0, ["ada"])
    words = ("point=count", f"to={event['to']}", "--data", service.folder)
    assert "decision reset by ada on works/count" in done("history", "verdict", *words).stdout


def test_what_names_no_figure_is_told(serve: Serve, site: Path) -> None:
    """An unknown table or column, no instant, several figures, none, one that is open."""
    service = late(serve, site)
    service.stop()
    row = revised(service, "interval", point="count")
    at = ("--data", service.folder)
    mistake(meterflow("history", "ledger", "point=count", *at), 2, "no history")
    mistake(meterflow("history", "interval", "unit=t", *at), 2, "plant, point, end, start")
    mistake(meterflow("history", "interval", "point=count", *at), 2, "end=INSTANT")
    mistake(meterflow("history", "interval", "end=noon", *at), 2, "no time")
    end = revised(service, "rollup", span="15m")["end"]
    mistake(
        meterflow("history", "rollup", f"end={end}", *at), 2, "scope=plant:works", "figures have this key"
    )
    mistake(meterflow("history", "interval", "point=x", f"end={row['end']}", *at), 2, "no such figure")
    words = ("interval", "point=count", f"end={row['end']}", *at)
    mistake(meterflow("history", *words, "--revision", "7"), 2, "There are: 0, 1")
    text = done("history", *words).stdout
    assert "revision 1, reported" in text
    assert ": revised, late" in text
    assert f"sha256 {sha256(LATE).hexdigest()}" in text
