"""A simulated park's week through MQTT into a running service, and the same by ``compute``: one result.

``simulate --out`` makes the recording and the site file. ``replay --speed max`` publishes it, one
reading a message, to ``up`` as another process. The clock runs from the first message until the
last reading is stored; then the tables of both are compared row by row, in the columns that are a
function of the set of readings. ``python -m benchmarks.replay 50 1d`` takes another size.
"""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import duckdb

from benchmarks.latency import service
from benchmarks.servers import cpu_s
from metering.errors import MeterflowError
from metering.tables import TABLES

METERS, DURATION, GOAL_S = 500, "7d", 120
LAGS = ("meterflow_worker_lag_records", "meterflow_sink_lag_records")
_START_S, _STOP_S, _STORE_S, _POLL_S = 60.0, 60.0, 3_600.0, 0.2
_MEASURED = ("interval", "rollup", "intensity", "verdict", "alert", "rejected", "ledger")


def run(json_output: bool = False, *, meters: int = METERS, duration: str = DURATION) -> dict[str, Any]:
    """Measures, compares and prints the figures. Raises MeterflowError where the tables differ."""
    with tempfile.TemporaryDirectory(prefix="meterflow-bench-") as name:
        folder = Path(name)
        recording, site = folder / "r.ndjson", folder / "truth" / "site.yaml"
        size = ("--meters", str(meters), "--duration", duration)
        _meterflow("simulate", "--out", recording, "--truth", folder / "truth", *size)
        figures = {"meters": meters, "duration": duration} | _through_mqtt(folder, recording, site)
        before_s, began_s = os.times(), time.perf_counter()
        _meterflow("compute", recording, "--site", site, "--out", folder / "computed")
        figures["compute_s"] = round(time.perf_counter() - began_s, 1)
        figures["compute_cpu_s"] = round(sum(os.times()[2:4]) - sum(before_s[2:4]), 1)
        rows, differing = _compared(folder)
        figures |= {"rows": rows, "differing_rows": differing}
    sys.stdout.write(json.dumps(figures, indent=2) + "\n" if json_output else _table(figures))
    if any(differing.values()):
        raise MeterflowError(f"the service's tables are not compute's: {differing}")
    return figures


def _through_mqtt(folder: Path, recording: Path, site: Path) -> dict[str, Any]:
    with service(folder, site.read_text("utf-8"), _START_S, _STOP_S) as (port, url, pid):
        began_s, before_s = time.perf_counter(), cpu_s(pid)
        replayed = json.loads(
            _meterflow("replay", recording, "--mqtt", f"mqtt://127.0.0.1:{port}", "--speed", "max", "--json")
        )
        sent_s = time.perf_counter() - began_s
        _until_stored(url, replayed["messages"])
        seconds = time.perf_counter() - began_s
        service_s = cpu_s(pid) - before_s
    return {
        "messages": replayed["messages"],
        "acknowledged_s": round(sent_s, 1),
        "stored_s": round(seconds, 1),
        "messages_per_s": round(replayed["messages"] / seconds),
        "service_cpu_s": round(service_s, 1),
        "service_cpu_us_per_message": round(service_s / replayed["messages"] * 1e6, 1),
    }


def _meterflow(*words: object) -> str:
    command = [sys.executable, "-m", "meterflow", *map(str, words)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise MeterflowError(f"meterflow {words[0]} ended with {ended.returncode}: {ended.stderr}")
    return ended.stdout


def _until_stored(url: str, messages: int) -> None:
    """Until the stored results rest on all messages, and nothing waits any more."""
    until_s = time.monotonic() + _STORE_S
    while time.monotonic() < until_s:
        if _waiting(url) == 0 and _received(url) >= messages:
            return
        time.sleep(_POLL_S)
    raise MeterflowError(f"{_received(url)} of {messages} readings are stored after {_STORE_S:.0f} s")


def _received(url: str) -> int:
    with urlopen(f"{url}/api/export/hop?format=csv") as answer:
        rows = csv.DictReader(io.StringIO(answer.read().decode()))
        return sum(int(row["received"]) for row in rows if row["hop"] == "processors")


def _waiting(url: str) -> float:
    with urlopen(f"{url}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith(LAGS))


def _compared(folder: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Rows of each table, and how many are in one of both only."""
    rows, differing = {}, {}
    for name in _MEASURED:
        stored, computed = folder / f"{name}.parquet", folder / "computed" / f"{name}.parquet"
        with stored.open("wb") as out:
            words = ("export", name, "--data", folder / "data", "--format", "parquet")
            command = [sys.executable, "-m", "meterflow", *map(str, words)]
            subprocess.run(command, stdout=out, check=True)
        columns = ", ".join(f'"{column.name}"' for column in TABLES[name].columns if not column.of_log)
        ours, theirs = (f"select {columns} from read_parquet('{path}')" for path in (stored, computed))
        with duckdb.connect() as asked:
            rows[name] = _count(asked, theirs)
            differing[name] = sum(
                _count(asked, f"{one} except all {other}") for one, other in ((ours, theirs), (theirs, ours))
            )
    return rows, differing


def _count(asked: duckdb.DuckDBPyConnection, query: str) -> int:
    found = asked.execute(f"select count(*) from ({query})").fetchone()
    assert found is not None
    return int(found[0])


def _table(figures: dict[str, Any]) -> str:
    lines = [f"{name:28} {value}" for name, value in figures.items() if not isinstance(value, dict)]
    differing = sum(figures["differing_rows"].values())
    lines.append(f"{'rows, of them different':28} {sum(figures['rows'].values())}, {differing}")
    if (figures["meters"], figures["duration"]) == (METERS, DURATION):
        met = figures["stored_s"] <= GOAL_S
        lines.append(f"{f'within {GOAL_S} s':28} {'yes' if met else 'no'}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run(meters=int(sys.argv[1]), duration=sys.argv[2])
