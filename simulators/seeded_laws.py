"""The five laws, looked at when a seeded world has come to its end: words for what is broken.

What is held against what is there: the same log through fresh operators that nothing ever disturbed, the
accepted readings in another order, what somebody saw earlier, what was acknowledged, and the truth.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from functools import partial
from itertools import pairwise
from random import Random
from typing import Any

from bus.decision_frames import DECISIONS_FORMAT, decode_decisions, encode_decisions
from bus.frames import OtherFormat, decode_readings, decode_table, encode_readings
from bus.log import READINGS, REJECTED, RESULTS, Record
from ingest.decode import Decoder, Delivery
from metering.decisions import Decision
from metering.readings import Readings
from metering.roster import REGISTER
from processors.operators import Plants
from simulators.recording import Message
from simulators.seeded_script import PROFILE
from simulators.seeded_store import Key, Row, Shelf, of_a_group, of_the_set, plain
from simulators.seeded_world import LOOKED_AT, World, now
from simulators.world_truth import Truth

OF_THE_SET = ("interval", "rollup", "intensity", "ledger", "verdict", "alert")
SHOWN = 3


def broken(world: World) -> list[str]:
    """What a world at its end shows to be broken, law by law; nothing where all of them hold."""
    if world.errors:
        return [f"raised: {error}" for error in world.errors]
    laws: dict[str, Callable[[], Iterator[str]]] = {
        "durability": partial(_durable, world),
        "conservation": partial(_conserved, world),
        "story": partial(_as_if_undisturbed, world),
        "restatement": partial(_restated, world),
        "set": partial(_of_the_set, world),
        "no false figure": partial(_true, world),
    }
    found = []
    for law, every in laws.items():
        words = list(every())
        found += [f"{law}: {each}" for each in words[:SHOWN]]
        found += [f"{law}: and {len(words) - SHOWN} more"] * (len(words) > SHOWN)
    return found


def records(world: World, topic: str, partition: int) -> list[Record]:
    return now(world.disk.log.read(topic, 0, partition=partition, records_max=1 << 30, bytes_max=1 << 40))


def partitions(world: World) -> range:
    return range(world.disk.log.partitions)


# -- durability: what was acknowledged is there, and counts once -----------------------------------------


Named = tuple[Any, ...]


def _durable(world: World) -> Iterator[str]:
    there = _there(world)
    decoder = Decoder(world.script.roster, evidence=False)
    for gateway in world.gateways:
        if gateway.waiting or gateway.sent:
            left = len(gateway.waiting) + len(gateway.sent)
            yield f"{gateway.plant}: {left} messages were never acknowledged"
        missing = _wanted(decoder, gateway.acknowledged) - there
        yield from (f"acknowledged, and not on the log: {each}" for each in sorted(missing, key=str))
    yield from _counted_once(world)


def _wanted(decoder: Decoder, messages: Sequence[Message]) -> set[Named]:
    """What has to be on the log of these."""
    ends_ms = [message.received_ms for message in messages]
    delivery = Delivery(
        [message.topic for message in messages],
        [message.payload for message in messages],
        max(ends_ms, default=0),
    )
    decoded = decoder.decode([delivery])
    wanted = {name for readings in decoded.readings for name in _names(readings)}
    wanted |= {(plant, *_said(one)) for plant, every in decoded.decisions.items() for one in every}
    return wanted | {(row.row["topic"], row.row["payload"]) for row in decoded.rejected}


def _there(world: World) -> set[Named]:
    """Everything on the log, by what identifies it."""
    there: set[Named] = set()
    for partition in partitions(world):
        for record in records(world, READINGS, partition):
            readings, plant, decisions = decoded_record(record)
            there |= set() if readings is None else set(_names(readings))
            there |= {(plant, *_said(one)) for one in decisions}
        for record in records(world, REJECTED, partition):
            there |= {(row["topic"], row["payload"]) for row in plain(decode_table(record.value)[1])}
    return there


def decoded_record(record: Record) -> tuple[Readings | None, str, Sequence[Decision]]:
    """Readings, or decisions on a plant, or neither: a tick."""
    if not record.value:
        return None, "", ()
    try:
        return decode_readings(record.value), "", ()
    except OtherFormat as error:
        if error.found != DECISIONS_FORMAT:
            raise
        plant, decisions = decode_decisions(record.value)
        return None, plant, decisions


def _names(readings: Readings) -> list[Named]:
    columns = (readings.time, readings.start, readings.mantissa, readings.exponent, readings.revision)
    points = [readings.point.text(i) for i in range(len(readings))]
    rows = zip(points, *(column.tolist() for column in columns), strict=True)
    return [(readings.plant, *row) for row in rows]


def _said(one: Decision) -> Named:
    return one.point, one.from_ms, one.to_ms, one.verdict, one.by, one.revision


def _counted_once(world: World) -> Iterator[str]:
    """A reported row is said again only where parts of a commit, or a damaged state, made that right."""
    for partition in partitions(world) if not world.disk.again else ():
        counts: Counter[Named] = Counter()
        shelf = Shelf()
        for record in records(world, RESULTS, partition):
            shelf.take(record.value)
        for name, key, row in shelf.said:
            if name in LOOKED_AT and row.get("state") != "open" and not row["gone"]:
                counts[name, key, str(sorted(row.items(), key=str))] += 1
        yield from (f"said {n} times on partition {partition}: {row}" for row, n in counts.items() if n > 1)


# -- conservation ---------------------------------------------------------------------------------------


def _conserved(world: World) -> Iterator[str]:
    received: Counter[str] = Counter()
    for partition in partitions(world):
        for record in records(world, READINGS, partition):
            readings, plant, decisions = decoded_record(record)
            received[plant] += len(decisions)
            if readings is not None:
                received[readings.plant] += len(readings)
    for shelf in world.shelves:
        for row in shelf.newest("ledger").values():
            if (
                row["balance"]
                or row["booked"] + row["held"] + row["written_off"] != row["last"] - row["first"]
            ):
                yield f"ledger {row}"
        for row in shelf.newest("hop").values():
            if row["received"] != row["accepted"] + row["duplicate"] + row["rejected"] or row["balance"]:
                yield f"hop {row}"
            if row["hop"] == "processors" and row["received"] != received[row["plant"]]:
                yield f"{received[row['plant']]} came to {row['plant']}, and its hop is {row}"


# -- the story: nobody who looks at the results can tell that anything was disturbed -----------------------


def undisturbed(world: World, partition: int) -> Shelf:
    """The results of a partition's log, by operators that were never ended, all of it at once."""
    shelf = Shelf()
    for role in world.building.roles_of(partition):
        operators = world.building.operators(role)
        its = records(world, operators.topic, partition)
        if not its:
            continue
        for entries in operators.parts(its):
            for entry in entries.topics.get(RESULTS, []):
                shelf.take(entry.value)
    return shelf


def _as_if_undisturbed(world: World) -> Iterator[str]:
    for partition, shelf in enumerate(world.shelves):
        plain_one = undisturbed(world, partition)
        for name in OF_THE_SET:
            yield from _differing(name, shelf.newest(name), plain_one.newest(name))
        for name in LOOKED_AT:
            for key in shelf.versions[name].keys() | plain_one.versions[name].keys():
                mine, its = shelf.history(name, key), plain_one.history(name, key)
                if mine != its:
                    yield f"{name} {key}: reported {mine} and, undisturbed, {its}"


def _differing(name: str, mine: dict[Key, Row], its: dict[Key, Row]) -> Iterator[str]:
    for key in sorted(mine.keys() | its.keys(), key=str):
        one, other = mine.get(key), its.get(key)
        if one is None or other is None:
            yield f"{name} {key}: {one} against {other}"
        elif one != other:
            yield f"{name} {key}: " + str({c: (one[c], other[c]) for c in one if one[c] != other[c]})


# -- restatement ------------------------------------------------------------------------------------------


def _restated(world: World) -> Iterator[str]:
    """A second stage adds groups up at a pace of its own: its past is looked at in the story only."""
    alone = world.disk.log.partitions == 1
    for look in world.looks:
        shelf = world.shelves[look.partition]
        for name in LOOKED_AT:
            then, still = (
                {key: _shown(row) for key, row in rows.items() if alone or not of_a_group(row)}
                for rows in (look.tables[name], shelf.as_of(name, look.at_ms))
            )
            for each in _differing(name, then, still):
                yield f"as of {look.at_ms}, seen then against seen now: {each}"
    again = not alone and "forgotten" in world.disk.again
    for shelf in world.shelves:
        yield from _revisions(world, shelf, without_groups=again)


def _shown(row: Row) -> Row:
    return {column: value for column, value in row.items() if column not in ("cause", "reported")}


def one_by_one(world: World, name: str, key: Key) -> bool:
    """Whether each revision of a row has to be said."""
    point = world.script.roster.find(*key[:2]) if name == "interval" else None
    return point is not None and point.reads == REGISTER


def _revisions(world: World, shelf: Shelf, *, without_groups: bool) -> Iterator[str]:
    """What changed of a reported row has a revision of its own; a register's come one by one.

    Those of an interval read may not: each of several decisions in one record counts, the last one is said.
    ``without_groups``: a partition that has lost its state tells its portions again, and what changed in one
    millisecond of log time comes one after the other again (docs/architecture.md, groups).
    """
    for name in LOOKED_AT:
        for key, rows in shelf.versions[name].items():
            if without_groups and of_a_group(next(iter(rows.values()))):
                continue
            chain = [row for row in shelf.history(name, key) if not row["gone"]]
            for old, new in pairwise(chain):
                if new["revision"] <= old["revision"]:
                    yield f"{name} {key}: {old}, then {new}"
                if one_by_one(world, name, key) and new["revision"] > old["revision"] + 1:
                    yield f"{name} {key}: a revision is missing between {old} and {new}"


# -- set ----------------------------------------------------------------------------------------------------


def _of_the_set(world: World) -> Iterator[str]:
    """What stands is what one who got the accepted readings in another order makes of them."""
    other = Shelf()
    operators = Plants(world.script.roster)
    for entries in operators.take(in_another_order(world)).values():
        for entry in entries:
            other.take(entry.value)
    for name in OF_THE_SET:
        mine: dict[Key, Row] = {}
        for shelf in world.shelves:
            mine |= shelf.newest(name)
        yield from _differing(name, *(
            {key: of_the_set(name, row) for key, row in rows.items()} for rows in (mine, other.newest(name))
        ))  # fmt: skip


def in_another_order(world: World) -> list[Record]:
    """Each record of the log in some parts, all of them by chance; ticks behind them."""
    chance, last_ms = Random(world.seed), 0  # noqa: S311 not a secret
    entries: list[tuple[str, bytes]] = []
    for partition in partitions(world):
        for record in records(world, READINGS, partition):
            last_ms = max(last_ms, record.stamp_ms)
            readings, plant, decisions = decoded_record(record)
            entries += [(plant, encode_decisions(plant, [one])) for one in decisions]
            if readings is not None:
                cuts = sorted({0, len(readings), *chance.choices(range(len(readings)), k=1)})
                parts = (readings.part(slice(low, high)) for low, high in pairwise(cuts))
                entries += [(readings.plant, encode_readings(part)) for part in parts]
    chance.shuffle(entries)
    entries += [("", b"")] * 2
    return [Record(offset, key, value, last_ms) for offset, (key, value) in enumerate(entries)]


# -- no false figure --------------------------------------------------------------------------------------


def _true(world: World) -> Iterator[str]:
    """Final, measured figures are within their uncertainty of what truly flowed."""
    hidden = _hidden(world)
    for plant in world.script.plants:
        truth = Truth(PROFILE, plant)
        spans = {
            (row["plant"], row["point"], row["end"], row["start"]): row for row in plain(truth.intervals())
        }
        sums = {
            (row["scope"], row["measures"], row["product"], row["span"], row["end"]): row
            for row in plain(truth.rollups())
        }
        for shelf in world.shelves:
            for key, row in shelf.newest("interval").items():
                if key[0] == plant.id:
                    yield from _within(row, spans.get(key), hidden[plant.id, key[1]])
            for key, row in shelf.newest("rollup").items():
                known = sums.get(key)
                if known is not None:
                    yield from _within(row, known, _of_scope(hidden, plant.id, key))


Spans = list[tuple[int, int]]


def _hidden(world: World) -> dict[tuple[str, str], Spans]:
    """Of each point from when to when the books cannot know, or were told what is not so."""
    found: dict[tuple[str, str], Spans] = defaultdict(list)
    for plant in world.script.plants:
        for fault in plant.faults:
            if fault.found_by != "books":
                found[plant.id, fault.point].append((fault.from_ms, fault.to_ms))
            if fault.hidden is not None:
                found[plant.id, fault.point].append(fault.hidden)
    for name in world.script.doubtful:
        found[name].append((0, 1 << 60))
    return found


def _of_scope(hidden: dict[tuple[str, str], Spans], plant: str, key: Key) -> Spans:
    """Of an account: those of its points, or of all of its plant's."""
    kind, _, name = key[0].partition(":")
    if kind == "point":
        return hidden[plant, name.partition("/")[2]]
    return [span for (of, _), spans in hidden.items() if of == plant for span in spans]


def _within(row: Row, known: Row | None, hidden: Spans) -> Iterator[str]:
    measured = row["state"] != "open" and row["measured_share"] == 1 and row["quality"] == "valid"
    if not measured or row["amount"] is None:
        return
    if any(low < row["end"] and high > row["start"] for low, high in hidden):
        return
    if known is None:
        yield f"measured, where nothing was: {row}"
    elif abs(Decimal(row["amount"]) - known["amount"]) > known["uncertainty"]:
        yield f"{row} is called measured, and {known['amount']} is true, within {known['uncertainty']}"
