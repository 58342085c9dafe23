"""Alerts: thresholds with hysteresis and a time they must hold, decided in event time.

An alert is a function of its window's values in the order of their ends: it fires when the value
has stayed beyond the threshold for ``for``, and clears at the first value back beyond ``clear``.
A window without a value neither fires nor clears; nobody knows whether the value stayed beyond the
threshold then, so that the time begins anew behind it. When the past changes, the changes of state
behind it are worked out again; one that no longer holds is withdrawn.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from metering.roster import AlertRule

Ints = NDArray[np.int64]
FIRING, OK = "firing", "ok"


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one alert: at the end of the window whose value decided it."""

    at_ms: int
    to: str
    value: float


@dataclass
class History:
    """All changes of one alert as they stand, by time."""

    changes: dict[int, Change] = field(default_factory=dict)
    revisions: dict[int, int] = field(default_factory=dict)
    """How often the change at an instant was said, less one."""

    def revision(self, at_ms: int) -> int:
        return self.revisions.get(at_ms, 0)

    def firing_before(self, time_ms: int) -> bool:
        earlier = [at for at in self.changes if at < time_ms]
        return bool(earlier) and self.changes[max(earlier)].to == FIRING


def evaluate(
    rule: AlertRule, history: History, end: Ints, value: NDArray[np.float64], from_ms: int
) -> tuple[list[Change], list[Change]]:
    """Changes from ``from_ms`` on, given the window values from ``from_ms - for`` on (NaN: none).

    Returns (new, withdrawn) against the history, which is brought up to date.
    """
    found = _run(rule, history.firing_before(from_ms), end, value, from_ms)
    old = {at: change for at, change in history.changes.items() if at >= from_ms}
    new = [change for change in found if old.get(change.at_ms) != change]
    kept = {change.at_ms for change in found}
    withdrawn = [change for at, change in old.items() if at not in kept]
    for change in withdrawn:
        del history.changes[change.at_ms]
    for change in new:
        history.changes[change.at_ms] = change
    for change in (*new, *withdrawn):
        history.revisions[change.at_ms] = history.revisions.get(change.at_ms, -1) + 1
    return new, sorted(withdrawn, key=lambda c: c.at_ms)


def _run(rule: AlertRule, firing: bool, end: Ints, value: NDArray[np.float64], from_ms: int) -> list[Change]:
    pending: int | None = None
    out: list[Change] = []
    for at, figure in zip(end.tolist(), value.tolist(), strict=True):
        beyond = figure > rule.threshold if rule.above else figure < rule.threshold
        clear = figure < rule.clear if rule.above else figure > rule.clear
        pending = (at if pending is None else pending) if beyond else None
        if at < from_ms:
            continue
        if not firing and pending is not None and at - pending >= rule.for_ms:
            firing = True
            out.append(Change(at, FIRING, figure))
        elif firing and clear:
            firing = False
            out.append(Change(at, OK, figure))
    return out
