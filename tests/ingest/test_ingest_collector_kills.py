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

import pytest

from bus.frames import decode_readings
from bus.log import READINGS, Record
from bus.log_sqlite import open_log
from ingest.collector import Collector
from metering.roster import Roster
from metering.site import compile_roster, load_site
from processors.batch import LogRecord
from processors.engine import Engine
from tests.ingest.collector_builders import CLIENTS, Relay, broker, publish_readings
from tests.ingest.ingest_builders import NOW_MS, roster, until
from tests.real.mosquitto import Mosquitto

LONG = os.environ.get("METERFLOW_LONG") == "1"
SEED = int(os.environ.get("METERFLOW_SEED", "20261122"))
MESSAGES, KILLS = (1_000_000, 50) if LONG else (15_000, 3)
RECEIVE_MAXIMUM = 500
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("client", CLIENTS)
async def test_kills_lose_nothing_and_repeat_what_was_not_acknowledged_only(
    client: str, tmp_path: Path, mosquitto_server: Callable[..., Mosquitto]
) -> None:
    """Every message is there; what is there twice had no PUBACK at a kill; processors count each once."""
    server, chance = mosquitto_server(), random.Random(SEED)
    async with Relay(server.port) as relay:
        await _subscribed(relay.port, tmp_path, client)
        publishing = asyncio.ensure_future(_publish(server.port))
        for _ in range(KILLS):
            await asyncio.to_thread(_killed, relay.port, tmp_path, client, chance)
        await publishing
        await _drained(relay.port, tmp_path, client)
        unacknowledged = sum(len(h.said) - 2 * h.acknowledged() for h in relay.connections)
    records = await _records(tmp_path)
    numbers = Counter(int(m) for r in records for m in decode_readings(r.value).mantissa)
    assert set(numbers) == set(range(MESSAGES)), f"seed {SEED}"
    assert numbers.total() - MESSAGES <= unacknowledged
    assert len(relay.connections) == KILLS + 2
    engine = Engine(_site(tmp_path))
    for _step in engine.step([LogRecord(r.offset, r.stamp_ms, decode_readings(r.value)) for r in records]):
        pass
    counts = (int(engine.hop.accepted.sum()), int(engine.hop.duplicate.sum()))
    assert counts == (MESSAGES, numbers.total() - MESSAGES)


def _site(folder: Path) -> Roster:
    """A plant with the meter that is published for."""
    point = "{id: main, measures: electricity, reads: register, unit: kWh}"
    plant = f"{{id: steel, name: S, time_zone: Asia/Shanghai, points: [{point}]}}"
    (folder / "site.yaml").write_text(f"meterflow: 1\npolicy: cn-2025\nplants: [{plant}]\n")
    return compile_roster(load_site(folder / "site.yaml"))


async def _publish(port: int) -> None:
    """At a pace that leaves something to kill; each reading has a number and an instant of its own."""
    for start in range(0, MESSAGES, 1000):
        await publish_readings(port, range(start, start + 1000))
        await asyncio.sleep(0.02 if LONG else 0.1)


def _killed(port: int, folder: Path, client: str, chance: random.Random) -> None:
    """A collector that takes something, and is killed in the middle of it."""
    script = Path(__file__).with_name("collector_child.py")
    command = [sys.executable, str(script), f"mqtt://127.0.0.1:{port}", str(folder), client]
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


async def _subscribed(port: int, folder: Path, client: str) -> None:
    """The session exists before anything is published."""
    await _collected(port, folder, client, lambda collector: collector.listening)


async def _drained(port: int, folder: Path, client: str) -> None:
    """A last collector takes what is left: until nothing has come for a while."""
    quiet = [0, 0]

    def done(collector: Collector) -> bool:
        taken = collector.counters.messages
        quiet[:] = [quiet[0] + 1, taken] if taken == quiet[1] and collector.listening else [0, taken]
        return quiet[0] > 100 and not collector.status.waiting

    await _collected(port, folder, client, done)


async def _collected(port: int, folder: Path, client: str, done: Callable[[Collector], bool]) -> None:
    log = await open_log(folder)
    settings = broker(port, client, receive_maximum=RECEIVE_MAXIMUM)
    collector = Collector(log, roster(), settings, clock_ms=lambda: NOW_MS)
    await collector.start()
    await until(lambda: done(collector), 600 if LONG else 30)
    await collector.stop()
    await log.close()


async def _records(folder: Path) -> list[Record]:
    log = await open_log(folder)
    found: list[Record] = []
    while records := await log.read(READINGS, found[-1].offset + 1 if found else 0):
        found += records
    await log.close()
    return found
