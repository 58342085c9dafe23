"""A consumer's saved state on Kafka: whole, its owner's, and saved beside commits."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus import kafka_state
from bus.kafka_producer import Producer
from bus.kafka_settings import STATE
from bus.log import RESULTS, Snapshot
from bus.log_kafka import open_kafka
from metering.errors import MeterflowError, NotOwner, Unavailable
from tests.bus.kafka_tools import entry, opened, settings_at

if TYPE_CHECKING:
    from bus.log_kafka import KafkaLog


async def test_a_half_written_save_is_not_taken_up(kafka: str) -> None:
    """Its parts are on the log, its transaction never ended: the state is the one before."""
    names = settings_at(kafka)
    async with opened(names, logs=2) as (first, second):
        await first.save("process", 3, {"a": b"before", "b": b"b"})
        owner = first._owner("process", 0)
        assert owner._head is not None
        records, _ = kafka_state.saving("process", owner._head, 9, {"a": bytes(2_000_000)}, ["b"])
        places = [(names.topic(STATE), 0)]
        await first._connection.patiently("begin", lambda: owner._states.producer._add_partitions(places))
        await owner._states.producer.produce({places[0]: list(records)})
        state = await second.load("process")
        assert (state.offset, dict(state.chunks)) == (3, {"a": b"before", "b": b"b"})


async def test_a_state_behind_somebody_elses_open_transaction_is_taken_up(kafka: str) -> None:
    """Consumers share the topic: a save of one, killed in its midst, hides no later save of another."""
    names = settings_at(kafka)
    async with opened(names, logs=3) as (first, second, third):
        await first.save("process", 3, {"a": b"3", "b": b"3"})
        await first.load("groups")
        groups, places = first._owner("groups", 0)._states.producer, [(names.topic(STATE), 0)]
        await first._connection.patiently("begin", lambda: groups._add_partitions(places))
        await groups.produce({places[0]: [(b'["groups"]', b"half", 0)]})
        await first.save("process", 20, {"a": b"20"})
        loading = asyncio.create_task(second.load("process"))
        await asyncio.sleep(1.5)
        await third.load("groups")  # ends it
        state = await loading
        assert (state.offset, dict(state.chunks)) == (20, {"a": b"20", "b": b"3"})


async def test_a_zombie_saves_nothing(kafka: str) -> None:
    """Also when it has not heard yet that it lost the partition; the owner's state stays."""
    async with opened(settings_at(kafka), logs=2) as (zombie, owner):
        await zombie.load("process")
        await zombie.save("process", 3, {"a": b"3", "b": b"3"})
        await owner.load("process")
        with pytest.raises(NotOwner):
            await zombie.save("process", 6, {"a": b"zombie"})
        await owner.save("process", 5, {"b": b"5"})
        state = await zombie.load("process")
        assert (state.offset, dict(state.chunks)) == (5, {"a": b"3", "b": b"5"})


async def test_a_commit_does_not_wait_for_a_save(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the save takes: here until the commit is done."""
    compressed, going = kafka_state._compressed, threading.Event()

    def slow(piece: memoryview) -> bytes:
        assert going.wait(20)
        return compressed(piece)

    monkeypatch.setattr(kafka_state, "_compressed", slow)
    async with opened(settings_at(kafka)) as (log,):
        await log.load("process")
        saving = asyncio.create_task(log.save("process", 3, {"a": b"3"}))
        await asyncio.sleep(0.1)
        await log.commit("process", 8, {RESULTS: [entry(1)]})
        assert not saving.done()
        going.set()
        await saving
        state = await log.load("process")
        assert (state.offset, state.done, dict(state.chunks)) == (3, 8, {"a": b"3"})


async def test_a_failed_commit_does_not_have_the_state_read_again(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it would be read only to find what the last save was."""
    async with opened(settings_at(kafka)) as (log,):
        await log.load("process")
        await log.save("process", 3, {"a": b"3"})
        owner, transact = log._owner("process", 0), Producer.transact

        async def refused(*_: object) -> None:
            raise Unavailable("no answer")

        monkeypatch.setattr(Producer, "transact", refused)
        with pytest.raises(Unavailable):
            await log.commit("process", 4, {RESULTS: [entry(1)]})
        monkeypatch.setattr(Producer, "transact", transact)
        monkeypatch.setattr(owner, "_restored", refused)
        await log.commit("process", 4, {RESULTS: [entry(1)]})
        await log.save("process", 4, {"b": b"4"})
        state = await opened_again(log)
        assert (state.offset, dict(state.chunks)) == (4, {"a": b"3", "b": b"4"})


async def opened_again(log: KafkaLog) -> Snapshot:
    """The saved state, as another process takes it up."""
    other = await open_kafka(log.settings)
    try:
        return await other.load("process")
    finally:
        await other.close()


async def test_a_large_state_comes_back(kafka: str) -> None:
    """In parts that a compacted topic takes, also when it shrinks; other consumers' states are apart."""
    async with opened(settings_at(kafka), logs=2) as (log, other):
        chunks = {str(i): bytes([i]) * 1_300_000 for i in range(8)}
        await log.save("process", 10, chunks)
        await log.save("groups", 1, {"0": b"groups"})
        await log.save("process", 20, {"0": b"small"}, dropped=["7"])
        state = await other.load("process")
        assert state.offset == 20
        assert dict(state.chunks) == {**{k: v for k, v in chunks.items() if k != "7"}, "0": b"small"}
        assert dict((await other.load("groups")).chunks) == {"0": b"groups"}


def test_a_state_with_a_missing_part_is_none() -> None:
    """Better to begin again than to go on with half of it; the next save replaces all of it."""
    records, head = kafka_state.saving(
        "process", kafka_state.Head(), 5, {"a": bytes(1_000_000), "b": b""}, ()
    )
    stored = {key: value for key, value, _ in records if value is not None}
    assert kafka_state.restored("process", stored)[0] == head
    assert all(len(value) < 512 << 10 for value in stored.values())
    for key in stored:
        rest = {k: v for k, v in stored.items() if k != key}
        found, whole = kafka_state.restored("process", rest)
        assert (found.offset, whole) == (0, {})


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=9), st.binary(max_size=2_000) | st.just(bytes(1 << 20)), max_size=4))
def test_a_state_comes_back_as_it_was_saved(chunks: dict[str, bytes]) -> None:
    """Any chunks, empty and long ones; what is mostly zeros takes little room in the topic."""
    records, head = kafka_state.saving("process", kafka_state.Head(), 5, chunks, ())
    stored = {key: value for key, value, _ in records if value is not None}
    assert kafka_state.restored("process", stored) == (head, chunks)
    assert all(len(value) < 20_000 for value in stored.values())


def test_a_state_of_an_older_version_is_none() -> None:
    """Its generation goes on, so that the next save replaces all of it; a newer version's is refused."""
    chunks = {"a": (3, 1)}
    for step in (-1, 1):
        head = kafka_state.Head(7, 3, chunks, kafka_state.FORMAT + step)
        stored = {kafka_state.head_key("process"): msgspec.json.encode(head)}
        if step < 0:
            assert kafka_state.restored("process", stored) == (kafka_state.Head(0, 3, chunks), {})
        else:
            with pytest.raises(MeterflowError, match="newer meterflow"):
                kafka_state.restored("process", stored)
