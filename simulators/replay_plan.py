"""What a replay plays: which messages, how often, and with which stamps.

The recording's own clock goes on from round to round, so that whoever plays needs one clock only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from metering.errors import UsageError
from metering.instants import rfc3339
from simulators.recording import STANDARD, Gap, Message, Told, merged
from simulators.restamp import MINUTE_MS, Unmovable, moved, stamps

Name = str | os.PathLike[str]
Unstamped = Literal["refuse", "send", "leave"]


@dataclass(frozen=True, slots=True)
class Part:
    """What of the recordings is played. ``rounds``: how often, 0: for ever.

    ``begin_ms`` <= received < ``end_ms``. ``stamps``: None as they are, "now", or when the first
    message is to count as received. ``unstamped``: what becomes of messages whose stamps cannot be
    moved; ``refuse`` plays nothing at all where there is one.
    """

    recordings: Sequence[Name]
    begin_ms: int | None = None
    end_ms: int | None = None
    rounds: int = 1
    stamps: int | Literal["now"] | None = None
    unstamped: Unstamped = "refuse"


@dataclass(slots=True)
class Notes:
    """What was found while playing. ``cut``: recordings that end in the middle of a line."""

    left_out: int = 0
    rounds: int = 0
    gaps: set[Gap] = field(default_factory=set)
    cut: list[str] = field(default_factory=list)

    def told(self, found: Gap | UsageError) -> None:
        if isinstance(found, Gap):
            self.gaps.add(found)
        elif str(found) not in self.cut:
            self.cut.append(str(found))


@dataclass(slots=True)
class _Survey:
    messages: int = 0
    received_ms: tuple[int, int] | None = None
    stamps_ms: tuple[int, int] | None = None
    unmovable: int = 0
    example: UsageError | None = None


def schedule(part: Part, speed: float | None, notes: Notes) -> Iterator[Message]:
    """The messages in order, ``received_ms`` going on from round to round.

    Raises UsageError where that cannot be.
    """
    if STANDARD in [os.fspath(one) for one in part.recordings] and (
        part.rounds != 1 or part.stamps is not None
    ):
        hint = "write it to a file first"
        raise UsageError("standard input cannot be read twice", where=STANDARD, hint=hint)
    if part.stamps is None:
        return _rounds(part, notes)
    if part.stamps == "now" and part.rounds == 0 and speed != 1:
        hint = "give --rounds instead of --loop, or --speed 1"
        raise UsageError("stamps would run away from the clock in an endless loop at that speed", hint=hint)
    return _restamped(part, speed, notes)


def _window(part: Part, told: Told) -> Iterator[Message]:
    messages = merged(part.recordings, told)
    if part.begin_ms is None and part.end_ms is None:
        return messages
    begin = -(1 << 62) if part.begin_ms is None else part.begin_ms
    end = 1 << 62 if part.end_ms is None else part.end_ms
    return (message for message in messages if begin <= message.received_ms < end)


def _rounds(part: Part, notes: Notes) -> Iterator[Message]:
    """With the stamps they have; a round begins a full minute, or a little more, behind the last."""
    later_ms = 0
    for number in _numbers(part.rounds):
        lowest, highest = 1 << 62, -(1 << 62)
        for message in _window(part, notes.told):
            lowest, highest = min(lowest, message.received_ms), max(highest, message.received_ms)
            yield message._replace(received_ms=message.received_ms + later_ms) if later_ms else message
        if highest < lowest:
            return  # there is nothing to be played
        notes.rounds = number + 1
        later_ms += _period_ms(highest - lowest)


def _restamped(part: Part, speed: float | None, notes: Notes) -> Iterator[Message]:
    survey = _survey(part)
    if survey.example is not None and part.unstamped == "refuse":
        survey.example.hint = (
            f"{survey.unmovable} of {survey.messages} messages are such: --unstamped send sends them as"
            " they are, --unstamped leave leaves them out"
        )
        raise survey.example
    if survey.received_ms is None:
        return
    low, high = survey.received_ms
    stamped = survey.stamps_ms or (0, 0)
    period_ms = _period_ms(max(high - low, stamped[1] - stamped[0]))
    minutes = _shift_minutes(part, speed, survey, period_ms)
    for number in _numbers(part.rounds):
        for message in _window(part, notes.told):
            try:
                payload = moved(message.topic, message.payload, minutes)
            except Unmovable:
                if part.unstamped == "leave":
                    notes.left_out += 1
                    continue
                payload = message.payload
            later = message.received_ms + minutes * MINUTE_MS
            yield message._replace(received_ms=later, payload=payload)
        notes.rounds = number + 1
        minutes += period_ms // MINUTE_MS


def _numbers(rounds: int) -> Iterator[int]:
    return iter(range(rounds)) if rounds else count()


def _period_ms(span_ms: int) -> int:
    """From one round to the next: whole minutes, and no instant of both."""
    return (span_ms // MINUTE_MS + 1) * MINUTE_MS


def _shift_minutes(part: Part, speed: float | None, survey: _Survey, period_ms: int) -> int:
    """How far the stamps of the first round move; for "now" so that none is ever ahead of the clock."""
    assert survey.received_ms is not None
    low, high = survey.received_ms
    if isinstance(part.stamps, int):
        return (part.stamps - low) // MINUTE_MS
    whole_ms = (part.rounds - 1) * period_ms + high - low if part.rounds else 0
    takes_ms = 0.0 if speed is None else whole_ms / speed
    return int(time.time() * 1_000 + min(0.0, takes_ms - whole_ms) - low) // MINUTE_MS


def _survey(part: Part) -> _Survey:
    """Reads all that is to be played, once: nothing is sent before it is known that all can be."""
    found = _Survey()
    received: list[int] = []
    stamped: list[int] = []
    for message in _window(part, Notes().told):
        found.messages += 1
        _widen(received, message.received_ms)
        try:
            for stamp_ms in stamps(message.topic, message.payload):
                _widen(stamped, stamp_ms)
        except Unmovable as error:
            found.unmovable += 1
            if found.example is None:
                where = f"topic '{message.topic}', received {rfc3339(message.received_ms)}"
                found.example = UsageError(f"its stamps cannot be moved: {error}", where=where)
    found.received_ms = (received[0], received[1]) if received else None
    found.stamps_ms = (stamped[0], stamped[1]) if stamped else None
    return found


def _widen(bounds: list[int], value: int) -> None:
    if not bounds:
        bounds += [value, value]
    elif value < bounds[0]:
        bounds[0] = value
    elif value > bounds[1]:
        bounds[1] = value
