"""A restatement under kill -9, over the real service: a case of tests/cases, killed while it goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from meterflow.folder import Folder
from metering.instants import rfc3339
from metering.query import Query
from metering.tables import TABLES
from simulators.recording import Message, write_recording
from sinks.store_duckdb import open_existing
from sinks.store_earlier import EarlierResults
from tests.meterflow.helper import ROOT, Service, done
from tests.meterflow.stages import REPORTED, Rows, Stage, check_expected, check_restated, stages_of
from tests.processors.log_driver import Reading

CASE = ROOT / "tests" / "cases" / "late_by_a_year_restates_its_month_and_year"
KILLS_S = (0.0, 0.05, 0.3)
"""After the late reading is acknowledged, and after each start."""
Serve = Callable[..., Service]


def send(service: Service, stage: Stage, file: Path) -> None:
    """All readings of a stage, acknowledged when this returns."""
    with write_recording(file) as recording:
        for arrival in stage.log:
            for item in arrival.readings:
                assert isinstance(item, Reading)
                content = {"time": rfc3339(item.time_ms), "value": item.value}
                topic = f"meterflow/v1/{item.plant}/{item.point}"
                recording.write(Message(arrival.stamp_ms, topic, 1, json.dumps(content).encode()))
    done("replay", file, "--mqtt", service.mqtt, "--speed", "max")


def stored(service: Service, at_ms: int | None = None) -> Rows:
    """What a stopped service left, now or as of an instant."""
    folder = Folder(service.folder)
    store = open_existing(folder.store)
    try:
        names: Sequence[str] = tuple(TABLES) if at_ms is None else REPORTED
        results = EarlierResults(store, folder.stood)
        return {name: results.rows(Query(name, as_of_ms=at_ms)) for name in names}
    finally:
        store.close()


def test_a_restatement_that_is_killed_again_and_again_is_the_one_that_was_due(
    serve: Serve, tmp_path: Path
) -> None:
    """Exactly the rows of the case are revised, once, with its cause; what was reported before is kept."""
    first, late = stages_of(CASE)
    service = serve(CASE / "1" / "site.yaml")
    service.start()
    send(service, first, tmp_path / "first.ndjson")
    service.caught_up(len(first.log))
    service.stop()
    before, at_ms = stored(service), int(datetime.now(UTC).timestamp() * 1000)
    check_expected(before, first)
    was = stored(service, at_ms)
    service.start()
    send(service, late, tmp_path / "late.ndjson")
    for seconds in KILLS_S:
        time.sleep(seconds)
        service.kill()
        service.launch() if seconds != KILLS_S[-1] else service.start()
    service.caught_up(len(first.log) + 1)
    service.stop()
    after = stored(service)
    check_expected(after, late)
    check_restated(before, after, late)
    assert stored(service, at_ms) == was
