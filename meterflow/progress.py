"""What running parts say of themselves, in the words of the page and of the metrics."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ingest.clock import wall_clock_ms
from processors.engine import Engine
from processors.worker import Worker
from sinks.archive_sink import ArchiveSink
from web.status import Hop, Progress

if TYPE_CHECKING:
    from ingest.counters import Counters
    from meterflow.log_age import LogKeeper


def of_worker(worker: Worker) -> Progress:
    """How far a worker is in its topic."""
    waits = worker.end > worker.offset
    behind = wall_clock_ms() - worker.waiting_stamp_ms if waits and worker.waiting_stamp_ms else 0
    idle = int((time.monotonic() - worker.moved_s) * 1000) if waits else 0
    error = worker.error or worker.saver.error
    return Progress(worker.offset, worker.end, idle, behind, worker.running, error)


def of_archive(archive: ArchiveSink) -> Progress:
    """How far what is on the log is archived: it waits there until there is enough of it for a file."""
    lag = archive.lag
    behind = wall_clock_ms() - archive.waiting_stamp_ms if lag and archive.waiting_stamp_ms else 0
    idle = int((time.monotonic() - archive.moved_s) * 1000) if lag else 0
    return Progress(archive.end - lag, archive.end, idle, behind, archive.running, archive.error)


def let_go(keeper: LogKeeper | None, raw: Iterable[ArchiveSink]) -> dict[str, int]:
    """What has been let go of by its age since the start, where anything may be."""
    found = {} if keeper is None else {"log_records_let_go": keeper.let_go}
    if some := [each.let_go for each in raw if each.keeps_for_a_while]:
        found["raw_payloads_let_go"] = sum(some)
    return found


def ingested(counters: Iterable[Counters]) -> Hop:
    """The hop onto the log, of all ways in together."""
    total = Hop()
    for one in counters:
        rejected = sum(one.rejected.values())
        total = Hop(
            total.received + one.received, total.accepted + one.accepted, 0, total.rejected + rejected
        )
    return total


def processed(engines: Iterable[Engine]) -> Hop:
    """The hop through the processors."""
    total = Hop()
    for engine in engines:
        hop = engine.hop
        counts = [int(c.sum()) for c in (hop.received, hop.accepted, hop.duplicate, hop.rejected)]
        before = (total.received, total.accepted, total.duplicate, total.rejected)
        total = Hop(*(a + b for a, b in zip(before, counts, strict=True)))
    return total


def last_seen(engine: Engine) -> dict[str, int]:
    """The newest reading's time of each point that has one, by ``PLANT/POINT``."""
    plants, seen = engine.roster.plants, engine.progress.seen
    return {
        f"{plants[point.plant].id}/{point.id}": int(seen[point.index])
        for point in engine.roster.points
        if seen[point.index] > 0
    }
