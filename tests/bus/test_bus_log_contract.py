"""What every log does: the same tests for each implementation of the port."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from bus.log import READINGS, REJECTED, RESULTS, Entry, Log, Record
from metering.errors import MeterflowError

if TYPE_CHECKING:
    from tests.bus.conftest import Opening

STAMP_MS = 1_763_798_400_000


def entries(*values: bytes, key: str = "plant-1") -> list[Entry]:
    """Records to append, a millisecond apart."""
    return [Entry(key, value, STAMP_MS + i) for i, value in enumerate(values)]


async def values(log: Log, topic: str = READINGS, offset: int = 0) -> list[bytes]:
    """All values of a topic from an offset on."""
    return [record.value for record in await log.read(topic, offset)]


async def committed(log: Log, count: int, partition: int = 0) -> list[bytes]:
    """The results, when so many are there: Kafka shows them some milliseconds after the commit."""
    found: list[Record] = []
    while len(found) < count:
        offset = found[-1].offset + 1 if found else 0
        assert await log.wait(RESULTS, offset, 5, partition)
        found += await log.read(RESULTS, offset, partition=partition)
    return [record.value for record in found]


async def test_records_come_back_in_order_with_dense_offsets(opening: Opening) -> None:
    """Offsets start at 0 and ascend by one, over any number of appends."""
    async with opening() as log:
        await log.append({READINGS: entries(b"a", b"b")})
        await log.append({READINGS: entries(b"c")})
        assert await log.read(READINGS, 0) == [
            Record(0, "plant-1", b"a", STAMP_MS),
            Record(1, "plant-1", b"b", STAMP_MS + 1),
            Record(2, "plant-1", b"c", STAMP_MS),
        ]


async def test_a_topic_nobody_wrote_to_is_empty(opening: Opening) -> None:
    """Reading it gives nothing, and its end is 0."""
    async with opening() as log:
        assert await log.read(READINGS, 0) == []
        assert await log.read(READINGS, 7) == []
        assert await log.end(READINGS) == 0


async def test_the_end_is_the_next_offset(opening: Opening) -> None:
    """It counts every record appended, and reading there gives nothing yet."""
    async with opening() as log:
        await log.append({READINGS: entries(b"a", b"b")})
        assert await log.end(READINGS) == 2
        assert await log.read(READINGS, 2) == []


async def test_an_append_may_write_to_several_topics(opening: Opening) -> None:
    """Each topic counts its own offsets."""
    async with opening() as log:
        await log.append({READINGS: entries(b"a"), REJECTED: entries(b"x", b"y", key="")})
        assert await values(log, READINGS) == [b"a"]
        assert await values(log, REJECTED) == [b"x", b"y"]


async def test_an_append_of_nothing_is_nothing(opening: Opening) -> None:
    """No topics, or a topic without entries, leave the log as it was."""
    async with opening() as log:
        await log.append({})
        await log.append({READINGS: []})
        assert await log.end(READINGS) == 0


async def test_partitions_are_apart(opening: Opening) -> None:
    """A topic's partitions have their own records, offsets and saved states."""
    async with opening() as log:
        await log.append({READINGS: entries(b"a", b"b")}, partition=0)
        await log.append({READINGS: entries(b"c")}, partition=3)
        await log.save("books", 1, {"x": b"1"}, partition=3)
        assert [r.value for r in await log.read(READINGS, 0, partition=3)] == [b"c"]
        assert await log.end(READINGS, 3) == 1
        assert (await log.load("books", 0)).offset == 0
        assert (await log.load("books", 3)).offset == 1


async def test_a_read_gives_at_most_so_many_records(opening: Opening) -> None:
    """records_max is a limit, from the offset on."""
    async with opening() as log:
        await log.append({READINGS: entries(*(b"%d" % i for i in range(10)))})
        assert [r.offset for r in await log.read(READINGS, 4, records_max=3)] == [4, 5, 6]


async def test_a_read_gives_at_most_so_many_bytes(opening: Opening) -> None:
    """bytes_max is a limit on the values together."""
    async with opening() as log:
        await log.append({READINGS: entries(*[bytes(100)] * 10)})
        assert len(await log.read(READINGS, 0, bytes_max=300)) == 3
        assert len(await log.read(READINGS, 0, bytes_max=299)) == 2


async def test_a_record_larger_than_the_limit_is_read_alone(opening: Opening) -> None:
    """A reader never gets stuck: one record is always given."""
    async with opening() as log:
        await log.append({READINGS: entries(bytes(1000), b"next")})
        assert [r.offset for r in await log.read(READINGS, 0, bytes_max=10)] == [0]


async def test_keys_are_any_text_and_values_any_bytes(opening: Opening) -> None:
    """Unicode, empty and odd keys, empty and large values come back unchanged."""
    keys = ["", "钢厂-1", "Ü/#+ '\"\0end", "🏭" * 50]
    contents = [b"", b"\0" * 3, bytes(range(256)), bytes(3_000_000)]
    written = [Entry(k, v, STAMP_MS) for k, v in zip(keys, contents, strict=True)]
    async with opening() as log:
        await log.append({READINGS: written})
        assert [Entry(r.key, r.value, r.stamp_ms) for r in await log.read(READINGS, 0)] == written


async def test_waiting_ends_at_once_when_the_record_is_there(opening: Opening) -> None:
    """Also with no time to wait at all."""
    async with opening() as log:
        await log.append({READINGS: entries(b"a", b"b")})
        assert await log.wait(READINGS, 0, 0)
        assert await log.wait(READINGS, 1, 10)


async def test_waiting_ends_when_the_record_comes(opening: Opening) -> None:
    """Well before its timeout, and for every one who waits."""
    async with opening() as log:
        waiting = [asyncio.create_task(log.wait(READINGS, offset, 30)) for offset in (0, 0, 1)]
        await asyncio.sleep(0.01)
        started = time.monotonic()
        await log.append({READINGS: entries(b"a", b"b")})
        assert await asyncio.gather(*waiting) == [True, True, True]
        assert time.monotonic() - started < 5


async def test_waiting_gives_up(opening: Opening) -> None:
    """False after the timeout; records before the offset or in other topics do not count."""
    async with opening() as log:
        waiting = asyncio.create_task(log.wait(READINGS, 1, 0.1))
        await asyncio.sleep(0)
        await log.append({READINGS: entries(b"a"), REJECTED: entries(b"x", b"y")})
        assert not await waiting


async def test_waiting_behind_what_was_trimmed_waits_for_a_new_record(opening: Opening) -> None:
    """A consumer at a trimmed offset does not spin on an empty topic."""
    async with opening() as log:
        await log.append({READINGS: entries(b"a", b"b")})
        await log.trim(READINGS, 2)
        assert not await log.wait(READINGS, 0, 0.02)
        await log.append({READINGS: entries(b"c")})
        assert await log.wait(READINGS, 0, 0.02)


async def test_trimmed_records_are_gone_and_offsets_stay(opening: Opening) -> None:
    """Reading before the first kept record starts at it."""
    async with opening() as log:
        await log.append({READINGS: entries(b"a", b"b", b"c"), REJECTED: entries(b"x")})
        await log.trim(READINGS, 2)
        assert [(r.offset, r.value) for r in await log.read(READINGS, 0)] == [(2, b"c")]
        assert (await log.first(READINGS), await log.first(REJECTED)) == (2, 0)
        assert [r.offset for r in await log.read(READINGS, 1, records_max=1)] == [2]
        assert await values(log, REJECTED) == [b"x"]


async def test_offsets_survive_trimming_everything(opening: Opening) -> None:
    """The next record gets the offset it would have got; trimming beyond the end stops there."""
    async with opening() as log:
        await log.append({READINGS: entries(b"a", b"b")})
        await log.trim(READINGS, 100)
        assert await log.end(READINGS) == 2
        await log.append({READINGS: entries(b"c")})
        assert [r.offset for r in await log.read(READINGS, 0)] == [2]


async def test_trimming_again_or_less_changes_nothing(opening: Opening) -> None:
    """It goes forward only; an unknown topic has nothing to trim."""
    async with opening() as log:
        await log.append({READINGS: entries(b"a", b"b", b"c")})
        await log.trim(READINGS, 2)
        await log.trim(READINGS, 1)
        await log.trim("unknown", 5)
        assert await values(log) == [b"c"]
        assert (await log.first("unknown"), await log.end("unknown")) == (0, 0)


async def test_a_consumer_without_saved_state_starts_at_the_first_record(opening: Opening) -> None:
    """Offset 0, no chunks."""
    async with opening() as log:
        state = await log.load("books")
        assert (state.offset, dict(state.chunks)) == (0, {})


async def test_a_saved_state_comes_back(opening: Opening) -> None:
    """Changed chunks replace the old ones, dropped ones go, others stay, the offset moves."""
    async with opening() as log:
        await log.save("books", 10, {"a": b"1", "b": b"2", "点": b""})
        await log.save("books", 20, {"a": b"3", "c": bytes(200_000)}, dropped=["b", "unknown"])
        state = await log.load("books")
        assert state.offset == 20
        assert dict(state.chunks) == {"a": b"3", "点": b"", "c": bytes(200_000)}


async def test_a_chunk_dropped_and_saved_at_once_is_saved(opening: Opening) -> None:
    """What is given counts."""
    async with opening() as log:
        await log.save("books", 1, {"a": b"1"})
        await log.save("books", 2, {"a": b"2"}, dropped=["a"])
        assert dict((await log.load("books")).chunks) == {"a": b"2"}


async def test_a_loaded_state_is_a_copy(opening: Opening) -> None:
    """Later saves do not change what was asked for before."""
    async with opening() as log:
        await log.save("books", 1, {"a": b"1"})
        before = await log.load("books")
        chunks = dict(before.chunks)
        await log.save("books", 2, {"a": b"2"})
        assert (before.offset, chunks) == (1, {"a": b"1"})


async def test_a_forgotten_consumer_starts_again(opening: Opening) -> None:
    """Its state is gone, that of others stays; forgetting it twice is no error."""
    async with opening() as log:
        await log.save("books", 10, {"a": b"1"})
        await log.save("sink", 5, {"a": b"9"})
        await log.forget("books")
        await log.forget("books")
        state, other = await log.load("books"), await log.load("sink")
        assert (state.offset, dict(state.chunks)) == (0, {})
        assert (other.offset, dict(other.chunks)) == (5, {"a": b"9"})


async def test_a_log_says_how_many_partitions_its_topics_have(opening: Opening) -> None:
    """At least one."""
    async with opening() as log:
        assert log.partitions >= 1


async def test_a_commit_appends_and_moves_done_and_nothing_else(opening: Opening) -> None:
    """The saved offset and chunks stay: they say what is in the state, ``done`` what came out of it."""
    async with opening() as log:
        await log.save("books", 10, {"a": b"1"})
        await log.commit("books", 14, {RESULTS: entries(b"x", b"y", key="energy")})
        state = await log.load("books")
        assert (state.offset, state.done, dict(state.chunks)) == (10, 14, {"a": b"1"})
        assert await committed(log, 2) == [b"x", b"y"]


async def test_a_consumer_that_saved_nothing_may_commit(opening: Opening) -> None:
    """Before its first save, and with nothing to append."""
    async with opening() as log:
        assert (await log.load("sink")).done == 0
        await log.commit("sink", 3, {})
        state = await log.load("sink")
        assert (state.offset, state.done, dict(state.chunks)) == (0, 3, {})


async def test_done_goes_forward_only(opening: Opening) -> None:
    """A commit that does not move it is a repetition and appends nothing; a save of old state leaves it."""
    async with opening() as log:
        await log.commit("books", 9, {RESULTS: entries(b"x")})
        await log.commit("books", 9, {RESULTS: entries(b"x")})
        await log.commit("books", 4, {RESULTS: entries(b"y")})
        await log.save("books", 5, {})
        state = await log.load("books")
        assert (state.offset, state.done) == (5, 9)
        assert await committed(log, 1) == [b"x"]


async def test_a_part_is_appended_and_done_stays(opening: Opening) -> None:
    """What ends with a later commit: a part is no repetition, even where it is the same as the one before."""
    async with opening() as log:
        await log.commit("books", 3, {RESULTS: entries(b"x")})
        await log.commit_part("books", {RESULTS: entries(b"y")})
        await log.commit_part("books", {RESULTS: entries(b"y")})
        assert (await log.load("books")).done == 3
        await log.commit("books", 4, {RESULTS: entries(b"z")})
        assert (await log.load("books")).done == 4
        assert await committed(log, 4) == [b"x", b"y", b"y", b"z"]


async def test_commits_go_on_beside_a_save(opening: Opening) -> None:
    """The state is that of the save, ``done`` that of the last commit, and a repetition appends nothing."""
    async with opening() as log:
        await log.commit("books", 4, {})
        saving = asyncio.create_task(log.save("books", 4, {"a": bytes(3_000_000)}))
        await asyncio.sleep(0)
        await log.commit("books", 5, {RESULTS: entries(b"x")})
        await log.commit("books", 9, {RESULTS: entries(b"y")})
        await saving
        await log.commit("books", 9, {RESULTS: entries(b"y")})
        await log.commit("books", 7, {RESULTS: entries(b"z")})
        state = await log.load("books")
        assert (state.offset, state.done, dict(state.chunks)) == (4, 9, {"a": bytes(3_000_000)})
        assert await committed(log, 2) == [b"x", b"y"]


async def test_done_is_never_before_the_saved_offset(opening: Opening) -> None:
    """A save says that everything before its offset is done."""
    async with opening() as log:
        await log.commit("books", 4, {})
        await log.save("books", 7, {})
        assert (await log.load("books")).done == 7


async def test_a_forgotten_consumer_has_done_nothing(opening: Opening) -> None:
    """It will do everything again, so ``done`` goes, too."""
    async with opening() as log:
        await log.commit("books", 4, {})
        await log.forget("books")
        assert (await log.load("books")).done == 0
        await log.commit("books", 2, {})
        assert (await log.load("books")).done == 2


async def test_consumers_and_partitions_commit_apart(opening: Opening) -> None:
    """Each has a ``done`` of its own."""
    async with opening() as log:
        await log.commit("books", 4, {}, partition=0)
        await log.commit("books", 5, {RESULTS: entries(b"p3")}, partition=3)
        await log.commit("sink", 6, {}, partition=0)
        assert (await log.load("books", 0)).done == 4
        assert (await log.load("books", 3)).done == 5
        assert (await log.load("sink", 0)).done == 6
        assert await committed(log, 1, partition=3) == [b"p3"]


async def test_concurrent_appends_are_each_whole_and_in_their_order(opening: Opening) -> None:
    """An append's records stay together, and one caller's appends keep their order, in every topic."""

    async def caller(log: Log, number: int) -> None:
        for i in range(20):
            both = entries(b"%d %d 0" % (number, i), b"%d %d 1" % (number, i))
            await log.append({READINGS: both, REJECTED: both[:1]})

    async with opening() as log:
        await asyncio.gather(*(caller(log, number) for number in range(16)))
        found = [tuple(map(int, value.split())) for value in await values(log)]
        others = [tuple(map(int, value.split())) for value in await values(log, REJECTED)]
    assert len(found) == 640
    assert [pair[:2] for pair in found[::2]] == [pair[:2] for pair in found[1::2]] == [o[:2] for o in others]
    for number in range(16):
        assert [i for n, i, part in found if n == number and part == 0] == list(range(20))


async def test_appends_saves_and_reads_run_side_by_side(opening: Opening) -> None:
    """A reader that follows the end sees every record once while others append, save and trim."""

    async def write(log: Log) -> None:
        for i in range(200):
            await log.append({READINGS: entries(b"%d" % i)})

    async def follow(log: Log) -> list[int]:
        seen: list[int] = []
        while len(seen) < 200:
            await log.wait(READINGS, len(seen), 5)
            seen += [int(r.value) for r in await log.read(READINGS, len(seen), records_max=7)]
            await log.save("follower", len(seen), {"seen": b"%d" % len(seen)})
            await log.trim(READINGS, len(seen) - 10)
        return seen

    async with opening() as log:
        _, seen = await asyncio.gather(write(log), follow(log))
        assert seen == list(range(200))
        assert (await log.load("follower")).offset == 200


async def test_a_closed_log_says_so(opening: Opening) -> None:
    """Whoever waits is let go, later calls raise, closing again is no error."""
    async with opening() as log:
        waiting = asyncio.create_task(log.wait(READINGS, 0, 30))
        await asyncio.sleep(0)
        await log.close()
        assert not await waiting
        with pytest.raises(MeterflowError, match="closed"):
            await log.append({READINGS: entries(b"a")})
        with pytest.raises(MeterflowError, match="closed"):
            await log.read(READINGS, 0)
        await log.close()
