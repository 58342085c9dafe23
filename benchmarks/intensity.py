"""The operators alone: the rolling-intensity job's load through them in memory, without a log.

Records are taken in batches as the worker takes them, partition by partition: frames are decoded,
stepped, and what comes of them is encoded again. ``run`` prints what that costs a reading, and whether
all windows are right.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.core import takes
from benchmarks.kafka_load import PARTITIONS, PLANT_NAMES, Load, entries, make, roster
from benchmarks.kafka_truth import check_frames, edges
from bus.log import RESULTS, Record
from bus.partition import partition_of
from metering.roster import Roster
from processors.operators import Plants

READINGS = 1_000_000


def run(json_output: bool = False, *, readings: int = READINGS) -> dict[str, Any]:
    """Measures and prints the figures."""
    load = make(readings)
    with tempfile.TemporaryDirectory(prefix="meterflow-bench-") as folder:
        site = roster(Path(folder))
    shares = shares_of(load)
    before_mb = _peak_memory_mb()
    results: list[bytes] = []
    started_s = time.process_time()
    for partition, share in enumerate(shares):
        results += worked(partition, share, site)
    spent_s = time.process_time() - started_s
    checked = check_frames(edges(load), results)
    figures = {
        "readings": len(load),
        "records": sum(map(len, shares)),
        "us_per_reading": round(spent_s / len(load) * 1e6, 3),
        "result_bytes_per_reading": round(sum(map(len, results)) / len(load), 1),
        "peak_memory_mb_more": round(_peak_memory_mb() - before_mb),
        "windows_right": checked.right,
        "windows_wrong": checked.wrong,
    }
    sys.stdout.write(json.dumps(figures, indent=2) + "\n" if json_output else _table(figures))
    return figures


def shares_of(load: Load) -> list[list[Record]]:
    """The load's records by partition, as the log would give them."""
    shares: list[list[Record]] = [[] for _ in range(PARTITIONS)]
    for entry in entries(load):
        share = shares[partition_of(entry.key, PARTITIONS)]
        share.append(Record(len(share), entry.key, entry.value, entry.stamp_ms))
    return shares


def worked(partition: int, share: list[Record], site: Roster) -> Iterator[bytes]:
    """The result frames of one partition."""
    own = [name for name in PLANT_NAMES if partition_of(name, PARTITIONS) == partition]
    operators = Plants(site, plants=own, partition=partition)
    for batch in takes(share, operators.batch_bytes_max):
        for entry in operators.take(batch).get(RESULTS, ()):
            yield entry.value


def _peak_memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _table(figures: dict[str, Any]) -> str:
    return "".join(f"{name:28} {value}\n" for name, value in figures.items())


if __name__ == "__main__":
    run("--json" in sys.argv, readings=int(next((a for a in sys.argv[1:] if a.isdigit()), READINGS)))
