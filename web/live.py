"""The live feed: what changed, to every open page, by server-sent events.

Events are ``stored`` (rows were stored: which tables and scopes, see ``changed``), ``overview``
(the whole picture, first thing on every connection) and ``refresh`` (this client was too slow or
something wide changed: ask for everything again). Format: WHATWG HTML, section "Server-sent
events".
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from metering.errors import MeterflowError
from metering.tables import TABLES
from web.answers import encoded

PENDING_MAX = 64
"""Events that wait for one client; a slower one gets a single ``refresh`` instead."""
HEARTBEAT_S = 15.0
RETRY_MS = 2_000


def changed(rows: Mapping[str, Sequence[Mapping[str, Any]]], position: int) -> dict[str, Any]:
    """The data of a ``stored`` event from the rows that were stored, by table.

    Each table gets the number of its rows, the scopes (``plant:ID`` where rows name a plant) and
    the first and last instant of its time column in UTC milliseconds.
    """
    return {
        "position": position,
        "tables": {name: _extent(name, found) for name, found in rows.items() if found},
    }


def _extent(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    times = [row[TABLES[name].time] for row in rows if row.get(TABLES[name].time) is not None]
    scopes = {
        str(row.get("scope") or f"plant:{row.get('plant')}")
        for row in rows
        if "scope" in row or "plant" in row
    }
    return {
        "rows": len(rows),
        "scopes": sorted(scopes),
        "from": min(times, default=None),
        "to": max(times, default=None),
    }


def encode(event: str, data: object, number: int) -> bytes:
    """One event on the wire; JSON has no line breaks, so one data line is enough."""
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (number, event.encode(), encoded(data))


class Client:
    """One open page: a bounded queue of encoded events."""

    def __init__(self, pending_max: int) -> None:
        self._pending: deque[bytes] = deque()
        self._pending_max = pending_max
        self._wake = asyncio.Event()
        self.closed = False

    def put(self, frame: bytes, refresh: bytes) -> None:
        if len(self._pending) >= self._pending_max:
            self._pending.clear()
            frame = refresh
        self._pending.append(frame)
        self._wake.set()

    def close(self) -> None:
        self.closed = True
        self._wake.set()

    async def take(self, timeout_s: float) -> bytes:
        """Everything that waits, or a comment when nothing came for ``timeout_s``."""
        try:
            await asyncio.wait_for(self._wake.wait(), timeout_s)
        except TimeoutError:
            return b": still here\n\n"
        self._wake.clear()
        frames = b"".join(self._pending)
        self._pending.clear()
        return frames


class LiveFeed:
    """Publishes events to every subscribed client. All calls come from one event loop."""

    def __init__(self, *, pending_max: int = PENDING_MAX, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._clients: set[Client] = set()
        self._pending_max = pending_max
        self._heartbeat_s = heartbeat_s
        self._number = 0
        self._closed = False

    @property
    def clients(self) -> int:
        return len(self._clients)

    @property
    def published(self) -> int:
        """How many events there were."""
        return self._number

    def publish(self, event: str, data: Mapping[str, Any]) -> None:
        """Queues an event for every client; never waits, never grows beyond the bound."""
        self._number += 1
        if not self._clients:
            return
        frame, refresh = encode(event, data, self._number), encode("refresh", {}, self._number)
        for client in self._clients:
            client.put(frame, refresh)

    async def stream(self, first: Callable[[], Awaitable[Any]]) -> AsyncIterator[bytes]:
        """The bytes of one connection: retry hint, the overview, then what is published.

        ``first`` gives the overview; it is asked after the client is subscribed, so that nothing
        published meanwhile is missed. When it is not to be had, the stream says ``unavailable``
        and ends; the browser comes again.
        """
        client = Client(self._pending_max)
        self._clients.add(client)
        try:
            yield f"retry: {RETRY_MS}\n\n".encode()
            try:
                yield encode("overview", await first(), self._number)
            except MeterflowError as error:
                yield encode("unavailable", {"error": error.what, "hint": error.hint}, self._number)
                return
            while not (client.closed or self._closed):
                yield await client.take(self._heartbeat_s)
        finally:
            self._clients.discard(client)

    def close(self) -> None:
        """Ends every stream, so that the server can stop."""
        self._closed = True
        for client in self._clients:
            client.close()
