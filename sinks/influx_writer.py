"""Storing lines, whatever comes: waits while InfluxDB is away, and singles out lines that it refuses.

| answer | what is done |
|---|---|
| 204 | the batch is stored |
| 408, 425, 429, 5xx, no connection, time-out | again, for ever: after Retry-After, or 0.1 to 5 s |
| 400, 422 | the batch is halved down to the lines that are no good; they are refused, all others stored |
| 413 | halved until it fits; one line too large by itself is refused |
| 401, 403, 404, anything else | a person is needed: ``stalled`` with ``reason``, again every 5 s |

The same lines may be sent twice (after a time-out nobody knows): they are the same points, so that
changes nothing, unless the first time lands behind newer rows: ``unsure`` counts such requests.
"""

from __future__ import annotations

import logging
import random
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from metering.errors import MeterflowError, NotOwner, Unavailable
from sinks.influx_client import BadLines, BodyTooLarge, Busy, InfluxClient
from sinks.influx_lines import Lines

log = logging.getLogger(__name__)

BACK_OFF_S = (0.1, 5.0)
PERSON_S = 5.0
"""How often it is tried again where a person is needed, so that what was put right goes on by itself."""
_DROPPED = re.compile(r"dropped=(\d+)\s*$")
_Answer = TypeVar("_Answer")


class Stopped(Exception):
    """The writer was stopped while it waited; what was in hand is not stored, or not known to be."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Line ``index`` is not stored. ``reason`` is one word of docs/formats.md, ``detail`` InfluxDB's own."""

    index: int
    reason: str
    detail: str
    line: bytes


class InfluxWriter:
    """Writes one batch after the other. Everything blocks until it is done or ``stop`` was called.

    Plain counters: ``requests``; ``failures``: attempts that did not store; ``unsure``: those of them that
    may land still; ``stalled``: true from a failed attempt to the next that succeeds; ``reason``: why, with
    what to do; ``person``: whether a person is needed. ``guard`` is called before every request; NotOwner
    that it raises ends the work. ``trace``: a line that every request to store lines has, too
    (influx_runs.py says what for).
    """

    def __init__(self, client: InfluxClient, guard: Callable[[], None] = lambda: None) -> None:
        self.requests = 0
        self.failures = 0
        self.unsure = 0
        self.stalled = False
        self.person = False
        self.reason = ""
        self.trace = b""
        self._client = client
        self._guard = guard
        self._stopping = threading.Event()
        self._back_off_s = BACK_OFF_S[0]

    def stop(self) -> None:
        """Ends waiting: whoever waits gets Stopped."""
        self._stopping.set()

    def start(self) -> None:
        """Undoes ``stop``."""
        self._stopping.clear()

    def write(self, lines: Lines) -> list[Refused]:
        """Stores all lines but those returned."""
        size = self._client.settings.batch_lines
        refused: list[Refused] = []
        for first in range(0, len(lines), size):
            refused += self._stored(lines, first, min(first + size, len(lines)))
        return refused

    def say_once(self, line: bytes) -> None:
        """Stores a line if InfluxDB takes it at once, stopped or not, owner or not."""
        with suppress(MeterflowError, BadLines, BodyTooLarge):
            self._client.write(line)

    def until_done(self, call: Callable[[], _Answer]) -> _Answer:
        """Makes the call until it succeeds. BadLines and BodyTooLarge are answers, and are raised."""
        while not self._stopping.is_set():
            try:
                self._guard()
                self.requests += 1
                answer = call()
            except NotOwner:
                raise
            except MeterflowError as error:
                self._wait(error)
            except (BadLines, BodyTooLarge):
                self._well()
                raise
            else:
                self._well()
                return answer
        raise Stopped

    def _stored(self, lines: Lines, first: int, last: int) -> list[Refused]:
        """By halves, in order; a stack, so that what was put off is not forgotten.

        After a first refusal without the trace, so that it cannot be what is refused.
        """
        refused: list[Refused] = []
        todo = [(first, last)]
        trace = self.trace
        while todo:
            begin, end = todo.pop()
            bad = self._attempt(lines.body(begin, end) + trace)
            if bad is None:
                continue
            if trace:
                trace = b""
                todo.append((begin, end))
                continue
            reason, detail, all_of_them = bad
            if end - begin == 1 or all_of_them == end - begin:
                refused += [Refused(i, reason, detail, lines.body(i, i + 1)) for i in range(begin, end)]
            else:
                middle = (begin + end) // 2
                todo += [(middle, end), (begin, middle)]
        return refused

    def _attempt(self, body: bytes) -> tuple[str, str, int] | None:
        """None when all is stored; else why not, and how many lines InfluxDB says it has dropped."""
        try:
            self.until_done(lambda: self._client.write(body))
        except BadLines as error:
            dropped = _DROPPED.search(error.detail) if error.status == 422 else None
            return _reason(error), error.detail, int(dropped[1]) if dropped else 0
        except BodyTooLarge:
            return "store_too_large", "InfluxDB, or a proxy before it, takes no request of this size", 0
        return None

    def _wait(self, error: MeterflowError) -> None:
        """Said once for each cause, not at every try."""
        self.failures += 1
        self.unsure += isinstance(error, Busy) and error.unsure
        person = not isinstance(error, Unavailable)
        if not self.stalled or person != self.person:
            log.error("results cannot be stored now; they wait on the log: %s", error)
        self.stalled, self.person, self.reason = True, person, str(error)
        self._stopping.wait(self._pause_s(error))

    def _pause_s(self, error: MeterflowError) -> float:
        if not isinstance(error, Unavailable):
            return PERSON_S
        if isinstance(error, Busy) and error.wait_s is not None:
            return error.wait_s
        self._back_off_s, waited = min(self._back_off_s * 2, BACK_OFF_S[1]), self._back_off_s
        return waited * random.uniform(0.75, 1.0)  # noqa: S311 so that copies do not come all at once

    def _well(self) -> None:
        if self.stalled:
            log.warning("InfluxDB takes rows again")
        self.stalled, self.person, self.reason = False, False, ""
        self._back_off_s = BACK_OFF_S[0]


def _reason(error: BadLines) -> str:
    if error.status == 400:
        return "store_not_parsed"
    if "retention" in error.detail:
        return "store_too_old"
    return "store_wrong_type" if "field type conflict" in error.detail else "store_too_large"
