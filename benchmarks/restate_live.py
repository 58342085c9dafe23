"""A service with a past behind it: a late reading of its first day, and a changed site file beside live work.

200 registers, a reading a minute, lie on the log of ``meterflow up`` before it starts; a second plant is
published to all the while, a thousand readings a second, and probed as in ``bench latency``. Then

- readings of the first day come late, one by one: until the interval they fall into is stored as revised;
- a site file with another multiplier is applied, which has the whole past worked out anew: how long live
  results and acknowledgements take meanwhile, beside how long they took before.

``run`` has seven days behind it; ``python -m benchmarks.restate_live DAYS`` any number.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from benchmarks import restate
from benchmarks.core_load import DECIMALS, MINUTE_MS, Load, Shape, plant_name, point_name
from benchmarks.latency import PLANT, RATE_HZ, WARM_UP_S, connected, delays, probed, service, steady
from bus.log import READINGS, Entry
from bus.log_sqlite import open_log
from metering.instants import rfc3339

SAMPLES, LATE, BETWEEN_S = 100, 20, 0.5
_READY_S, _TIMEOUT_S, _LOOK_S = 3_600.0, 60.0, 0.01
"""Ready is a service that has caught up with its past."""
_RECORDS = 64


def run(as_json: bool = False, days: int = restate.DAYS) -> dict[str, Any]:
    """Prints how long each took. Some minutes; of a year an hour."""
    load = Load(Shape(restate.POINTS, 1, days * restate.MINUTES))
    with tempfile.TemporaryDirectory(prefix="meterflow-bench-") as name:
        folder = Path(name)
        (folder / "data").mkdir()
        asyncio.run(_past(folder / "data", load))
        site = restate.site() + PLANT
        with service(folder, site, _READY_S, _TIMEOUT_S) as (port, url, _):
            figures = {"days": days, "readings": len(load), **_measured(port, url, folder, load)}
    print(json.dumps(figures, indent=None if as_json else 2))
    return figures


def _measured(port: int, url: str, folder: Path, load: Load) -> dict[str, Any]:
    stop, values = threading.Event(), count()
    publishing = threading.Thread(target=steady, args=(port, RATE_HZ, stop))
    publishing.start()
    try:
        time.sleep(WARM_UP_S)
        peace = probed(port, url, islice(values, SAMPLES + 1))
        late = list(_late(port, url, load))
        applying = subprocess.Popen(_apply(folder), stdout=subprocess.PIPE)
        during = probed(port, url, _while(applying, values))
        answer = json.loads(applying.communicate()[0])
        if answer["state"] != "in force":
            raise RuntimeError(f"the changed site file is not in force: {answer}")
    finally:
        stop.set()
        publishing.join()
    return {
        "late_reading": delays("stored", late),
        "before": {**delays("stored", peace[0]), **delays("acknowledged", peace[1])},
        "restating": {
            "samples": len(during[0]),
            **delays("stored", during[0]),
            **delays("acknowledged", during[1]),
        },
    }


async def _past(folder: Path, load: Load) -> None:
    log = await open_log(folder)
    try:
        entries = (Entry(one.key, one.value, one.stamp_ms) for one in load.frames())
        while some := list(islice(entries, _RECORDS)):
            await log.append({READINGS: some})
    finally:
        await log.close()


def _late(port: int, url: str, load: Load) -> Iterator[float]:
    """Seconds from publishing a reading between two others until the interval around it is revised."""
    client = connected(port, "late")
    for number in range(LATE):
        point, row = number * 7 % restate.POINTS, 60 + 61 * number
        before_ms, after_ms = (int(load.times[at, point]) for at in (row, row + 1))
        value = int(load.values[row, point])  # all of the rise comes behind it
        between_ms = before_ms + (after_ms - before_ms) * 3 // 4
        text = f'{{"time":{between_ms},"value":{value}e-{DECIMALS}}}'
        started_s = time.perf_counter()
        topic = f"meterflow/v1/{plant_name(0)}/{point_name(point)}"
        client.publish(topic, text, qos=1).wait_for_publish(_TIMEOUT_S)
        first_ms = between_ms // MINUTE_MS * MINUTE_MS
        asked = f"{url}/api/rows/interval?point={point_name(point)}&from={rfc3339(first_ms)}&limit=1"
        while not _json(asked)["rows"][0]["revision"]:
            if time.perf_counter() - started_s > _TIMEOUT_S:
                raise TimeoutError(f"a late reading of {point_name(point)} has revised nothing: {asked}")
            time.sleep(_LOOK_S)
        yield time.perf_counter() - started_s
        time.sleep(BETWEEN_S)
    client.disconnect()
    client.loop_stop()


def _apply(folder: Path) -> list[str]:
    changed = folder / "changed" / "site.yaml"
    changed.parent.mkdir()
    changed.write_text((folder / "site.yaml").read_text("utf-8").replace("multiplier: 40", "multiplier: 41"))
    verb = [sys.executable, "-m", "meterflow", "apply", str(changed)]
    return [*verb, "--data", str(folder / "data"), "--yes", "--json"]


def _while(applying: subprocess.Popen[bytes], values: Iterator[int]) -> Iterator[int]:
    while applying.poll() is None:
        yield next(values)


def _json(url: str) -> dict[str, Any]:
    with urlopen(url) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


if __name__ == "__main__":
    run(days=int(sys.argv[1]))
