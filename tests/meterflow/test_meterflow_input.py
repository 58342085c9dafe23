"""Readings and nonsense by other people's clients."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.meterflow.helper import Service, eventually, publish

GOOD = '{"point":"count","time":%d,"value":"1.5"}'
NOW_MS = time.time_ns() // 1_000_000 // 60_000 * 60_000
OWN = "meterflow/v1/works"


@pytest.fixture
def service(serve: Callable[..., Service], site: Path) -> Service:
    """The works, running."""
    service = serve(site)
    service.start()
    return service


def element(value: str = "1", time: str = str(NOW_MS), point: str = "main") -> str:
    return f'{{"point":"{point}","time":{time},"value":{value}}}'


def with_good(bad: str, number: int) -> str:
    """A message of one bad reading between two good ones."""
    return f"[{GOOD % (NOW_MS - number * 120_000)},{bad},{GOOD % (NOW_MS - number * 120_000 - 60_000)}]"


BAD_READINGS = {
    "nan": (element("NaN"), "value_not_finite"),
    "infinity": (element("-Infinity"), "value_not_finite"),
    "1e400": (element("1e400"), "value_out_of_range"),
    "a number of 5,000 digits": (element("9" * 5000), "value_out_of_range"),
    "duplicate key": (f'{{"point":"main","time":{NOW_MS},"value":1,"value":2}}', "duplicate_key"),
    "1970": (element(time='"1970-01-01T00:00:00Z"'), "time_before_2000"),
    "2099": (element(time='"2099-01-01T00:00:00Z"'), "time_in_future"),
    "no zone": (element(time='"2026-01-01T00:00:00"'), "time_without_zone"),
    "unknown point": (element(point="nope"), "unknown_point"),
    "point of another plant": (element(point="other"), "point_of_other_plant"),
    "no value": (f'{{"point":"main","time":{NOW_MS}}}', "value_missing"),
    "a word": (element('"much"'), "value_not_number"),
    "no start": (element(point="books"), "start_missing"),
    "unit": (f'{{"point":"main","time":{NOW_MS},"value":1,"unit":"m3"}}', "unit_not_convertible"),
}
BAD_MESSAGES = {
    "no json": (OWN, b"{", "not_json"),
    "empty": (OWN, b"", "empty"),
    "not utf-8": (OWN, b'{"time":1,"value":"\xff"}', "not_utf8"),
    "deep": (OWN, b"[" * 100_000, "too_deep"),
    "unknown plant": ("meterflow/v1/nobody/main", element().encode(), "unknown_plant"),
    "another topic": ("home/lamp", b"on", "topic_unknown"),
}


def rejected(service: Service) -> list[str]:
    return [row["reason"] for row in service.rows("rejected")]


def test_a_reading_is_in_the_results_within_two_seconds(service: Service) -> None:
    """Two readings a minute apart by mosquitto_pub make an interval, exported while the service runs."""
    minute = (NOW_MS - 600_000) // 60_000 * 60_000
    publish(service.mqtt_port, f"{OWN}/main", f'{{"time":{minute},"value":10}}')
    publish(service.mqtt_port, f"{OWN}/main", f'{{"time":{minute + 60_000},"value":"12.5"}}')
    eventually(lambda: any(row["amount"] for row in service.rows("interval")), 2, "an interval")
    (row,) = (row for row in service.export("interval") if row["amount"])
    assert (row["point"], row["amount"], row["unit"]) == ("main", "25", "kWh")
    assert row["end"] == datetime.fromtimestamp(minute / 1000 + 60, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_every_bad_reading_has_its_reason_and_the_rest_is_taken(
    serve: Callable[..., Service], site: Path
) -> None:
    """Each is rejected for what is wrong with it, on the page's API, too; its neighbours are accepted."""
    two = site.with_name("two.yaml")
    other = "  - {id: b, time_zone: UTC, points: [{id: other, measures: water, reads: register, unit: m3}]}\n"
    two.write_text(site.read_text() + other)
    service = serve(two)
    service.start()
    for number, (bad, _) in enumerate(BAD_READINGS.values()):
        publish(service.mqtt_port, OWN, with_good(bad, number))
    wanted = [reason for _, reason in BAD_READINGS.values()]
    eventually(lambda: len(rejected(service)) == len(wanted), 5, "rejected")
    assert sorted(rejected(service)) == sorted(wanted)
    eventually(lambda: service.accepted() == 2 * len(wanted), 5, "the good ones")
    shown = service.json("/api/rows/rejected?limit=100")["rows"]
    assert sorted(row["reason"] for row in shown) == sorted(wanted)
    assert service.status("/readyz") == 200


def test_every_bad_message_has_its_reason(service: Service) -> None:
    """What is no reading at all is rejected as a whole, and the service stays up."""
    for topic, payload, _ in BAD_MESSAGES.values():
        publish(service.mqtt_port, topic, payload)
    wanted = sorted(reason for *_, reason in BAD_MESSAGES.values())
    eventually(lambda: len(rejected(service)) == len(wanted), 5, "rejected")
    assert sorted(rejected(service)) == wanted
    assert service.status("/readyz") == 200


def test_ten_megabytes_are_refused_and_told(service: Service) -> None:
    """A packet beyond the limit ends its connection; it is in rejected, and others are served."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="big", protocol=paho.MQTTv311)
    client.connect("127.0.0.1", service.mqtt_port)
    client.loop_start()
    client.publish(OWN, b"[" + b" " * (10 << 20) + b"]", qos=1)
    eventually(lambda: "too_large" in rejected(service), 5, "too_large")
    client.disconnect()
    client.loop_stop()
    publish(service.mqtt_port, f"{OWN}/main", f'{{"time":{NOW_MS},"value":1}}')
    eventually(lambda: service.accepted() == 1, 5)


def more_invalid(service: Service, before: int) -> bool:
    return rejected(service).count("topic_invalid") > before


def test_topics_with_wildcards_or_nul_are_rejected(service: Service) -> None:
    """No client library sends them, so they are sent as bytes."""
    connect = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04test"
    for topic in (b"meterflow/v1/+/main", b"meterflow/v1/#", b"meterflow/v1/works/ma\0in"):
        before = rejected(service).count("topic_invalid")
        body = len(topic).to_bytes(2, "big") + topic + b"\x00\x01" + b"{}"
        with socket.create_connection(("127.0.0.1", service.mqtt_port)) as connection:
            connection.sendall(connect + bytes([0x32, len(body)]) + body)
            eventually(partial(more_invalid, service, before), 5, str(topic))
    assert service.status("/readyz") == 200


def test_rejected_rows_are_the_same_after_a_kill(service: Service) -> None:
    """A kill before the state was saved has the readings worked in again, but nothing is told twice."""
    publish(service.mqtt_port, OWN, with_good(element("NaN"), 0))
    eventually(lambda: rejected(service) == ["value_not_finite"], 5)
    before = service.export("rejected")
    service.kill()
    service.start()
    publish(service.mqtt_port, f"{OWN}/main", json.dumps({"time": NOW_MS, "value": 1}))
    service.caught_up(3)
    assert service.export("rejected") == before
