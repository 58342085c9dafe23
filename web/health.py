"""When the service is ready: a pure judgement over its status."""

from __future__ import annotations

from web.status import Progress, Status

STUCK_MS = 10_000
"""A part that has not moved for so long although records wait is stuck."""
BEHIND_MS = 60_000
"""A part whose oldest waiting record is older is lagging."""


def not_ready(status: Status) -> list[str]:
    """Why the service is not ready, in words; empty when it is."""
    reasons = ["the service is still starting"] if status.starting else []
    if status.log_error:
        reasons.append(f"the log takes nothing: {status.log_error}")
    reasons += _hindered("worker", status.worker)
    reasons += _hindered("store", status.sink)
    return reasons + list(status.problems)


def worth_a_look(status: Status) -> list[str]:
    """What keeps the service from nothing now, and yet wants somebody, in words."""
    archive = status.archive
    if archive is None or not archive.error:
        return []
    return [f"readings are not archived, and wait on the log{_because(archive)}"]


def _hindered(name: str, part: Progress | None) -> list[str]:
    if part is None:
        return []
    if not part.running:
        return [f"the {name} has stopped{_because(part)}"]
    if part.error:
        return [f"the {name} cannot go on{_because(part)}"]
    if part.lag_records and part.idle_ms >= STUCK_MS:
        return [
            f"the {name} is stuck: {part.lag_records} records wait, none taken for {part.idle_ms // 1000} s"
        ]
    if part.lag_records and part.behind_ms >= BEHIND_MS:
        return [f"the {name} lags: {part.lag_records} records wait, the oldest {part.behind_ms // 1000} s"]
    return []


def _because(part: Progress) -> str:
    return f": {part.error}" if part.error else ""
