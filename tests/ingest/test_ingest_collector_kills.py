"""A collector that is killed again and again loses nothing and has nothing counted twice (T2).

The long version: METERFLOW_LONG=1 METERFLOW_SEED=... pytest -o faulthandler_timeout=0 (this file).
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from bus.frames import decode_readings
from bus.log import READINGS, Record
from ingest.collector import Collector
from metering.roster import Roster
from metering.site import compile_roster, load_site
from processors.batch import LogRecord
from processors.engine import Engine
from tests.ingest.collector_builders import CLIENTS, Relay, broker, publish_payloads
from tests.ingest.collector_child import opened
from tests.ingest.ingest_builders import NOW_MS, reading, roster, until
from tests.real.mosquitto import Mosquitto

LONG = os.environ.get("METERFLOW_LONG") == "1"
SEED = int(os.environ.get("METERFLOW_SEED", "20261122"))
MESSAGES, KILLS = (1_000_000, 50) if LONG else (12_000, 3)
RECEIVE_MAXIMUM = 500
DRAIN_S = 1200 if LONG else 60
QUIET_LOOKS = 600
"""Five milliseconds apart. A busy machine may well stop for half a second."""
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("client", "kind"), [*((each, "sqlite") for each in CLIENTS), ("native", "kafka")])
async def test_kills_lose_nothing_and_repeat_what_was_not_acknowledged_only(
    client: str,
    kind: str,
    tmp_path: Path,
    mosquitto_server: Callable[..., Mosquitto],
    request: pytest.FixtureRequest,
) -> None:
    """Every message is there; what is there twice had no PUBACK at a kill; processors count each once.

    The next collector waits for the end of the last one's connection: a broker that hands the session over
    before has not read every PUBACK on the way to it.
    """
    server, chance = mosquitto_server(), random.Random(SEED)
    place = str(tmp_path)
    if kind == "kafka":
        place = f"kafka {request.getfixturevalue('kafka')} t{uuid4().hex[:12]}"
    async with Relay(server.port) as relay:
        await _subscribed(relay.port, place, client)
        pace = asyncio.Semaphore(0)
        publishing = asyncio.ensure_future(_publish(server.port, pace))
        for _ in range(KILLS):
            pace.release()
            await asyncio.to_thread(_killed, relay.port, place, client, chance)
            await until(lambda: all(life.closed for life in relay.connections), DRAIN_S)
        pace.release()
        await publishing
        await _drained(relay.port, place, client)
    lives = relay.connections
    unacknowledged = sum(len(life.said) - 2 * life.acknowledged() for life in lives)
    records = await _records(place)
    numbers = Counter(int(m) for r in records for m in decode_readings(r.value).mantissa)
    copies = numbers.total() - MESSAGES
    print(f"{copies} copies, {unacknowledged} at most, windows up to {max(h.waiting_peak for h in lives)}")  # noqa: T201
    assert set(numbers) == set(range(MESSAGES)), f"seed {SEED}"
    assert copies <= unacknowledged
    assert len(lives) >= KILLS + 2
    assert all(life.acknowledged_in_order() for life in lives)
    engine = Engine(_site(tmp_path))
    for _step in engine.step([LogRecord(r.offset, r.stamp_ms, decode_readings(r.value)) for r in records]):
        pass
    counts = (int(engine.hop.accepted.sum()), int(engine.hop.duplicate.sum()))
    assert counts == (MESSAGES, copies)


def _site(folder: Path) -> Roster:
    """A plant with the meter that is published for."""
    point = "{id: main, measures: electricity, reads: register, unit: kWh}"
    plant = f"{{id: steel, name: S, time_zone: Asia/Shanghai, points: [{point}]}}"
    (folder / "site.yaml").write_text(f"meterflow: 1\npolicy: cn-2025\nplants: [{plant}]\n")
    return compile_roster(load_site(folder / "site.yaml"))


async def _publish(port: int, pace: asyncio.Semaphore) -> None:
    """A share before each kill, one behind the last; each reading has a number and an instant of its own."""
    share = -(-MESSAGES // (KILLS + 1))
    for first in range(0, MESSAGES, share):
        await pace.acquire()
        end = min(first + share, MESSAGES)
        for start in range(first, end, 1000):
            numbers = range(start, min(start + 1000, end))
            await publish_payloads(port, [reading(n, NOW_MS - MESSAGES + n) for n in numbers])
            await asyncio.sleep(0.02)


def _killed(port: int, place: str, client: str, chance: random.Random) -> None:
    """A collector that takes something, and is killed in the middle of it."""
    script = Path(__file__).with_name("collector_child.py")
    command = [sys.executable, str(script), f"mqtt://127.0.0.1:{port}", place, client]
    child = subprocess.Popen(
        [*command, str(RECEIVE_MAXIMUM)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with child:
        assert child.stderr is not None
        try:
            assert child.stderr.readline() == "listening\n"
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(chance.uniform(0, 0.2))
        finally:
            child.send_signal(signal.SIGKILL)


async def _subscribed(port: int, place: str, client: str) -> None:
    """The session exists before anything is published."""
    await _collected(port, place, client, lambda collector: collector.listening)


async def _drained(port: int, place: str, client: str) -> None:
    """A last collector takes what is left: until nothing has come for three seconds."""
    quiet = [0, 0]

    def done(collector: Collector) -> bool:
        taken = collector.counters.messages
        quiet[:] = [quiet[0] + 1, taken] if taken == quiet[1] and collector.listening else [0, taken]
        return quiet[0] > QUIET_LOOKS and not collector.status.waiting

    await _collected(port, place, client, done)


async def _collected(port: int, place: str, client: str, done: Callable[[Collector], bool]) -> None:
    log = await opened(place)
    settings = broker(port, client, receive_maximum=RECEIVE_MAXIMUM)
    collector = Collector(log, roster(), settings, clock_ms=lambda: NOW_MS)
    await collector.start()
    await until(lambda: done(collector), DRAIN_S)
    await collector.stop()
    await log.close()


async def _records(place: str) -> list[Record]:
    log = await opened(place)
    found: list[Record] = []
    while records := await log.read(READINGS, found[-1].offset + 1 if found else 0):
        found += records
    await log.close()
    return found
