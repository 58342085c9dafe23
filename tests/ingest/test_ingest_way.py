"""Messages of the service's own go the way of everybody's."""

from __future__ import annotations

import asyncio

import pytest

from ingest import way
from metering.errors import Unavailable
from tests.ingest.ingest_builders import decision, serving, until

TOPIC = "meterflow/v1/steel/main/decision"


async def test_a_message_of_our_own_is_taken_when_it_is_durable() -> None:
    """By the same rules and into the same books."""
    async with serving() as (endpoint, log):
        log.free.clear()
        taking = asyncio.create_task(endpoint.take(TOPIC, decision()))
        await until(lambda: endpoint.intake.busy)
        assert not taking.done()
        log.free.set()
        assert await taking == ""
        assert [one.by for _, one in await log.decisions()] == ["li.wei"]
        assert (endpoint.counters.messages, endpoint.counters.accepted) == (1, 1)


async def test_what_is_refused_is_told_and_not_sent() -> None:
    """Whoever asked is there to hear it: no row of rejected."""
    async with serving() as (endpoint, log):
        assert "nonsense is none of plain, rollover" in await endpoint.take(TOPIC, decision("nonsense"))
        assert "no point" in await endpoint.take("meterflow/v1/steel/none/decision", decision())
        assert (await log.rejected(), endpoint.counters.received) == ([], 0)


async def test_a_log_that_takes_nothing_is_told_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the reason; it may still get there, so nobody should send it twice unseen."""
    monkeypatch.setattr(way, "_TAKE_S", 0.2)
    async with serving() as (endpoint, log):
        log.broken = True
        with pytest.raises(Unavailable, match="the disk is full"):
            await endpoint.take(TOPIC, decision())
        log.broken = False
        await until(lambda: endpoint.counters.accepted == 1)
