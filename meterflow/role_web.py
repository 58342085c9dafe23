"""``meterflow web``: the page and its API over the results in InfluxDB, live by the results on Kafka."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from bus.frames import decode_table
from bus.kafka_connection import Connection
from bus.kafka_positions import positions
from bus.log import READINGS, RESULTS, Log
from meterflow import deciding
from meterflow import settings_made as made
from meterflow.given import load_roster
from meterflow.news import News
from meterflow.role import Role
from meterflow.settings import Settings
from metering.errors import MeterflowError, Unavailable
from metering.query import Query
from metering.roster import Roster
from sinks.influx_mark import check, read_mark
from sinks.store_influx import InfluxResults
from web.app import Deciding, create_app
from web.live import LiveFeed
from web.status import Hop, Progress, Status, together

LOOK_S = 0.5
"""How often the log is asked how far processors and sinks have come."""
BOOKS_S = 10.0
"""How often the books of the hops are read from the store."""
NEWS_RECORDS_MAX = 2_000
"""More new results than that at once are not told one by one: pages ask for everything again."""

NO_DECISIONS = "add the section 'decisions' to the settings"


@dataclass
class Watched:
    """A consumer group's progress on one partition, as seen from outside."""

    offset: int = 0
    end: int = 0
    moved_s: float = field(default_factory=time.monotonic)

    def progress(self) -> Progress:
        waits = self.end > self.offset
        return Progress(self.offset, self.end, int((time.monotonic() - self.moved_s) * 1000) if waits else 0)

    def look(self, offset: int, end: int) -> None:
        if offset != self.offset or end <= offset:
            self.moved_s = time.monotonic()
        self.offset, self.end = offset, end


class WebRole(Role):
    """The page; it answers before Kafka does, from what is stored."""

    name = "web"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.roster: Roster = load_roster(settings.site)
        self.live = LiveFeed()
        self.news = News(self.live)
        self.results = InfluxResults(made.influx(settings), position=self._stored)
        self.stack.callback(self.results.close)
        self._worker: dict[int, Watched] = {}
        self._sink: dict[int, Watched] = {}
        self._told: dict[int, int] = {}
        self._ends: dict[str, int] = {}
        self._hops: dict[str, Hop] = {}
        self._unbalanced = 0
        self._books_error = ""

    async def listen(self) -> None:
        app = create_app(
            self.results,
            self.roster,
            status=self.status,
            token=made.page_token(self.settings),
            live=self.live,
            deciding=self._deciding(),
        )
        await self.serve(app)

    def _deciding(self) -> Deciding:
        """Decisions go the way of readings: over MQTT, with a login of their own."""
        its = self.settings.values.decisions
        if its is None:
            return Deciding(hint=NO_DECISIONS)
        password = self.settings.secret("decisions", "password_file") or None

        async def publish(topic: str, payload: bytes) -> str:
            await asyncio.to_thread(deciding.publish, its.url, its.user or None, password, topic, payload)
            return ""

        return Deciding(publish)

    async def begin(self) -> None:
        self.run(self._read_books())
        self.log: Log = await self.open_log()
        self._connection = Connection(made.kafka(self.settings), self.settings.values.name)
        self.stack.push_async_callback(self._connection.close)
        self.run(self._watch(), self.news.tell())

    def figures(self) -> Status:
        each = {
            "worker": {partition: one.progress() for partition, one in self._worker.items()},
            "sink": {partition: one.progress() for partition, one in self._sink.items()},
        }
        return Status(
            worker=together(each["worker"].values()),
            sink=together(each["sink"].values()),
            partitions=each,
            hops=self._hops,
            log_ends=self._ends,
            ledger_unbalanced=self._unbalanced,
            problems=(f"the store: {self._books_error}",) if self._books_error else (),
        )

    def _stored(self) -> int:
        return sum(one.offset for one in self._sink.values())

    # -- what is read off the log -----------------------------------------------------------------

    async def _watch(self) -> None:
        """How far processors and sinks are, and what was stored since, for ever."""
        while True:
            try:
                await self._look()
                self.waiting.pop("Kafka", None)
            except Unavailable as error:
                self.waiting["Kafka"] = error.what
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> None:
        partitions = range(self.log.partitions)
        done = {name: await positions(self._connection, name) for name in ("process", "sink")}
        ends = {topic: [await self.log.end(topic, p) for p in partitions] for topic in (READINGS, RESULTS)}
        for watched, name, topic in (
            (self._worker, "process", READINGS),
            (self._sink, "sink", RESULTS),
        ):
            for partition in partitions:
                offset, end = done[name][partition], ends[topic][partition]
                watched.setdefault(partition, Watched()).look(offset, end)
        self._ends = {topic: sum(each) for topic, each in ends.items()}
        for partition in partitions:
            await self._tell(partition, done["sink"][partition])

    async def _tell(self, partition: int, until: int) -> None:
        """Notes the results that are stored since the last time."""
        offset = self._told.setdefault(partition, until)
        if until - offset > NEWS_RECORDS_MAX:
            self.live.publish("refresh", {})
            offset = until
        while offset < until:
            records = await self.log.read(RESULTS, offset, partition=partition)
            stored = [record for record in records if record.offset < until]
            if not stored:
                break
            self.news.stored([decode_table(record.value) for record in stored])
            offset = stored[-1].offset + 1
        self._told[partition] = until

    # -- what is read from the store --------------------------------------------------------------

    async def _read_books(self) -> None:
        """The hops' books and the ledger's balance, for ever."""
        while True:
            try:
                await asyncio.to_thread(self._read_books_once)
                self._books_error = ""
            except MeterflowError as error:  # a person may put it right meanwhile: told by readiness
                self._books_error = error.what
            await asyncio.sleep(BOOKS_S)

    def _read_books_once(self) -> None:
        its, results = made.influx(self.settings), made.kafka(self.settings).topic(RESULTS)
        mark = read_mark(its)
        if mark is not None:
            check(its, results, mark)
        names = ("received", "accepted", "duplicate", "rejected")
        totals: dict[str, list[int]] = {}
        for row in self.results.rows(Query("hop")):
            hop = str(row["hop"]).partition("/")[0]
            counts = totals.setdefault(hop, [0] * len(names))
            totals[hop] = [a + int(row[name]) for a, name in zip(counts, names, strict=True)]
        self._hops = {hop: Hop(*counts) for hop, counts in totals.items()}
        self._unbalanced = sum(bool(row["balance"]) for row in self.results.rows(Query("ledger")))
