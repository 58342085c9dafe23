"""The verdicts on single readings (interval reads, what gauges showed), and what is said when they change."""

from __future__ import annotations

from collections.abc import Callable

from processors.doubt import Link
from processors.memory import TIME_BITS

Say = Callable[[tuple[int, int, int], Link | None, int], None]
"""Notes a verdict, or that there is none any more: (series, from, to), what it is, number of the record."""
Said = tuple[Link, int | None]
"""A verdict, and the highest revision of the decisions on it."""


class Told:
    """``every``: by key of a reading, the verdict on it."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self.every: dict[int, Said] = {}

    def links(self) -> list[tuple[Link, int]]:
        """The verdicts, each with its series."""
        return [(link, key >> TIME_BITS) for key, (link, _) in self.every.items()]

    def note(self, key: int, said: Said | None, record: int) -> None:
        """What the verdict on a reading is now, None for none; it is said where it is another one."""
        old = self.every.pop(key, None)
        if said is not None:
            self.every[key] = said
        either = said or old
        if either is not None and said != old:
            link, _ = either
            self._say((key >> TIME_BITS, link.start, link.end), None if said is None else link, record)
