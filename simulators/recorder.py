"""Records what a broker carries: any topics, byte for byte, with QoS, retain and properties.

    broker ── PUBLISH ──> lines ──> file
       <── PUBACK, PUBREC when the file has them ──┘

A connection that breaks is made anew until the recorder is stopped. Where messages are missing, or
may be, a gap is written into the recording and told: while there was no connection, and when the
broker counts messages that it dropped because a queue was full (Mosquitto does, every 10 s).
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from metering.errors import MeterflowError, UsageError
from metering.instants import rfc3339
from simulators.mqtt_address import parse_address
from simulators.mqtt_listening import Listening, Lost, Publish, WrongVersion
from simulators.mqtt_wire import BAD_CODES
from simulators.recording import Gap, Message, encode_gap, encode_line
from simulators.recording_live import LiveRecording

DROPPED = "$SYS/broker/publish/messages/dropped"
UPTIME = "$SYS/broker/uptime"
"""Mosquitto tells it each time it tells its other counts."""
WAIT_S = 0.1
FIRST_PATIENCE_S = 10.0
BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.2, 5.0
_FILTERS_MAX = 1_000


@dataclass(slots=True)
class RecordReport:
    """What was recorded. ``gaps``: each with ``from``, ``to`` and ``why``; ``dropped``: as the broker counts.

    ``drops_told_until``: up to when the broker has told what it dropped, none where it never does.
    ``again``: messages marked as sent before, some of which may be in the recording twice.
    """

    messages: int = 0
    payload_bytes: int = 0
    again: int = 0
    reconnects: int = 0
    dropped: int = 0
    drops_told_until: str | None = None
    seconds: float = 0.0
    gaps: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


Say = Callable[[str], None]
Progress = Callable[[int], None]


def check_filters(filters: Sequence[str]) -> list[str]:
    """Those that are needed: what another covers is left out, for it would come twice.

    Raises UsageError for one that MQTT does not have.
    """
    for one in filters:
        levels = one.split("/")
        bad = any(("#" in level or "+" in level) and len(level) > 1 for level in levels)
        if not one or "\0" in one or bad or "#" in levels[:-1] or len(one.encode()) > 65_535:
            hint = "+ stands for one level, # at the end for all below"
            raise UsageError(f"{one!r} is no topic filter", hint=hint)
    kept = dict.fromkeys(filters)
    needed = [one for one in kept if not any(other != one and covers(other, one) for other in kept)]
    if len(needed) > _FILTERS_MAX:
        raise UsageError(f"{len(needed)} topic filters are too many", hint="use + and #")
    return needed


def covers(wide: str, narrow: str) -> bool:
    """Whether a filter takes every topic that another one takes (or a topic)."""
    if wide.startswith("$share/") or (narrow.startswith("$") and not wide.startswith("$")):
        return False
    ours, theirs = wide.split("/"), narrow.split("/")
    for i, level in enumerate(ours):
        if level == "#":
            return True
        if i >= len(theirs) or theirs[i] == "#" or (level != "+" and level != theirs[i]):
            return False
    return len(ours) == len(theirs)


class Recorder:
    """Records until ``stop`` is set; all in the caller's thread."""

    def __init__(
        self,
        url: str,
        filters: Sequence[str],
        out: LiveRecording,
        stop: threading.Event,
        *,
        user: str | None = None,
        password: str | None = None,
        qos: int = 2,
        retained: bool = True,
        say: Say = lambda _text: None,
        progress: Progress = lambda _messages: None,
    ) -> None:
        self.report = RecordReport()
        self._address = parse_address(url, user, password)
        self._filters = check_filters(filters)
        self._out, self._stop, self._qos, self._retained = out, stop, qos, retained
        self._say, self._progress = say, progress
        self._client_id = f"meterflow-record-{secrets.token_hex(6)}"
        self._version = 5
        self._watched = True
        self._unseen = {one for one in (DROPPED, UPTIME) if not any(covers(f, one) for f in self._filters)}
        self._dropped: int | None = None
        self._told_ms = 0
        self._half_taken: set[bytes] = set()  # of QoS 2, kept and not yet released
        self._connection: Listening | None = None
        self._heard_ms: int | None = None  # before the connection broke
        self._pause_s = BACKOFF_FIRST_S

    def run(self, until_s: float | None = None) -> RecordReport:
        """Until stopped, or ``time.monotonic`` is ``until_s``. Raises MeterflowError, OSError of the file."""
        began_s = time.monotonic()
        if self._out.last_ms is not None:
            self._gap(Gap(_now_ms(), self._out.last_ms, "recording was stopped"))
        try:
            self._begin(began_s + FIRST_PATIENCE_S)
            self._say(f"recording {' '.join(self._filters)} of {self._address}")
            while not self._over(until_s):
                self._step(until_s)
            if self._connection is None and self._heard_ms is not None:
                self._gap(Gap(_now_ms(), self._heard_ms, "no connection to the broker"))
        finally:
            self.report.seconds = time.monotonic() - began_s
            if self._connection is not None:
                self._connection.close(politely=True)
            if self._told_ms:
                self.report.drops_told_until = rfc3339(self._told_ms)
        return self.report

    def _over(self, until_s: float | None) -> bool:
        return self._stop.is_set() or (until_s is not None and time.monotonic() >= until_s)

    def _step(self, until_s: float | None) -> None:
        connection = self._connection
        if connection is None:
            self._reconnect(until_s)
            return
        try:
            self._take(connection)
        except Lost as lost:
            self._broken(connection, lost)
        self._out.settle()

    # -- connections -----------------------------------------------------------------------------

    def _begin(self, patience_until_s: float) -> None:
        while self._connection is None:
            try:
                self._connection = self._connect(clean=True)
            except Lost as error:
                if isinstance(error, WrongVersion):
                    self._version = 4 if self._version == 5 else 5
                if self._stop.wait(BACKOFF_FIRST_S) or time.monotonic() > patience_until_s:
                    raise

    def _connect(self, *, clean: bool) -> Listening:
        connection = Listening(self._address, self._client_id, self._version, clean=clean)
        if not connection.session_present:
            self._half_taken.clear()
        try:
            self._subscribe(connection)
        except BaseException:
            connection.close(politely=False)
            raise
        return connection

    def _subscribe(self, connection: Listening) -> None:
        codes = connection.subscribe(self._filters, self._qos, retained=self._retained)
        for one, code in zip(self._filters, codes, strict=False):
            if code >= BAD_CODES:
                hint = "choose topics that the user may read"
                what = f"the broker refuses the subscription to '{one}', reason 0x{code:02x}"
                raise MeterflowError(what, where=str(self._address), hint=hint)
            if code < self._qos:
                self._warn(f"the broker gives '{one}' at QoS {code} only")
        if self._watched and self._unseen:
            try:
                connection.subscribe(sorted(self._unseen), 0, retained=True)
            except Lost:
                self._watched = False  # some brokers end the connection for it
                raise

    def _warn(self, text: str) -> None:
        if text not in self.report.warnings:
            self.report.warnings.append(text)
            self._say(text)

    def _broken(self, connection: Listening, lost: Lost) -> None:
        connection.close(politely=False)
        self._connection = None
        silent_ms = int((time.monotonic() - connection.heard_s) * 1_000)
        if self._heard_ms is None:
            self._heard_ms = _now_ms() - silent_ms
        self._say(f"{self._address}: the connection is lost: {lost.what}; connecting again")

    def _reconnect(self, until_s: float | None) -> None:
        """Tries once, and waits a little where that was in vain."""
        try:
            connection = self._connect(clean=False)
        except MeterflowError as error:
            if not isinstance(error, Lost):
                self._warn(str(error))
            left_s = self._pause_s if until_s is None else min(self._pause_s, until_s - time.monotonic())
            self._stop.wait(max(0.0, left_s))
            self._pause_s = min(2 * self._pause_s, BACKOFF_MAX_S)
            return
        assert self._heard_ms is not None, "a connection broke before"
        self.report.reconnects += 1
        queued = connection.session_present
        kept = "what came at QoS 1 and 2 meanwhile follows" if queued else "the broker kept nothing meanwhile"
        self._gap(Gap(_now_ms(), self._heard_ms, f"the connection was lost; {kept}", queued))
        self._heard_ms, self._connection, self._pause_s = None, connection, BACKOFF_FIRST_S

    # -- messages --------------------------------------------------------------------------------

    def _take(self, connection: Listening) -> None:
        """Keeps what has come, then says so to the broker."""
        came, released = connection.read(WAIT_S)
        if came:
            self._keep(came)
        if came or released:
            connection.acknowledge(came, released)
            self._half_taken.difference_update(released[i : i + 2] for i in range(0, len(released), 2))
            self._progress(self.report.messages)

    def _keep(self, came: Sequence[Publish]) -> None:
        now_ms, report = _now_ms(), self.report
        lines: list[bytes] = []
        for one in came:
            if one.qos == 2:
                if one.identifier in self._half_taken:
                    continue
                self._half_taken.add(one.identifier)
            report.again += one.again
            try:
                topic = one.topic.decode()
            except UnicodeDecodeError:
                self._lose(now_ms, f"a message with a topic that is not UTF-8: {one.topic[:100]!r}")
                continue
            if topic in (DROPPED, UPTIME):
                self._watch(topic, one.payload, now_ms)
                if topic in self._unseen:
                    continue
            message = Message(now_ms, topic, one.qos, one.payload, one.retain, one.properties)
            lines.append(encode_line(message))
            report.payload_bytes += len(one.payload)
        report.messages += len(lines)
        if lines:
            self._out.write(b"".join(lines), len(lines))

    def _watch(self, topic: str, payload: bytes, now_ms: int) -> None:
        """Compares the broker's count of what it dropped with the one before."""
        since_ms, self._told_ms = self._told_ms or now_ms, now_ms
        if topic != DROPPED or not payload.isdigit() or len(payload) > 18:
            return
        before, self._dropped = self._dropped, int(payload)
        if before is None or self._dropped == before:
            return
        grown = self._dropped - before if self._dropped > before else self._dropped
        if grown:
            self.report.dropped += grown
            why = (
                f"the broker dropped {grown} messages of some client because a queue was full"
                " (Mosquitto: max_queued_messages 0 queues all)"
            )
            self._gap(Gap(now_ms, since_ms, why, dropped=grown))

    def _lose(self, now_ms: int, why: str) -> None:
        self._gap(Gap(now_ms, now_ms, why))

    def _gap(self, gap: Gap) -> None:
        since, until = rfc3339(gap.from_ms), rfc3339(gap.received_ms)
        self._out.write(encode_gap(gap), 0)
        self.report.gaps.append({"from": since, "to": until, "why": gap.why})
        self._say(f"messages may be missing from {since} to {until}: {gap.why}")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
