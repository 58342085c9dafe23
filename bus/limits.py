"""How much one read gives: shared by the logs that fetch record by record."""

from __future__ import annotations

from collections.abc import Iterable

from bus.log import Record


def within(records: Iterable[Record], bytes_max: int) -> list[Record]:
    """The first records whose values together are at most ``bytes_max``, but at least one."""
    taken: list[Record] = []
    size = 0
    for record in records:
        size += len(record.value)
        if taken and size > bytes_max:
            break
        taken.append(record)
    return taken
