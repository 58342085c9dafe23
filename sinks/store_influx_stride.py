"""How a long time is read in stretches of about the same size, without knowing where the rows are."""

from __future__ import annotations

from collections.abc import Iterator

FIRST_MS = 900_000
"""The first stretch: a quarter hour."""
TARGET_BYTES = 4 << 20
"""What an answer should have: some 20,000 rows."""
ROW_BYTES = 400
"""A long row of an answer: a limit of so many rows needs no more than so many times this."""
ROWS_MAX = 200_000
"""What InfluxDB should look at for one answer, where it gives only some of the rows."""
BYTES_MAX = 32 << 20
"""An answer that is larger is let go of and asked for in smaller stretches, down to a millisecond."""
CHANGE_MAX = 8


class Stride:
    """Stretches of ``[first_ms, last_ms]``, next to each other, from either end.

    None is longer than ``width_max_ms``. After each one, ``took`` says how large its answer was, or
    ``too_large`` has it cut smaller.
    """

    def __init__(
        self,
        first_ms: int,
        last_ms: int,
        *,
        newest_first: bool,
        target_bytes: int = TARGET_BYTES,
        width_max_ms: int | None = None,
    ) -> None:
        self._first_ms, self._last_ms = first_ms, last_ms
        self._newest_first = newest_first
        self._target_bytes = target_bytes
        self._width_max_ms = max(1, last_ms - first_ms + 1 if width_max_ms is None else width_max_ms)
        self._width_ms = min(FIRST_MS, self._width_max_ms)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The same stretch again and again until it is told how it went."""
        while self._first_ms <= self._last_ms:
            yield self._stretch()

    @property
    def indivisible(self) -> bool:
        """Whether the stretch is a single millisecond, which has to be taken however large it is."""
        first_ms, last_ms = self._stretch()
        return first_ms == last_ms

    def took(self, answer_bytes: int) -> None:
        """The stretch is done; the next is as long as would have been right for this one."""
        first_ms, last_ms = self._stretch()
        if self._newest_first:
            self._last_ms = first_ms - 1
        else:
            self._first_ms = last_ms + 1
        ratio = self._target_bytes / max(1, answer_bytes)
        width_ms = int(self._width_ms * min(CHANGE_MAX, max(1 / CHANGE_MAX, ratio)))
        self._width_ms = max(1, min(self._width_max_ms, width_ms))

    def too_large(self) -> None:
        """The stretch is asked for again, cut smaller."""
        first_ms, last_ms = self._stretch()
        self._width_ms = max(1, (last_ms - first_ms + 1) // CHANGE_MAX)

    def _stretch(self) -> tuple[int, int]:
        if self._newest_first:
            return max(self._first_ms, self._last_ms - self._width_ms + 1), self._last_ms
        return self._first_ms, min(self._last_ms, self._first_ms + self._width_ms - 1)
