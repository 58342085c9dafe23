"""docker-compose.yml as it runs: for ``make compose-test``, which starts it; no part of ``make test``.

METERFLOW_COMPOSE is the command that speaks to the running project; METERFLOW_SECRETS, METERFLOW_MQTT_PORT
and METERFLOW_PAGE_PORT are those it was started with.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.real.server import wait_until

PATIENCE_S = 60.0
NOT_AUTHORIZED = 135
MINUTES = 30
ROLES = ("ingest", "process", "sink", "web")
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def secret(name: str) -> str:
    return (Path(os.environ["METERFLOW_SECRETS"]) / name).read_text().strip()


def password(login: str) -> str:
    """A login's password."""
    return dict(line.split(":", 1) for line in secret("mqtt-users").splitlines())[login]


def compose(*words: str) -> str:
    """The answer of a compose command."""
    command = [*shlex.split(os.environ["METERFLOW_COMPOSE"]), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def page(path: str) -> Any:
    """What the page's API answers."""
    port = os.environ["METERFLOW_PAGE_PORT"]
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {secret('page-token')}"}
    )
    with _OPENER.open(request, timeout=30) as answer:
        return json.load(answer)


def rows(table: str, plant: str, point: str) -> list[dict[str, Any]]:
    """A point's rows, as the page exports them from InfluxDB; none while it cannot answer."""
    try:
        found: list[dict[str, Any]] = page(f"/api/export/{table}?format=json&plant={plant}&point={point}")
    except OSError:
        return []
    return found


def publish(login: str, messages: dict[str, str], secret_word: str = "") -> list[int]:
    """The reason codes of the broker's acknowledgements, in order."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.username_pw_set(login, secret_word or password(login))
    codes: list[int] = []
    refused: list[int] = []
    client.on_publish = lambda _c, _d, _mid, code, _p: codes.append(code.value)
    client.on_connect = lambda _c, _d, _f, code, _p: refused.append(code.value) if code.is_failure else None
    client.connect("127.0.0.1", int(os.environ["METERFLOW_MQTT_PORT"]))
    client.loop_start()
    for topic, payload in messages.items():
        client.publish(topic, payload, qos=1)
    wait_until(lambda: len(codes) == len(messages) or bool(refused), "acknowledgements", PATIENCE_S)
    client.disconnect()
    client.loop_stop()
    return refused or codes


def readings(end_ms: int, minutes: int) -> str:
    """A register that grows by 0.1 each minute: tenths of the minutes since 1970."""
    times = range(end_ms - 60_000 * minutes, end_ms + 1, 60_000)
    shown = [(time_ms, time_ms // 60_000 % 1_000_000) for time_ms in times]
    return json.dumps([{"time": time_ms, "value": f"{n // 10}.{n % 10}0"} for time_ms, n in shown])


def until_booked(plant: str, point: str, end_ms: int) -> None:
    """Waits until the base span that ends then is there, with an amount."""
    end = time.strftime("%Y-%m-%dT%H:%M", time.gmtime(end_ms / 1000))

    def booked() -> bool:
        found = rows("interval", plant, point)
        return any(row["end"].startswith(end) and row["amount"] is not None for row in found)

    wait_until(booked, f"rows of {plant}/{point}", PATIENCE_S)


def now_ms() -> int:
    """The last full minute."""
    return int(time.time()) // 60 * 60_000


@pytest.fixture(scope="module")
def published() -> int:
    """Publishes half an hour of readings of one plant, and says when they end."""
    end_ms = now_ms()
    assert publish("steel-1", {"meterflow/v1/steel-1/main": readings(end_ms, MINUTES)}) == [0]
    return end_ms


def test_what_a_plant_publishes_is_booked(published: int) -> None:
    """Through Mosquitto, Kafka and InfluxDB to the page."""
    until_booked("steel-1", "main", published)
    amounts = [row["amount"] for row in rows("interval", "steel-1", "main")]
    assert [float(amount) for amount in amounts if amount is not None] == [400.0] * MINUTES  # 0.1 times 4,000


def test_a_plant_writes_no_other_plants_topics() -> None:
    """The broker says so to the plant itself."""
    assert publish("steel-1", {"meterflow/v1/dye-1/main": readings(now_ms(), 1)}) == [NOT_AUTHORIZED]


def test_the_collector_writes_nothing() -> None:
    """Its login may only read."""
    assert publish("collector", {"meterflow/v1/steel-1/main": readings(now_ms(), 1)}) == [NOT_AUTHORIZED]


def test_nobody_comes_in_with_a_wrong_password() -> None:
    """Nor without one that was made here."""
    assert publish("steel-1", {"meterflow/v1/steel-1/main": "1"}, "wrong") == [NOT_AUTHORIZED]


@pytest.mark.parametrize("role", ROLES)
def test_a_role_has_no_more_rights_than_it_needs(role: str) -> None:
    """A user of its own, a root that cannot be written, no capability, bounds on memory."""
    found = subprocess.run(
        ["docker", "inspect", compose("ps", "-q", role).split()[0]], capture_output=True, check=True
    )
    container = json.loads(found.stdout)[0]
    host = container["HostConfig"]
    assert container["Config"]["User"] == "meterflow"
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Memory"] > 0


@pytest.mark.parametrize(
    ("service", "plant", "point"),
    [
        ("process", "steel-1", "furnace"),
        ("kafka", "steel-1", "intake"),
        ("sink", "dye-1", "main"),
        ("mosquitto", "dye-1", "solar"),
        ("influxdb", "dye-1", "river"),
        ("ingest", "dye-1", "town"),
    ],
)
def test_a_killed_part_goes_on(service: str, plant: str, point: str, published: int) -> None:
    """Started again, it goes on where it was, and the others with it."""
    until_booked("steel-1", "main", published)
    compose("kill", "--signal", "SIGKILL", service)
    compose("up", "--detach", "--wait", "--no-recreate", service)
    end_ms = now_ms()
    assert publish(plant, {f"meterflow/v1/{plant}/{point}": readings(end_ms, 2)}) == [0]
    until_booked(plant, point, end_ms)
