"""Readings as columns: what ingest puts on the log and the processors take off it.

A log record holds the readings of one plant, hundreds to thousands at a time. Values are exact:
``mantissa * 10**exponent`` in the unit the message named (or the point's own), as the meter
shows it, before any multiplier. What depends on the site (unit, multiplier, installation,
limits) is applied by the processors, so that a site put right later finds its readings.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

NO_TIME = int(np.iinfo(np.int64).min)
"""``start`` of a reading that has none."""
NO_SEQ = -1
NO_CODE = -1
"""Dictionary code of an absent text."""

TIME_FIRST_MS = 946_684_800_000
"""2000-01-01T00:00:00Z: readings before it are refused."""
FUTURE_MAX_MS = 600_000
"""Readings more than ten minutes after their message was received are refused."""
MANTISSA_DIGITS_MAX = 18
"""More significant digits are rounded half to even at entry, and flagged."""
MAGNITUDE_MAX_EXPONENT = 15
"""Values of 10**15 and more, in whatever unit, are refused."""

FLAG_ROUNDED = 1


class MeterQuality(IntEnum):
    """What the meter itself says of a reading."""

    UNSTATED = 0
    GOOD = 1
    BAD = 2
    ESTIMATED = 3


@dataclass(frozen=True, slots=True)
class Dictionary:
    """A text column: ``words[code]`` for each ``codes`` element, ``NO_CODE`` for absent."""

    words: tuple[str, ...]
    codes: NDArray[np.int32]

    def text(self, i: int) -> str | None:
        code = int(self.codes[i])
        return None if code == NO_CODE else self.words[code]


DIGEST_BYTES = 32
"""Of a SHA-256."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where each of n readings came from: the message, who sent it, and by what it was judged.

    ``topic``: the MQTT topic of its message, or the name of the Kafka topic; ``user``: the name with which
    its sender had logged in, absent where nobody had to, or where a broker stands between and does not
    tell. ``digest``: the SHA-256 of each of m messages' raw bytes as they came, of shape (m, 32);
    ``message``: which of them each reading is of. Readings of one message share its row; the same bytes
    sent twice are two messages, whose rows are alike. ``site``: the version of site file and policy pack
    that took the readings in (``Roster.version``). When a reading's message came is its ``received``.
    ``payload``: the m messages' raw bytes, where they are to be kept; on the log they are not among readings.
    """

    topic: Dictionary
    user: Dictionary
    digest: NDArray[np.uint8]
    message: NDArray[np.int32]
    site: str
    payload: tuple[bytes, ...] | None = None

    def part(self, rows: slice) -> Evidence:
        """That of some of the readings, with the messages that they are of."""
        kept, message = np.unique(self.message[rows], return_inverse=True)
        topic, user = (Dictionary(text.words, text.codes[rows]) for text in (self.topic, self.user))
        payload = None if self.payload is None else tuple(self.payload[i] for i in kept.tolist())
        return Evidence(topic, user, self.digest[kept], message.astype(np.int32), self.site, payload)


@dataclass(frozen=True, slots=True)
class Readings:
    """The readings of one plant in one log record; every array has the same length n.

    ``time`` and ``start`` are milliseconds since 1970 UTC; ``received`` is when the message came.
    ``evidence``: where they came from; None of readings from before it was kept.
    """

    plant: str
    point: Dictionary
    time: NDArray[np.int64]
    start: NDArray[np.int64]
    mantissa: NDArray[np.int64]
    exponent: NDArray[np.int8]
    unit: Dictionary
    serial: Dictionary
    product: Dictionary
    revision: NDArray[np.int32]
    seq: NDArray[np.int64]
    quality: NDArray[np.uint8]
    flags: NDArray[np.uint8]
    received: NDArray[np.int64]
    evidence: Evidence | None = None

    def __len__(self) -> int:
        return len(self.time)

    def part(self, rows: slice) -> Readings:
        """Some of the readings, in their order."""
        columns: list[tuple[str, Any]] = [(f.name, getattr(self, f.name)) for f in fields(self)[1:-1]]
        cut: dict[str, Any] = {
            name: Dictionary(column.words, column.codes[rows])
            if isinstance(column, Dictionary)
            else column[rows]
            for name, column in columns
        }
        evidence = None if self.evidence is None else self.evidence.part(rows)
        return Readings(self.plant, **cut, evidence=evidence)


def dictionary(texts: list[str | None]) -> Dictionary:
    """Builds a text column from its texts, words in order of first use."""
    words = [text for text in dict.fromkeys(texts) if text is not None]
    codes: dict[str | None, int] = {word: code for code, word in enumerate(words)}
    codes[None] = NO_CODE
    return Dictionary(tuple(words), np.array([codes[text] for text in texts], np.int32))


def absent(n: int) -> Dictionary:
    """A text column of n absent texts."""
    return Dictionary((), np.full(n, NO_CODE, np.int32))
