"""Rows of the small tables: verdicts, alerts, the ledger, what was refused, and the hop."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from decimal import Decimal

import numpy as np
import pyarrow as pa

from metering.instants import rfc3339
from metering.roster import FROM_EVER_MS, REGISTER, Point, Roster
from metering.tables import ALERT, HOP, LEDGER, REJECTED, VERDICT
from processors.allowance import Allowance
from processors.columns import Columns, Ints, Vocabulary, decimal, hourly, plain, table, times, words
from processors.doubt import Link, Verdict
from processors.engine import Engine, Step
from processors.memory import CONFLICT, key_of, time_of
from processors.runs import NONE

_HOP = Vocabulary(["processors"])


class SmallRows:
    """Makes the small tables of a step; None where there is nothing to say."""

    def __init__(self, engine: Engine, plants: Vocabulary, points: Vocabulary) -> None:
        """``plants``, ``points``: their names."""
        self.engine = engine
        self.roster: Roster = engine.roster
        self.unbalanced: set[int] = set()
        """Series whose ledger does not balance."""
        self._lanes = engine.lanes
        self._plants = [p.id for p in self.roster.plants]
        self._point_plant = engine.progress.plant
        self._plant_words, self._point_words = plants, points
        self._serial_words = Vocabulary(i.serial for p in self.roster.points for i in p.installations)
        self._point = engine.index.point
        self._ever = engine.index.from_ms == FROM_EVER_MS
        self._from_ms = engine.index.from_ms

    def verdicts(self, step: Step) -> pa.Table | None:
        """Verdicts that were made or unmade."""
        if not step.verdicts:
            return None
        rows, gone = [], []
        for key, reported in step.verdicts:
            revision = self.engine.books.verdict_revisions[key]
            rows.append(self._verdict(key, reported, revision))
            gone.append(key not in self.engine.books.verdicts)
        lane = self._lanes.of_point[self.engine.index.point[[key[0] for key, _ in step.verdicts]]]
        return plain(VERDICT, rows, step.positions[lane], np.array(gone))

    def _verdict(self, key: tuple[int, int, int], reported: int, revision: int) -> dict[str, object]:
        series, start, end = key
        point = self.roster.points[self.engine.index.point[series]]
        link = self.engine.books.verdicts.get(key) or Link(start, end, 0, 0, Verdict.PLAIN, decided=True)
        return {
            "plant": self._plants[point.plant],
            "point": point.id,
            "serial": self.engine.index.installation(series).serial,
            "from": start,
            "to": end,
            "verdict": link.verdict.name.lower(),
            "status": link.status,
            "by": link.by or "rule",
            "evidence": json.dumps(self._evidence(link, series) | self._decision(key)),
            "revision": revision,
            "reported": reported,
            "installed": None if self._ever[series] else int(self._from_ms[series]),
        }

    def _evidence(self, link: Link, series: int) -> dict[str, object]:
        if link.verdict == Verdict.REPLACEMENT:
            serials = [self.engine.index.installation(one).serial for one in (series - 1, series)]
            return dict(zip(("from_serial", "to_serial"), serials, strict=True))
        point = self.roster.points[self.engine.index.point[series]]
        if link.verdict == Verdict.CONFLICT:
            contents, choice = self.engine.admission.contest_at(series, link.end)
            out: dict[str, object] = {"values": [decimal(value, point) for value, _ in contents]}
            if len({start for _, start in contents}) > 1:
                out["starts"] = [rfc3339(start) for _, start in contents]
            out |= {} if choice is None else {"counts": decimal(choice.value, point)}
            return out | {"unit": point.unit.name}
        if point.reads != REGISTER:
            return _evidence_of_read(link, point)
        ratings = self.engine.books.ratings
        found = _evidence(link, point) | _beyond(link, point, ratings.allowance(series))
        return found | (_turns(link, point, int(ratings.width[series])) if link.most_turns else {})

    def _decision(self, key: tuple[int, int, int]) -> dict[str, object]:
        """What the next decision on it has to be above."""
        series, start, end = key
        engine, link = self.engine, self.engine.books.verdicts.get(key)
        reading = int(key_of(np.array([series]), np.array([end]))[0])
        if link is not None and link.verdict == Verdict.CONFLICT:
            revision = engine.admission.choices.revision(reading)
        elif engine.index.interval[engine.index.point[series]]:
            revision = engine.reads.revision(reading)
        elif engine.index.gauge[engine.index.point[series]]:
            revision = engine.rulings.revision(reading, end)
        else:
            revision = engine.books.doubts.revision(series, (start, end))
        return {} if revision is None else {"decision": revision}

    def alerts(self, step: Step) -> pa.Table | None:
        """Changes of alerts."""
        rows = []
        for row in step.alerts:
            rule = self.roster.alerts[row.rule]
            rows.append(
                {
                    "id": rule.id,
                    "scope": rule.scope,
                    "at": row.change.at_ms,
                    "to": row.change.to,
                    "value": row.change.value,
                    "threshold": rule.threshold,
                    "window_end": row.change.at_ms,
                    "revision": row.revision,
                    "reported": row.reported_ms,
                }
            )
        gone = np.array([row.withdrawn for row in step.alerts], bool)
        if not rows:
            return None
        ratios = {(r.spec.scope, r.spec.id): r.denominator.index for r in self.engine.windows.ratios}
        rules = [self.roster.alerts[row.rule] for row in step.alerts]
        lane = self._lanes.of_account[[ratios[rule.scope, rule.when] for rule in rules]]
        return plain(ALERT, rows, step.positions[lane], gone)

    def ledger(self, step: Step, rows_max: int) -> Iterator[pa.Table]:
        """The books of the installations that a step touched, as they stand, in steps of their registers.

        So many rows at a time: each table takes along only the words that are in it.
        """
        columns = self._ledger(step.series) if len(step.series) else {}
        for first in range(0, len(step.series), rows_max):
            yield self._ledger_table(
                {name: column[first : first + rows_max] for name, column in columns.items()}, step.position
            )

    def _ledger(self, series: Ints) -> dict[str, Ints]:
        index, books, reads = self.engine.index, self.engine.books, self.engine.reads
        point = self._point[series]
        interval = index.interval[point]
        (low, first), (high, last) = books.memory.ends(series)
        mine = np.flatnonzero(interval)
        low[mine], high[mine] = reads.memory.edges(series[mine], CONFLICT)
        for i in mine.tolist():  # of interval reads 0 and the sum of what was accepted
            last[i] = reads.memory.total(int(series[i]))
        sums = {
            "first": first,
            "last": last,
            "booked": np.where(interval, reads.booked[series], books.ledger.booked[series]),
            "held": np.where(interval, reads.held[series], books.ledger.held[series]),
            "written_off": np.where(interval, reads.written_off[series], books.ledger.written_off[series]),
        }
        sums = {name: value // index.step[series] for name, value in sums.items()}
        balance = sums["last"] - sums["first"] - sums["booked"] - sums["held"] - sums["written_off"]
        if self.unbalanced:
            self.unbalanced -= set(series.tolist())
        self.unbalanced |= set(series[balance != 0].tolist())
        return {"series": series, "low": low, "high": high, **sums, "balance": balance}

    def _ledger_table(self, rows: dict[str, Ints], position: int) -> pa.Table:
        series, low, high = rows.pop("series"), rows.pop("low"), rows.pop("high")
        point = self._point[series]
        columns: Columns = {
            "plant": words(self._plant_words, self._point_plant[point]),
            "point": words(self._point_words, point),
            "serial": words(self._serial_words, series),
            "from": times(time_of(low)),
            "to": times(time_of(high)),
            **{name: pa.array(value) for name, value in rows.items()},
            "installed": times(self._from_ms[series], self._ever[series]),
        }
        return table(LEDGER, columns, position, low == NONE)

    def rejected(self, step: Step) -> pa.Table | None:
        """Readings that were refused."""
        rows = [
            {
                "received": stamp,
                "topic": f"meterflow/v1/{r.plant}/{r.point}/decision"
                if r.decision
                else f"meterflow/v1/{r.plant}",
                "point": r.point,
                "time": r.time_ms,
                "reason": r.reason,
                "detail": r.detail,
            }
            for r, stamp in step.refused
        ]
        return plain(REJECTED, rows, step.position, None) if rows else None

    def hop(self, step: Step) -> pa.Table:
        """What became of all readings so far, per plant."""
        hop, plants = self.engine.hop, np.arange(len(self._plants))
        balance = hop.received - hop.accepted - hop.duplicate - hop.rejected
        counts = {**{each.name: getattr(hop, each.name).copy() for each in fields(hop)}, "balance": balance}
        columns: Columns = {name: pa.array(count) for name, count in counts.items()}
        columns["hop"] = words(_HOP, np.zeros(len(plants), np.int64))
        columns["plant"] = words(self._plant_words, plants)
        columns["reported"] = times(np.full(len(plants), step.log_time))
        return table(HOP, columns, step.position)


def _evidence_of_read(link: Link, point: Point) -> dict[str, object]:
    """What a verdict on an interval read or a gauge was found by: what it says, and the most that can be."""
    out: dict[str, object] = {"value": decimal(link.first, point)}
    if link.verdict != Verdict.OVERLAP and point.limit_per_hour is not None and not point.mean:
        out["possible"] = decimal(link.last, point)
    return out | {"unit": point.unit.name}


def _evidence(link: Link, point: Point) -> dict[str, object]:
    """What a verdict was found by: register values, and what was left out."""
    out: dict[str, object] = {
        "from_value": decimal(link.first, point),
        "to_value": decimal(link.last, point),
        "unit": point.unit.name,
    }
    if link.scale and not (link.left or link.by):
        out["factor"] = f"{Decimal(10) ** link.scale:f}"
    if link.left:
        out["left_out"] = link.left
        out |= {"lowest": decimal(link.lowest, point), "highest": decimal(link.highest, point)}
    return out


def _beyond(link: Link, point: Point, allowance: Allowance) -> dict[str, object]:
    """Of a rise that the limit does not allow the most that it does, and the limit that would."""
    found = link.beyond(allowance)
    if found is None:
        return {}
    possible, needed = found
    return {"possible": decimal(possible, point), "limit_needed": hourly(needed, point)}


def _turns(link: Link, point: Point, width: int) -> dict[str, object]:
    """How often a register may have passed its end, where that is in doubt."""
    fewest = int(link.last < link.first)
    return {"fewest_turns": fewest, "most_turns": link.most_turns, "rolls_at": decimal(width, point)}
