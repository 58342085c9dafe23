"""Civil time: which quarter, hour, day, month, year of a time zone an instant belongs to.

Whole arrays at once and exact, from the zone's transitions of 1999 to 2101. Every span is one
interval of UTC time [start, end), whatever the clocks do: a day may have 23, 25 or 24.5 hours,
begin at 01:00 because there was no midnight, or have no length at all (Samoa, 2011-12-30).
Where clocks go back across midnight, a day begins when its date is first shown, and the minutes
of the old date that are shown again belong to the new day (Newfoundland before 2011).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, Literal
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from metering.errors import UsageError

Instants = NDArray[np.int64]
Span = Literal["15m", "hour", "day", "month", "year"]
SPANS: Final[tuple[Span, ...]] = ("15m", "hour", "day", "month", "year")

SECOND_MS: Final = 1_000
QUARTER_MS: Final = 900_000
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000

FIRST_MS: Final = int(datetime(1999, 1, 1, tzinfo=UTC).timestamp()) * SECOND_MS
LAST_MS: Final = int(datetime(2101, 1, 1, tzinfo=UTC).timestamp()) * SECOND_MS
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Zone:
    """A time zone of the IANA database; raises UsageError when there is none of that name.

    Instants are int64 UTC milliseconds, arrays of any shape, between 1999 and 2101.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        changes, offsets = _transitions(name)
        self._changes = changes
        self._offsets = offsets
        self._days = _Grid(DAY_MS, changes, offsets)
        self._hours = _Grid(HOUR_MS, *_merged(changes, offsets % HOUR_MS))

    def local(self, utc_ms: Instants) -> Instants:
        """What the clocks on the wall show, as milliseconds since 1970-01-01T00:00 shown."""
        return utc_ms + self._offsets[np.searchsorted(self._changes, utc_ms, "right")]

    def quarter_index(self, utc_ms: Instants) -> Instants:
        """Quarter hours since 1970, aligned to UTC (and so to every zone of today)."""
        return utc_ms // QUARTER_MS

    def hour_index(self, utc_ms: Instants) -> Instants:
        """Hours since 1970 in UTC, shifted by what the zone is off the full hour.

        The repeated hour of autumn has an index of its own. A change by half an hour (Lord Howe)
        makes one hour of 30 or 90 minutes.
        """
        return self._hours.index(utc_ms)

    def day_index(self, utc_ms: Instants) -> Instants:
        """The local date, as days since 1970-01-01."""
        return self._days.index(utc_ms)

    def month_index(self, utc_ms: Instants) -> Instants:
        """The local month, as months since 1970-01."""
        return _months_of(self.day_index(utc_ms))

    def year_index(self, utc_ms: Instants) -> Instants:
        """The local year, as years since 1970."""
        return self.month_index(utc_ms) // 12

    def index_of(self, span: Span, utc_ms: Instants) -> Instants:
        """The index of the span that holds each instant."""
        match span:
            case "15m":
                return self.quarter_index(utc_ms)
            case "hour":
                return self.hour_index(utc_ms)
            case "day":
                return self.day_index(utc_ms)
            case "month":
                return self.month_index(utc_ms)
            case "year":
                return self.year_index(utc_ms)

    def start_of(self, span: Span, index: Instants | int) -> Instants:
        """The first UTC millisecond of each span; inverse of ``index_of``."""
        at = np.asarray(index, np.int64)
        match span:
            case "15m":
                return np.asarray(at * QUARTER_MS)
            case "hour":
                return self._hours.start(at)
            case "day":
                return self._days.start(at)
            case "month":
                return self._days.start(_first_days(at))
            case "year":
                return self._days.start(_first_days(at * 12))

    def end_of(self, span: Span, index: Instants | int) -> Instants:
        """The UTC millisecond behind each span: the start of the next one."""
        return self.start_of(span, np.asarray(index, np.int64) + 1)


@lru_cache(maxsize=256)
def zone(name: str) -> Zone:
    """``Zone(name)``, made once: finding the transitions takes some 30 ms."""
    return Zone(name)


class _Grid:
    """Steps of a clock that is put forward or back at times.

    ``changes`` are the instants of change (int64[k]), ``offsets`` what the clock adds to UTC before,
    between and after them (int64[k + 1]), both in milliseconds. A clock put back does not go back
    to an earlier step.
    """

    def __init__(self, step_ms: int, changes: Instants, offsets: Instants) -> None:
        self._step_ms = step_ms
        self._changes = changes
        self._offsets = offsets
        self._begins = np.concatenate(([FIRST_MS - DAY_MS * 2], changes)).astype(np.int64)
        ends = np.concatenate((changes, [LAST_MS + DAY_MS * 2])).astype(np.int64)
        self._reached = np.maximum.accumulate(ends + offsets)
        self._floors = np.concatenate(([np.iinfo(np.int64).min], (self._reached[:-1] - 1) // step_ms))

    def index(self, utc_ms: Instants) -> Instants:
        _check_range(utc_ms)
        regime = np.searchsorted(self._changes, utc_ms, "right")
        return np.asarray(np.maximum((utc_ms + self._offsets[regime]) // self._step_ms, self._floors[regime]))

    def start(self, index: Instants) -> Instants:
        """The first instant at which the clock has reached the step."""
        shown = index * self._step_ms
        regime = np.searchsorted(self._reached, shown, "right")
        return np.asarray(np.maximum(self._begins[regime], shown - self._offsets[regime]))


def _check_range(utc_ms: Instants) -> None:
    outside = utc_ms.size and (int(utc_ms.min()) < FIRST_MS or int(utc_ms.max()) >= LAST_MS)
    assert not outside, "instants outside 1999 to 2101"


def _months_of(days: Instants) -> Instants:
    return days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)


def _first_days(months: Instants) -> Instants:
    return months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)


def _merged(changes: Instants, offsets: Instants) -> tuple[Instants, Instants]:
    """The same clock without changes that change nothing."""
    keep = np.flatnonzero(np.diff(offsets))
    return changes[keep], np.concatenate((offsets[:1], offsets[keep + 1]))


def _transitions(name: str) -> tuple[Instants, Instants]:
    """The zone's changes of offset, found by looking once a day and halving where it differs."""
    info = _zone_info(name)
    changes: list[int] = []
    offsets: list[int] = [_offset_s(info, _FIRST_S)]
    for at_s in range(_FIRST_S + _DAY_S, _LAST_S + _DAY_S, _DAY_S):
        if _offset_s(info, at_s) != offsets[-1]:
            changes.append(_change_between(info, at_s - _DAY_S, at_s))
            offsets.append(_offset_s(info, at_s))
    return np.array(changes, np.int64) * SECOND_MS, np.array(offsets, np.int64) * SECOND_MS


def _change_between(info: ZoneInfo, before_s: int, after_s: int) -> int:
    old = _offset_s(info, before_s)
    while after_s - before_s > 1:
        middle_s = (before_s + after_s) // 2
        if _offset_s(info, middle_s) == old:
            before_s = middle_s
        else:
            after_s = middle_s
    return after_s


_DAY_S: Final = DAY_MS // SECOND_MS
_FIRST_S: Final = FIRST_MS // SECOND_MS - 2 * _DAY_S
_LAST_S: Final = LAST_MS // SECOND_MS + 2 * _DAY_S


def _offset_s(info: ZoneInfo, utc_s: int) -> int:
    offset = (_EPOCH + timedelta(seconds=utc_s)).astimezone(info).utcoffset()
    assert offset is not None
    return offset.days * _DAY_S + offset.seconds


def _zone_info(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise UsageError(
            f"there is no time zone '{name}'", hint="Use a name of the IANA database, such as Asia/Shanghai."
        ) from error
