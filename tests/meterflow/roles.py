"""The roles as child processes, over a settings file of a test's own and real services."""

from __future__ import annotations

import json
import queue
import re
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meterflow.settings import load_settings
from meterflow.settings_made import influx
from metering.query import Query
from sinks.store_influx import InfluxResults
from tests.meterflow.helper import COMMAND, Row, done, environment, eventually, free_port, of_set, rows_of
from tests.real.influxd import Influx
from tests.real.mosquitto import Mosquitto

START_S, STOP_S = 40.0, 10.0
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))

TABLES = ("interval", "rollup", "intensity", "ledger", "verdict", "alert")
PLANTS = ("steel-a", "dye-b", "dye-c")
"""On different partitions of three, and all in one group."""

Tables = dict[str, list[tuple[str, ...]]]

SITE = """\
meterflow: 1
policy: cn-2025
groups:
  - {id: park, kind: park, intensity: [{id: per-yuan, of: electricity, per: value_added, windows: [day]}]}
plants:
"""
PLANT = """\
  - id: {id}
    within: [park]
    time_zone: Asia/Shanghai
    energies: [electricity]
    patience: 2m
    products: [{{id: billet, unit: t}}]
    points:
      - {{id: main, measures: electricity, reads: register, unit: kWh, expect_every: 60s, limit: 9000 kW,
         installations: [{{digits: 6, decimals: 1, multiplier: 10}}]}}
      - {{id: count, measures: output, product: billet, reads: register, unit: t, expect_every: 60s,
         limit: 50 t/h}}
      - {{id: books, measures: value_added, reads: interval, unit: CNY}}
    intensity:
      - {{id: kwh-per-t, of: electricity, per: billet, windows: [15m, 1h]}}
    alerts:
      - {{id: hot, when: kwh-per-t, window: 15m, above: 610, clear_below: 600}}
"""


class Copy:
    """One copy of a role; may be started, stopped and killed again and again."""

    def __init__(self, role: str, settings: Path, number: int = 0) -> None:
        self.role, self.settings = role, settings
        self.port = free_port()
        self.log = settings.with_name(f"{role}-{number}.log")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def said(self) -> str:
        """Everything on its standard error so far."""
        return self.log.read_text()

    def launch(self, **environ: str) -> None:
        """Starts it without waiting for anything."""
        name = "PORT" if self.role == "web" else f"{self.role}_port".upper()
        given = environment(**{f"METERFLOW_HTTP_{name}": str(self.port), **environ})
        words = [*COMMAND, self.role, "--settings", str(self.settings)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log, env=given)

    def start(self, **environ: str) -> Copy:
        """Starts it, and waits until it is ready."""
        self.launch(**environ)
        eventually(self.ready, START_S, f"{self.role} ready: {self.log}")
        return self

    def ready(self) -> bool:
        """Whether it is ready; fails when it has ended."""
        assert self.process is not None
        assert self.process.poll() is None, self.said
        return self.status("/readyz") == 200

    def stop(self) -> float:
        """SIGTERM; the seconds until it has ended, well and in time."""
        assert self.process is not None
        began_s = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        seconds = time.monotonic() - began_s
        self.process = None
        assert code == 0, self.said
        assert seconds < STOP_S, self.said
        return seconds

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def ended(self, within_s: float = 30) -> int:
        """The exit code, when it ends by itself."""
        assert self.process is not None
        code = self.process.wait(within_s)
        self.process = None
        return code

    def get(self, path: str) -> tuple[int, bytes]:
        """An answer at its health address."""
        try:
            with _OPENER.open(f"http://127.0.0.1:{self.port}{path}", timeout=20) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def status(self, path: str) -> int:
        """The HTTP status of an answer, 0 when nobody answers."""
        with suppress(OSError):
            return self.get(path)[0]
        return 0

    def reasons(self) -> str:
        """Why it is not ready."""
        with suppress(OSError):
            return "; ".join(json.loads(self.get("/readyz")[1])["reasons"])
        return ""

    def says(self, words: str, within_s: float = 40) -> None:
        """Waits until it says these words of why it is not ready."""
        eventually(lambda: words in self.reasons(), within_s, f"{self.role} says {words}")

    def events(self, name: str) -> queue.Queue[Any]:
        """What the live feed tells of that name from now on."""
        told: queue.Queue[Any] = queue.Queue()
        stream = _OPENER.open(f"http://127.0.0.1:{self.port}/events", timeout=120)

        def listen() -> None:
            event = b""
            with suppress(OSError, ValueError), stream:
                for line in stream:
                    key, _, value = line.strip().partition(b": ")
                    event = value if key == b"event" else event
                    if key == b"data" and event.decode() == name:
                        told.put(json.loads(value))

        threading.Thread(target=listen, daemon=True).start()
        return told

    def metric(self, name: str) -> float:
        """A metric, by its name and labels as exposed."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.get("/metrics")[1].decode(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def partitions(self, part: str) -> set[int]:
        """Those that it works on."""
        text = self.get("/metrics")[1].decode()
        pattern = rf'^meterflow_partition_lag_records{{part="{part}",partition="(\d+)"}}'
        return {int(found) for found in re.findall(pattern, text, re.MULTILINE)}

    def json(self, path: str) -> Any:
        """A good answer, decoded."""
        code, body = self.get(path)
        assert code == 200, body
        return json.loads(body)


def export(settings: Path, table: str) -> list[Row]:
    """A table by the command line, from InfluxDB."""
    return rows_of(done("export", table, "--settings", settings).stdout)


def stored(settings: Path, table: str) -> list[Row]:
    """The same without a process of its own: quicker, for waiting."""
    results = InfluxResults(influx(load_settings(settings, ("influxdb",), {})))
    try:
        return rows_of(b"".join(results.export(Query(table), "csv")).decode())
    finally:
        results.close()


@dataclass
class Services:
    """A settings file over real services, and the copies of roles that a test starts."""

    folder: Path
    site: Path
    settings: Path
    broker: Mosquitto
    influx: Influx
    copies: list[Copy]

    def copy(self, role: str) -> Copy:
        """A copy that is not started yet."""
        copy = Copy(role, self.settings, len(self.copies))
        self.copies.append(copy)
        return copy

    def start(self, *roles: str) -> list[Copy]:
        """Copies of these roles, ready."""
        copies = [self.copy(role) for role in roles]
        for copy in copies:
            copy.launch()
        for copy in copies:
            eventually(copy.ready, 60, f"ready: {copy.log}")
        return copies

    def tables(self) -> Tables:
        """What is stored, in the columns that are functions of the set of readings."""
        return {name: of_set(name, stored(self.settings, name)) for name in TABLES}

    def have(self, wanted: Tables, within_s: float = 30) -> None:
        """Waits until these tables are stored."""
        with suppress(AssertionError):
            eventually(lambda: self.tables() == wanted, within_s)
        for name, rows in self.tables().items():
            wrong, missing = sorted(set(rows) - set(wanted[name])), sorted(set(wanted[name]) - set(rows))
            told = f"{name}: {len(wrong)} wrong {wrong[:5]}, {len(missing)} missing {missing[:5]}"
            assert rows == wanted[name], told

    def accepted(self) -> int:
        """Readings that the stored results rest on."""
        return sum(int(row["accepted"]) for row in stored(self.settings, "hop") if row["hop"] == "processors")

    def stored(self, readings: int, within_s: float = 60) -> None:
        """Waits until results of so many readings are stored."""
        eventually(lambda: self.accepted() >= readings, within_s, f"{readings} accepted")
