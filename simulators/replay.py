"""Plays recordings into a broker or endpoint, with the stamps they have, or with others."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from metering.errors import MeterflowError, UsageError
from simulators.mqtt_address import parse_address
from simulators.mqtt_sender import WINDOW_MESSAGES, Sender, Stopped
from simulators.recording import Message
from simulators.replay_plan import Notes, Part, schedule

PATIENCE_S = 60.0
TELL_EVERY_S = 0.2
WAIT_MAX_S = 0.25
FINISH_S = 5.0
"""How long what is on its way is waited for when a replay is stopped."""
CLOCK_BACK_MS = 60_000
"""A recording's clock that goes back further than this was put back: time goes on from there."""


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
    """What became of the messages: messages = skipped + acknowledged + at_qos_0 + refused + unacknowledged.

    ``refused``: reason -> messages not taken by the other side. ``left_out``: of stamps that cannot be
    moved, not among ``messages``. ``resent``: published again after a connection broke. ``lowered``:
    sent with a lower QoS or without retain, because the other side does not take more. ``rate_hz``:
    messages a second, from the first to the last answer. ``lag_s``: how late the last message was
    sent, at a speed; ``lag_max_s``: the latest. ``reached``: the recordings' time by the time it took.
    ``gaps``: known to the recordings; ``cut``: recordings that were cut off at their end.
    """

    messages: int
    skipped: int
    acknowledged: int
    at_qos_0: int
    unacknowledged: int
    resent: int
    reconnects: int
    lowered: int
    left_out: int
    rounds: int
    seconds: float
    rate_hz: float
    reached: float
    lag_s: float
    lag_max_s: float
    stopped: bool
    gaps: int
    cut: list[str] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)


Tell = Callable[[ReplayProgress], None]


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
    progress: Tell | None = None,
) -> ReplayReport:
    """Publishes every message, in the order they were received, and waits for every PUBACK.

    ``speed``: 1 plays as fast as it was recorded, N that many times faster, None as fast as it
    goes. A connection that breaks is made anew and what was not acknowledged is sent again. Raises
    Unavailable when nothing is acknowledged for ``patience_s``, MeterflowError when access is
    refused, UsageError for a wrong recording or address. Cancelling stops it.
    """
    stop = threading.Event()
    player = Replay(
        Part(recordings), url, speed, user=user, password=password, skip=skip,
        window_messages=window_messages, patience_s=patience_s, progress=progress, stop=stop,
    )  # fmt: skip
    task = asyncio.create_task(asyncio.to_thread(player.run))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.gather(task, return_exceptions=True)
        raise


def _tell_nobody(_progress: ReplayProgress) -> None:
    return


class Replay:
    """One replay, in the caller's thread; ``stop`` ends it early. ``report`` may be asked at any time."""

    def __init__(
        self,
        part: Part,
        url: str,
        speed: float | None = None,
        *,
        user: str | None = None,
        password: str | None = None,
        skip: int = 0,
        window_messages: int = WINDOW_MESSAGES,
        patience_s: float = PATIENCE_S,
        progress: Tell | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        if speed is not None and not speed > 0:
            raise UsageError(f"a speed of {speed} is not possible", hint="give 1, a number above 0, or max")
        self._part, self._speed, self._skip = part, speed, skip
        self._sender = Sender(
            parse_address(url, user, password),
            window_messages=window_messages,
            patience_s=patience_s,
            stop=stop or threading.Event(),
        )
        self._tell = progress or _tell_nobody
        self._notes = Notes()
        self._told_at = self._started = time.monotonic()
        self._skipped = 0
        self._first_ms: int | None = None
        self._received_ms = 0
        self._played_ms = 0
        self._lag_s = self._lag_max_s = 0.0
        self._stopped = False

    def run(self) -> ReplayReport:
        """Until all is done, or ``stop`` is set."""
        try:
            self._play(schedule(self._part, self._speed, self._notes))
        except Stopped:
            self._stopped = True
            self._sender.finish(FINISH_S)
        except MeterflowError as error:
            self._sender.finish(FINISH_S if isinstance(error, UsageError) else 0.0)
            raise _with_place(error, self._skipped + self._sender.done) from error
        finally:
            self._sender.close()
        return self.report()

    def _play(self, messages: Iterator[Message]) -> None:
        for message in messages:
            if self._skipped < self._skip:
                self._skipped += 1
                continue
            self._wait_for(message.received_ms)
            self._sender.send(message)
            self._tell_now_and_then()
        while not self._sender.drain(TELL_EVERY_S):
            self._tell_now_and_then()
        self._tell_now_and_then(at_once=True)

    def _wait_for(self, received_ms: int) -> None:
        if self._first_ms is None:
            self._first_ms, self._received_ms = received_ms, received_ms
            self._started = time.monotonic()
        elif received_ms < self._received_ms - CLOCK_BACK_MS:
            self._first_ms -= self._received_ms - received_ms
        self._received_ms = received_ms
        self._played_ms = max(self._played_ms, received_ms - self._first_ms)
        if self._speed is None:
            return
        due = self._started + (received_ms - self._first_ms) / 1_000 / self._speed
        while (wait_s := due - time.monotonic()) > 0:
            self._sender.poll(min(wait_s, WAIT_MAX_S))
            self._tell_now_and_then()
        self._lag_s = -wait_s
        self._lag_max_s = max(self._lag_max_s, self._lag_s)

    def _tell_now_and_then(self, at_once: bool = False) -> None:
        now = time.monotonic()
        if at_once or now - self._told_at > TELL_EVERY_S:
            self._told_at = now
            done = self._skipped + self._sender.done
            self._tell(ReplayProgress(done, self._sender.counts.acknowledged, self._received_ms))

    def report(self) -> ReplayReport:
        """What became of the messages so far."""
        counts, notes, seconds = self._sender.counts, self._notes, time.monotonic() - self._started
        return ReplayReport(
            messages=self._skipped + counts.given,
            skipped=self._skipped,
            acknowledged=counts.acknowledged,
            at_qos_0=counts.at_qos_0,
            unacknowledged=self._sender.open_messages,
            resent=counts.resent,
            reconnects=counts.reconnects,
            lowered=counts.lowered,
            left_out=notes.left_out,
            rounds=notes.rounds,
            seconds=seconds,
            rate_hz=counts.given / seconds if seconds > 0 else 0.0,
            reached=self._played_ms / 1_000 / seconds if seconds > 0 else 0.0,
            lag_s=self._lag_s,
            lag_max_s=self._lag_max_s,
            stopped=self._stopped,
            gaps=len(notes.gaps),
            cut=notes.cut,
            refused=dict(counts.refused),
        )


def _with_place(error: MeterflowError, done: int) -> MeterflowError:
    """The same error; its hint says where to go on."""
    if done:
        error.hint = f"{error.hint}; the first {done} messages are done and can be skipped".lstrip("; ")
    return error


__all__ = ["Replay", "ReplayProgress", "ReplayReport", "Stopped", "replay"]
