"""What the bucket itself says of how far it is filled, so that it need not be taken on trust.

The position on the log says what was stored once. A bucket that was emptied, or restored from an older
copy, has less. And a copy of the sink that was frozen in the midst of a request may end it long after
another one has taken over: InfluxDB, which keeps what it was told last, then has older rows again.

Each run of a sink over a partition has one point: measurement ``meterflow_results``, tag ``partition``, its
time the nanosecond at which the run began.

| field | says |
|---|---|
| ``results``, ``rejected`` | all before these offsets was stored; said every few seconds and at the stop |
| ``lost`` | so many offsets of ``results`` the log had let go of before they were stored here |
| ``began`` | the batch of ``results`` whose rows came in the same request; every request has it |

A run takes back what the points of those before it say (-1) when it has its own. So what another point
says later is the trace of rows that came late, and ``began`` says from where on rows may be older than they
should be. A request without an answer may land late, too: after it a sink goes on as another run.
"""

from __future__ import annotations

import csv
import io
import logging
import operator
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from metering import flux
from metering.errors import MeterflowError, Unavailable, UsageError
from sinks.influx_client import InfluxSettings
from sinks.influx_layout import TIME_MAX_NS
from sinks.influx_lines import Lines
from sinks.influx_mark import MEASUREMENT
from sinks.influx_writer import InfluxWriter
from sinks.store_influx_ask import Influx

log = logging.getLogger(__name__)

PARTITION = "partition"
_FIELDS = ("results", "rejected", "lost", "began")


class Offsets(NamedTuple):
    """Of one partition's results and rejected rows."""

    results: int
    rejected: int


@dataclass(frozen=True, slots=True)
class Run:
    """The point of one run; -1 for what it does not say."""

    began_ns: int
    results: int = -1
    rejected: int = -1
    lost: int = -1
    began: int = -1

    def line(self, partition: int) -> bytes:
        """Its point, with the fields that it says."""
        said = [(name, getattr(self, name)) for name in _FIELDS if getattr(self, name) >= 0]
        said = said or [(name, -1) for name in _FIELDS]
        fields = ",".join(f"{name}={value}i" for name, value in said)
        return f"{MEASUREMENT},{PARTITION}={partition} {fields} {self.began_ns}\n".encode()


def stored(runs: Sequence[Run]) -> Offsets:
    """Up to where everything is there, as it should be, by what the points of a bucket say together.

    Every run says ``results`` before its first batch. Where none does, the bucket was emptied since.
    """
    noted = [run for run in runs if run.results >= 0]
    if not noted:
        return Offsets(0, 0)
    results = [offset for run in runs for offset in (run.results, run.began) if offset >= 0]
    return Offsets(min(results), min(run.rejected for run in noted))


class Runs:
    """One run's part in this, over one partition. Blocks; errors as of InfluxWriter, whose requests it marks.

    ``lost``: as of the field. ``watching``: false for a bucket whose retention does not take the points.
    """

    def __init__(self, settings: InfluxSettings, partition: int, writer: InfluxWriter) -> None:
        self.lost = 0
        self.watching = False
        self._bucket, self._partition = settings.bucket, partition
        self._influx = Influx(settings)
        self._writer = writer
        self._run = Run(time.time_ns())
        self._unsure = 0

    @property
    def unsure(self) -> bool:
        """Whether a request of this run may land behind those that come now: ``check`` is due at once."""
        return self.watching and self._unsure != self._writer.unsure

    def begin(self, said: Offsets, ends: Offsets) -> Offsets:
        """From where on to store, given what the log says was stored; the runs before this one are over.

        Raises UsageError when the bucket, or what was said, is ahead of the log, which ``ends`` there.
        """
        found = self._writer.until_done(self._found)
        if any(map(operator.gt, said, ends)) or any(run.results > ends.results for run in found):
            raise UsageError(
                "InfluxDB has more results than the log: they do not belong together",
                where=f"bucket {self._bucket}, partition {self._partition}",
                hint="Restore the log that belongs to the bucket, or give kafka.results another name and "
                "influxdb.bucket an empty bucket.",
            )
        self.lost = max((run.lost for run in found), default=0)
        return self._went_back(said, found)

    def check(self, offsets: Offsets) -> Offsets | None:
        """From where on to store again where the bucket has less, or older, rows than it had; else None.

        Notes how far it is. What keeps InfluxDB from answering is for the next request to tell.
        """
        if not self.watching:
            return None
        if self.unsure:
            self._renew(offsets)
        try:
            found = self._found()
        except MeterflowError:
            return None
        mine = next((run for run in found if run.began_ns == self._run.began_ns), Run(0))
        whole = mine.results >= self._run.results and mine.rejected >= self._run.rejected
        if whole and len(found) == 1:
            self.note(offsets)
            return None
        log.warning("the bucket %s", _LATE if whole else _LESS)
        others = [run for run in found if run.began_ns != self._run.began_ns]
        there = replace(mine, began=-1, **(offsets._asdict() if whole else {}))
        return self._went_back(offsets, [there, *others] if mine.results >= 0 else [])

    def carry(self, results: int) -> None:
        """From now on every request says that it is of the batch that begins at this offset."""
        self._writer.trace = Run(self._run.began_ns, began=results).line(self._partition)

    def note(self, offsets: Offsets) -> None:
        """Says that everything before these offsets is stored."""
        run = replace(self._run, results=offsets.results, rejected=offsets.rejected, lost=max(self.lost, 0))
        if run != self._run:
            self.watching = not self._writer.write(Lines.of([run.line(self._partition)]))
            self._run = run

    def end(self, offsets: Offsets) -> None:
        """The last word of a run, in one attempt: the next one begins at these offsets."""
        if self.watching:
            run = replace(self._run, **offsets._asdict(), began=offsets.results)
            self._writer.say_once(run.line(self._partition))

    def confess(self) -> None:
        """Another run has taken over: it is to look after what was under way here meanwhile."""
        if self._writer.trace:
            self._writer.say_once(self._writer.trace)

    def close(self) -> None:
        """Lets go of the connections."""
        self._influx.close()

    def _renew(self, offsets: Offsets) -> None:
        """Goes on as another run; what lands of this one from now on is the trace of a late request."""
        self._unsure = self._writer.unsure
        over, self._run = self._run.began_ns, Run(time.time_ns())
        self._writer.trace = b""  # until the next batch: what is written here is none
        self.note(offsets)
        self._writer.write(Lines.of([Run(over).line(self._partition)]))

    def _went_back(self, offsets: Offsets, found: Sequence[Run]) -> Offsets:
        """Says first how little there is, then takes away what said so."""
        there = stored(found)
        back = Offsets(*map(min, offsets, there))
        self._run = Run(self._run.began_ns)
        self.note(back)
        others = [run.began_ns for run in found if run.began_ns != self._run.began_ns]
        if others:
            self._writer.write(Lines.of([Run(began_ns).line(self._partition) for began_ns in others]))
        return back

    def _found(self) -> list[Run]:
        body = self._influx.ask(_query(self._bucket, self._partition)).decode()
        if body.lstrip(",").startswith("error,"):
            raise Unavailable(f"InfluxDB failed on a query: {body.strip()[-500:]}")
        rows = csv.DictReader(io.StringIO(body, newline=""))
        return [
            Run(int(row["began_ns"]), **{name: int(row.get(name) or -1) for name in _FIELDS})
            for row in rows
            if row.get("began_ns")
        ]


_LESS = "lacks results that it had: it was emptied or restored, and is filled again from the log"
_LATE = "was written to by a copy that had been given up: what it may have spoilt is stored again"


def _query(bucket: str, partition: int) -> str:
    return "\n".join(
        (
            f"from(bucket: {flux.text(bucket)})",
            f"  |> range(start: {flux.instant(1)}, stop: time(v: {TIME_MAX_NS}))",
            f"  |> filter(fn: (r) => r._measurement == {flux.text(MEASUREMENT)}",
            f"      and r.{PARTITION} == {flux.text(str(partition))} and r._value >= 0)",
            '  |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")',
            "  |> group()",
            "  |> map(fn: (r) => ({r with began_ns: int(v: r._time)}))",
        )
    )
