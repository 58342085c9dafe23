"""The operators together: ``step(records) -> Outcome``, ``dump`` and ``load``.

A batch of log records is cut into passes (processors.passes), so that every revision is one record's
doing and every reported row is said as it stood: the story is the same however the log was cut into
batches. What is open is said once, at the end of the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from metering.roster import Roster
from processors.accounts import Accounts
from processors.admission import LATE, NEIGHBOUR, Admission, Admitted
from processors.alerts import Change, History, evaluate
from processors.batch import Batch, LogRecord, SeriesIndex, build
from processors.books import Books, VerdictKey
from processors.changes import Changes, Pass, Touches
from processors.choices import Choices
from processors.decisions import Placed, Refused
from processors.flows import join
from processors.gaps import Gaps
from processors.gauges import Gauges
from processors.lanes import Lanes
from processors.memory import time_of
from processors.passes import Passes, Plan, sorted_by_key
from processors.profiles import Profiles
from processors.progress import NEVER, Course, Progress, Survey
from processors.ratios import Ratio
from processors.reads import Reads
from processors.room import IN_MEMORY, Room
from processors.rulings import Rulings
from processors.runs import NONE
from processors.scaling import grouped
from processors.spans import Spans
from processors.stated import Stated
from processors.windows import ROLLING_MS, WINDOWS, WindowRows, Windows

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
    """One pass's news, in the operators' own numbers; processors.rows makes table rows of it.

    ``closing``: the last pass of a batch, which also says what is open, the ledger and the hop.
    """

    positions: Ints
    """Of every lane, the offset of the last record that was taken."""
    position: int
    """That of the batch."""
    log_times: Ints
    """Of every lane."""
    log_time: int
    frontier: Ints
    of_accounts: Ints
    """Their frontiers."""
    cells: Changes
    reads: ReadRow
    windows: list[WindowRows]
    alerts: list[AlertRow]
    verdicts: list[tuple[VerdictKey, int]]
    series: Ints
    closing: bool
    refused: list[tuple[Refused, int]] = field(default_factory=list)


class Engine:
    """The state of one partition's operators."""

    def __init__(self, roster: Roster, room: Room = IN_MEMORY) -> None:
        self.roster = roster
        self.index = SeriesIndex(roster)
        self.accounts = Accounts(roster)
        self.books = Books(self.index, room)
        self.rulings = Rulings()
        self.reads = Reads(self.index, self.books.ratings, self.books.say, self.rulings, room)
        choices = Choices()
        self.gauges = Gauges(self.index, self.books.ratings, self.books.say, self.rulings, choices, room)
        self.admission = Admission(self.books, self.reads, self.gauges, self.index, choices)
        self.progress = Progress(roster)
        self.spans = Spans(self.accounts, room)
        self.gaps = Gaps(Profiles(roster, self.accounts, self.spans.base, self.spans.base_ms))
        self.stated = Stated(roster, self.index)
        self.lanes = Lanes.of(roster, self.accounts)
        self._frontier = Course(self.accounts.frontier(self.progress.frontier.after))
        """That of accounts."""
        self.windows = Windows(roster, self.spans, self.reads, self.lanes)
        self.passes = Passes(
            self.index, self.books, self.reads, self.gauges, self.lanes, self.admission.choices
        )
        self.alerts = [History() for _ in roster.alerts]
        plants = len(roster.plants)
        self.hop = Hop(*(np.zeros(plants, np.int64) for _ in range(4)))
        self.unknown_refused = 0
        self._refused: list[tuple[Refused, int]] = []
        """With their log time: not said yet."""

    def resume(self) -> None:
        """Goes on from what was seen and waited for."""
        self.progress.resume()
        self._frontier = Course(self.accounts.frontier(self.progress.frontier.after))

    def put_out(self) -> None:
        """What is old leaves memory, where the room is for that; to be called now and then, between steps."""
        for memory in (self.books.memory, self.reads.memory, self.gauges.memory):
            memory.put_out()
        self.spans.base.put_out()
        self.spans.derived.put_out()

    def keep_no_changes(self) -> None:
        """Nothing will be dumped of what has changed up to now."""
        self.spans.base.keep_no_changes()
        self.spans.derived.keep_no_changes()

    @property
    def frontiers(self) -> tuple[Course, Course]:
        """Of points and of accounts."""
        return self.progress.frontier, self._frontier

    def step(self, records: Sequence[LogRecord], *, closing: bool = True) -> Iterator[Step]:
        """Takes records of the log in their order; the news, pass by pass.

        The rows of a step are those that stand now: make them before the next step is taken, and take all.
        Not ``closing``: more records follow, with which what is open will be said.
        """
        if records:
            yield from self.take(build(records, self.index), closing=closing)

    def take(self, batch: Batch, *, closing: bool = True) -> Iterator[Step]:
        """The same for a batch already built."""
        self._count_received(batch)
        # who repeats himself has spoken, too: which copies are left out here depends on how the log was cut
        survey = self.progress.survey(batch)
        batch = self.stated.added(batch, self.progress.seen)
        batch, seen = sorted_by_key(batch, self._newest, self.progress.seen, self.index)
        same = self.admission.repeated(batch)
        if same.any():
            self._count_duplicates(batch.point[same])
            batch, seen = batch.take(~same), seen.take(~same)
        plan = self.passes.plan(batch, seen, survey)
        causes = np.where(plan.late, LATE, NEIGHBOUR)
        for number, part in enumerate(self._parts(batch, plan)):
            last = closing and number == len(plan) - 1
            decided = plan.decided(batch, number)
            yield self._pass(batch, part, decided, survey, causes, plan.stretch(number), closing=last)
        self.progress.finish(survey)

    def _newest(self, some: slice) -> Ints:
        """The newest time of some series, NEVER where there is none."""
        newest = np.maximum(self.books.memory.newest[some], self.reads.memory.newest[some])
        newest = np.maximum(newest, self.gauges.memory.newest[some])
        return np.where(newest == NONE, NEVER, time_of(newest))

    # -- counting ---------------------------------------------------------------------------------

    def _count_received(self, batch: Batch) -> None:
        counts = np.bincount(self.progress.plant[batch.point], minlength=len(self.hop.received))
        for one in batch.decisions:
            counts[self.progress.plant[self.index.point[one.series]]] += 1
        self.hop.received += counts
        self.hop.accepted += counts
        self._refused += [(refused, int(batch.stamp[refused.record])) for refused in batch.refused]
        names = {plant.id: plant.index for plant in self.roster.plants} if batch.refused else {}
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

    def _parts(self, batch: Batch, plan: Plan) -> Iterator[Batch]:
        """The readings of each pass, sorted by key."""
        if len(plan) == 1:
            return iter([batch])
        number = plan.of_records(self.lanes.of_point[batch.point], batch.record)
        parts = batch.take(grouped(number, len(plan)))
        edges = np.cumsum(np.bincount(number, minlength=len(plan))).tolist()
        return (parts.take(slice(*pair)) for pair in pairwise([0, *edges]))

    def _pass(
        self,
        batch: Batch,
        part: Batch,
        decided: list[Placed],
        survey: Survey,
        causes: Ints,
        stretch: tuple[Ints, Ints],
        *,
        closing: bool,
    ) -> Step:
        first, last = stretch
        progress = self.progress
        admitted = self.admission.admit(part, progress.frontier.after, causes, decided)
        for points in admitted.duplicates:
            self._count_duplicates(points)
        progress.advance(survey, last[self.lanes.of_plant], part.point, part.time)
        accounts = self.accounts.follow(progress.moved, progress.frontier, self._frontier)
        step = Pass(
            survey,
            self.lanes,
            first,
            last,
            causes,
            closing,
            *(progress.frontier.before, progress.frontier.after),
            *(progress.reach.before, progress.reach.after),
            *(self._frontier.before, self._frontier.after),
            (progress.moved, accounts),
        )
        touches = Touches(
            *(_concat([getattr(t, n) for t in admitted.touches]) for n in ("point", "time_ms", "record"))
        )
        changes = self.spans.apply(self.gaps.shaped(join(admitted.flows)), touches, step)
        reads = self._read_rows(admitted, survey, causes)
        rolled = self.windows.rolled(changes, step)
        alerts = [] if rolled is None else self._alerts(rolled, step)
        return Step(
            batch.offset[last],
            int(batch.offset[-1]),
            survey.log_time[last],
            progress.log_time,
            step.after,
            step.of_accounts_after,
            changes,
            reads,
            [rows for rows in (rolled, self.windows.calendar(changes, step)) if rows is not None],
            alerts,
            self._verdicts(survey),
            self._series() if closing else np.empty(0, np.int64),
            closing,
            self._take_refused() if closing else [],
        )

    def _read_rows(self, admitted: Admitted, survey: Survey, causes: Ints) -> ReadRow:
        memory = self.reads.memory
        for rows in admitted.rows:
            where = memory.find(rows.key)
            memory.put("changes", where, memory.get("changes", where) + rows.revised.astype(np.int32))
            reported = np.maximum(memory.get("reported", where), survey.log_time[rows.record])
            memory.put("reported", where, reported)
            cause = np.where(rows.revised > 0, causes[rows.record], memory.get("cause", where))
            memory.put("cause", where, cause.astype(np.uint8))
        keys = np.unique(_concat([rows.key for rows in admitted.rows]))
        vanished = np.array([key for key, _ in admitted.vanished], np.int64)
        stands = memory.get("start", memory.find(vanished)).tolist()
        gone = {one for one, start in zip(admitted.vanished, stands, strict=True) if one[1] != start}
        return ReadRow(keys, sorted(gone))

    def _verdicts(self, survey: Survey) -> list[tuple[VerdictKey, int]]:
        changed, self.books.changed_verdicts = self.books.changed_verdicts, {}
        self.books.began.clear()
        return [(key, int(survey.log_time[record])) for key, record in sorted(changed.items())]

    def _take_refused(self) -> list[tuple[Refused, int]]:
        refused, self._refused = self._refused, []
        return refused

    def _series(self) -> Ints:
        books, reads = self.books.ledger.touched, self.reads.touched
        touched = np.flatnonzero(books | reads)
        books[:] = reads[:] = False
        return touched

    def _alerts(self, windows: WindowRows, step: Pass) -> list[AlertRow]:
        out: list[AlertRow] = []
        for number, rule in enumerate(self.roster.alerts):
            for ratio in self.windows.ratios:
                if (ratio.spec.scope, ratio.spec.id) == (rule.scope, rule.when) and rule.window in ROLLING_MS:
                    mine = (windows.ratio == ratio.index) & (windows.window == WINDOWS.index(rule.window))
                    if mine.any():
                        out += self._alert(number, ratio, windows.end[mine], step)
        return out

    def _alert(self, number: int, ratio: Ratio, end: Ints, step: Pass) -> list[AlertRow]:
        """The changes of an alert behind the first window that says something else, or something new."""
        rule, history = self.roster.alerts[number], self.alerts[number]
        grid = int(self.spans.grid_ms[ratio.denominator.index])
        members, from_ms = self.windows.members_of(ratio), int(end[0])
        newest = int(self.progress.seen[members].max()) // grid
        first = (from_ms - rule.for_ms) // grid - 1
        filled = self.windows.stretch(ratio, rule.window, first, newest - 1)
        known = self.windows.evaluate(ratio, rule.window, np.union1d(filled, end[:1] // grid - 1), step)
        new, withdrawn = evaluate(rule, history, known.end, known.value, from_ms)
        said = dict(zip(known.end.tolist(), known.reported.tolist(), strict=True))
        reported_until = int(step.before[members].min())
        now = int(step.survey.log_time[step.first[self.lanes.of_point[members[0]]]])
        return [
            AlertRow(
                number,
                change,
                change in withdrawn,
                history.revision(change.at_ms),
                now if change.at_ms <= reported_until else said[change.at_ms],
            )
            for change in (*new, *withdrawn)
        ]


def _concat(parts: list[Ints]) -> Ints:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)
