"""A large park in real time, end to end: simulated meters into ``meterflow up``, and how far behind it is.

100,000 registers, a reading a minute each, one a message, for ten minutes, sent by ``meterflow replay``
with its stamps moved to now. Beside them a point of its own is read all the time: from its publish until its
stored result shows over the page's API is the lag. ``python -m benchmarks.park --meters 1000 --minutes 2``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import paho.mqtt.client as mqtt

from benchmarks.latency import connected, service
from benchmarks.servers import cpu_s, peak_memory_mb
from benchmarks.simulate import written
from simulators.world import Plan, plants, plants_for
from simulators.world_flows import MINUTE_MS
from simulators.world_profile import Profile, load_profile
from simulators.world_site import site_text

METERS, MINUTES = 100_000, 10
GOAL_S = 5.0
BEGIN_MS = 1_767_571_200_000
ELECTRICITY, WATER, OUTPUT = 60, 30, 10
READY_S, STOP_S, SEEN_S = 300.0, 120.0, 120.0
PROBE = "probe"
_HEAD = """\
profile: 1
plant: works
time_zone: Asia/Shanghai
products: [{id: goods, name: Goods, unit: t}]
flows:
  - {id: power, rate: 220, noise: 0.1}
  - {id: water, rate: 6, noise: 0.1}
  - {id: made, rate: 3, noise: 0.1}
intensity:
  - {id: kwh-per-t, of: electricity, per: goods, windows: [1h]}
  - {id: m3-per-t, of: water, per: goods, windows: [1h]}
points:
"""
_POINT = "  - {{id: {name}{i}, measures: {measures}, unit: {unit}, limit: {limit}, adds: [{flow}]{more}}}\n"
_PROBE = f"""\
- id: {PROBE}
  time_zone: UTC
  points:
  - {{id: {PROBE}, measures: electricity, reads: register, unit: kWh}}
"""
"""A plant more, as the site file of the others is written."""


def profile_text() -> str:
    """A works of a hundred registers, with two ratios over a rolling hour."""
    kinds = [
        ("e", "electricity", "kWh", "500 kW", "power", "", ELECTRICITY),
        ("w", "water", "m3", "20 m3/h", "water", ", decimals: 3", WATER),
        ("o", "output", "kg", "9 t/h", "made", ", product: goods, decimals: 1, digits: 8", OUTPUT),
    ]
    return _HEAD + "".join(
        _POINT.format(name=name, i=i, measures=measures, unit=unit, limit=limit, flow=flow, more=more)
        for name, measures, unit, limit, flow, more, count in kinds
        for i in range(count)
    )


def run(json_output: bool = False, *, meters: int = METERS, minutes: int = MINUTES) -> dict[str, Any]:
    """Measures for so many minutes, and some more to make the readings; prints the figures."""
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="meterflow-bench-") as name:
        folder = Path(name)
        (folder / "works.yaml").write_text(profile_text(), "utf-8")
        asked_s = time.monotonic()
        messages, site = _made(load_profile(str(folder / "works.yaml")), meters, minutes, folder / "R.ndjson")
        made_s = time.monotonic()
        with service(folder, site + _PROBE, READY_S, STOP_S) as (port, url, pid):
            ready_s, ready_cpu_s = time.monotonic(), cpu_s(pid)
            began_s, before_s = time.monotonic(), cpu_s(pid)
            lags, report = _measured(folder / "R.ndjson", port, url)
            busy = (cpu_s(pid) - before_s) / (time.monotonic() - began_s)
            memory_mb = round(peak_memory_mb(pid))
    figures = {
        "meters": meters,
        "made_s": round(made_s - asked_s, 1),
        "start_s": round(ready_s - made_s, 1),
        "start_cpu_s": round(ready_cpu_s, 1),
        "messages": messages,
        "acknowledged": report["acknowledged"],
        "messages_per_s": round(report["rate_hz"]),
        "sender_behind_max_s": round(report["lag_max_s"], 2),
        "samples": len(lags),
        "lag_median_s": round(float(np.median(lags)), 2),
        "lag_p99_s": round(float(np.percentile(lags, 99)), 2),
        "lag_max_s": round(max(lags), 2),
        "goal_s": GOAL_S,
        "service_cores": round(busy, 2),
        "service_peak_memory_mb": memory_mb,
        "load_before_and_after": [round(load_before, 1), round(os.getloadavg()[0], 1)],
    }
    text = json.dumps(figures, indent=2) + "\n"
    sys.stdout.write(text if json_output else "".join(f"{key:28} {v}\n" for key, v in figures.items()))
    return figures


def _made(profile: Profile, meters: int, minutes: int, out: Path) -> tuple[int, str]:
    """A recording; how many messages it has, and the site file."""
    plan = Plan(1, BEGIN_MS, BEGIN_MS + minutes * MINUTE_MS)
    made = list(plants(profile, plan, plants_for(profile, meters)))
    return written(made, out), site_text(profile, made)


def _measured(recording: Path, port: int, url: str) -> tuple[list[float], dict[str, Any]]:
    """The lags while it is played, in seconds, and what the player says at its end."""
    words = [sys.executable, "-m", "meterflow", "replay", str(recording)]
    words += ["--mqtt", f"mqtt://127.0.0.1:{port}", "--speed", "1", "--stamps", "now", "--json"]
    probe, lags = connected(port, PROBE), list[float]()
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as player:
        while player.poll() is None:
            lags.append(_lag(probe, url, len(lags) + 1))
            time.sleep(0.5)
        assert player.stdout is not None, "its standard output is a pipe"
        report: dict[str, Any] = json.loads(player.stdout.read())
    lags.append(_lag(probe, url, len(lags) + 1))
    probe.disconnect()
    probe.loop_stop()
    return lags, report


def _lag(probe: mqtt.Client, url: str, value: int) -> float:
    """Seconds from the publish of a reading until its result is stored."""
    began_s = time.perf_counter()
    payload = json.dumps({"time": time.time_ns() // 1_000_000, "value": value})
    probe.publish(f"meterflow/v1/{PROBE}/{PROBE}", payload, qos=1)
    while time.perf_counter() - began_s < SEEN_S:
        with urlopen(f"{url}/api/rows/ledger?point={PROBE}") as answer:
            rows = json.load(answer)["rows"]
        if rows and int(rows[0]["last"]) >= value * 1_000_000:
            return time.perf_counter() - began_s
        time.sleep(0.05)
    raise TimeoutError(f"no result of a reading within {SEEN_S:.0f} s")


def main() -> None:
    """With fewer meters or minutes, as the words say."""
    words = argparse.ArgumentParser(prog="benchmarks.park")
    words.add_argument("--meters", type=int, default=METERS)
    words.add_argument("--minutes", type=int, default=MINUTES)
    words.add_argument("--json", action="store_true")
    given = words.parse_args()
    run(given.json, meters=given.meters, minutes=given.minutes)


if __name__ == "__main__":
    main()
