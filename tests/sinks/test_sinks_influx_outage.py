"""InfluxDB away for long while results go on, then moody: nothing lost, bounded memory, caught up (T11).

The long version: METERFLOW_LONG=1 METERFLOW_SEED=... pytest -o faulthandler_timeout=0 (this file).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from bus.frames import encode_table
from bus.kafka_settings import KafkaSettings
from bus.log import RESULTS, Entry
from bus.log_kafka import KafkaLog, open_kafka
from metering.query import Query
from sinks.influx_client import InfluxSettings
from sinks.store_influx import InfluxResults
from tests.real.influxd import InfluxServer
from tests.sinks.influx_front import LATE, Front
from tests.sinks.influx_histories import FIRST_MS, MINUTE_MS, Row, table_of
from tests.sinks.influx_moody import Says

LONG = os.environ.get("METERFLOW_LONG") == "1"
SEED = int(os.environ.get("METERFLOW_SEED", "1"))
RATE = 2000
"""Rows a second."""
BEFORE_S, AWAY_S, MOODY_S = (60, 600, 60) if LONG else (3, 4, 2)
FRAME_ROWS, RESTATED_ROWS, BACK_ROWS = RATE // 10, 10, 20 * RATE // 10
"""Of each record: rows said for the first time, and rows said anew that came so many rows before."""
SERIES = 50
GROWN_KIB_MAX, CAUGHT_UP_S = 64 << 10, 120
CHILD = Path(__file__).with_name("child_influx_serve.py")
NO_JSON = {"Content-Type": "text/html"}
MOODS = [
    Says(429, b"{}", {"Retry-After": "2"}),
    Says(503, b"{}", {"Retry-After": "1"}),
    Says(413),
    Says(0),
    LATE,
    Says(502, b"<html>", NO_JSON),
]


class Plant:
    """Says rows at a steady rate, on Kafka; knows what has to be stored."""

    def __init__(self, log: KafkaLog) -> None:
        self.rows = 0
        self.going = True
        self._log = log

    async def run(self) -> None:
        """Says what is due ten times a second; more at once when it was kept from it."""
        began_s = time.monotonic()
        while self.going:
            while self.rows < (time.monotonic() - began_s) * RATE:
                await self._say()
            await asyncio.sleep(0.05)

    async def _say(self) -> None:
        first = self.rows
        rows = [row(n, 0) for n in range(first, first + FRAME_ROWS)]
        again = range(first - BACK_ROWS, first - BACK_ROWS + RESTATED_ROWS) if first >= BACK_ROWS else ()
        frame = encode_table(*table_of("interval", rows + [row(n, 1, first) for n in again]))
        await self._log.append({RESULTS: [Entry("interval", frame, FIRST_MS + first)]})
        self.rows += FRAME_ROWS

    def revision(self, n: int) -> int:
        """The last of row n that was said."""
        said_again = n % FRAME_ROWS < RESTATED_ROWS and n // FRAME_ROWS * FRAME_ROWS + BACK_ROWS < self.rows
        return int(said_again)


def row(n: int, revision: int, position: int = 0) -> Row:
    """The n-th row as it was said first, or later."""
    end = FIRST_MS + n // SERIES * MINUTE_MS
    key = {"plant": "p", "point": f"q{n % SERIES}", "start": end - MINUTE_MS, "end": end}
    story = {"state": "revised" if revision else "final", "revision": revision, "position": position or n}
    return key | story | {"amount": amount(n, revision), "reported": end}


def amount(n: int, revision: int) -> Decimal:
    return Decimal(n % 9973) + Decimal(revision) / 4


class Sink:
    """The process, what it says, and what it occupies."""

    def __init__(self, process: subprocess.Popen[bytes], said: Path) -> None:
        self.process, self._said = process, said

    def now(self) -> dict[str, Any]:
        """What it said last."""
        assert self.process.poll() is None, self._said.read_text()[-2000:]
        lines = self._said.read_bytes().split(b"\n")
        return json.loads(lines[-2]) if len(lines) > 1 else {"position": 0, "failures": 0, "lag": 0}

    def peak_kib(self) -> int:
        """The most memory it has occupied so far."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


@contextmanager
def sinking(settings: InfluxSettings, kafka: KafkaSettings, folder: Path) -> Iterator[Sink]:
    """The sink at work; it is stopped well."""
    place = f"kafka {kafka.bootstrap} {kafka.prefix}"
    where = [place, settings.url, settings.org, settings.bucket, settings.token]
    with (folder / "said").open("wb") as said, (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(CHILD), *where],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=log,
            cwd=CHILD.parents[2],
            env={**os.environ, "PYTHONPATH": str(CHILD.parents[2])},
        )
        try:
            yield Sink(process, folder / "said")
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()


async def caught_up(sink: Sink, log: KafkaLog, within_s: float) -> float:
    """Waits until everything said up to now is stored; how long that took."""
    began_s, end = time.monotonic(), await log.end(RESULTS)
    while sink.now()["position"] < end:
        assert time.monotonic() - began_s < within_s, f"not stored within {within_s} s: {sink.now()}, {end}"
        await asyncio.sleep(0.1)
    return time.monotonic() - began_s


async def moody(front: Front, chance: random.Random) -> None:
    """One write in three is answered in InfluxDB's place; every mood comes."""
    until_s, moods = time.monotonic() + MOODY_S, list[Says]()
    while time.monotonic() < until_s or moods:
        if not front.answers:
            moods = moods or chance.sample(MOODS, len(MOODS))
            front.answers += [moods.pop(), None, None]
        await asyncio.sleep(0.02)


async def play(
    server: InfluxServer, front: Front, sink: Sink, log: KafkaLog
) -> tuple[Plant, dict[str, float]]:
    """The whole story; what was measured in it."""
    plant = Plant(log)
    saying = asyncio.create_task(plant.run())
    await asyncio.sleep(BEFORE_S)
    await caught_up(sink, log, CAUGHT_UP_S)
    measured: dict[str, float] = {"before_kib": sink.peak_kib()}
    server.kill()
    await asyncio.sleep(AWAY_S)
    told = sink.now()
    assert (told["stalled"], told["person"]) == (True, False)
    measured |= {"away_kib": sink.peak_kib(), "lag_records": told["lag"], "failures": told["failures"]}
    await asyncio.to_thread(server.start)
    measured["caught_up_s"] = await caught_up(sink, log, CAUGHT_UP_S)
    await moody(front, random.Random(SEED))
    measured["caught_up_again_s"] = await caught_up(sink, log, CAUGHT_UP_S)
    plant.going = False
    await saying
    await caught_up(sink, log, CAUGHT_UP_S)
    return plant, measured | {"after_kib": sink.peak_kib(), "refused": sink.now()["refused"]}


def test_an_outage_costs_no_memory_and_is_caught_up(
    kafka: str, influx_server: Callable[..., InfluxServer], tmp_path: Path
) -> None:
    """Ten minutes (or seconds) away, then 429, 503, 413, 502, resets: every row is there with its value."""
    server = influx_server()
    settings = KafkaSettings(kafka, f"t{uuid.uuid4().hex[:12]}", partitions=1)
    with Front(server.url) as front:
        influx = InfluxSettings(front.url, server.org, server.bucket, server.token)

        async def run() -> tuple[Plant, dict[str, float]]:
            log = await open_kafka(settings)
            try:
                with sinking(influx, settings, tmp_path) as sink:
                    return await play(server, front, sink, log)
            finally:
                await log.close()

        plant, measured = asyncio.run(run())
        pauses = front.pauses
    print(f"{plant.rows} rows, {measured}, pauses {pauses}")  # noqa: T201
    check(InfluxResults(InfluxSettings(server.url, server.org, server.bucket, server.token)), plant)
    assert measured["refused"] == 0
    assert measured["failures"] >= 2
    assert measured["after_kib"] - measured["before_kib"] <= GROWN_KIB_MAX
    assert {asked_s for asked_s, _ in pauses} == {1, 2}
    assert [p for p in pauses if not p[0] - 0.01 <= p[1] <= p[0] + 1] == []


def check(results: InfluxResults, plant: Plant) -> None:
    """Every row once with its newest value; every value before it in the history."""
    for series in range(SERIES):
        equal = {"point": (f"q{series}",)}
        numbers = range(series, plant.rows, SERIES)
        wanted = [(row(n, 0)["end"], amount(n, r), r) for n in numbers for r in range(plant.revision(n) + 1)]
        stored = [told(each) for each in results.rows(Query("interval", equal=equal, history=True))]
        assert sorted(stored) == wanted, f"seed {SEED}, series {series}, history"
        newest = [told(each) for each in results.rows(Query("interval", equal=equal))]
        wanted = [(row(n, 0)["end"], amount(n, plant.revision(n)), plant.revision(n)) for n in numbers]
        assert newest == wanted, f"seed {SEED}, series {series}"
    results.close()


def told(row: dict[str, Any]) -> tuple[int, Decimal, int]:
    """What a stored row says."""
    return row["end"], row["amount"], row["revision"]
