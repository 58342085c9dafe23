"""Plays recordings into a broker or endpoint, with the stamps they have."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from metering.errors import MeterflowError, UsageError
from simulators.mqtt_address import parse_address
from simulators.mqtt_sender import WINDOW_MESSAGES, Sender, Stopped
from simulators.recording import Message, merged

PATIENCE_S = 60.0
TELL_EVERY_S = 0.2
WAIT_MAX_S = 0.25


@dataclass(frozen=True, slots=True)
class ReplayProgress:
    """``done``: messages from the first on that are done without a gap; ``skip`` them to go on.

    ``received_ms``: when the message given last was received in the recording.
    """

    done: int
    acknowledged: int
    received_ms: int


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What became of the messages: messages = skipped + acknowledged + at_qos_0 + refused.

    ``refused``: reason -> messages not taken by the other side. ``resent``: published again after
    a connection broke. ``lowered``: sent with a lower QoS or without retain, because the other
    side does not take more. ``rate_hz``: messages a second, from the first to the last answer.
    """

    messages: int
    skipped: int
    acknowledged: int
    at_qos_0: int
    resent: int
    reconnects: int
    lowered: int
    seconds: float
    rate_hz: float
    refused: dict[str, int] = field(default_factory=dict)


async def replay(
    recordings: Sequence[str | os.PathLike[str]],
    url: str,
    speed: float | None = None,
    *,
    user: str | None = None,
    password: str | None = None,
    skip: int = 0,
    window_messages: int = WINDOW_MESSAGES,
    patience_s: float = PATIENCE_S,
    progress: Callable[[ReplayProgress], None] | None = None,
) -> ReplayReport:
    """Publishes every message, in the order they were received, and waits for every PUBACK.

    ``speed``: 1 plays as fast as it was recorded, N that many times faster, None as fast as it
    goes. A connection that breaks is made anew and what was not acknowledged is sent again. Raises
    Unavailable when nothing is acknowledged for ``patience_s``, MeterflowError when access is
    refused, UsageError for a wrong recording or address. Cancelling stops it.
    """
    if speed is not None and not speed > 0:
        raise UsageError(f"a speed of {speed} is not possible", hint="give 1, a number above 0, or max")
    stop = threading.Event()
    sender = Sender(
        parse_address(url, user, password),
        window_messages=window_messages,
        patience_s=patience_s,
        stop=stop,
    )
    player = _Player(sender, speed, progress or _tell_nobody)
    task = asyncio.create_task(asyncio.to_thread(player.play, merged(recordings), skip))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.gather(task, return_exceptions=True)
        raise


def _tell_nobody(_progress: ReplayProgress) -> None:
    return


class _Player:
    def __init__(self, sender: Sender, speed: float | None, tell: Callable[[ReplayProgress], None]) -> None:
        self._sender = sender
        self._speed = speed
        self._tell = tell
        self._told_at = time.monotonic()
        self._skipped = 0
        self._first_ms: int | None = None
        self._received_ms = 0
        self._started = time.monotonic()

    def play(self, messages: Iterator[Message], skip: int) -> ReplayReport:
        """Runs in a thread of its own until all is done, or ``stop`` is set (raises Stopped)."""
        self._skipped = sum(1 for _ in islice(messages, skip))
        self._started = time.monotonic()
        try:
            for message in messages:
                self._received_ms = message.received_ms
                self._wait_for(message.received_ms)
                self._sender.send(message)
                self._tell_now_and_then()
            while not self._sender.drain(TELL_EVERY_S):
                self._tell_now_and_then()
            self._tell_now_and_then(at_once=True)
            return self._report()
        except MeterflowError as error:
            raise _with_place(error, self._skipped + self._sender.done) from error
        finally:
            self._sender.close()

    def _wait_for(self, received_ms: int) -> None:
        if self._speed is None:
            return
        if self._first_ms is None:
            self._first_ms = received_ms
        due = self._started + (received_ms - self._first_ms) / 1_000 / self._speed
        while (wait_s := due - time.monotonic()) > 0:
            self._sender.poll(min(wait_s, WAIT_MAX_S))
            self._tell_now_and_then()

    def _tell_now_and_then(self, at_once: bool = False) -> None:
        now = time.monotonic()
        if at_once or now - self._told_at > TELL_EVERY_S:
            self._told_at = now
            done = self._skipped + self._sender.done
            self._tell(ReplayProgress(done, self._sender.counts.acknowledged, self._received_ms))

    def _report(self) -> ReplayReport:
        counts, seconds = self._sender.counts, time.monotonic() - self._started
        return ReplayReport(
            messages=self._skipped + counts.given,
            skipped=self._skipped,
            acknowledged=counts.acknowledged,
            at_qos_0=counts.at_qos_0,
            resent=counts.resent,
            reconnects=counts.reconnects,
            lowered=counts.lowered,
            seconds=seconds,
            rate_hz=counts.given / seconds if seconds > 0 else 0.0,
            refused=dict(counts.refused),
        )


def _with_place(error: MeterflowError, done: int) -> MeterflowError:
    """The same error; its hint says where to go on."""
    if done and not isinstance(error, UsageError):
        error.hint = f"{error.hint}; the first {done} messages are done and can be skipped".lstrip("; ")
    return error


__all__ = ["ReplayProgress", "ReplayReport", "Stopped", "replay"]
