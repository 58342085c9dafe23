"""Copies of a role come, go, die and freeze: every result once, and nobody works beside an owner (T10).

The long version: METERFLOW_LONG=1 METERFLOW_SEED=... pytest -o faulthandler_timeout=0 (this file).
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count, groupby
from pathlib import Path

import pytest

from bus.kafka_settings import KafkaSettings
from bus.log import RESULTS
from bus.log_kafka import KafkaLog
from tests.bus.kafka_tools import all_values, opened, settings_at
from tests.bus.member_child import SESSION_MS
from tests.real.server import wait_until

LONG = os.environ.get("METERFLOW_LONG") == "1"
SEED = int(os.environ.get("METERFLOW_SEED", "1"))
CHANGES = 30 if LONG else 3
MEMBERS = 3
MORE = 5
"""Results on every partition between two changes."""
PATIENCE_S = 40.0 if not LONG else 120.0
LEFT_S = 30.0
ROOT = Path(__file__).resolve().parents[2]


class Park:
    """Copies as processes of their own, and what happens to them."""

    def __init__(self, settings: KafkaSettings, folder: Path) -> None:
        self.settings = settings
        self.happened: Counter[str] = Counter()
        self._folder, self._names = folder, count()
        self._living: dict[str, subprocess.Popen[bytes]] = {}

    def change(self, chance: random.Random) -> None:
        """Somebody comes, or one of several leaves, dies or freezes for longer than its session."""
        leaving = {"leave": self.leave, "die": self.die, "freeze": self.freeze}
        kinds = ["join"] * (len(self._living) < MEMBERS) + [*leaving] * (len(self._living) > 1)
        kind = chance.choice(kinds)
        if kind == "join":
            self.join()
        else:
            leaving[kind](chance.choice(sorted(self._living)))
        self.happened[kind] += 1

    def join(self) -> None:
        name = f"m{next(self._names)}"
        words = [sys.executable, "-m", "tests.bus.member_child"]
        words += [self.settings.bootstrap, self.settings.prefix, name]
        with (self._folder / f"{name}.log").open("wb") as log:
            self._living[name] = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT
            )
        wait_until(lambda: "here" in self.said(name), name)

    def leave(self, name: str) -> None:
        """Well, and within its time."""
        process = self._living.pop(name)
        process.terminate()
        assert process.wait(LEFT_S) == 0, self.said(name)

    def die(self, name: str) -> None:
        process = self._living.pop(name)
        process.kill()
        process.wait()

    def freeze(self, name: str) -> None:
        """Until it is taken for dead; then it goes on in the belief that all is as it was."""
        self._living[name].send_signal(signal.SIGSTOP)
        time.sleep(SESSION_MS / 1000 + 2)
        self._living[name].send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Everybody leaves; nobody may have ended before."""
        for name in sorted(self._living):
            assert self._living[name].poll() is None, self.said(name)
            self.leave(name)

    def kill(self) -> None:
        for name in sorted(self._living):
            self.die(name)

    def said(self, name: str) -> str:
        """What a copy has said."""
        return (self._folder / f"{name}.log").read_text()


@pytest.fixture
def park(kafka: str, tmp_path: Path) -> Iterator[Park]:
    """Nobody yet, on topics of its own."""
    park = Park(settings_at(kafka), tmp_path)
    yield park
    park.kill()


async def progress(log: KafkaLog) -> None:
    """Waits until there are some more results on every partition: each has an owner who works."""
    before = [await log.end(RESULTS, partition) for partition in range(log.partitions)]
    for partition, end in enumerate(before):
        assert await log.wait(RESULTS, end + 2 * MORE, PATIENCE_S, partition), f"partition {partition} rests"


async def test_members_come_and_go_and_every_result_is_there_once(park: Park) -> None:
    """Up to three copies on four partitions: numbers without gap or repetition, one owner at a time."""
    chance = random.Random(SEED)
    async with opened(park.settings) as (log,):
        for change in range(MEMBERS + CHANGES):
            await asyncio.to_thread(park.change if change >= MEMBERS else lambda _: park.join(), chance)
            await progress(log)
        await asyncio.to_thread(park.end)
        for partition in range(log.partitions):
            said = [value.split() for value in await all_values(log, partition=partition)]
            done = (await log.load("process", partition)).done
            assert [int(number) for number, _ in said] == list(range(done)), f"seed {SEED}"
            owners = [owner for owner, _ in groupby(who for _, who in said)]
            assert len(owners) == len(set(owners)), f"two at a time, seed {SEED}: {owners}"
            print(f"partition {partition}: {done} results, {len(owners)} owners")  # noqa: T201
    print(f"changes: {dict(park.happened)}")  # noqa: T201
