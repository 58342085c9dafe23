"""What the log knows of where a reading came from, and that logs from before it knew go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from bus.frames import decode_readings, encode_readings
from bus.log import READINGS, Entry, Record
from bus.log_sqlite import open_log
from metering.readings import Readings
from metering.site_compile import compile_roster
from metering.site_load import load_site
from tests.ingest.ingest_builders import sources
from tests.meterflow.helper import Service, meterflow, publish

Serve = Callable[..., Service]
BEGIN_MS, MINUTE_MS = 1_767_571_200_000, 60_000
TOPIC = "meterflow/v1/works/count"


async def on_the_log(folder: Path) -> list[Record]:
    """The records of readings."""
    log = await open_log(folder)
    try:
        return [record for record in await log.read(READINGS, 0) if record.value]
    finally:
        await log.close()


def readings_in(folder: Path) -> list[Readings]:
    """The readings of each record."""
    return [decode_readings(record.value) for record in asyncio.run(on_the_log(folder))]


def payload(minute: int) -> bytes:
    """A reading, not as any program would write it."""
    return b' {"time" :%d,\t"value": "%d.50", "note":"\xe2\x82\xac"}\n' % (
        BEGIN_MS + minute * MINUTE_MS,
        minute,
    )


def test_the_log_holds_the_evidence_of_what_was_published(serve: Serve, site: Path, tmp_path: Path) -> None:
    """Over real MQTT, as a known user: topic, user, the site's version, SHA-256 of exactly the bytes sent."""
    users = tmp_path / "users.yaml"
    assert meterflow("passwd", users, "hall-3", text="secret\nsecret\n").returncode == 0
    service = serve(site, "--users", str(users))
    service.start()
    sent = [payload(0), b"[" + payload(1) + b"," + payload(2) + b"]", payload(3)]
    for one in sent:
        publish(service.mqtt_port, TOPIC, one, "-u", "hall-3", "-P", "secret")
    service.caught_up(4)
    service.stop()
    version = compile_roster(load_site(site)).version
    found = sources(readings_in(service.folder))
    assert found == [
        (TOPIC, "hall-3", sha256(one).digest(), version) for one in (sent[0], sent[1], sent[1], sent[2])
    ]


def test_nobody_is_named_where_nobody_logs_in(serve: Serve, site: Path) -> None:
    """Without a file of users."""
    service = serve(site)
    service.start()
    publish(service.mqtt_port, TOPIC, payload(0))
    service.caught_up(1)
    service.stop()
    ((topic, user, digest, _),) = sources(readings_in(service.folder))
    assert (topic, user, digest) == (TOPIC, None, sha256(payload(0)).digest())


def test_a_log_from_before_goes_on(serve: Serve, site: Path) -> None:
    """Records without evidence lie between those with it: the figures are of all of them."""
    service = serve(site)
    service.start()
    for minute in (0, 1):
        publish(service.mqtt_port, TOPIC, payload(minute))
    service.caught_up(2)
    service.stop()

    asyncio.run(as_once_it_was(service.folder))
    service.start()
    publish(service.mqtt_port, TOPIC, payload(4))
    service.caught_up(5)
    service.stop()
    assert [one.evidence is None for one in readings_in(service.folder)] == [False, False, True, True, False]
    (hop,) = service.export("hop")
    assert (hop["received"], hop["accepted"]) == ("5", "5")
    amounts = {
        row["amount"] for row in service.export("interval") if row["point"] == "count" and row["amount"]
    }
    assert amounts == {"1"}


async def as_once_it_was(folder: Path) -> None:
    """Two more readings on the log, as they were written once."""
    log = await open_log(folder)
    last = [record for record in await log.read(READINGS, 0) if record.value][-1]
    readings = replace(decode_readings(last.value), evidence=None)
    for more in (1, 2):
        moved = replace(
            readings, time=readings.time + more * MINUTE_MS, mantissa=readings.mantissa + more * 100
        )
        await log.append({READINGS: [Entry("works", encode_readings(moved), last.stamp_ms)]})
    await log.close()
