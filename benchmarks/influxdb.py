"""Into InfluxDB: our sink from the log beside a bare influxdb-client writing the very same lines.

Runs alternate on one real influxd, each into a bucket of its own. Ours begins with frames of rows on a
log: they are decoded, merged with what is stored, made into lines, sent, and the position is moved. The
bare client has the lines ready, joined, 5,000 at a time, and only sends them.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS

from benchmarks import servers
from bus.frames import encode_table, schema
from bus.log import RESULTS, Entry
from bus.log_memory import MemoryLog
from metering.tables import INTERVAL
from sinks.influx_client import InfluxSettings
from sinks.influx_layout import measurement
from sinks.influx_lines import lines
from sinks.influx_points import points
from sinks.influx_sink import InfluxSink

POINTS, RUNS, BATCH = 200_000, 5, 5_000
GOAL = 0.9
"""Of the bare client's points a second."""
_METERS = 500
_FIRST_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z


def run(json_output: bool = False, *, count: int = POINTS, runs: int = RUNS) -> dict[str, Any]:
    """Measures for about a minute and prints the figures: medians of the runs."""
    tables = [_rows(first) for first in range(0, count, BATCH)]
    frames = [encode_table("interval", table) for table in tables]
    layout = measurement("interval")
    bodies = [lines(layout, table, points(layout, table)).body(0, len(table)) for table in tables]
    with (
        tempfile.TemporaryDirectory(prefix="meterflow-bench-") as name,
        servers.influxd(Path(name)) as influx,
    ):
        ours, bare = [], []
        for number in range(runs):
            ours.append(_timed(lambda bucket: _sink(influx, bucket, frames), influx, f"ours-{number}"))
            bare.append(_timed(lambda bucket: _bare(influx, bucket, bodies), influx, f"bare-{number}"))
        peak_memory_mb = round(servers.peak_memory_mb(influx.pid))
    figures: dict[str, Any] = {"points": count, "bytes_per_line": round(sum(map(len, bodies)) / count)}
    figures |= {"meterflow": _figures(ours, count), "bare_client": _figures(bare, count)}
    ratios = [theirs[0] / mine[0] for mine, theirs in zip(ours, bare, strict=True)]
    figures["ratio_points_per_s"] = round(float(np.median(ratios)), 3)
    figures["influxd_peak_memory_mb"] = peak_memory_mb
    sys.stdout.write(json.dumps(figures, indent=2) + "\n" if json_output else _table(figures))
    return figures


def _rows(first: int) -> pa.Table:
    """Final rows of ``interval``, each a point of its own."""
    number = np.arange(first, first + BATCH)
    end = _FIRST_MS + (number // _METERS + 1) * 60_000
    amount = np.random.default_rng(first).integers(0, 500_000, BATCH)
    columns: dict[str, Any] = {
        "plant": [f"plant-{i % _METERS // 100:02d}" for i in number],
        "point": [f"e{i % 100:02d}" for i in number],
        "measures": ["electricity"] * BATCH,
        "start": end - 60_000,
        "end": end,
        "amount": pa.array(amount, pa.int64()).cast(pa.decimal128(38, 0)),
        "unit": ["kWh"] * BATCH,
        "quality": ["valid"] * BATCH,
        "flags": [""] * BATCH,
        "measured_share": np.ones(BATCH),
        "state": ["final"] * BATCH,
        "revision": np.zeros(BATCH, np.int64),
        "cause": [""] * BATCH,
        "reported": end + 5_000,
        "position": number // BATCH,
    }
    wanted = schema(INTERVAL)
    return pa.table({field.name: pa.array(columns[field.name]).cast(field.type) for field in wanted}, wanted)


def _timed(work: Callable[[str], float], influx: servers.Influx, bucket: str) -> tuple[float, float, float]:
    """Wall seconds, our CPU seconds, influxd's CPU seconds."""
    with _client(influx) as client:
        client.buckets_api().create_bucket(bucket_name=bucket, org=influx.org)
    before_s, cpu_s = servers.cpu_s(influx.pid), time.process_time()
    wall_s = work(bucket)
    return wall_s, time.process_time() - cpu_s, servers.cpu_s(influx.pid) - before_s


def _client(influx: servers.Influx) -> InfluxDBClient:
    return InfluxDBClient(influx.url, influx.token, org=influx.org)


def _bare(influx: servers.Influx, bucket: str, bodies: list[bytes]) -> float:
    with _client(influx) as client, client.write_api(write_options=SYNCHRONOUS) as api:
        started_s = time.perf_counter()
        for body in bodies:
            api.write(bucket, influx.org, body)
        return time.perf_counter() - started_s


def _sink(influx: servers.Influx, bucket: str, frames: list[bytes]) -> float:
    return asyncio.run(_stored(influx, bucket, frames))


async def _stored(influx: servers.Influx, bucket: str, frames: list[bytes]) -> float:
    log = MemoryLog()
    await log.append({RESULTS: [Entry("interval", frame, _FIRST_MS) for frame in frames]})
    sink = InfluxSink(log, InfluxSettings(influx.url, influx.org, bucket, influx.token))
    started_s = time.perf_counter()
    running = asyncio.create_task(sink.run())
    await sink.caught_up()
    seconds = time.perf_counter() - started_s
    await sink.stop()
    await running
    await sink.close()
    assert sink.rows["interval"] == len(frames) * BATCH, f"{sink.rows['interval']} rows are stored"
    return seconds


def _figures(found: list[tuple[float, float, float]], count: int) -> dict[str, Any]:
    wall_s, cpu_s, server_s = (float(np.median(column)) for column in zip(*found, strict=True))
    return {
        "points_per_s": round(count / wall_s),
        "cpu_us_per_point": round(cpu_s / count * 1e6, 2),
        "influxd_cpu_us_per_point": round(server_s / count * 1e6, 2),
    }


def _table(figures: dict[str, Any]) -> str:
    lines_ = [f"{figures['points']:,} points a run{'points/s':>18}{'CPU us':>10}{'influxd us':>12}"]
    for name in ("meterflow", "bare_client"):
        one = figures[name]
        cpu = f"{one['cpu_us_per_point']:10.2f}{one['influxd_cpu_us_per_point']:12.2f}"
        lines_.append(f"{name:24}{one['points_per_s']:14,}{cpu}")
    lines_.append(f"points a second beside the bare client: {figures['ratio_points_per_s']} (goal: {GOAL})")
    return "\n".join(lines_) + "\n"


if __name__ == "__main__":
    run("--json" in sys.argv)
