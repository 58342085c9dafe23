"""What a member of a group does with its partitions when the end comes at an odd time."""

from __future__ import annotations

import asyncio

from bus.kafka_settings import KafkaSettings
from bus.kafka_shares import Shares
from bus.log import READINGS


async def test_the_end_waits_for_a_partition_that_is_being_given_up() -> None:
    """A stop in the midst of a handover cuts nothing short: what is in hand is finished first."""
    finished: list[int] = []
    begun = asyncio.Event()

    async def taken(partition: int) -> None:
        """Nothing to do."""

    async def given_up(partition: int) -> None:
        begun.set()
        await asyncio.sleep(0.1)
        finished.append(partition)

    shares = Shares(KafkaSettings("127.0.0.1:1"), "process", READINGS, taken=taken, given_up=given_up)
    shares._tasks = [asyncio.create_task(asyncio.sleep(60)), asyncio.create_task(shares._follow())]
    shares.owned = frozenset({3})
    shares._assign(frozenset())
    await begun.wait()
    await shares.__aexit__(None, None, None)
    assert finished == [3]
