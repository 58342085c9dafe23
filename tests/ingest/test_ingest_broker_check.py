"""What doctor says of a broker, and that it leaves the collector's session alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.broker_check import check
from ingest.broker_settings import Broker
from ingest.mqtt_events import V3, V5
from metering.findings import Finding
from tests.ingest.collector_builders import broker, collecting, publish_readings, values
from tests.ingest.ingest_builders import serving, until
from tests.real.certificates import make_certificate
from tests.real.mosquitto import Mosquitto
from tests.real.server import free_port

Start = Callable[..., Mosquitto]
USERS = {"collector": "right"}


def said(findings: list[Finding]) -> list[tuple[str, str]]:
    """What was looked at, and how it was."""
    return [(finding.what, finding.verdict) for finding in findings]


@pytest.mark.parametrize("protocol", [V3, V5])
async def test_a_broker_that_is_well_is_said_to_be(protocol: int, mosquitto_server: Start) -> None:
    """It is reached, lets the collector's user in, and lets it read."""
    server = mosquitto_server(users=USERS)
    settings = broker(server.port, "native", user="collector", password="right", protocol=protocol)
    found = await check(settings)
    assert said(found) == [("reachable", "good"), ("login", "good"), ("subscription", "good")]
    assert "as collector" in found[1].detail
    assert found[2].detail == settings.filters[0]


@pytest.mark.parametrize("protocol", [V3, V5])
async def test_a_wrong_password_is_told_of(protocol: int, mosquitto_server: Start) -> None:
    """As the broker's CONNACK says it; the password is nowhere in it."""
    server = mosquitto_server(users=USERS)
    settings = broker(server.port, "native", user="collector", password="wrong-canary", protocol=protocol)
    found = await check(settings)
    assert said(found) == [("reachable", "good"), ("login", "bad")]
    assert "not authorized" in found[1].detail
    assert "password_file" in found[1].hint
    assert "canary" not in repr(found)


@pytest.mark.parametrize("protocol", [V3, V5])
async def test_a_refused_subscription_is_told_of(protocol: int) -> None:
    """As the SUBACK says it: our own endpoint, named by mistake, lets nobody subscribe."""
    async with serving() as (endpoint, _):
        found = await check(broker(endpoint.port, "native", protocol=protocol))
    assert said(found) == [("reachable", "good"), ("login", "good"), ("subscription", "bad")]
    assert found[2].detail.startswith("meterflow/v1/#: the broker refuses the subscription: ")
    assert "filters" in found[2].hint


@pytest.mark.parametrize("protocol", [V3, V5])
async def test_the_collectors_session_stays_as_it_is(protocol: int, mosquitto_server: Start) -> None:
    """What waits for a collector that is away is still its, and no session of doctor's is left."""
    server = mosquitto_server()
    settings = broker(server.port, "native", protocol=protocol)
    async with collecting(settings):
        pass
    await publish_readings(server.port, range(5))
    assert {finding.verdict for finding in await check(settings)} == {"good"}
    await publish_readings(server.port, range(5, 10))
    async with collecting(settings) as (collector, log):
        await until(lambda: collector.counters.acknowledged == 10)
        assert {finding.verdict for finding in await check(settings)} == {"good"}
        assert collector.listening
        assert await values(log) == list(range(10))


async def test_a_broker_that_is_away_or_another_service_is_told_of() -> None:
    """Nobody there; somebody who hangs up; somebody who speaks something else."""
    (away,) = await check(broker(free_port(), "native"))
    assert said([away]) == [("reachable", "bad")]
    for answer in (b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"):

        async def reply(
            _: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: bytes = answer
        ) -> None:
            writer.write(answer)
            writer.close()

        async with await asyncio.start_server(reply, "127.0.0.1", 0) as other:
            found = await check(broker(other.sockets[0].getsockname()[1], "native"))
        assert said(found) == [("reachable", "good"), ("login", "bad")]
        assert found[1].hint


async def test_a_certificate_of_another_authority_is_told_of(tmp_path: Path, mosquitto_server: Start) -> None:
    """By ca_file."""
    for name in ("ca", "other"):
        make_certificate(tmp_path, name)
    certificate = make_certificate(tmp_path, "broker", "IP:127.0.0.1", "ca")
    server = mosquitto_server(certificate=certificate, key=certificate.with_suffix(".key"))
    for name, verdict in (("ca", "good"), ("other", "bad")):
        settings = Broker(server.url, ca_file=tmp_path / f"{name}.pem")
        found = await check(settings)
        assert found[0].verdict == verdict
        assert ("ca_file" in found[0].hint) == (verdict == "bad")
    (tmp_path / "ca.pem").write_text("no certificate")
    (found_,) = await check(Broker(server.url, ca_file=tmp_path / "ca.pem"))
    assert said([found_]) == [("certificates", "bad")]
