"""The readings behind each revision of a figure: those of its points that came for it, in or beside its span.

A register is a line between neighbours, so that the last reading before a span and the first behind it count
for it, too: those that were known by then.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from meterflow.archive_evidence import COLUMNS, described
from meterflow.archive_tail import Whole
from metering.civil import DAY_MS
from metering.decisions import Decision
from metering.errors import UsageError
from metering.instants import rfc3339
from metering.roster import Roster
from processors.accounts import Account, Accounts
from processors.ratios import ratios
from sinks import archive_raw
from sinks.archive_place import Place
from sinks.archive_reader import Batch, event_days

_WIDER_DAYS = (1, 4, 35)
"""So far from a span its neighbours are looked for."""

Ints = NDArray[np.int64]
Points = Mapping[str, set[str]]
Reading = dict[str, Any]


class Reach(NamedTuple):
    """Points by plant, and a span: readings of these points in it or beside it count for a figure."""

    points: Points
    first_ms: int
    until_ms: int


@dataclass(slots=True)
class Behind:
    """What came for a revision: after the one before was reported, and not after its own (``since``, ``by``).

    ``count``: of readings, of which ``readings`` are the first, in the order in which they came.
    """

    points: Points
    since: int | None
    by: int
    count: int = 0
    readings: list[Reading] = field(default_factory=list)
    decisions: list[tuple[str, Decision]] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """For scripts."""
        decided = [_plain(plant, decision) for plant, decision in self.decisions]
        return {"came": self.count, "readings": self.readings, "decisions": decided}

    def lines(self) -> Iterator[str]:
        """For people."""
        if self.count:
            yield f"  {self.count} readings came for it"
        for one in self.readings:
            by = f"  user {one['user']}" if one["user"] else ""
            place = f"offset {one['offset']} row {one['row']}"
            said = f"{one['plant']}/{one['point']} {one['time']} = {one['value']} {one['unit']}".rstrip()
            again = f" (revision {one['revision']})" if one["revision"] else ""
            yield f"    {said}{again}, received {one['received']}, {place}"
            yield f"      {one['topic'] or 'no message known'}{by}  sha256 {one['sha256'] or '-'}"
            if "payload" in one:
                yield f"      {'payload not in the archive' if one['payload'] is None else one['payload']}"
        if self.count > len(self.readings):
            yield f"    ... {self.count - len(self.readings)} more: --readings NUMBER"
        for plant, decision in self.decisions:
            plain = _plain(plant, decision)
            span = f"{plain['from']} to {plain['to']}"
            yield f"  decision {plain['verdict']} by {plain['by']} on {plant}/{decision.point}, {span}"
        if not self.count and not self.decisions and self.since is not None:
            words = f"--since {rfc3339(self.since)} --by {rfc3339(self.by)}"
            for plant in sorted(self.points):
                yield f"  nothing beside it came for it; else of its plant: archive evidence {plant} {words}"


def members(roster: Roster, row: Mapping[str, str]) -> Points:
    """The points whose amounts are in a row of ``rollup`` or ``intensity``, by plant.

    Raises UsageError where the site file has no such figure.
    """
    scope, accounts = row["scope"], Accounts(roster)
    if "measures" in row:
        found = _accounts(roster, accounts, row)
    else:
        wanted = (scope, row["id"])
        its = [one for one in ratios(roster, accounts) if (one.spec.scope, one.spec.id) == wanted]
        found = [account for one in its for account in (one.denominator, *(t.account for t in one.terms))]
    points = [roster.points[index] for account in found for index in account.members]
    if not points:
        hint = "The site file in force has other points. Name one of before: --site SITE."
        raise UsageError(f"it is not known which points are in {scope}", hint=hint)
    out: dict[str, set[str]] = {}
    for point in points:
        out.setdefault(roster.plants[point.plant].id, set()).add(point.id)
    return out


def _accounts(roster: Roster, accounts: Accounts, row: Mapping[str, str]) -> list[Account]:
    kind, _, name = row["scope"].partition(":")
    if kind == "point":
        plant, _, point = name.partition("/")
        one = roster.find(plant, point)
        return [] if one is None else [accounts[one.index]]
    found = accounts.find(row["scope"], row["measures"], row["product"])
    return accounts.of_scope(row["scope"]) if found is None else [found]


def came(archive: Whole, reach: Reach, edges: Sequence[int], readings: int) -> list[Behind]:
    """What came up to each of these instants (UTC ms, ascending) and after the one before it.

    ``readings``: so many of each are kept.
    """
    befores = [None, *edges[:-1]]
    out = [Behind(reach.points, since, by) for since, by in zip(befores, edges, strict=True)]
    for plant, points in sorted(reach.points.items()):
        beside = _Beside(archive, plant, sorted(points), reach, np.array(edges))
        for batch in beside.batches(beside.low.min(), beside.high.max()):
            for number, places in beside.of(batch):
                behind = out[number]
                behind.count += len(places)
                some = places[: max(0, readings - sum(one["plant"] == plant for one in behind.readings))]
                behind.readings += [
                    {"plant": plant, **dict(zip(COLUMNS, row, strict=True))} for row in described(batch, some)
                ]
        beside.decided(out)
    for behind in out:
        behind.readings.sort(key=lambda one: (one["received"], one["plant"], one["offset"], one["row"]))
        del behind.readings[readings:]
    return out


class _Beside:
    """Of each instant and point of a plant, from when (``low``) to when (``high``) readings count."""

    def __init__(self, archive: Whole, plant: str, points: list[str], reach: Reach, edges: Ints) -> None:
        self.archive, self.plant, self.points, self.edges = archive, plant, points, edges
        self.low = np.full((len(edges), len(points)), reach.first_ms)
        self.high = np.full((len(edges), len(points)), reach.until_ms)
        for bound, sign in ((self.low, -1), (self.high, 1)):
            at = int(bound[0, 0])
            for days in _WIDER_DAYS:
                if self._looked(bound, at, sign, days):
                    break

    def _looked(self, bound: Ints, at: int, sign: int, days: int) -> bool:
        """Moves the bounds to the neighbours within so many days; whether all points have one."""
        nearest = np.full(bound.shape, np.iinfo(np.int64).max)
        far = at + sign * days * DAY_MS
        for batch in self.batches(min(at, far), max(at, far), evidence=False):
            numbers, edge = self._numbers(batch)
            away = (batch.readings.time - at) * sign
            mine = (numbers >= 0) & (away >= 0) & (away <= days * DAY_MS) & (edge < len(self.edges))
            np.minimum.at(nearest, (edge[mine], numbers[mine]), away[mine])
        nearest = np.minimum.accumulate(nearest)
        known = nearest < np.iinfo(np.int64).max
        bound[known] = at + sign * nearest[known]
        return bool(known[-1].all())

    def batches(self, first: int, last: int, *, evidence: bool = True) -> Iterator[Batch]:
        """Readings of the days of these instants."""
        days = event_days(int(first), int(last))
        yield from self.archive.readings(self.plant, days, evidence=evidence)

    def of(self, batch: Batch) -> Iterator[tuple[int, list[int]]]:
        """The readings that count, by the instant up to which they came."""
        numbers, edge = self._numbers(batch)
        mine = np.flatnonzero((numbers >= 0) & (edge < len(self.edges)))
        time, where = batch.readings.time[mine], (edge[mine], numbers[mine])
        mine = mine[(time >= self.low[where]) & (time <= self.high[where])]
        for number in np.unique(edge[mine]).tolist():
            yield number, mine[edge[mine] == number].tolist()

    def _numbers(self, batch: Batch) -> tuple[Ints, Ints]:
        """Of each reading which point it is of, -1: none of ours; and by which instant it had come."""
        text = batch.readings.point
        of_word = [self.points.index(word) if word in self.points else -1 for word in text.words]
        codes = np.array([*of_word, -1])[text.codes]
        return codes, np.searchsorted(self.edges, batch.readings.received)

    def decided(self, out: Sequence[Behind]) -> None:
        """Adds what people decided of these points in or beside the span."""
        for _, decisions in self.archive.decisions(self.plant):
            for one in decisions:
                edge = int(np.searchsorted(self.edges, one.received_ms))
                if one.point not in self.points or edge == len(self.edges):
                    continue
                where = edge, self.points.index(one.point)
                if one.to_ms >= self.low[where] and one.from_ms <= self.high[where]:
                    out[edge].decisions.append((self.plant, one))


def add_payloads(found: Sequence[Behind], place: Place) -> None:
    """Adds to each reading the payload of its message, None where it is not kept."""
    kept: dict[tuple[str, str], bytes | None] = {}
    for one in (one for behind in found for one in behind.readings):
        key = one["plant"], one["sha256"]
        if key not in kept:
            digest, day = bytes.fromhex(one["sha256"]), one["received"][:10]
            kept[key] = archive_raw.payload(place, digest, plant=one["plant"], day=day) if digest else None
        one["payload"] = _text(kept[key])


def _text(payload: bytes | None) -> str | None:
    """As a text, else in base64 behind ``base64:``."""
    if payload is None:
        return None
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return f"base64:{base64.b64encode(payload).decode()}"


def _plain(plant: str, decision: Decision) -> dict[str, Any]:
    found = {name: value for name, value in asdict(decision).items() if not name.endswith("_ms")}
    times = {name: rfc3339(getattr(decision, f"{name}_ms")) for name in ("from", "to", "received")}
    return {"plant": plant, **found, **times}
