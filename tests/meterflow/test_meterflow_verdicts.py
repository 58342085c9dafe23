"""``meterflow verdicts``: what waits for a person, and what a person says, over the real service."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.meterflow.helper import Service, done, eventually, meterflow, mistake, publish

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
    (("refuse", "works/main"), "a fall cannot be booked as it is"),
]


def test_a_mistake_is_told_and_nothing_sent(service: Service) -> None:
    """What, where, and what to do; exit 2."""
    for words, said in MISTAKES:
        mistake(meterflow("verdicts", *words, "--data", service.folder), 2, said)
    assert service.json("/api/overview")["rejected"] == []
    assert sum(int(row["received"]) for row in service.rows("hop") if row["hop"] == "ingest") == 7


def test_a_folder_without_a_service_takes_no_decision(service: Service, tmp_path: Path) -> None:
    """Nor does one that is not there, or an address where nobody is."""
    (one,) = listed(service)
    away = ("--mqtt", "mqtt://127.0.0.1:1")
    mistake(meterflow("verdicts", "confirm", one["id"], "--data", service.folder, *away), 1, "no connection")
    service.stop()
    mistake(meterflow("verdicts", "confirm", one["id"], "--data", service.folder), 2, "no service runs")
    mistake(meterflow("verdicts", "list", "--data", tmp_path / "no"), 2, "no such data folder")


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
