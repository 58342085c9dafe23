"""Publishes messages so that none is lost: a bounded window, and all that is not acknowledged again.

Whoever uses it calls ``send`` and, while there is nothing to send, ``poll``; all happens in the
caller's thread. Messages are numbered from 0 as they are given.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field

from metering.errors import MeterflowError, Unavailable
from simulators.mqtt_address import Address
from simulators.mqtt_connection import CONNECT_TIMEOUT_S, Connection, NotGreeted, Refused
from simulators.recording import Message

WINDOW_MESSAGES = 10_000
WINDOW_BYTES = 16 << 20
"""However few messages that is: one at least."""
UNANSWERED_MAX = 1_000
"""Messages at QoS 0 that no answered ping is behind."""
GATHER_MESSAGES = 64
POLL_S = 0.1
FIRST_PATIENCE_S = 10.0
"""Where nobody has ever answered, waiting longer is seldom what is wanted."""
BACKOFF_FIRST_S = 0.1
BACKOFF_MAX_S = 5.0
STRIKES_ALONE = 2
"""After so many connections without progress the messages go one at a time, to find the culprit."""
STRIKES_MAX = 5
MQTT_5, MQTT_3 = 5, 4


class Stopped(Exception):
    """The caller's ``stop`` was set while waiting."""


@dataclass(slots=True)
class Counts:
    """What happened so far. ``lowered``: sent with less (QoS, retain, properties) than it has.

    ``refused``: reason -> messages that the other side or MQTT itself did not take.
    """

    given: int = 0
    acknowledged: int = 0
    at_qos_0: int = 0
    resent: int = 0
    reconnects: int = 0
    lowered: int = 0
    refused: Counter[str] = field(default_factory=Counter)


class Sender:
    """A publisher to one address.

    ``patience_s``: how long nothing may be acknowledged before Unavailable is raised; None waits
    for ever. ``give_up_on``: a message at which the other side closes again and again is counted
    as refused; otherwise it is tried for ever. ``stop``: Stopped is raised when it is set.
    """

    def __init__(
        self,
        address: Address,
        *,
        window_messages: int = WINDOW_MESSAGES,
        patience_s: float | None = 60.0,
        give_up_on: bool = True,
        stop: threading.Event | None = None,
    ) -> None:
        self.counts = Counts()
        self._address = address
        self._window = window_messages
        self._patience_s = patience_s
        self._connect_s = min(CONNECT_TIMEOUT_S, patience_s or CONNECT_TIMEOUT_S)
        self._give_up_on = give_up_on
        self._stop = stop or threading.Event()
        self._connection: Connection | None = None
        self._connected_once = False
        self._trouble: Unavailable | None = None  # why there is no connection
        self._version = MQTT_5
        self._open: dict[int, Message] = {}  # not acknowledged, in the order of their numbers
        self._open_bytes = 0
        self._queue: deque[int] = deque()  # of these, not yet published on this connection
        self._numbers: dict[int, int] = {}  # the connection's number -> ours
        self._progress_at = time.monotonic()
        self._progressed = False
        self._strikes = 0
        self._backoff_s = BACKOFF_FIRST_S

    @property
    def done(self) -> int:
        """How many messages from the first on are done without a gap: a place to go on from."""
        return next(iter(self._open), self.counts.given)

    @property
    def open_messages(self) -> int:
        return len(self._open)

    def send(self, message: Message) -> None:
        """Takes a message; waits while the window is full."""
        while len(self._open) >= self._window or self._open_bytes >= WINDOW_BYTES:
            self.poll(POLL_S)
        if not self._open:
            self._progress_at = time.monotonic()
        number = self.counts.given
        self.counts.given += 1
        self._open[number] = message
        self._open_bytes += len(message.payload)
        self._queue.append(number)
        if len(self._queue) >= GATHER_MESSAGES:
            self.poll(0.0)

    def poll(self, wait_s: float, *, heed_stop: bool = True) -> None:
        """Moves things on; returns when something happened, or after ``wait_s``."""
        if heed_stop and self._stop.is_set():
            raise Stopped
        self._check_patience()
        connection = self._connection or self._reconnected(wait_s)
        if connection is None:
            return
        self._publish_queued(connection)
        connection.exchange(wait_s)
        self._settle(connection)
        if connection.lost:
            self._drop(connection)

    def drain(self, timeout_s: float) -> bool:
        """Waits until nothing is open; false after ``timeout_s``."""
        until = time.monotonic() + timeout_s
        while self._open:
            if time.monotonic() >= until:
                return False
            self.poll(POLL_S)
        return True

    def finish(self, timeout_s: float) -> None:
        """After ``stop``: waits a little for what is on its way, on the connection there is, and closes."""
        until = time.monotonic() + timeout_s
        with suppress(MeterflowError):
            while self._open and self._connection is not None and time.monotonic() < until:
                self.poll(POLL_S, heed_stop=False)
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _reconnected(self, wait_s: float) -> Connection | None:
        try:
            connection = Connection(self._address, self._version, self._connect_s)
        except Unavailable as error:
            self._trouble = error
            self._other_version(error)
            self._stop.wait(min(self._backoff_s, max(wait_s, BACKOFF_FIRST_S)))
            self._backoff_s = min(self._backoff_s * 2, BACKOFF_MAX_S)
            return None
        self.counts.reconnects += self._connected_once
        self._connected_once = True
        self._trouble = None
        self._connection = connection
        self._progressed = False
        return connection

    def _other_version(self, error: Unavailable) -> None:
        """Brokers without MQTT 5 close, or refuse its version, before they ever took a connection."""
        if not self._connected_once and isinstance(error, NotGreeted):
            self._version = MQTT_3 if self._version == MQTT_5 else MQTT_5

    def _publish_queued(self, connection: Connection) -> None:
        alone = self._strikes >= STRIKES_ALONE
        room = (1 if alone else self._window) - len(self._numbers)
        receive_max, waiting = connection.limits.receive_max, connection.waiting
        while room > 0 and self._queue:
            number = self._queue[0]
            message = self._open[number]
            if len(waiting) >= receive_max if message.qos else connection.unanswered >= UNANSWERED_MAX:
                return
            self._queue.popleft()
            room -= self._publish(connection, number, message)

    def _publish(self, connection: Connection, number: int, message: Message) -> bool:
        limits, properties = connection.limits, message.properties
        qos, retain = message.qos, message.retain
        if qos > limits.qos_max or (retain and not limits.retain) or (properties and self._version != MQTT_5):
            qos, retain = min(qos, limits.qos_max), retain and limits.retain
            self.counts.lowered += 1
        try:
            given = connection.publish(message.topic, message.payload, qos, retain, properties)
        except Refused as refusal:
            self._refuse(number, str(refusal))
            return False
        self._numbers[given] = number
        return True

    def _refuse(self, number: int, reason: str) -> None:
        self._open_bytes -= len(self._open.pop(number).payload)
        self.counts.refused[reason] += 1

    def _settle(self, connection: Connection) -> None:
        """Takes away what was acknowledged."""
        for given, refusal in connection.done:
            number = self._numbers.pop(given)
            if refusal:
                self._refuse(number, refusal)
                continue
            self._open_bytes -= len(self._open.pop(number).payload)
            if given < 0:
                self.counts.at_qos_0 += 1
            else:
                self.counts.acknowledged += 1
        if connection.done:
            connection.done.clear()
            self._progress_at = time.monotonic()
            self._progressed = True
            self._strikes = 0
            self._backoff_s = BACKOFF_FIRST_S

    def _drop(self, connection: Connection) -> None:
        """The connection is gone: everything open is published again on the next one."""
        connection.abandon()
        self._connection = None
        self.counts.resent += len(self._numbers)
        if self._numbers and not self._progressed:
            self._strikes += 1
            if self._give_up_on and self._strikes >= STRIKES_MAX and len(self._numbers) == 1:
                self._refuse(next(iter(self._numbers.values())), f"closes at it: {connection.lost}")
                self.counts.resent -= 1
                self._strikes = STRIKES_ALONE
            self._stop.wait(self._backoff_s)
            self._backoff_s = min(self._backoff_s * 2, BACKOFF_MAX_S)
        self._numbers.clear()
        self._queue = deque(self._open)

    def _check_patience(self) -> None:
        if self._patience_s is None or not self._open:
            return
        patience_s = self._patience_s if self._connected_once else min(self._patience_s, FIRST_PATIENCE_S)
        if time.monotonic() - self._progress_at <= patience_s:
            return
        if self._trouble is not None:
            raise self._trouble
        raise Unavailable(
            f"nothing was acknowledged for {patience_s:.0f} s, {len(self._open)} messages are open",
            where=str(self._address),
            hint="check that the service or broker is well and has space, then go on from there",
        )
