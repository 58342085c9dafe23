"""TCP proxies that cut, tear, delay, slow down and hold back what passes, in a process of their own.

``python -m tests.chaos.wires`` takes a JSON object a line and answers each with one. A wire of Kafka reads
the requests that pass: a rule such as "the end of a transaction of this name" holds the first that fits,
or its answer, and tells whose connection it is on. Whoever asked for it can then kill that process
knowing exactly how far it had come, and drops the connection: nobody ever hears more of it.
"""

from __future__ import annotations

import asyncio
import json
import re
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

_SIZE, _HEAD, _SHORT, _NUMBER = (struct.Struct(form) for form in (">i", ">hhih", ">h", ">i"))
_NAMED = frozenset((0, 24, 25, 26, 28))
"""Kafka's requests whose first field is the name of a transaction: a produce, and those of transactions."""
_CHUNK = 1 << 16
_PIECES = 10
"""In so many pieces a second goes what passes slowly."""
_TORN_S = 0.05
"""So that the half arrives before the end does."""


@dataclass(slots=True)
class Rule:
    """What is held: requests of Kafka by key and name, or by the first bytes; or the answers to them."""

    api: int = -1
    name: str = ""
    begins: str = ""
    answer: bool = False

    def fits_request(self, content: bytes) -> tuple[bool, str]:
        """Whether it is this request of Kafka, and the name in it."""
        api, _, _, length = _HEAD.unpack_from(content)
        if api != self.api or api not in _NAMED:
            return False, ""
        at = _HEAD.size + max(length, 0)
        (size,) = _SHORT.unpack_from(content, at)
        name = "" if size < 0 else content[at + 2 : at + 2 + size].decode()
        return re.fullmatch(self.name, name) is not None, name


@dataclass(slots=True)
class Passage:
    """One connection through a wire."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    held: asyncio.Event = field(default_factory=asyncio.Event)
    awaited: int | bool = False
    """The number of the request whose answer is held, or that the next bytes are."""
    number: int = 0
    """Of the rule."""

    def abort(self) -> None:
        """Ends it at once, both ways."""
        for writer in (self.client, self.server):
            with suppress(RuntimeError):
                writer.transport.abort()


@dataclass(slots=True)
class Wire:
    """From a port to another; ``frames``: what passes are requests and answers of Kafka."""

    name: str
    port: int
    to: int
    frames: bool
    tell: Any
    delay_s: float = 0.0
    bytes_a_second: int = 0
    """How many pass of each connection and way; 0: all there are."""
    tearing: bool = False
    """Whether of what comes next only the beginning passes, and its connection ends."""
    refusing: bool = False
    rules: dict[int, Rule] = field(default_factory=dict)
    passages: set[Passage] = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        """One connection, until either side ends it."""
        if self.refusing:
            answers.transport.abort()
            return
        try:
            server, requests = await asyncio.open_connection("127.0.0.1", self.to)
        except OSError:
            answers.transport.abort()
            return
        passage = _Hashed(answers, requests)
        self.passages.add(passage)
        both = [
            asyncio.ensure_future(self._pump(client, requests, passage, True)),
            asyncio.ensure_future(self._pump(server, answers, passage, False)),
        ]
        try:
            await asyncio.wait(both)
        finally:
            self.passages.discard(passage)
            passage.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passage: Passage, asking: bool
    ) -> None:
        try:
            while content := await self._next(reader):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if asking:
                    await self._asked(content, passage)
                elif passage.awaited is not False:
                    await self._answered(content, passage)
                if self.tearing:
                    await self._torn(content, writer, passage)
                    return
                await self._passes(content, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            with suppress(OSError, RuntimeError):
                writer.close()  # what was written still goes

    async def _passes(self, content: bytes, writer: asyncio.StreamWriter) -> None:
        at = 0
        while (piece := self.bytes_a_second // _PIECES) and at < len(content):
            writer.write(content[at : at + piece])
            await writer.drain()
            at += piece
            await asyncio.sleep(1 / _PIECES)
        writer.write(content[at:])
        await writer.drain()

    async def _torn(self, content: bytes, writer: asyncio.StreamWriter, passage: Passage) -> None:
        """Half of it comes, and then nobody is there any more."""
        self.tearing = False
        self.tell({"torn": self.name})
        writer.write(content[: max(1, len(content) // 2)])
        await writer.drain()
        await asyncio.sleep(_TORN_S)
        passage.abort()

    async def _next(self, reader: asyncio.StreamReader) -> bytes:
        if not self.frames:
            return await reader.read(_CHUNK)
        size = await reader.readexactly(4)
        return size + await reader.readexactly(_SIZE.unpack(size)[0])

    async def _asked(self, content: bytes, passage: Passage) -> None:
        for number, rule in list(self.rules.items()):
            if self.frames:
                fits, name = rule.fits_request(content[4:])
            else:
                fits, name = content.startswith(rule.begins.encode()), rule.begins
            if not fits or passage.number:
                continue
            del self.rules[number]
            passage.number = number
            if not rule.answer:
                await self._hold(passage, name)
            elif self.frames:
                passage.awaited = _NUMBER.unpack_from(content, 8)[0]
            else:
                passage.awaited = True
            return

    async def _answered(self, content: bytes, passage: Passage) -> None:
        if self.frames and _NUMBER.unpack_from(content, 4)[0] != passage.awaited:
            return
        passage.awaited = False
        await self._hold(passage, "answer")

    async def _hold(self, passage: Passage, name: str) -> None:
        port = passage.client.get_extra_info("peername")[1]
        self.tell({"held": passage.number, "port": port, "name": name})
        await passage.held.wait()


class _Hashed(Passage):
    __slots__ = ()
    __hash__ = object.__hash__
    __eq__ = object.__eq__


class Wires:
    """All wires, and the orders that come for them."""

    def __init__(self) -> None:
        self.wires: dict[str, Wire] = {}

    def tell(self, what: dict[str, Any]) -> None:
        """One line out."""
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()

    async def order(self, words: dict[str, Any]) -> None:
        """``listen``, ``set``, ``cut``, ``hold``, ``unhold``, ``drop``."""
        name = words["wire"]
        if words["do"] == "listen":
            wire = Wire(name, words["port"], words["to"], words["frames"], self.tell)
            self.wires[name] = wire
            await asyncio.start_server(wire.serve, "127.0.0.1", wire.port)
            return
        wire = self.wires[name]
        match words["do"]:
            case "set":
                wire.delay_s = words.get("delay_s", wire.delay_s)
                wire.bytes_a_second = words.get("bytes_a_second", wire.bytes_a_second)
                wire.tearing = words.get("tearing", wire.tearing)
                wire.refusing = words.get("refusing", wire.refusing)
            case "hold":
                wire.rules[words["number"]] = Rule(**words["rule"])
            case "unhold":
                wire.rules.pop(words["rule"], None)
            case "cut":
                for passage in list(wire.passages):
                    passage.abort()
            case "drop":
                for passage in list(wire.passages):
                    if passage.client.get_extra_info("peername")[1] == words["port"]:
                        passage.abort()
                        passage.held.set()


async def main() -> None:
    """Takes orders until standard input ends."""
    wires, loop = Wires(), asyncio.get_running_loop()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        words = json.loads(line)
        await wires.order(words)
        wires.tell({"done": words["number"]})


if __name__ == "__main__":
    asyncio.run(main())
