"""``meterflow resubmit``: what was refused, taken after the site file was put right."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ingest.decode import payload_text
from meterflow.resubmit import payload_bytes
from simulators.recording import read_recording
from tests.meterflow.helper import Service, done, eventually, meterflow, mistake, of_set, publish
from tests.meterflow.roles import Services

Serve = Callable[..., Service]
MINUTE_MS = 60_000
BEGIN_MS = 1_795_312_800_000
"""2026-11-22T02:00:00Z."""
SPARE = """\
      - {id: spare, measures: electricity, reads: register, unit: kWh, expect_every: 60s, limit: 900 kW,
         installations: [{digits: 6, decimals: 1}]}
"""


def registers(first: int, count: int = 10) -> str:
    """So many readings a minute apart, in one message."""
    return json.dumps([{"time": BEGIN_MS + i * MINUTE_MS, "value": first + i} for i in range(count)])


def with_spare(site: Path) -> None:
    """The same site file with one more point."""
    site.write_text(site.read_text().replace("    intensity:\n", f"{SPARE}    intensity:\n", 1))


def again(service: Service, site: Path, *words: object) -> dict[str, Any]:
    """The report, as a script reads it."""
    ended = done("resubmit", "--data", service.folder, "--site", site, "--json", *words)
    return dict(json.loads(ended.stdout))


@pytest.fixture
def service(serve: Serve, site: Path) -> Service:
    """A service that has refused readings of a point that its site file did not have."""
    one = serve(site)
    one.start()
    publish(one.mqtt_port, "meterflow/v1/works/main", registers(5_000))
    publish(one.mqtt_port, "meterflow/v1/works/spare", registers(100))
    publish(one.mqtt_port, "meterflow/v1/works/spare", registers(100))
    publish(one.mqtt_port, "meterflow/v1/works", '{"point": "main", "time": 1795312860000, "value": "x"}')
    publish(one.mqtt_port, "meterflow/v1/works/main", '{"time": 4000000000000, "value": 1}')
    eventually(lambda: len(one.rows("rejected")) == 4, 20, "refused")
    return one


def test_readings_of_a_point_added_later_are_taken(service: Service, site: Path, serve: Serve) -> None:
    """The results are those of a service that knew it from the beginning; once is as good as twice."""
    before = service.rows("rejected")
    service.stop()
    with_spare(site)
    service.start()
    eventually(lambda: service.rows("rejected"), 20, "the rows are there again")
    report = again(service, site)
    assert (report["rows"], report["doubles"], report["messages"], report["readings"]) == (4, 1, 1, 10)
    assert (report["acknowledged"], report["refused"], report["refused_readings"]) == (1, {}, 0)
    assert report["still_refused"] == {"value_not_number": 1}
    assert report["skipped"] == {"time_in_future": 1}
    service.caught_up(20)
    assert of_set("rejected", service.rows("rejected")) == of_set("rejected", before)
    assert again(service, site)["acknowledged"] == 1
    eventually(lambda: service.metric("meterflow_worker_lag_records") == 0, 20, "lag")
    knew = serve(site)
    knew.start()
    for point, first in (("main", 5_000), ("spare", 100)):
        publish(knew.mqtt_port, f"meterflow/v1/works/{point}", registers(first))
    knew.caught_up(20)
    for table in ("interval", "rollup", "intensity", "verdict"):
        rows = [of_set(table, one.export(table)) for one in (service, knew)]
        assert rows[0] == rows[1], table
    assert [row["booked"] for row in service.rows("ledger") if row["point"] == "spare"] == ["90"]


def test_what_would_be_taken_can_be_looked_at_first(service: Service, site: Path, tmp_path: Path) -> None:
    """A recording instead of publishing; selections are by reason, plant and time."""
    service.stop()
    with_spare(site)
    service.start()
    eventually(lambda: service.rows("rejected"), 20, "the rows are there again")
    recording = tmp_path / "again.ndjson"
    for words, messages in (
        ((), 1),
        (("--plant", "works"), 1),
        (("--plant", "other"), 0),
        (("--reason", "unknown_point"), 1),
        (("--reason", "unit_unknown"), 0),
        (("--to", "2020-01-01T00:00:00Z"), 0),
    ):
        report = again(service, site, "--out", recording, *words)
        assert (report["messages"], report["acknowledged"]) == (messages, 0), words
        assert len(list(read_recording(recording))) == messages, words
    assert service.accepted() == 10
    told = done("resubmit", "--data", service.folder, "--site", site, "--out", recording).stderr
    assert "1 rows not taken again: time_in_future" in told
    assert "1 rows still refused: value_not_number" in told
    assert "4 rows, 1 messages with 10 readings that are taken now: written to" in told


def test_a_mistake_is_told_and_nothing_sent(service: Service, site: Path, tmp_path: Path) -> None:
    """What, where, and what to do; exit 2."""
    words = ("resubmit", "--data", service.folder)
    mistake(meterflow(*words), 2, "another site file", "--site")
    mistake(meterflow(*words, "--site", site, "--reason", "mood"), 2, "'mood' is not one of")
    mistake(meterflow(*words, "--site", site, "--from", "noon"), 2, "'noon' is no time", "--from")
    mistake(meterflow("resubmit", "--data", tmp_path / "no", "--out", tmp_path / "r"), 2, "no such data")
    assert not (tmp_path / "r").exists()
    assert service.accepted() == 10
    service.stop()
    mistake(meterflow(*words, "--site", site), 2, "no service runs on this folder")


def test_nobody_gets_a_right_by_resubmitting(serve: Serve, site: Path, tmp_path: Path) -> None:
    """What a stranger sent is taken only when asked for by name, and a decision not at all."""
    users = tmp_path / "users.yaml"
    for user, plants in (("stranger", ("--plant", "elsewhere")), ("chief", ())):
        assert meterflow("passwd", users, user, *plants, text="sesame\nsesame\n").returncode == 0
    service = serve(site, "--users", str(users))
    service.start()
    decision = {"from": BEGIN_MS, "to": BEGIN_MS + MINUTE_MS, "verdict": "reset", "by": "me", "revision": 0}
    login = ("-u", "stranger", "-P", "sesame")
    publish(service.mqtt_port, "meterflow/v1/works/main", registers(5_000), *login)
    publish(service.mqtt_port, "meterflow/v1/works/main/decision", json.dumps(decision), *login)
    eventually(lambda: len(service.rows("rejected")) == 2, 20, "refused")
    secret = tmp_path / "secret"
    secret.write_text("sesame\n")
    chief = ("--user", "chief", "--password-file", secret)
    report = again(service, site, *chief)
    assert (report["skipped"], report["messages"]) == ({"not_permitted": 2}, 0)
    report = again(service, site, *chief, "--reason", "not_permitted")
    assert report["skipped"] == {"a decision: say it again with meterflow verdicts": 1}
    assert (report["messages"], report["acknowledged"]) == (1, 1)
    service.caught_up(10)


def test_over_kafka_and_influxdb(services: Services) -> None:
    """The rows of InfluxDB go to the broker; the collector has to run with the new site file."""
    broker = services.broker
    ingest, _ = services.start("ingest", "sink")
    publish(broker.port, "meterflow/v1/steel-a/spare", registers(100))
    words = ("resubmit", "--settings", services.settings, "--json")

    def report(*more: object) -> dict[str, Any]:
        return dict(json.loads(done(*words, *more).stdout))

    eventually(lambda: report("--out", services.folder / "r.ndjson")["rows"] == 1, 60, "stored")
    assert report()["still_refused"] == {"unknown_point": 1}
    ingest.stop()
    with_spare(services.site)
    ingest.start()
    found = report()
    assert (found["messages"], found["readings"], found["acknowledged"]) == (1, 10, 1)
    name = 'meterflow_readings_accepted_total{hop="ingest"}'
    eventually(lambda: ingest.metric(name) == 10, 20, "accepted")


@pytest.mark.parametrize("payload", [b"", b"{}", b"\xff\x00", b"base64:!", b"\0", "Ü".encode()])
def test_a_payload_comes_back_from_its_text(payload: bytes) -> None:
    """Byte for byte, also where the table has it in base64."""
    assert payload_bytes(payload_text(payload)) == payload
