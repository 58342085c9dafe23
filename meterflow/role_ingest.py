"""``meterflow ingest``: readings from a broker, from meters or from a topic of JSON, onto the log."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace

from bus.log import READINGS
from bus.log_kafka import KafkaLog, open_kafka
from ingest.broker_settings import Broker
from ingest.collector import LISTENING, Collector
from ingest.directory import Directory
from ingest.endpoint import Endpoint
from ingest.kafka_json import JsonTopic, KafkaJson
from ingest.ticker import Ticker
from ingest.users import load_users
from meterflow import progress
from meterflow import settings_made as made
from meterflow.given import load_roster
from meterflow.role import Role
from meterflow.settings import Settings
from meterflow.settings_models import NAME
from meterflow.site_board import Applied
from meterflow.site_follow import Follower
from metering.errors import UsageError
from metering.roster import Roster
from web.status import Status

Way = Collector | Endpoint | KafkaJson


class IngestRole(Role):
    """Collector, endpoint and JSON topic, whichever the settings have."""

    name = "ingest"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        values = settings.values
        if values.mqtt is None and values.endpoint is None and values.json_topic is None:
            raise UsageError(
                "there is nothing to take readings from",
                where=str(settings.file),
                hint="Add the section mqtt (a broker), endpoint (meters connect to us) or json_topic.",
            )
        self.roster: Roster = load_roster(settings.site)
        self._broker = made.broker(settings) if values.mqtt is not None else None
        self._json_topic = made.json_topic(settings) if values.json_topic is not None else None
        self._tls = made.endpoint_tls(settings) if values.endpoint is not None else None
        self.collector: Collector | None = None
        self.endpoint: Endpoint | None = None
        self.json: KafkaJson | None = None
        self._ways: list[Way] = []
        self._tickers: list[Ticker] = []

    async def begin(self) -> None:
        self.log: KafkaLog = await self.open_log()
        follower = Follower(self.log, self.roster, self.settings.values.name, self._switch)
        given = self.roster
        self.roster, applied = await self.patiently("Kafka", lambda: follower.start(given))
        self.stack.push_async_callback(follower.leave)
        self._books = self.log if applied is None else await self._log_of(applied)
        since = await self.patiently("Kafka", self._ends)
        if self._broker is not None:
            await self._collect(self._broker)
        if self.settings.values.endpoint is not None:
            await self._listen_for_meters()
        if self._json_topic is not None:
            await self._take_json(self._json_topic)
        self.run(follower.run(since))

    async def _switch(self, directory: Directory, applied: Applied) -> list[int]:
        """Nothing is on its way to the log in the moment in which all ways take another site file."""
        books = await self._log_of(applied)
        async with AsyncExitStack() as held:
            for way in self._ways:
                await held.enter_async_context(way.intake.between_batches())
            since = await self._ends()
            for way in self._ways:
                way.decoder.know(directory)
        self.roster, self._books = directory.roster, books
        for ticker in self._tickers:
            ticker.move(books)
        return since

    async def _ends(self) -> list[int]:
        return [await self.log.end(READINGS, partition) for partition in range(self.log.partitions)]

    async def _log_of(self, applied: Applied) -> KafkaLog:
        """The same readings, beside the results of an applied site file."""
        settings = made.kafka(self.settings)
        if settings.results == applied.results:
            return self.log
        log = await open_kafka(replace(settings, results=applied.results))
        self.stack.push_async_callback(log.close)
        return log

    async def _collect(self, broker: Broker) -> None:
        self.collector = collector = Collector(self.log, self.roster, broker)
        await collector.start()
        self.stack.push_async_callback(collector.stop)
        self.run(collector.watch())
        self._tick(collector, "")

    async def _listen_for_meters(self) -> None:
        given = self.settings.values.endpoint
        assert given is not None
        users = self.settings.path(given.users_file)
        self.endpoint = endpoint = Endpoint(
            self.log,
            self.roster,
            host=given.host,
            port=given.port,
            users=load_users(users) if users else None,
            tls=self._tls,
        )
        with self.of_settings("endpoint.host or endpoint.port"):
            await endpoint.start()
        self.stack.push_async_callback(endpoint.stop)
        self.run(endpoint.watch())
        self._tick(endpoint, "endpoint")

    async def _take_json(self, topic: JsonTopic) -> None:
        self.json = json = KafkaJson(self.log, self.roster, topic)
        await json.start()
        self.stack.push_async_callback(json.stop)
        self.run(json.watch())
        self._tick(json, "json")

    def _tick(self, way: Way, kind: str) -> None:
        """Ticks and books. Those of several copies and ways are told apart: each counts for itself."""
        archive = self.settings.values.archive
        way.decoder.payloads = archive is not None and archive.raw
        self._ways.append(way)
        copy = self.settings.values.name
        name = "-".join(part for part in ("" if copy == NAME else copy, kind) if part)
        self._tickers.append(Ticker(self._books, way, name=name))
        self.run(self._tickers[-1].run())

    def figures(self) -> Status:
        counters = [way.counters for way in self._ways]
        rejected: dict[str, int] = {}
        for one in counters:
            for reason, count in one.rejected.items():
                rejected[reason] = rejected.get(reason, 0) + count
        return Status(
            worker=None,
            sink=None,
            log_error=next((one.append_error for one in counters if one.append_error), ""),
            hops={"ingest": progress.ingested(counters)},
            rejected=rejected,
            connections=sum(one.connections for one in counters),
            events=self._events(),
            problems=self._problems(),
        )

    def _events(self) -> dict[str, int]:
        if self.collector is None:
            return {}
        status = self.collector.status
        return {
            "mqtt_sessions_lost": status.sessions_lost,
            "mqtt_acknowledgements_discarded": status.discarded,
            "mqtt_connects_failed": status.retried,
        }

    def _problems(self) -> tuple[str, ...]:
        """What keeps readings from coming in."""
        problems = []
        if self.collector is not None and self.collector.status.state != LISTENING:
            status = self.collector.status
            problems.append(f"the broker: {status.state}{f': {status.error}' if status.error else ''}")
        if self.json is not None and self.json.error:
            problems.append(f"the topic {self.json.topic.topic}: {self.json.error}")
        return tuple(problems)
