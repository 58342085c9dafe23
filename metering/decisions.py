"""A person's decision on a register event: what ingest puts on the log and the processors take off it."""

from __future__ import annotations

from dataclasses import dataclass

PLAIN, CONFLICT = "plain", "conflict"
WORDS = (
    *("plain", "rollover", "glitch", "spike", "stuck", "clock_jump", "reset", "decrease", "overlap"),
    "conflict",
)
"""What can be said of an event; ``docs/books.md`` (Decisions) says what each does."""
OF_AN_INSTANT = (CONFLICT, PLAIN, "spike")
"""What can be said of one instant: which value counts, whether what a gauge showed does."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What ``by`` said happened at a point between two readings, named by their instants (UTC, ms).

    ``serial``: of the installation, None: the one in force at ``to_ms``. ``verdict``: one of ``WORDS``.
    ``value``: the decimal that counts, in the point's unit and as its meter shows it, where a conflict is
    decided (``from_ms`` = ``to_ms``); empty else. The highest ``revision`` counts. ``received_ms``: when
    ingest took it.
    """

    point: str
    serial: str | None
    from_ms: int
    to_ms: int
    verdict: str
    by: str
    revision: int = 0
    value: str = ""
    received_ms: int = 0
