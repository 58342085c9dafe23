"""What has to be so in the end: everything is there once, and says what ``meterflow compute`` says.

The readings that were published are held against the archive (every one is on the log, and archived once),
the figures against ``compute``'s of the same readings, row by row in the columns of the set.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from ingest.decode import Decoder, Delivery
from meterflow.given import load_roster
from metering.readings import Dictionary
from metering.roster import Roster
from metering.tables import TABLES, Kind
from simulators.recording import read_recording
from sinks.archive_place import FolderPlace
from sinks.archive_reader import Archive
from tests.chaos import alerts
from tests.chaos.stack import PARTITIONS, PREFIX, Stack
from tests.chaos.world import World
from tests.meterflow.helper import meterflow

COMPARED = ("interval", "rollup", "intensity", "verdict", "alert", "ledger", "rejected")
IDENTITY = ("plant", "point", "serial", "time", "start", "mantissa", "exponent", "revision", "product")
DECISION = ("from", "to", "verdict", "by", "revision", "value")
AT_ONCE = 100_000
EXAMPLES = 3


@dataclass(slots=True)
class Verdict:
    """``lost``: published readings, or rows of results, that are missing; ``double``: what counts twice."""

    lost: int = 0
    double: int = 0
    wrong: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        return not (self.lost or self.double or self.wrong)


async def run(*words: object) -> str:
    """A verb of the command line, to its end; what it printed."""
    ended = await asyncio.to_thread(meterflow, *words)
    if ended.returncode:
        raise AssertionError(f"meterflow {' '.join(map(str, words))}: {ended.stderr[-2000:]}")
    return ended.stdout


async def computed(world: World, out: Path) -> None:
    """What ``meterflow compute`` makes of everything that is published."""
    await run("compute", world.whole, "--site", world.site, "--out", out)


def accepted(folder: Path) -> int:
    """How many readings the processors accepted, each once."""
    rows = pq.read_table(folder / "hop.parquet").to_pylist()
    return sum(row["accepted"] for row in rows if row["hop"] == "processors")


async def exported(stack: Stack, out: Path) -> None:
    """Every table of InfluxDB as a file."""
    await asyncio.to_thread(out.mkdir, exist_ok=True)
    for table in (*COMPARED, "hop"):
        await asyncio.to_thread(_exported, stack.direct, table, out / f"{table}.parquet")


def _exported(settings: Path, table: str, path: Path) -> None:
    from meterflow.exporting import chunks, save
    from metering.query import Query

    save(chunks(Path(), settings, Query(table), "parquet"), path)


def compare(stored: Path, wanted: Path, verdict: Verdict) -> None:
    """Row by row, in the columns that are functions of the set of readings."""
    base = duckdb.connect()
    for name in COMPARED:
        both = [_of_set(name, folder / f"{name}.parquet") for folder in (wanted, stored)]
        missing, further = (
            base.execute(f"SELECT * FROM ({a}) EXCEPT ALL SELECT * FROM ({b})").fetchall()
            for a, b in (both, both[::-1])
        )
        count = base.execute(f"SELECT count(*) FROM ({both[0]})").fetchall()[0][0]
        verdict.facts[f"rows of {name}"] = count
        verdict.lost += max(0, len(missing) - len(further))
        verdict.double += max(0, len(further) - len(missing))
        if missing or further:
            verdict.wrong.append(
                f"{name}: {len(missing)} rows of compute's are not stored: {missing[:EXAMPLES]};"
                f" {len(further)} others are: {further[:EXAMPLES]}"
            )


def _of_set(name: str, path: Path) -> str:
    """Of ``rejected`` each row once: a message that comes twice is refused twice."""
    columns = [
        f"coalesce(\"{column.name}\", '')"
        if column.kind is Kind.TEXT
        else f'CAST("{column.name}" AS VARCHAR)'
        for column in TABLES[name].columns
        if not column.of_log
    ]
    distinct = "DISTINCT " if name == "rejected" else ""
    return f"SELECT {distinct}{', '.join(columns)} FROM '{path}'"


def check_books(stored: Path, wanted: Path, verdict: Verdict) -> None:
    """Conservation: every hop and every installation balances, and nothing is accepted twice.

    ``compute`` is told each first word before its correction, and accepts both. A first word that comes
    behind its correction counts as a duplicate, so fewer may be accepted, though none is missing. A decision
    that comes again is accepted again, and changes nothing.
    """
    for row in pq.read_table(stored / "hop.parquet").to_pylist():
        parts = row["accepted"] + row["duplicate"] + row["rejected"]
        if row["balance"] or row["received"] != parts:
            verdict.wrong.append(f"a hop does not balance: {row}")
    for row in pq.read_table(stored / "ledger.parquet").to_pylist():
        parts = row["booked"] + row["held"] + row["written_off"]
        if row["balance"] or row["last"] - row["first"] != parts:
            verdict.wrong.append(f"a ledger does not balance: {row}")
    mine, its = accepted(stored) - int(verdict.facts["decisions said again"]), accepted(wanted)
    verdict.facts["accepted readings and decisions"] = mine
    verdict.double += max(0, mine - its)
    if mine > its:
        verdict.wrong.append(f"{mine} readings are accepted, compute accepts {its}")


def check_archive(folder: Path, stored: Path, world: World, verdict: Verdict) -> None:
    """What was published is archived, nothing else is, and every record once."""
    base, roster = duckdb.connect(), load_roster(world.site)
    base.register("sent", _published(roster, world.whole))
    base.register("kept", _archived(folder))
    names = ", ".join(IDENTITY)
    for what, a, b in (("missing", "sent", "kept"), ("never published", "kept", "sent")):
        sql = f"SELECT DISTINCT {names} FROM {a} EXCEPT SELECT {names} FROM {b}"
        found = base.execute(sql).fetchall()
        if found:
            verdict.wrong.append(f"archive: {len(found)} readings {what}: {found[:EXAMPLES]}")
            verdict.lost += len(found) if what == "missing" else 0
    decisions = check_decisions(folder, world, verdict)
    rows, places = base.execute(
        "SELECT count(*), count(DISTINCT (plant, at_offset, at_row)) FROM kept"
    ).fetchall()[0]
    verdict.facts["readings on the log"] = rows
    verdict.double += rows - places
    hops = pq.read_table(stored / "hop.parquet").to_pylist()
    received = sum(row["received"] for row in hops if row["hop"] == "processors")
    rows += decisions
    if received != rows:
        verdict.wrong.append(f"the log has {rows} readings and decisions, processors received {received}")
        verdict.lost += max(0, rows - received)
        verdict.double += max(0, received - rows)


def check_decisions(folder: Path, world: World, verdict: Verdict) -> int:
    """What people decided is archived, and nothing else; how many there are, each time that it came."""
    sent = set()
    for message in read_recording(world.whole):
        if message.topic.endswith("/decision"):
            said = json.loads(message.payload)
            sent.add((*message.topic.split("/")[2:4], *(str(said.get(name, "")) for name in DECISION)))
    archive = Archive(FolderPlace(folder))
    kept = [
        (plant, *(str(part) for part in (d.point, d.from_ms, d.to_ms, d.verdict, d.by, d.revision, d.value)))
        for plant in archive.plants()
        for _, decisions in archive.decisions(plant)
        for d in decisions
    ]
    for what, found in (("missing", sent - set(kept)), ("never published", set(kept) - sent)):
        if found:
            verdict.wrong.append(f"archive: {len(found)} decisions {what}: {sorted(found)[:EXAMPLES]}")
            verdict.lost += len(found) if what == "missing" else 0
    verdict.facts["decisions"], verdict.facts["decisions said again"] = len(sent), len(kept) - len(sent)
    return len(kept)


async def check_archive_files(folder: Path, verdict: Verdict) -> None:
    """``meterflow archive check``."""
    ended = await asyncio.to_thread(meterflow, "archive", "check", "--archive", folder)
    if ended.returncode:
        verdict.wrong.append(f"archive check: {ended.stdout}{ended.stderr}")


async def check_alerts(bootstrap: str, wanted: Path, verdict: Verdict, *, anew: bool = False) -> None:
    """As they are heard on the log: each change once, in its order, and in the end compute's.

    ``anew``: another version may have had to begin at the first reading, and then says all of them again.
    """
    heard = await alerts.hear(bootstrap, f"{PREFIX}.results", PARTITIONS)
    if anew:
        verdict.facts["alerts said again"], heard.double = heard.double, 0
        heard.wrong.clear()
    missing, wrong = alerts.compare(heard, wanted)
    verdict.lost += missing
    verdict.double += heard.double
    verdict.wrong += wrong
    verdict.facts["alerts said"] = heard.said


def _published(roster: Roster, recording: Path) -> pa.Table:
    decoder, parts, waiting = Decoder(roster, evidence=False), [], []
    for message in read_recording(recording):
        waiting.append(message)
        if len(waiting) == AT_ONCE:
            parts += _decoded(decoder, waiting)
            waiting = []
    return pa.concat_tables([*parts, *_decoded(decoder, waiting)])


def _decoded(decoder: Decoder, messages: list[Any]) -> list[pa.Table]:
    if not messages:
        return []
    topics, payloads = [m.topic for m in messages], [m.payload for m in messages]
    given = decoder.decode([Delivery(topics, payloads, messages[0].received_ms)])
    return [_table(readings) for readings in given.readings]


def _archived(folder: Path) -> pa.Table:
    archive, parts = Archive(FolderPlace(folder)), []
    for plant in archive.plants():
        for batch in archive.readings(plant, evidence=False):
            table = _table(batch.readings)
            table = table.append_column("at_offset", pa.array(batch.offset))
            parts.append(table.append_column("at_row", pa.array(batch.row)))
    return pa.concat_tables(parts)


def _table(readings: Any) -> pa.Table:
    columns: dict[str, pa.Array] = {"plant": pa.array([readings.plant] * len(readings))}
    for name in IDENTITY[1:]:
        column = getattr(readings, name)
        columns[name] = _texts(column) if isinstance(column, Dictionary) else pa.array(column)
    return pa.table(columns)


def _texts(column: Dictionary) -> pa.Array:
    words = pa.array(["", *column.words], pa.string())
    return words.take(pa.array(column.codes + 1))
