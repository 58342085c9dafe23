"""Instants as text: RFC 3339 in UTC, as docs/formats.md has it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import overload

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@overload
def rfc3339(instant_ms: int) -> str: ...


@overload
def rfc3339(instant_ms: int | None) -> str | None: ...


def rfc3339(instant_ms: int | None) -> str | None:
    """An instant of the years 1 to 9999, with Z; milliseconds only where there are any."""
    if instant_ms is None:
        return None
    at = _EPOCH + timedelta(milliseconds=instant_ms)
    return at.isoformat(timespec="milliseconds" if instant_ms % 1000 else "seconds").replace("+00:00", "Z")
