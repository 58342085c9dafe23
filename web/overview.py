"""The picture of the whole site: the newest complete figures, what fires, who was seen, the books."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from metering.instants import rfc3339
from metering.query import Query, Results
from metering.roster import AlertRule, Roster
from web.answers import readable
from web.health import not_ready, worth_a_look
from web.status import Status

COMPLETE, OPEN = ("final", "revised"), ("open",)
ROLLING = ("15m", "1h", "8h", "24h")
SEEN = ("valid", "estimated", "suspect", "partial")
CHANGES_MAX = 20
REJECTED_MAX = 20
PAYLOAD_MAX = 240
LOOK_AGAIN_S = 20.0
"""How long a figure found far back in the table is kept before it is looked up again."""
OPEN_BACK_MS = 86_400_000
"""How far before the newest complete window an open one is looked for, in one query for all."""

Row = dict[str, Any]
Key = tuple[str, str, str]
"""Scope, intensity, window."""


class Overview:
    """Composes the picture from the result tables. Calls block; use it from threads."""

    def __init__(self, results: Results, roster: Roster) -> None:
        self._results = results
        self._roster = roster
        self._wanted = {(i.scope, i.id, w) for i in roster.intensities for w in i.windows}
        self._far: dict[tuple[Key, bool], tuple[float, list[Row]]] = {}

    def picture(self, status: Status, now_ms: int) -> dict[str, Any]:
        """Everything the page's first screen shows, as plain JSON values."""
        position = self._results.position()
        complete = self._newest(COMPLETE)
        still_open = self._newest(OPEN, _reported(complete))
        newest = [row for rows in (*complete.values(), *still_open.values()) for row in rows]
        reasons = not_ready(status)
        return {
            "now": rfc3339(now_ms),
            "position": position,
            "version": status.version,
            "roster": self._roster.version,
            "horizon": rfc3339(max(map(_reach, newest), default=None)),
            "scopes": [self._scope(scope, complete, still_open) for scope in self._scopes()],
            "seen": {name: rfc3339(at) for name, at in self._seen(status).items()},
            "alerts": self._alerts(),
            "books": self._books(),
            "rejected": self._rejected(),
            "ready": {"ok": not reasons, "reasons": [*reasons, *worth_a_look(status)]},
        }

    def _scopes(self) -> Iterator[str]:
        yield from (f"plant:{plant.id}" for plant in self._roster.plants)
        wanted = {scope for scope, _, _ in self._wanted}
        yield from (f"group:{group.id}" for group in self._roster.groups if f"group:{group.id}" in wanted)

    def _scope(
        self, scope: str, complete: Mapping[Key, list[Row]], still_open: Mapping[Key, list[Row]]
    ) -> Row:
        return {
            "scope": scope,
            "figures": [
                {
                    "id": intensity.id,
                    "windows": {
                        window: {
                            "complete": readable(
                                "intensity", complete.get((scope, intensity.id, window), [])
                            ),
                            "open": readable("intensity", still_open.get((scope, intensity.id, window), [])),
                        }
                        for window in intensity.windows
                    },
                }
                for intensity in self._roster.intensities
                if intensity.scope == scope
            ],
        }

    def _newest(
        self, states: tuple[str, ...], after_ms: Mapping[Key, int] | None = None
    ) -> dict[Key, list[Row]]:
        """The newest row of each product by scope, intensity and window, in few queries.

        Live plants all have rows among the newest; those that do not are looked for one by one,
        and not at every call. ``after_ms``: where a key's rows end all the same, so that a table in
        which there may be none is not searched to its beginning.
        """
        found: dict[Key, dict[str, Row]] = {}
        for windows in self._window_sets():
            keys = {key for key in self._wanted if key[2] in windows}
            ends = {key: after_ms[key] for key in keys if key in after_ms} if after_ms else {}
            from_ms = max(ends.values()) - OPEN_BACK_MS if ends else None
            limit = 8 * len(keys) + 16
            equal = {"window": windows, "state": states}
            query = Query("intensity", equal=equal, from_ms=from_ms, newest_first=True, limit=limit)
            rows = self._results.rows(query)
            _keep_newest(found, keys, rows)
            far = {key for key in keys if from_ms is not None and ends.get(key, from_ms) <= from_ms}
            for key in (keys if len(rows) == limit else far) - found.keys():
                _keep_newest(found, keys, self._looked_up(key, states, ends.get(key)))
        return {key: [rows[product] for product in sorted(rows)] for key, rows in found.items()}

    def _window_sets(self) -> list[tuple[str, ...]]:
        """Rolling windows share a grid and so a query; a calendar window has one of its own."""
        windows = {window for _, _, window in self._wanted}
        rolling = tuple(window for window in ROLLING if window in windows)
        return ([rolling] if rolling else []) + [(window,) for window in sorted(windows - set(ROLLING))]

    def _looked_up(self, key: Key, states: tuple[str, ...], after_ms: int | None) -> list[Row]:
        kept = self._far.get((key, states == OPEN))
        if kept is not None and time.monotonic() - kept[0] < LOOK_AGAIN_S:
            return kept[1]
        scope, intensity, window = key
        equal = {"scope": (scope,), "id": (intensity,), "window": (window,), "state": states}
        query = Query("intensity", equal=equal, from_ms=after_ms, newest_first=True, limit=4)
        rows = self._results.rows(query)
        self._far[key, states == OPEN] = (time.monotonic(), rows)
        return rows

    def _seen(self, status: Status) -> dict[str, int]:
        """When each point was last heard of, by ``PLANT/POINT``; from the intervals if need be."""
        seen = dict(status.last_seen_ms)
        names = {f"{self._roster.plants[p.plant].id}/{p.id}" for p in self._roster.points}
        if names <= seen.keys():
            return seen
        query = Query("interval", equal={"quality": SEEN}, newest_first=True, limit=8 * len(names) + 16)
        for row in self._results.rows(query):
            name = f"{row['plant']}/{row['point']}"
            seen[name] = max(seen.get(name, row["end"]), row["end"])
        return seen

    def _alerts(self) -> dict[str, Any]:
        limit = 10 * len(self._roster.alerts) + CHANGES_MAX
        rows = self._results.rows(Query("alert", newest_first=True, limit=limit))
        firing = [self._firing(rule, rows, len(rows) < limit) for rule in self._roster.alerts]
        return {
            "firing": readable("alert", (row for row in firing if row is not None)),
            "changes": readable("alert", rows[:CHANGES_MAX]),
        }

    def _firing(self, rule: AlertRule, newest: list[Row], are_all: bool) -> Row | None:
        """The change that made the rule fire, if it does: its newest one that was not withdrawn."""
        mine = [row for row in newest if (row["id"], row["scope"]) == (rule.id, rule.scope)]
        valid = [row for row in mine if row["to"] != "withdrawn"]
        if not valid and not are_all:
            equal = {"id": (rule.id,), "scope": (rule.scope,), "to": ("firing", "ok")}
            valid = self._results.rows(Query("alert", equal=equal, newest_first=True, limit=1))
        return valid[0] if valid and valid[0]["to"] == "firing" else None

    def _books(self) -> dict[str, Any]:
        ledger = self._results.rows(Query("ledger"))
        return {
            "hops": readable("hop", self._results.rows(Query("hop"))),
            "installations": len(ledger),
            "unbalanced": [f"{row['plant']}/{row['point']}" for row in ledger if row["balance"]],
        }

    def _rejected(self) -> list[Row]:
        rows = self._results.rows(Query("rejected", newest_first=True, limit=REJECTED_MAX))
        return readable("rejected", ({**row, "payload": _clipped(row["payload"])} for row in rows))


def _keep_newest(found: dict[Key, dict[str, Row]], keys: set[Key], newest_first: Iterable[Row]) -> None:
    for row in newest_first:
        key = (row["scope"], row["id"], row["window"])
        if key in keys:
            found.setdefault(key, {}).setdefault(row["product"] or "", row)


def _reported(complete: Mapping[Key, list[Row]]) -> dict[Key, int]:
    """Up to where each key's windows have been reported: only behind that can one be open."""
    return {key: min(int(row["end"]) for row in rows) for key, rows in complete.items()}


def _clipped(payload: str | None) -> str:
    text = payload or ""
    return text if len(text) <= PAYLOAD_MAX else text[: PAYLOAD_MAX - 1] + "…"


def _reach(row: Row) -> int:
    """How far a window's figures reach: a month that is still filling has none at its end."""
    return int(row["end"] if row["window"] in ROLLING else row["start"])
