"""The MQTT endpoint: what meters connect to. A message is acknowledged when the log has it.

Listens on one address; gathers what all connections send into batches (intake.py). Anonymous
clients are welcome unless there is a file of users.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Callable
from contextlib import suppress

import structlog

from bus.log import Log
from ingest.clock import wall_clock_ms
from ingest.connection import Connection, taken_over
from ingest.decode import Decoder
from ingest.mqtt_events import Code, Limits
from ingest.mqtt_topics import TopicNames
from ingest.users import User, Users
from ingest.way import Way
from metering.errors import UsageError
from metering.roster import Roster

_log = structlog.get_logger(__name__)
_SWEEP_S = 0.5
_FINISH_S, _FAREWELL_S = 2.4, 0.4
"""How long a stop waits for the last batch, and then for the last packets to leave."""
_HASHES_AT_ONCE = 2


class Endpoint(Way):
    """Runs in one event loop. ``roster`` may be assigned at any time: the next batch sees it."""

    title = "the endpoint"

    def __init__(
        self,
        log: Log,
        roster: Roster,
        *,
        host: str = "127.0.0.1",
        port: int = 1883,
        users: Users | None = None,
        clock_ms: Callable[[], int] = wall_clock_ms,
        tls: ssl.SSLContext | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.limits = limits or Limits()
        super().__init__(log, Decoder(roster), clock_ms, self.limits.gathered_bytes, self._hold)
        self.names = TopicNames()
        self.users = users
        self._host, self._port, self._tls = host, port, tls
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._clients: dict[tuple[str | None, str], Connection] = {}
        self._hashing = asyncio.Semaphore(_HASHES_AT_ONCE)
        self._stopping = False
        self._deserted = asyncio.Event()
        self._deserted.set()

    @property
    def port(self) -> int:
        """The port it listens on, also when it was made with port 0."""
        return self._port

    @property
    def listening(self) -> bool:
        """Whether a reading sent now would come: the port is open, and the log is well."""
        return self._server is not None and not self._stopping and not self.intake.held

    async def start(self) -> None:
        """Listens from when it returns. Raises UsageError when the address cannot be had."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: Connection(self), self._host, self._port, ssl=self._tls, backlog=1024
            )
        except OSError as error:
            raise self._no_address(error) from error
        self._port = self._server.sockets[0].getsockname()[1]
        self._begin(self._sweep())

    async def stop(self) -> None:
        """Takes nothing more, finishes and acknowledges what it has, says goodbye; 3 s at most.

        Wills are not published: the meters did not die, the endpoint went.
        """
        self._stopping = True
        if self._server is not None:
            self._server.close()
        self._hold(True)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.intake.idle(), _FINISH_S)
        for connection in list(self._connections):
            connection.end_for(Code.SERVER_SHUTTING_DOWN, "the endpoint is stopping", with_will=False)
        await self._farewell()
        await self._end()

    async def _farewell(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._deserted.wait(), _FAREWELL_S)
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)

    def _no_address(self, error: OSError) -> UsageError:
        where = f"{self._host}:{self._port}"
        if error.errno == errno.EADDRINUSE:
            hint = "Stop what listens there (another meterflow or Mosquitto?), or choose another --mqtt-port."
            return UsageError("the MQTT port is in use", where=where, hint=hint)
        if error.errno == errno.EACCES:
            hint = "Ports below 1024 need a right: choose another --mqtt-port, such as 1883."
            return UsageError("the MQTT port may not be opened", where=where, hint=hint)
        hint = "Choose an address of this machine: 127.0.0.1, or 0.0.0.0 for all networks."
        return UsageError(f"cannot listen for MQTT: {error.strerror or error}", where=where, hint=hint)

    def _hold(self, held: bool) -> None:
        """Stops or resumes reading on every connection."""
        if not held and self._stopping:
            return
        for connection in self._connections:
            if held:
                connection.hold()
            elif not self.intake.held:  # what a connection had unread may fill the intake again
                connection.release()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            now_s = asyncio.get_running_loop().time()
            for connection in list(self._connections):
                connection.check(now_s)

    # -- what connections call -------------------------------------------------------------------

    def admit(self, connection: Connection) -> bool:
        """Takes a new connection in; false when there are too many."""
        if self._stopping or len(self._connections) >= self.limits.connections:
            self.counters.refusals["too_many_connections"] += 1
            return False
        self._connections.add(connection)
        self._deserted.clear()
        self.counters.connections = len(self._connections)
        return True

    def enter(self, connection: Connection) -> None:
        """A client id is one connection's: an older one is ended. Users do not share their ids."""
        self.counters.connected += 1
        key = self._key(connection)
        older = self._clients.get(key)
        self._clients[key] = connection
        if older is not None:
            taken_over(older)

    def leave(self, connection: Connection) -> None:
        """Forgets a connection that is gone."""
        self._connections.discard(connection)
        self.counters.connections = len(self._connections)
        if not self._connections:
            self._deserted.set()
        if self._clients.get(self._key(connection)) is connection:
            del self._clients[self._key(connection)]

    async def authenticate(self, user: str, password: bytes) -> User:
        """Who that is, and so what they may. Raises PermissionError."""
        assert self.users is not None
        async with self._hashing:
            found = await asyncio.to_thread(self.users.check, user, password)
        if found is None:
            raise PermissionError(user)
        return found

    def _key(self, connection: Connection) -> tuple[str | None, str]:
        return (connection.user if self.users is not None else None), connection.client_id
