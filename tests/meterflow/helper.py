"""The real command line and the real service as child processes, and how their tables are read."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from metering.tables import TABLES
from sinks.archive_place import FolderPlace
from sinks.archive_reader import Archive

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
LONG = os.environ.get("METERFLOW_LONG") == "1"
START_S, STOP_S = 20.0, 5.0
COMMAND = (sys.executable, "-m", "meterflow")
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))

Row = dict[str, str]


def environment(**more: str) -> dict[str, str]:
    """What a child sees of the environment: this tree first."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def meterflow(*words: object, text: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    """Runs a verb to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, words)],
        input=text,
        capture_output=True,
        text=True,
        timeout=300,
        env=environment(**more),
        check=False,
    )


def done(*words: object) -> subprocess.CompletedProcess[str]:
    """Runs a verb that has to succeed."""
    ended = meterflow(*words)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended


def mistake(ended: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """A user's mistake: this exit code, a message with these words, and no traceback."""
    assert "Traceback" not in ended.stderr
    assert ended.returncode == code, ended.stderr
    missing = [word for word in words if word not in ended.stderr]
    assert not missing, f"{missing} in: {ended.stderr}"


def rows_of(text: str) -> list[Row]:
    """The rows of an exported table."""
    return list(csv.DictReader(io.StringIO(text)))


def of_set(table: str, rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Rows without the columns that are functions of the log, in an order of their own."""
    names = [column.name for column in TABLES[table].columns if not column.of_log]
    return sorted(tuple(row[name] for name in names) for row in rows)


def archived(folder: Path) -> int:
    """Readings in an archive, each counted by its place on the log."""
    archive = Archive(FolderPlace(folder))
    places = [
        (plant, offset, row)
        for plant in archive.plants()
        for batch in archive.readings(plant)
        for offset, row in zip(batch.offset.tolist(), batch.row.tolist(), strict=True)
    ]
    assert len(places) == len(set(places))
    return len(places)


def eventually(check: Callable[[], Any], within_s: float, what: str = "") -> Any:
    """The first true answer; fails when there is none in time."""
    until_s = time.monotonic() + within_s
    while True:
        answer = check()
        if answer:
            return answer
        assert time.monotonic() < until_s, f"not within {within_s} s: {what or check}"
        time.sleep(0.05)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def publish(port: int, topic: str, payload: str | bytes, *options: str) -> None:
    """One message by mosquitto's own client, acknowledged when this returns."""
    data = payload.encode() if isinstance(payload, str) else payload
    words = ["mosquitto_pub", "-p", str(port), "-q", "1", "-t", topic, "-s" if data else "-n", *options]
    subprocess.run(words, input=data, check=True, timeout=20)


class Service:
    """``meterflow up`` on a folder; may be started, stopped and killed again and again."""

    def __init__(self, folder: Path, site: Path | None, options: Sequence[str] = ()) -> None:
        self.folder, self.site, self.options = folder, site, list(options)
        self.mqtt_port, self.http_port = free_port(), free_port()
        self.token = ""
        self.environment: dict[str, str] = {}
        self.command = list(COMMAND)
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder.with_name(folder.name + ".log")

    @property
    def mqtt(self) -> str:
        return f"mqtt://127.0.0.1:{self.mqtt_port}"

    @property
    def said(self) -> str:
        """Everything on its standard error so far."""
        return self.log.read_text()

    def launch(self) -> None:
        """Starts it without waiting for anything."""
        words = [*self.command, "up", *([str(self.site)] if self.site else []), "--data", str(self.folder)]
        ports = ["--mqtt-port", str(self.mqtt_port), "--http-port", str(self.http_port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*words, *ports, *self.options], stdout=log, stderr=log, env=environment(**self.environment)
            )

    def start(self) -> None:
        """Starts it, and waits until it is ready."""
        self.launch()
        eventually(self._up, START_S, "start")

    def _up(self) -> bool:
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
        assert seconds < STOP_S
        assert "cut short" not in self.said
        return seconds

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def status(self, path: str) -> int:
        """The HTTP status of an answer, 0 when nobody answers."""
        try:
            return self.get(path)[0]
        except OSError:
            return 0

    def get(self, path: str) -> tuple[int, bytes]:
        """An answer of the page's API."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", headers=headers)
        try:
            with _OPENER.open(request, timeout=20) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def json(self, path: str) -> Any:
        """A good answer, decoded."""
        code, body = self.get(path)
        assert code == 200, body
        return json.loads(body)

    def export(self, table: str, *words: str) -> list[Row]:
        """A table by the command line."""
        return rows_of(done("export", table, "--data", self.folder, *words).stdout)

    def rows(self, table: str) -> list[Row]:
        """The same table by the API: quicker, for waiting."""
        return rows_of(self.get(f"/api/export/{table}?format=csv")[1].decode())

    def metric(self, name: str) -> float:
        """A metric without labels."""
        found = re.search(rf"^{name} (\S+)$", self.get("/metrics")[1].decode(), re.MULTILINE)
        assert found, name
        return float(found[1])

    def accepted(self) -> int:
        """Readings that the stored results rest on."""
        return sum(int(row["accepted"]) for row in self.rows("hop") if row["hop"] == "processors")

    def received(self) -> int:
        """Readings that came to the processors, duplicates too, as far as the stored results rest on them."""
        return sum(int(row["received"]) for row in self.rows("hop") if row["hop"] == "processors")

    def caught_up(self, readings: int, within_s: float = 60) -> None:
        """Waits until so many readings are accepted, and nothing waits any more."""
        eventually(lambda: self.accepted() >= readings, within_s, f"{readings} accepted")
        lags = ("meterflow_worker_lag_records", "meterflow_sink_lag_records")
        eventually(lambda: not any(map(self.metric, lags)), within_s, "lag")


def check_laws(service: Service) -> None:
    """Conservation, as the stored tables have it."""
    for row in service.rows("hop"):
        parts = (row[name] for name in ("accepted", "duplicate", "rejected"))
        assert int(row["received"]) == sum(map(int, parts)), row
        assert row["balance"] == "0"
    for row in service.rows("ledger"):
        assert row["balance"] == "0", row
        booked = (int(row[name]) for name in ("booked", "held", "written_off"))
        assert int(row["last"]) - int(row["first"]) == sum(booked), row
