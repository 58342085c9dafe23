"""What a collector remembers of its session with the broker, kept with the log.

A session outlives the process: it goes on queueing for the filters that it was given, also when
the settings name others now, and only who remembers them can end them. And only who remembers that
there was a session can see that it is gone, and only who remembers how many messages the broker
had dropped can see that it dropped some meanwhile.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from bus.log import Log

_CHUNK = "session"


@dataclass(frozen=True, slots=True)
class Session:
    """``filters``: what the broker may have; ``dropped``: its own count of dropped messages, if it tells."""

    filters: frozenset[str]
    dropped: int | None = None


class SessionMemory:
    """One client's session, as a snapshot of the consumer ``collector-CLIENT_ID`` on partition 0.

    On Kafka a second collector with the same client id takes it over, and the first gets NotOwner.
    """

    def __init__(self, log: Log, client_id: str, url: str) -> None:
        self._log = log
        self._consumer = f"collector-{client_id}"
        self._url = url
        self._read = False
        self._saved: Session | None = None

    async def load(self) -> Session | None:
        """The session that the broker may have; None when there was none with this broker."""
        if not self._read:
            chunk = (await self._log.load(self._consumer)).chunks.get(_CHUNK)
            found = json.loads(chunk) if chunk else {}
            mine = found.get("url") == self._url
            self._saved = Session(frozenset(found["filters"]), found.get("dropped")) if mine else None
            self._read = True
        return self._saved

    async def save(self, session: Session) -> None:
        """Remembers it, unless it is what is remembered already."""
        if session == self._saved:
            return
        chunk = {"url": self._url, "filters": sorted(session.filters), "dropped": session.dropped}
        self._read = False  # until it is known how this ends
        await self._log.save(self._consumer, 0, {_CHUNK: json.dumps(chunk).encode()})
        self._saved, self._read = session, True
