"""How much of everything a number of meters needs: a calculation from measured constants.

Every constant names the command that measured it; on another machine, measure and give your own. What is
planned instead of measured says so. ``python -m benchmarks.size --meters 10000000 --every 900 [--json]``
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bus.kafka_topics import RESULTS_KEPT_MS

DAY_S, YEAR_S = 86_400, 365 * 86_400
GB = 1e9
SPANS = 5
"""Of roll-ups: 15 minutes, hour, day, month, year."""
ROWS_PER_READING = 1 + SPANS
"""At most: the interval, and each open roll-up of its point, said again once a batch."""
SITES = ((10_000_000, 900), (100_000_000, 900))
"""A province, and ten of them: meters, and how often each is read, in seconds."""


@dataclass(frozen=True, slots=True)
class Constant:
    """``how``: the command that measured it, or that it is planned."""

    value: float
    unit: str
    how: str


PLANNED = "planned, not measured"
_SCALE = "bench scale"
CONSTANTS = {
    "ingest": Constant(1.37, "CPU s per million messages, endpoint", "bench mqtt-kafka"),
    "process": Constant(22.9, "CPU s per million readings", _SCALE),
    "kafka": Constant(30.5, "CPU s per million readings", _SCALE),
    "sink": Constant(1.8, "CPU s per million rows", "bench influxdb"),
    "influxdb": Constant(15.0, "CPU s per million rows", "bench influxdb"),
    "influxdb_rate": Constant(54_300, "rows/s into one InfluxDB on two cores", "bench influxdb"),
    "point": Constant(3_700, "bytes of memory a point", "bench core"),
    "process_base": Constant(190, "MB of memory a copy of process", _SCALE),
    "kafka_readings": Constant(98, "bytes a reading on Kafka, 100 a message", _SCALE),
    "kafka_results": Constant(229, "bytes of results a reading on Kafka, as columns and as JSON", _SCALE),
    "archive": Constant(5.2, "bytes a reading in the archive, a minute apart", "bench restate"),
    "restart": Constant(7.5, "s from a kill to the first new result", _SCALE),
    "cell": Constant(100_000, "points a site file", PLANNED),
    "series": Constant(1_000_000, "series one InfluxDB is trusted with", PLANNED),
    "burst": Constant(15, "times the mean rate at its peak", PLANNED),
    "replication": Constant(3, "copies of everything on Kafka", PLANNED),
    "kafka_days": Constant(30, "days that Kafka keeps readings, which the archive has too", PLANNED),
    "machine_cores": Constant(16, "cores of a machine", PLANNED),
    "machine_gb": Constant(64, "GB of memory of a machine", PLANNED),
    "broker_gb": Constant(4_000, "GB of disk of a broker", PLANNED),
    "busy": Constant(0.5, "of a core used at the peak", PLANNED),
}


def size(meters: int, every_s: int) -> dict[str, Any]:
    """What ``meters`` need that are each read every ``every_s`` seconds, one register each."""
    of = {name: constant.value for name, constant in CONSTANTS.items()}
    rate, cells = meters / every_s, math.ceil(meters / of["cell"])
    rows, series = rate * ROWS_PER_READING, meters * ROWS_PER_READING
    peak = rate * of["burst"]
    worker_rate = of["busy"] / of["process"] * 1e6
    partitions = cells * max(math.ceil(peak / cells / worker_rate), 1)
    cores = {
        "ingest": peak * of["ingest"] / 1e6,
        "process": peak * of["process"] / 1e6,
        "kafka": peak * of["kafka"] / 1e6,
        "sink": rows * of["sink"] / 1e6,
        "influxdb": rows * of["influxdb"] / 1e6,
    }
    needed = {name: used / of["busy"] for name, used in cores.items()}
    roles = needed["ingest"] + needed["process"] + needed["sink"]
    memory_gb = (meters * of["point"] + partitions * of["process_base"] * 1e6) / GB
    readings_gb = rate * DAY_S * of["kafka_readings"] * of["replication"] / GB
    results_gb = rate * RESULTS_KEPT_MS / 1000 * of["kafka_results"] * of["replication"] / GB
    kafka_gb = of["kafka_days"] * readings_gb + results_gb
    machines = max(roles / of["machine_cores"], memory_gb / of["machine_gb"])
    brokers = max(of["replication"], kafka_gb / of["broker_gb"], needed["kafka"] / of["machine_cores"])
    by_rows, by_series = rows / of["influxdb_rate"], series / of["series"]
    return {
        "meters": meters,
        "readings_per_s": round(rate),
        "readings_per_s_at_peak": round(peak),
        "site_files": cells,
        "process_partitions": partitions,
        "process_memory_gb": round(memory_gb),
        **{f"{name}_cores": round(used, 1) for name, used in needed.items()},
        "machines_of_the_roles": math.ceil(machines),
        "kafka_gb": round(kafka_gb),
        "kafka_gb_a_year_more_if_kept_for_ever": round(365 * readings_gb),
        "kafka_brokers": math.ceil(brokers),
        "archive_gb_a_year": round(rate * YEAR_S * of["archive"] / GB),
        "influxdb_rows_per_s": round(rows),
        "influxdb_series": series,
        "influxdb_servers_by_rows": math.ceil(by_rows),
        "influxdb_servers_by_series": math.ceil(by_series),
        "recovery_s": of["restart"],
    }


def table(sites: Sequence[tuple[int, int]] = SITES) -> str:
    """The constants, and what each site needs, as they stand in docs/scale.md."""
    rows = ["| constant | value | of | measured by |", "|---|---|---|---|"]
    rows += [
        f"| `{name}` | {one.value:,} | {one.unit} | {one.how if one.how == PLANNED else f'`{one.how}`'} |"
        for name, one in CONSTANTS.items()
    ]
    sizes = [size(*site) for site in sites]
    heads = [f"{meters:,} meters, every {every_s} s" for meters, every_s in sites]
    rows += ["", f"| needed | {' | '.join(heads)} |", "|---" * (len(sites) + 1) + "|"]
    for name in list(sizes[0])[1:]:
        rows.append(f"| `{name}` | {' | '.join(f'{one[name]:,}' for one in sizes)} |")
    return "\n".join(rows) + "\n"


def run(json_output: bool = False, *, sites: Sequence[tuple[int, int]] = SITES) -> list[dict[str, Any]]:
    """Prints the calculation."""
    sizes = [size(*site) for site in sites]
    sys.stdout.write(json.dumps(sizes, indent=2) + "\n" if json_output else table(sites))
    return sizes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.size")
    parser.add_argument("--meters", type=int)
    parser.add_argument("--every", type=int, default=900, help="seconds")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if (given.meters is not None and given.meters < 1) or given.every < 1:
        parser.error("--meters and --every are at least 1")
    run(given.json, sites=[(given.meters, given.every)] if given.meters else SITES)
