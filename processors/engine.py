"""The operators together: ``step(records) -> Outcome``, ``dump`` and ``load``.

A batch of log records is cut into passes: records that only bring news are taken together, one
that reaches behind a frontier is taken alone, so that every revision is one record's doing. So
the outcome is the same however the log was cut into batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from metering.civil import QUARTER_MS
from metering.readings import TIME_FIRST_MS
from metering.roster import INTERVAL, Roster
from processors.accounts import Accounts
from processors.admission import Admission, Admitted
from processors.alerts import Change, History, evaluate
from processors.batch import Batch, LogRecord, Refused, SeriesIndex, build
from processors.books import Books, VerdictKey
from processors.flows import join
from processors.memory import TIME_BITS
from processors.progress import NEVER, Progress, Survey
from processors.reads import Reads
from processors.spans import Changes, Pass, Spans, Touches
from processors.windows import WindowRows, Windows

Ints = NDArray[np.int64]


@dataclass
class Hop:
    """What became of readings, per plant: received = accepted + duplicate + rejected."""

    received: Ints
    accepted: Ints
    duplicate: Ints
    rejected: Ints


@dataclass
class ReadRow:
    """Interval reads to say anew, by key; ``gone``: (key, start) of rows that are no more."""

    key: Ints
    gone: list[tuple[int, int]]


@dataclass
class AlertRow:
    """A change of an alert to say; ``revision`` counts how often this change came and went."""

    rule: int
    change: Change
    withdrawn: bool
    revision: int
    reported_ms: int


@dataclass
class Step:
    """One pass's news, in the operators' own numbers; processors.rows makes table rows of it."""

    position: int
    log_time: int
    frontier: Ints
    cells: Changes
    reads: ReadRow
    windows: list[WindowRows]
    alerts: list[AlertRow]
    verdicts: list[tuple[VerdictKey, int]]
    series: set[int]
    refused: list[tuple[Refused, int]] = field(default_factory=list)


class Engine:
    """The state of one partition's operators."""

    def __init__(self, roster: Roster) -> None:
        self.roster = roster
        self.index = SeriesIndex(roster)
        self.accounts = Accounts(roster)
        self.books = Books(self.index)
        self.reads = Reads(self.index, self.books.ratings)
        is_read = np.array([p.reads == INTERVAL for p in roster.points], bool)
        self.admission = Admission(self.books, self.reads, is_read)
        self.progress = Progress(roster)
        self.spans = Spans(self.accounts)
        self.windows = Windows(roster, self.accounts, self.spans, self.reads)
        self.alerts = [History() for _ in roster.alerts]
        self.verdict_revisions: dict[VerdictKey, int] = {}
        plants = len(roster.plants)
        self.hop = Hop(*(np.zeros(plants, np.int64) for _ in range(4)))
        self.unknown_refused = 0
        self.newest = np.full(len(self.index), NEVER, np.int64)
        """The newest reading of every series."""

    def step(self, records: Sequence[LogRecord]) -> list[Step]:
        """Takes records of the log in their order; the news, pass by pass."""
        return self.take(build(records, self.index)) if records else []

    def take(self, batch: Batch) -> list[Step]:
        """The same for a batch already built."""
        self._count_received(batch)
        fresh, doubled = self.admission.without_duplicates(batch)
        self._count_duplicates(doubled)
        # who repeats himself has spoken, too: which copies are left out here depends on how the log was cut
        survey = self.progress.survey(batch)
        late = self._late_records(fresh, survey)
        return [self._pass(fresh, survey, first, last, alone) for first, last, alone in _passes(late)]

    # -- counting ---------------------------------------------------------------------------------

    def _count_received(self, batch: Batch) -> None:
        plants = self.progress.plant[batch.point]
        size = len(self.hop.received)
        self.hop.received += np.bincount(plants, minlength=size)
        self.hop.accepted += np.bincount(plants, minlength=size)
        names = {plant.id: plant.index for plant in self.roster.plants}
        for refused in batch.refused:
            plant = names.get(refused.plant)
            if plant is None:
                self.unknown_refused += 1
            else:
                self.hop.received[plant] += 1
                self.hop.rejected[plant] += 1

    def _count_duplicates(self, points: Ints) -> None:
        counts = np.bincount(self.progress.plant[points], minlength=len(self.hop.received))
        self.hop.accepted -= counts
        self.hop.duplicate += counts

    # -- passes -----------------------------------------------------------------------------------

    def _late_records(self, batch: Batch, survey: Survey) -> NDArray[np.bool_]:
        """Records with a reading that reaches behind what was seen, or behind its point's patience.

        An interval read reaches back to its start: it may share time with the one before.
        """
        late = np.zeros(len(batch.stamp), bool)
        if len(batch) == 0:
            return late
        order = np.lexsort((batch.time, batch.record, batch.series))
        series, record, time = batch.series[order], batch.record[order], batch.time[order]
        point = batch.point[order]
        seen = _seen_before(series, record, time, self.newest[series])
        group = self.progress.group[point]
        waited = np.where(record > 0, survey.patience[group, record - 1], self.progress.waited[group])
        reads = self._is_read(point)
        start = np.where(reads, batch.start[order], np.where(seen != NEVER, seen, time))
        base = np.where(reads, QUARTER_MS, np.maximum(self.spans.base_ms[point], 1))
        shared = reads & (start < seen)
        behind = (time <= seen) | shared | (waited >= (start // base + 1) * base)
        late[record[behind]] = True
        return late

    def _is_read(self, point: Ints) -> NDArray[np.bool_]:
        return np.asarray(self.index.interval[point])

    def _pass(self, batch: Batch, survey: Survey, first: int, last: int, alone: bool) -> Step:
        mine = (batch.record >= first) & (batch.record <= last)
        part = batch.take(mine)
        before, seen_before = self.progress.frontier, self.progress.seen.copy()
        admitted = self.admission.admit(part, before, alone)
        np.maximum.at(self.newest, part.series, part.time)
        for points in admitted.duplicates:
            self._count_duplicates(points)
        self.progress.advance(survey, first, last)
        step = Pass(
            survey,
            first,
            last,
            admitted.cause,
            alone,
            before,
            self.progress.frontier,
            seen_before,
            self.progress.seen.copy(),
            self.progress.group,
        )
        touches = Touches(
            *(_concat([getattr(t, n) for t in admitted.touches]) for n in ("point", "time_ms", "record"))
        )
        changes = self.spans.apply(join(admitted.flows), touches, step)
        reads = self._read_rows(admitted, survey)
        windows = self.windows.rolled(changes, step)
        alerts = self._alerts(windows, step)
        windows += self.windows.calendar(changes, step)
        refused = [(r, int(batch.stamp[r.record])) for r in batch.refused if first <= r.record <= last]
        return Step(
            int(batch.offset[last]),
            self.progress.log_time,
            step.after,
            changes,
            reads,
            windows,
            alerts,
            self._verdicts(survey),
            self._series(),
            refused,
        )

    def _read_rows(self, admitted: Admitted, survey: Survey) -> ReadRow:
        memory = self.reads.memory
        for rows in admitted.rows:
            where = memory.find(rows.key)
            memory.put("changes", where, memory.get("changes", where) + rows.revised.astype(np.int32))
            reported = np.maximum(memory.get("reported", where), survey.log_time[rows.record])
            memory.put("reported", where, reported)
            cause = np.where(rows.revised > 0, admitted.cause, memory.get("cause", where))
            memory.put("cause", where, cause.astype(np.uint8))
        keys = np.unique(_concat([rows.key for rows in admitted.rows]))
        return ReadRow(keys, admitted.vanished)

    def _verdicts(self, survey: Survey) -> list[tuple[VerdictKey, int]]:
        changed, self.books.changed_verdicts = self.books.changed_verdicts, {}
        for key in changed:
            self.verdict_revisions[key] = self.verdict_revisions.get(key, -1) + 1
        return [(key, int(survey.log_time[record])) for key, record in sorted(changed.items())]

    def _series(self) -> set[int]:
        touched = self.books.ledger.touched | self.reads.touched
        self.books.ledger.touched, self.reads.touched = set(), set()
        return touched

    def _alerts(self, windows: list[WindowRows], step: Pass) -> list[AlertRow]:
        out: list[AlertRow] = []
        for number, rule in enumerate(self.roster.alerts):
            for rows in windows:
                if (rows.ratio.spec.scope, rows.ratio.spec.id, rows.window) == (
                    rule.scope,
                    rule.when,
                    rule.window,
                ):
                    out += self._alert(number, rows, step)
        return out

    def _alert(self, number: int, rows: WindowRows, step: Pass) -> list[AlertRow]:
        rule, history = self.roster.alerts[number], self.alerts[number]
        grid = int(self.spans.grid_ms[rows.ratio.denominator.index])
        from_ms = int(rows.end[0])
        newest = int(self.progress.seen[self.windows.members_of(rows.ratio)].max()) // grid
        first = (from_ms - rule.for_ms) // grid - 1
        filled = self.windows.stretch(rows.ratio, rows.window, first, newest - 1)
        spans = np.union1d(filled, rows.end[:1] // grid - 1)
        known = self.windows.evaluate(rows.ratio, rows.window, spans, step)
        new, withdrawn = evaluate(rule, history, known.end, known.value, from_ms)
        said = dict(zip(known.end.tolist(), known.reported.tolist(), strict=True))
        now = int(step.survey.log_time[step.last])
        return [
            AlertRow(
                number,
                change,
                change in withdrawn,
                history.revision(change.at_ms),
                now if step.late else said[change.at_ms],
            )
            for change in (*new, *withdrawn)
        ]


def _seen_before(series: Ints, record: Ints, time: Ints, known: Ints) -> Ints:
    """The newest time of the same series in earlier records (rows sorted by series, record, time)."""
    n = len(series)
    new_series = np.append(True, series[1:] != series[:-1])
    new_record = new_series | np.append(True, record[1:] != record[:-1])
    shift = np.cumsum(new_series) << TIME_BITS  # keeps series apart in one running maximum
    highest = np.maximum.accumulate(np.maximum(time, known) - TIME_FIRST_MS + shift) - shift + TIME_FIRST_MS
    previous = np.where(new_series, known, np.append(NEVER, highest[:-1]))
    record_start = np.maximum.accumulate(np.where(new_record, np.arange(n), 0))
    return np.asarray(previous[record_start])


def _passes(late: NDArray[np.bool_]) -> list[tuple[int, int, bool]]:
    """(first, last, alone) of each pass over the records."""
    out: list[tuple[int, int, bool]] = []
    for record, alone in enumerate(late.tolist()):
        if alone or not out or out[-1][2]:
            out.append((record, record, alone))
        else:
            out[-1] = (out[-1][0], record, False)
    return out


def _concat(parts: list[Ints]) -> Ints:
    return np.concatenate(parts) if parts else np.empty(0, np.int64)
