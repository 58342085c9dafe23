"""Which site file the roles work by: what they tell each other on partition 0 of Kafka's topic ``sites``.

The newest record ``site`` is the file that was applied. Each copy of ingest says what it was given, by what
it decodes and since when; each partition of process of which site file its results are. The topic is
compacted: only the newest record of each key counts.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from bus.log import SITES, Entry, Log
from ingest.clock import wall_clock_ms
from metering.errors import MeterflowError

SITE, ASK, _INGEST, _RESULTS = "site", "ask", "ingest/", "results/"
_S = TypeVar("_S")


class Applied(msgspec.Struct, frozen=True):
    """A site file that was applied. ``files``: name -> what zlib made of it; ``results``: its results' name.

    ``before``: versions that it takes the place of, wherever they are still given.
    """

    version: str
    files: dict[str, bytes]
    results: str
    before: list[str]
    at_ms: int

    def contents(self) -> dict[str, bytes]:
        """The files as they were."""
        return {name: zlib.decompress(content) for name, content in self.files.items()}


class Decoding(msgspec.Struct, frozen=True):
    """A copy of ingest. ``since``: in each partition, its first offset of readings by this version."""

    given: str
    version: str
    since: list[int]
    at_ms: int
    gone: bool = False


class Worked(msgspec.Struct, frozen=True):
    """Of which site file a partition's results are."""

    version: str


class Ask(msgspec.Struct, frozen=True):
    """Every copy of ingest that runs is to say once more by what it decodes."""

    at_ms: int


class Board:
    """What the topic says, as far as it was looked at."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.read = 0
        """The next offset."""
        self.site: Applied | None = None
        self.asked: Ask | None = None
        self.copies: dict[str, Decoding] = {}
        self.heard: dict[str, int] = {}
        """At which offset each copy spoke last."""
        self.results: dict[tuple[str, int], str] = {}
        """Name and partition -> version of the site file."""

    async def look(self) -> None:
        """Reads on to the end. Raises Unavailable, MeterflowError for a record that is none."""
        while records := await self._log.read(SITES, self.read):
            for record in records:
                where = f"{SITES} {record.offset}"
                self._take(record.key, record.value, record.offset, where)
                self.read = record.offset + 1

    async def say(self, key: str, what: Applied | Decoding | Worked | Ask) -> None:
        """Durable when it returns."""
        await self._log.append({SITES: [Entry(key, msgspec.json.encode(what), wall_clock_ms())]})

    async def say_copy(self, name: str, what: Decoding) -> None:
        """What a copy of ingest says of itself."""
        await self.say(_INGEST + name, what)

    async def say_results(self, name: str, partition: int, version: str) -> None:
        """What a partition of process says."""
        await self.say(f"{_RESULTS}{name}/{partition}", Worked(version))

    def instead_of(self, given: str) -> Applied | None:
        """The file that was applied, where it counts and not the one given: that one is older."""
        last = self.site
        return last if last is not None and given in last.before else None

    def older_than(self, version: str) -> list[str]:
        """All versions known so far but this one."""
        known = {one for copy in self.copies.values() for one in (copy.given, copy.version)}
        if self.site is not None:
            known |= {self.site.version, *self.site.before}
        return sorted(known - {version})

    def _take(self, key: str, value: bytes, offset: int, where: str) -> None:
        if key == SITE:
            self.site = _decoded(value, Applied, where)
        elif key == ASK:
            self.asked = _decoded(value, Ask, where)
        elif key.startswith(_INGEST):
            name = key.removeprefix(_INGEST)
            self.copies[name], self.heard[name] = _decoded(value, Decoding, where), offset
        elif key.startswith(_RESULTS):
            name, _, partition = key.removeprefix(_RESULTS).rpartition("/")
            self.results[name, int(partition)] = _decoded(value, Worked, where).version


def packed(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Files as ``Applied`` has them."""
    return {name: zlib.compress(content) for name, content in files.items()}


def _decoded(value: bytes, kind: type[_S], where: str) -> _S:
    try:
        return msgspec.json.decode(value, type=kind)
    except msgspec.DecodeError as error:
        hint = "A newer version of meterflow, or something else, wrote to it."
        raise MeterflowError(f"a log record cannot be read: {error}", where=where, hint=hint) from error
