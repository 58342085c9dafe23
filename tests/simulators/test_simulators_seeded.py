"""Seeded worlds: the laws hold in them, a seed gives the same world again, what is broken is found out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bus.frames import decode_table, encode_table
from bus.log import READINGS, REJECTED, RESULTS, Entry, Record, Snapshot
from metering.query import Query
from metering.tables import TABLES
from simulators.seeded import run, tried
from simulators.seeded_laws import broken, records
from simulators.seeded_log import SeededLog
from simulators.seeded_store import Key, Row
from simulators.seeded_world import Temper, World
from sinks.store_duckdb import DuckStore
from tests.simulators.seeded_histories import world_of_history

SEEDS, SEEDS_OF_HISTORIES = range(1, 121), range(1, 181)


def test_the_laws_hold_in_seeded_worlds() -> None:
    """With crashes between any two steps, several workers, storage that fails, faults and decisions."""
    said: list[str] = []
    assert run(SEEDS, 2, said.append) == [], "\n".join(said)


def test_the_laws_hold_in_worlds_of_random_histories() -> None:
    """Of conflicts, interval reads that share time, gauges, replaced meters, decisions of any kind."""
    said: list[str] = []
    assert run(SEEDS_OF_HISTORIES, 2, said.append, world_of_history) == [], "\n".join(said)


def test_the_same_seed_gives_the_same_world() -> None:
    """Step by step; another gives another."""
    one, again, other = World(3), World(3), World(4)
    for world in (one, again, other):
        world.run()
    assert one.trace == again.trace
    assert one.trace != other.trace
    assert records(one, RESULTS, 0) == records(again, RESULTS, 0)


# -- what is broken is found out ----------------------------------------------------------------------


class ForgetsItsPosition(SeededLog):
    """Nobody knows any more up to where results were said."""

    async def load(self, consumer: str, partition: int = 0) -> Snapshot:
        """Without it."""
        return replace(await super().load(consumer, partition), done=0)


class TakesARecordTwice(SeededLog):
    """The saved state is said to stand one record before where it does."""

    async def load(self, consumer: str, partition: int = 0) -> Snapshot:
        """One too early."""
        found = await super().load(consumer, partition)
        return replace(found, offset=max(found.offset - 1, 0))


class LosesARecord(SeededLog):
    """Of several records that are read the first one is passed over."""

    async def read(self, topic: str, offset: int, **how: Any) -> list[Record]:
        """Those behind it."""
        found = await super().read(topic, offset, **how)
        return found[1:] if len(found) > 2 else found


class CommitsNothing(SeededLog):
    """One commit of some moves the position, and what was to be said is not there."""

    async def commit(
        self, consumer: str, done: int, topics: Mapping[str, Sequence[Entry]], partition: int = 0
    ) -> None:
        """Now and then without its results."""
        await super().commit(consumer, done, topics if done % 3 else {}, partition)


class DropsRevisions(SeededLog):
    """What was restated is not said."""

    async def commit(
        self, consumer: str, done: int, topics: Mapping[str, Sequence[Entry]], partition: int = 0
    ) -> None:
        """Rows of intervals without those that are revised."""
        kept = [self._without(entry) for entry in topics.get(RESULTS, ())]
        await super().commit(consumer, done, {**topics, RESULTS: kept}, partition)

    def _without(self, entry: Entry) -> Entry:
        name, rows = decode_table(entry.value)
        if name != "interval":
            return entry
        there = [state != "revised" for state in rows["state"].to_pylist()]
        return replace(entry, value=encode_table(name, rows.filter(there)))


class AcknowledgesBefore(SeededLog):
    """Says that readings are durable, and some are not."""

    async def append(self, topics: Mapping[str, Sequence[Entry]], partition: int = 0) -> None:
        """Now and then not at all."""
        lost = READINGS in topics and self._chance.random() < 0.2
        await super().append({} if lost else topics, partition)


class LosesPartOfAState(SeededLog):
    """A save that is not all or nothing: of several chunks one stays as it was."""

    async def save(
        self,
        consumer: str,
        offset: int,
        chunks: Mapping[str, bytes],
        dropped: Sequence[str] = (),
        partition: int = 0,
    ) -> None:
        """Without the last one."""
        kept = dict(sorted(chunks.items(), reverse=True)[: max(len(chunks) - 1, 1)])
        await super().save(consumer, offset, kept, dropped, partition)


class LetsEverybodyCommit(SeededLog):
    """Nobody is shut out: a worker that was replaced goes on."""

    def _check(self, consumer: str, partition: int) -> None:
        """Whoever it is."""


WILD = Temper(
    partitions=2,
    fails=0.02,
    kills=0.03,
    freezes=0.02,
    takeovers=0.05,
    hands_over=0.0,
    drops=0.01,
    repeats=0.0,
    looks=0.01,
    tears=0.0,
    tick_s=200.0,
    frame_rows_max=5_000,
)


@pytest.mark.parametrize(
    ("log_type", "law"),
    [
        (ForgetsItsPosition, "durability: said"),
        (TakesARecordTwice, "conservation"),
        (LosesARecord, "conservation"),
        (CommitsNothing, "story"),
        (DropsRevisions, "story"),
        (AcknowledgesBefore, "durability: acknowledged"),
        (LosesPartOfAState, "story"),
        (LetsEverybodyCommit, "durability: said"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_world_that_is_broken_is_found_out(log_type: type[SeededLog], law: str) -> None:
    """By the law that it breaks, in one of a few wild worlds."""
    for seed in range(1, 15):
        world = World(seed, log_type, WILD)
        world.run()
        if any(words.startswith(law) for words in broken(world)):
            return
    pytest.fail(f"{log_type.__name__} was not found out by {law}")


def test_a_meter_that_lies_is_found_out() -> None:
    """Figures that are called measured, and are not true: more flowed than it counted."""
    world = World(5)
    past = world.script.plants[0].points[0].past.edges
    past += past // 10
    world.run()
    assert {words.partition(":")[0] for words in broken(world)} == {"no false figure"}


def test_an_error_is_told_with_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one of the world's own."""
    monkeypatch.setattr(World, "run", lambda _: 1 / 0)
    assert tried(1) == ["raised: ZeroDivisionError('division by zero')"]


# -- the store of the world is the embedded one --------------------------------------------------------------


@pytest.mark.parametrize("seed", [3, 11, 24])
def test_the_embedded_store_has_what_the_worlds_store_has(seed: int) -> None:
    """Newest rows, history, and what was to be seen at any look; however the rows were cut."""
    world = World(seed)
    world.run()
    shelf, store = world.shelves[0], DuckStore(Path(":memory:"))
    its = records(world, RESULTS, 0)
    for at in range(0, len(its), 40):
        frames = [decode_table(record.value) for record in its[max(at - 10, 0) : at + 40]]
        store.write(frames, its[min(at + 40, len(its)) - 1].offset + 1)
    for name in set(TABLES) - {REJECTED}:
        assert stored(store, Query(name)) == shown(shelf.newest(name))
    looks = [look for look in world.looks if look.partition == 0]
    for look in looks[:3]:
        for name in look.tables:
            assert stored(store, Query(name, as_of_ms=look.at_ms)) == shown(look.tables[name])
    store.close()


def stored(store: DuckStore, query: Query) -> dict[Key, Row]:
    keys = TABLES[query.table].key
    return {tuple(row[name] for name in keys): row for row in store.rows(query)}


def shown(rows: dict[Key, Row]) -> dict[Key, Row]:
    """Without what only the world's store says of a row; a time before all others is unknown."""
    return {key: {k: v for k, v in row.items() if k != "gone"} for key, row in rows.items()}
