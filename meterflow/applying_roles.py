"""``meterflow apply --settings FILE``: puts the site file of new results in force for the roles on Kafka.

processes and sinks of the new file have caught up -> the archive has it -> one record -> every ingest says so

Up to that record nothing has changed; behind it the new file counts, whatever becomes of the command.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import click

from bus.kafka_connection import Connection
from bus.kafka_positions import positions
from bus.kafka_topics import present
from bus.log import PORTIONS, READINGS, REJECTED, RESULTS
from bus.log_kafka import KafkaLog
from ingest.clock import wall_clock_ms
from meterflow import settings_made as made
from meterflow.files import bar
from meterflow.given import load_roster, site_files
from meterflow.settings import Settings, load_settings
from meterflow.site_board import ASK, SITE, Applied, Ask, Board, packed
from metering.errors import MeterflowError, Unavailable, UsageError
from metering.roster import Roster

LOOK_S = 0.2
ANSWER_S, TAKEN_S = 10.0, 60.0
"""How long copies of ingest may take to say that they run, and that they have the new file."""
START_S = 60.0
"""How long processes that were just started may take to share the partitions."""
STILL_S = 120.0
"""A consumer that has not moved for so long does not run."""
NEAR_S = 5.0
"""Caught up: what was on the log so long ago is done."""
MARKS = 1000
"""Nearer than this it is looked whether records are left, or only marks of Kafka's own."""
Told = Callable[[int, int | None], None]


def apply(site: Path | None, file: Path, *, yes: bool, stop: bool, as_json: bool) -> int:
    """0: in force at every ingest that runs; 1: not applied, or not said by all. Raises MeterflowError."""
    if stop:
        hint = "Until it is in force nothing has changed: stop process and sink of the new file, that is all."
        raise UsageError("for the roles on Kafka there is nothing to stop", hint=hint)
    settings = load_settings(file, ("site", "kafka", "archive?"))
    roster = load_roster(settings.site)
    if site is not None and load_roster(site).version != roster.version:
        hint = f"Name it there as site, and run process and sink with these settings: {file}"
        raise UsageError("this is not the site file of the settings", where=str(site), hint=hint)
    return asyncio.run(_applied(settings, roster, yes or as_json, as_json))


async def _applied(settings: Settings, roster: Roster, yes: bool, as_json: bool) -> int:
    connection = Connection(made.kafka(settings), "meterflow-apply")
    log = KafkaLog(connection)
    try:
        change = _Change(settings, roster, connection, log)
        await change.check()
        if not await change.in_force():
            with bar("records") as told:
                await change.caught_up(told)
            if not yes and not await asyncio.to_thread(_agreed, change):
                return 1
            await change.decide()
        return _tell(await change.taken(), roster.version, as_json)
    finally:
        await log.close()


def _agreed(change: _Change) -> bool:
    click.echo(change.summary(), err=True)
    return click.confirm("Apply it?", default=False, err=True)


def _tell(copies: dict[str, list[int] | None], version: str, as_json: bool) -> int:
    silent = [name for name, since in copies.items() if since is None]
    if as_json:
        click.echo(json.dumps({"state": "in force", "version": version, "since": copies}))
    else:
        click.echo("the site file is in force", err=True)
        for name in silent:
            click.echo(f"meterflow: ingest {name} has not said that it has it: look at its log", err=True)
    return 1 if silent else 0


class _Change:
    """One change, over the settings of the new file's roles."""

    def __init__(self, settings: Settings, roster: Roster, connection: Connection, log: KafkaLog) -> None:
        self._settings, self._roster, self._connection, self._log = settings, roster, connection, log
        self._results = connection.settings.results
        self._board = Board(log)
        self._site_files = site_files(settings.site, roster)
        self._copies: set[str] = set()

    async def check(self) -> None:
        """Raises UsageError where a step before this one was left out."""
        found = await present(self._connection)
        missing = [name for name in self._connection.settings.topics if name not in found]
        if missing:
            raise self._not_begun(f"the topic {missing[0]} is not there")
        await self._board.look()
        until_s = time.monotonic() + START_S
        while (partition := self._not_worked_on()) is not None:
            if time.monotonic() > until_s:
                what = f"partition {partition} of the results '{self._results}' has no process"
                raise self._not_begun(what)
            await asyncio.sleep(LOOK_S)
            await self._board.look()
        await self._ask()

    def _not_worked_on(self) -> int | None:
        """A partition that no process of the new file has had yet. Raises UsageError for another file's."""
        for partition in range(self._log.partitions):
            version = self._board.results.get((self._results, partition))
            if version is None:
                return partition
            if version != self._roster.version:
                hint = "Give the new file's results names of their own: kafka.results, influxdb.bucket."
                what = f"the results named '{self._results}' are of another site file"
                raise UsageError(what, where=str(self._settings.file), hint=hint)
        return None

    def _not_begun(self, what: str) -> UsageError:
        hint = f"First run process and sink of the new file, with --settings {self._settings.file}"
        return UsageError(what, where=self._connection.settings.bootstrap, hint=f"{hint}, then apply it.")

    async def _ask(self) -> None:
        """Which copies of ingest run: those that answer."""
        behind = self._board.read
        await self._board.say(ASK, Ask(wall_clock_ms()))
        until_s = time.monotonic() + ANSWER_S
        wanted = {name for name, copy in self._board.copies.items() if not copy.gone}
        while time.monotonic() < until_s and not (wanted and wanted <= self._copies):
            await asyncio.sleep(LOOK_S)
            await self._board.look()
            self._copies = {
                name for name, at in self._board.heard.items() if at >= behind and self._runs(name)
            }
        if not self._copies:
            hint = "Start ingest, of this version of meterflow and with the same kafka.prefix."
            raise UsageError("no ingest answers", where=self._connection.settings.bootstrap, hint=hint)
        for name in sorted(wanted - self._copies):
            click.echo(
                f"meterflow: ingest {name} does not answer: it takes the file when it starts", err=True
            )

    def _runs(self, name: str) -> bool:
        return not self._board.copies[name].gone

    async def in_force(self) -> bool:
        """Whether it is the one that was applied last."""
        last = self._board.site
        return last is not None and (last.version, last.results) == (self._roster.version, self._results)

    async def caught_up(self, told: Told) -> None:
        """Until all but the newest results are stored. Raises UsageError where nobody works on them."""
        goals, since_s = await self._ends(), time.monotonic()
        moved, moved_s = -1, time.monotonic()
        while True:
            done = {name: await positions(self._connection, name) for name in goals}
            pairs = [pair for name in goals for pair in zip(done[name], goals[name], strict=True)]
            told(sum(min(pair) for pair in pairs), sum(end for _, end in pairs))
            if await self._reached(done, goals):
                return
            now_s, at = time.monotonic(), sum(at for at, _ in pairs)
            if at != moved:
                moved, moved_s = at, now_s
            if now_s > moved_s + STILL_S:
                raise self._not_begun(f"process or sink of the results '{self._results}' does not go on")
            if now_s > since_s + NEAR_S:
                goals, since_s = await self._ends(), now_s
            await asyncio.sleep(LOOK_S)

    async def _ends(self) -> dict[str, list[int]]:
        """Up to where each consumer has to come."""
        parts = range(self._log.partitions)
        return {name: [await self._log.end(topic, part) for part in parts] for name, topic in self._inputs()}

    async def _reached(self, done: dict[str, list[int]], goals: dict[str, list[int]]) -> bool:
        """Whether no record is left before the goals; there may be marks of Kafka's own."""
        for name, topic in self._inputs():
            for part, (at, end) in enumerate(zip(done[name], goals[name], strict=True)):
                if end - at > MARKS:
                    return False
                if at < end:
                    left = await self._log.read(topic, at, partition=part, records_max=1)
                    if left and left[0].offset < end:
                        return False
        return True

    def _inputs(self) -> list[tuple[str, str]]:
        """Consumers that have to catch up, and of which topic."""
        groups = [("groups", PORTIONS)] if self._log.partitions > 1 and self._roster.groups else []
        return [("process", READINGS), ("sink", RESULTS), ("sink-rejected", REJECTED), *groups]

    def summary(self) -> str:
        """What it would do."""
        now = sorted({self._board.copies[name].version[:12] for name in self._copies})
        return (
            f"{self._settings.site} ({self._roster.version[:12]}): results '{self._results}' have caught up\n"
            f"ingest {', '.join(sorted(self._copies))} decodes by it from now on, not by {', '.join(now)}"
        )

    async def decide(self) -> None:
        """The record by which it is in force. Raises UsageError where another one came before it."""
        await self._archived()
        files = self._site_files.read()
        if not files:
            where, hint = str(self._settings.site), "Apply it once more."
            raise UsageError("the site file was changed meanwhile", where=where, hint=hint)
        last = self._board.site
        await self._board.look()
        if self._board.site is not last:
            raise UsageError("another site file was applied meanwhile", hint="Look which one is wanted.")
        before = self._board.older_than(self._roster.version)
        new = Applied(self._roster.version, packed(files), self._results, before, wall_clock_ms())
        await self._board.say(SITE, new)

    async def _archived(self) -> None:
        """The archive has the file before readings name it."""
        if self._settings.values.archive is None:
            return
        from sinks.archive_sites import keep

        try:
            place = made.archive(self._settings)
            await asyncio.to_thread(keep, place, self._site_files)
        except Unavailable as error:
            what = f"the archive does not take the site file: {error.what}"
            raise MeterflowError(what, where=error.where, hint=error.hint) from error

    async def taken(self) -> dict[str, list[int] | None]:
        """Since which offsets each copy decodes by it; None: it has not said so."""
        until_s = time.monotonic() + TAKEN_S
        while True:
            await self._board.look()
            copies = self._board.copies
            wanted = {name for name in self._copies if self._runs(name)}
            silent = {name for name in wanted if copies[name].version != self._roster.version}
            if not silent or time.monotonic() > until_s:
                return {name: None if name in silent else copies[name].since for name in sorted(wanted)}
            await asyncio.sleep(LOOK_S)
