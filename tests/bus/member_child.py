"""A copy of a role in a process to be killed: ADDRESS PREFIX NAME.

Commits numbers on the partitions that are its own, each with who it is and for the how manieth time it has
taken that partition. Says ``here`` when SIGTERM ends it well.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from contextlib import suppress

from bus.kafka_settings import KafkaSettings
from bus.kafka_shares import Shares
from bus.log import READINGS, RESULTS
from bus.log_kafka import KafkaLog, open_kafka
from metering.errors import NotOwner, Unavailable
from tests.bus.kafka_tools import entry

SESSION_MS = 6000
PAUSE_S = 0.02


class Member:
    """Joins, works, leaves."""

    def __init__(self, log: KafkaLog, name: str) -> None:
        self.log, self.name = log, name
        self.working: dict[int, asyncio.Task[None]] = {}
        self.takes: Counter[int] = Counter()
        self.shares = Shares(
            log.settings,
            "process",
            READINGS,
            taken=self.taken,
            given_up=self.given_up,
            session_ms=SESSION_MS,
        )

    async def live(self, leave: asyncio.Event) -> None:
        """Until it is to leave, or something goes wrong."""
        async with self.shares:
            leaving = asyncio.create_task(leave.wait())
            wrong = asyncio.create_task(self.shares.wait())
            await asyncio.wait([leaving, wrong], return_when=asyncio.FIRST_COMPLETED)
            if wrong.done():
                wrong.result()
            wrong.cancel()

    async def taken(self, partition: int) -> None:
        self.takes[partition] += 1
        self.working[partition] = asyncio.create_task(self.work(partition))

    async def given_up(self, partition: int) -> None:
        task = self.working.pop(partition)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def work(self, partition: int) -> None:
        """From where the partition stands, until it is another's."""
        said = f"{self.name}.{self.takes[partition]}"
        with suppress(NotOwner):
            number = await self.begun(partition)
            while True:
                await self.commit(partition, number, said)
                number += 1
                await asyncio.sleep(PAUSE_S)
        self.shares.again(partition)

    async def begun(self, partition: int) -> int:
        while True:
            with suppress(Unavailable):
                return (await self.log.load("process", partition)).done
            await asyncio.sleep(PAUSE_S)

    async def commit(self, partition: int, number: int, said: str) -> None:
        while True:
            with suppress(Unavailable):
                topics = {RESULTS: [entry(f"{number} {said}")]}
                await self.log.commit("process", number + 1, topics, partition)
                return
            await asyncio.sleep(PAUSE_S)


async def main(address: str, prefix: str, name: str) -> None:
    leave = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leave.set)
    sys.stdout.write("here\n")
    sys.stdout.flush()
    log = await open_kafka(KafkaSettings(address, prefix=prefix))
    await Member(log, name).live(leave)
    await log.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
