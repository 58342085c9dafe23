"""What the running service tells its page: plain values, taken at the moment they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Hop:
    """How many readings a hop took, and what became of them."""

    received: int = 0
    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0

    @property
    def balance(self) -> int:
        """Readings that came and are in no other column: 0, or something is lost."""
        return self.received - self.accepted - self.duplicate - self.rejected


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a part has read its topic.

    ``offset`` is the next record it will read, ``end`` the topic's end. ``idle_ms``: how long it
    has not moved although records wait. ``behind_ms``: the age of the oldest waiting record.
    ``error``: what it stumbled over last, empty while it works.
    """

    offset: int = 0
    end: int = 0
    idle_ms: int = 0
    behind_ms: int = 0
    running: bool = True
    error: str = ""

    @property
    def lag_records(self) -> int:
        return max(0, self.end - self.offset)


@dataclass(frozen=True, slots=True)
class Status:
    """A picture of the service.

    ``log_error``: why the log takes nothing now, empty while it does. ``hops``: readings by hop
    since the store was made. ``rejected``: rejected readings and messages by reason. ``log_ends``:
    next offset by topic. ``last_seen_ms``: newest reading time by ``PLANT/POINT`` where the
    service knows it. ``ledger_unbalanced``: installations whose ledger balance is not 0.
    ``starting``: the parts are still being started. ``problems``: whatever else keeps it from
    being ready, in words. ``worker``, ``sink``, ``archive``: None where there is none, and none is watched.
    ``partitions``: how far each partition is, by part (``worker``, ``sink``, ``archive``), of those this
    process works on or watches. ``events``: what adapters count, by name (reconnects, retries).
    """

    version: str = ""
    started_ms: int = 0
    starting: bool = False
    log_error: str = ""
    worker: Progress | None = Progress()
    sink: Progress | None = Progress()
    archive: Progress | None = None
    partitions: Mapping[str, Mapping[int, Progress]] = field(default_factory=dict)
    events: Mapping[str, int] = field(default_factory=dict)
    hops: Mapping[str, Hop] = field(default_factory=dict)
    rejected: Mapping[str, int] = field(default_factory=dict)
    log_ends: Mapping[str, int] = field(default_factory=dict)
    last_seen_ms: Mapping[str, int] = field(default_factory=dict)
    ledger_unbalanced: int = 0
    connections: int = 0
    problems: tuple[str, ...] = ()


def together(partitions: Iterable[Progress]) -> Progress:
    """The progress of a part over its partitions: what waits added up, the worst of the rest."""
    parts = list(partitions)
    return Progress(
        offset=sum(part.offset for part in parts),
        end=sum(part.end for part in parts),
        idle_ms=max((part.idle_ms for part in parts), default=0),
        behind_ms=max((part.behind_ms for part in parts), default=0),
        running=all(part.running for part in parts),
        error=next((part.error for part in parts if part.error), ""),
    )
