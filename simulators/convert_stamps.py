"""The stamps of a meter export: texts and cells into instants, by the zone and the form of a mapping file.

Where clocks go back, local times are shown twice; which one a row means is told by the rows before it, in
whichever direction the file goes. Whose date the rows of 00:00 carry is told by the rows around them.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from metering.readings import TIME_FIRST_MS
from simulators.convert_map import TimeForm
from simulators.convert_table import Cell

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
_LAST_MS = 4_102_444_800_000
"""2100-01-01: a stamp behind it is a number of another unit."""
_EPOCHS = {"epoch_s": (1_000, 1), "epoch_ms": (1, 1), "epoch_us": (1, 1_000)}
_DAY = timedelta(days=1)
_SHIFTS = {(0, 1): "old_day", (1, 0): "old_day", (-1, 0): "new_day", (0, -1): "new_day"}
"""Days by which the dates before and behind a row of 00:00 differ from its own: forwards and backwards."""


class Midnights:
    """Whose date the rows of 00:00 carry: that of the day that begins there, or of the one that ends."""

    def __init__(self, rule: str) -> None:
        self._rule = rule
        self._shown: list[tuple[int, datetime]] = []
        self._found: dict[str, list[int]] = {"old_day": [], "new_day": []}

    def saw(self, line: int, shown: datetime) -> None:
        """A row's stamp as the file shows it."""
        self._shown = [*self._shown[-2:], (line, shown)]
        if len(self._shown) == 3 and _is_midnight(self._shown[1][1]):
            self._judge(*(stamp.date() for _, stamp in self._shown))

    def _judge(self, before: date, own: date, behind: date) -> None:
        rule = _SHIFTS.get(((before - own).days, (behind - own).days))
        if rule is not None:
            self._found[rule].append(self._shown[1][0])

    def otherwise(self) -> tuple[int, int, str]:
        """The first row that speaks for the other rule, how many do, and that rule; line 0 if most do not."""
        other = "new_day" if self._rule == "old_day" else "old_day"
        lines = self._found[other]
        most = len(lines) > len(self._found[self._rule])
        return (lines[0], len(lines), other) if most else (0, 0, other)


def _is_midnight(shown: datetime) -> bool:
    return not (shown.hour or shown.minute or shown.second)


class Stamps:
    """Reads the stamps of a file, row after row."""

    def __init__(self, form: TimeForm) -> None:
        self.form = form
        self.zone = ZoneInfo(form.zone)
        self.midnights = Midnights(form.midnight)
        self._interval_ms = form.interval or 0
        self._previous_ms: int | None = None
        self._later = self._earlier = 0

    def span(self, stamp: Cell, line: int) -> tuple[int, int]:
        """Start and end of the row's interval, equal without one; raises ValueError with the reason."""
        stamp_ms = self._instant_ms(stamp, line)
        if not TIME_FIRST_MS <= stamp_ms < _LAST_MS:
            raise ValueError(
                f"is {_year(stamp_ms)}: check time.format (seconds or milliseconds, days or months)"
            )
        if self._previous_ms is not None:
            self._later += stamp_ms > self._previous_ms
            self._earlier += stamp_ms < self._previous_ms
        self._previous_ms = stamp_ms
        if self.form.stamp == "start":
            return stamp_ms, stamp_ms + self._interval_ms
        return stamp_ms - self._interval_ms, stamp_ms

    def _instant_ms(self, stamp: Cell, line: int) -> int:
        if not isinstance(stamp, datetime):
            text = stamp.strip()
            if self.form.format in _EPOCHS:
                return _epoch_ms(text, *_EPOCHS[self.form.format])
            stamp = self._parsed(text)
        self.midnights.saw(line, stamp)
        if self.form.midnight == "old_day" and _is_midnight(stamp):
            stamp += _DAY
        if stamp.tzinfo is not None:
            return (stamp - EPOCH) // MILLISECOND
        return self._local_ms(stamp)

    def _parsed(self, text: str) -> datetime:
        if not text:
            raise ValueError("there is no stamp: the row is not taken")
        try:
            if self.form.format == "iso":
                return datetime.fromisoformat(text)
            return datetime.strptime(text, self.form.format)  # noqa: DTZ007  the zone comes after
        except ValueError as error:
            hint = "a row that is no reading, or another time.format"
            raise ValueError(f"does not have the form {self.form.format}: {hint}") from error

    def _local_ms(self, shown: datetime) -> int:
        instant = shown.replace(tzinfo=self.zone, fold=0)
        first = (instant - EPOCH) // MILLISECOND
        second = (instant.replace(fold=1) - EPOCH) // MILLISECOND
        if first == second:
            return first
        if second < first:
            raise ValueError(f"the clocks of {self.form.zone} went forward over this time: check time.zone")
        return self._shown_twice(first, second)

    def _shown_twice(self, first: int, second: int) -> int:
        """Which of the two it is: the one that goes on from the row before, whichever way the file goes."""
        previous = self._previous_ms
        if min(self._later, self._earlier) * 10 > self._later + self._earlier:
            raise ValueError(
                f"the clocks of {self.form.zone} showed this time twice, and rows in no order do not tell"
                " which it is: sort them, or export stamps in UTC"
            )
        if self._earlier > self._later or (self._earlier == self._later and (previous or 0) > second):
            return first if previous is not None and first < previous <= second else second
        return second if previous is not None and first <= previous < second else first


def _year(stamp_ms: int) -> str:
    """When that is, as far as a calendar goes."""
    try:
        return f"the year {(EPOCH + stamp_ms * MILLISECOND).year}"
    except OverflowError:
        return "beyond all years"


def _epoch_ms(text: str, factor: int, divisor: int) -> int:
    """Whole milliseconds: what is finer than one is cut off."""
    found = re.fullmatch(r"(-?[0-9]+)(?:\.([0-9]*))?", text)
    if found is None:
        raise ValueError("is not a number of the epoch: check time.format")
    whole, fraction = found.group(1), (found.group(2) or "").ljust(3, "0")[:3]
    if factor == 1:
        return int(whole) // divisor
    return int(whole) * factor + int(fraction)
