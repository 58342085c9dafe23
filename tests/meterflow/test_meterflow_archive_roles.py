"""Copies of ``process`` archive what is on Kafka, each its share, over kills and under other results."""

from __future__ import annotations

import json
from pathlib import Path

from sinks.archive_check import check
from sinks.archive_place import FolderPlace
from tests.meterflow.helper import archived, done, eventually
from tests.meterflow.roles import Services
from tests.meterflow.test_meterflow_roles import recorded


def test_copies_archive_their_shares_over_kills(services: Services, tmp_path: Path) -> None:
    """Every reading is there once, whichever copy was killed; other results make no second archive."""
    folder = tmp_path / "archive"
    with services.settings.open("a") as settings:
        settings.write("archive: {url: archive, every: 1s}\n")
    _, first, second = services.start("ingest", "process", "process")
    eventually(lambda: len(first.partitions("archive") | second.partitions("archive")) == 3, 40)
    recording = tmp_path / "works.ndjson"
    recorded(recording, 120)
    done("replay", recording, "--mqtt", services.broker.url, "--speed", "max")
    eventually((folder / "manifest").is_dir, 40)
    first.kill()
    done("replay", recording, "--mqtt", services.broker.url, "--speed", "max")
    eventually(lambda: second.partitions("archive") == {0, 1, 2}, 60)
    readings = 2 * sum(len(json.loads(line)["payload"]["values"]) for line in recording.open())
    eventually(lambda: archived(folder) >= readings, 60)
    second.stop()
    assert archived(folder) == readings
    report = check(FolderPlace(folder))
    assert (report.problems, report.readings, len(report.until)) == ([], readings, 3)
    third = services.copy("process").start(METERFLOW_KAFKA_RESULTS="results-2")
    eventually(lambda: third.partitions("archive") == {0, 1, 2}, 40)
    third.stop()
    assert archived(folder) == readings
    assert done("doctor", "--settings", services.settings).returncode == 0
