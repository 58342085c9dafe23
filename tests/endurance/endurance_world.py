"""What the endurance runs share: a simulated world, who publishes it, whether the tables are compute's."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from zlib import crc32

import duckdb
from ruamel.yaml import YAML

from metering.tables import TABLES
from simulators.mqtt_address import parse_address
from simulators.mqtt_sender import POLL_S, Sender, Stopped
from simulators.recording import Message, read_recording
from tests.meterflow.helper import COMMAND, Service, done, environment, eventually, meterflow

COMPARED = ("interval", "rollup", "intensity", "ledger", "verdict", "alert")
FAULTS = "duplicate,late,out_of_order,rollover,spike,zero_glitch,replacement,outage"
COMPUTE_S = 3600
STEP_S = 0.005
STEEL_POINTS = 13
"""Registers and gauges of a plant of the profile that is simulated, one reading a minute each."""


@dataclass(slots=True)
class World:
    """Simulated plants: their messages, and what compute makes of them by ``site``.

    ``before``: the site file that a service is started with, where another one is applied later.
    """

    site: Path
    recording: Path
    computed: Path
    before: Path | None = None
    messages: int = 0
    computing: subprocess.Popen[bytes] | None = None
    _accepted: int = 0

    @property
    def accepted(self) -> int:
        """Readings that count; waits until compute has ended."""
        if self.computing is not None:
            assert self.computing.wait(COMPUTE_S) == 0
            self.computing = None
            sql = f"SELECT sum(accepted) FROM '{self.computed}/hop.parquet' WHERE hop = 'processors'"
            self._accepted = _number(sql)
        return self._accepted


def simulated(folder: Path, seed: int, readings: int, plants: int = 4, *, changed: bool = False) -> World:
    """A recording of about so many readings, with faults, and the site file; compute is under way.

    ``changed``: by another site file than the simulation's, which is ``before`` then.
    """
    world = World(folder / "truth" / "site.yaml", folder / "world.ndjson", folder / "computed")
    minutes = max(60, readings // (plants * STEEL_POINTS))
    words = ["--seed", seed, "--meters", plants * STEEL_POINTS, "--duration", f"{minutes}m"]
    words += [
        "--faults",
        FAULTS,
        "--fault-rate",
        0.1 if readings < 500_000 else 0.02,
        "--truth",
        folder / "truth",
        "--json",
    ]
    world.messages = json.loads(done("simulate", "--out", world.recording, *words).stdout)["messages"]
    if changed:
        world.before, world.site = world.site, folder / "site.yaml"
        world.site.write_text(_changed(world.before.read_text()))
    compute = [
        *COMMAND,
        "compute",
        str(world.recording),
        "--site",
        str(world.site),
        "--out",
        str(world.computed),
    ]
    world.computing = subprocess.Popen(compute, stderr=subprocess.DEVNULL, env=environment())
    return world


def _changed(text: str) -> str:
    """Each plant's main meter counts twice as much, and there is an alert on it."""
    yaml, out = YAML(), StringIO()
    site = yaml.load(text)
    for plant in site["plants"]:
        main, ratio = plant["points"][0], plant["intensity"][0]
        number, unit = main["limit"].split()
        main["limit"] = f"{2 * int(number)} {unit}"
        for one in main["installations"]:
            one["multiplier"] = 2 * one["multiplier"]
        plant["alerts"] = [{"id": "hot", "when": ratio["id"], "window": ratio["windows"][0], "above": 500}]
    yaml.dump(site, out)
    return out.getvalue()


def service_of(world: World, folder: Path, *options: str) -> Service:
    """A service on ports that stay free while it is down: those of clients are above them."""
    service = Service(folder, world.before or world.site, options)
    service.mqtt_port, service.http_port = (_quiet_port() for _ in range(2))
    return service


def _quiet_port() -> int:
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Publisher(threading.Thread):
    """Publishes part of a world at QoS 1 by a connection of its own, until each message is acknowledged.

    ``share``: this one's plants, of so many publishers. What was acknowledged is never sent again, so
    that what the service forgets is missing for ever.
    """

    def __init__(self, world: World, service: Service, share: int, shares: int) -> None:
        super().__init__(name=f"publisher-{share}", daemon=True)
        self.error = ""
        self._goal, self._pace = 0, (0, 0.0, 0.0)
        self._stop_it = threading.Event()
        self._sender = Sender(parse_address(service.mqtt, None, None), patience_s=None, stop=self._stop_it)
        self._messages = [
            message for message in read_recording(world.recording) if share == _share(message, shares)
        ]

    @property
    def messages(self) -> int:
        return len(self._messages)

    @property
    def first(self) -> list[Message]:
        """All messages before the first one that is not acknowledged."""
        return self._messages[: self._sender.done]

    @property
    def acknowledged(self) -> int:
        return self._sender.counts.acknowledged

    @property
    def resent(self) -> int:
        return self._sender.counts.resent

    def go_on(self, part: float, seconds: float) -> None:
        """Publishes up to a part of all its messages, evenly over the seconds to come."""
        first, self._goal = self._allowed(), round(part * self.messages)
        self._pace = first, time.monotonic(), (self._goal - first) / seconds

    def _allowed(self) -> int:
        first, begun_s, a_second = self._pace
        return min(self._goal, first + int((time.monotonic() - begun_s) * a_second))

    def run(self) -> None:
        try:
            for number, message in enumerate(self._messages):
                while number >= self._allowed():
                    self._sender.poll(STEP_S)
                self._sender.send(message)
            while not self._sender.drain(POLL_S):
                pass
            if self._sender.counts.refused:
                self.error = f"refused: {dict(self._sender.counts.refused)}"
        except Stopped:
            pass
        except Exception as error:  # noqa: BLE001 told by whoever looks at it
            self.error = repr(error)
        finally:
            self._sender.close()

    def end(self) -> None:
        """Gives up what is not acknowledged."""
        self._stop_it.set()
        self.join()


def _share(message: Message, shares: int) -> int:
    """A plant's messages keep to one connection, and so their order."""
    return crc32(message.topic.split("/")[2].encode()) % shares


def settled(service: Service, within_s: float) -> int:
    """Waits until nothing waits and nothing more is accepted; how many readings are, then."""
    lags = ("meterflow_worker_lag_records", "meterflow_sink_lag_records")
    before, until_s = -1, time.monotonic() + within_s
    while time.monotonic() < until_s:
        with suppress(OSError):
            accepted = service.accepted()
            if accepted == before and not any(map(service.metric, lags)):
                return accepted
            before = accepted
        time.sleep(1)
    raise AssertionError(f"not settled within {within_s} s: {service.said[-2000:]}")


def ready(service: Service, within_s: float = 120) -> None:
    """Waits until a service that was launched is ready, on a busy machine, too."""
    eventually(lambda: _ready(service), within_s, "ready")


def _ready(service: Service) -> bool:
    assert service.process is not None
    assert service.process.poll() is None, service.said[-3000:]
    return service.status("/readyz") == 200


def differences(service: Service, world: World, scratch: Path) -> dict[str, tuple[int, int]]:
    """By table: rows of compute that the service does not have, and rows that it has beyond those.

    In the columns of the set. The service may run, or have stopped.
    """
    assert world.accepted
    scratch.mkdir(exist_ok=True)
    found = {}
    for table in COMPARED:
        stored = scratch / f"{table}.parquet"
        with stored.open("wb") as file:
            file.write(_exported(service, table))
        names = ", ".join(f'"{c.name}"' for c in TABLES[table].columns if not c.of_log)
        ours = f"SELECT {names} FROM '{stored}'"
        theirs = f"SELECT {names} FROM '{world.computed}/{table}.parquet'"
        found[table] = _more(theirs, ours), _more(ours, theirs)
    return found


def _exported(service: Service, table: str) -> bytes:
    status, content = service.get(f"/api/export/{table}?format=parquet")
    assert status == 200, content[:500]
    return content


def _more(one: str, other: str) -> int:
    return _number(f"SELECT count(*) FROM (({one}) EXCEPT ALL ({other}))")


def _number(sql: str) -> int:
    with duckdb.connect() as database:
        return int(database.execute(sql).fetchall()[0][0])


def unbalanced(service: Service) -> list[str]:
    """Rows of ledger and hop that do not add up."""
    found = []
    for row in service.rows("hop"):
        parts = sum(int(row[name]) for name in ("accepted", "duplicate", "rejected"))
        if int(row["received"]) != parts or row["balance"] != "0":
            found.append(f"hop {row}")
    for row in service.rows("ledger"):
        parts = sum(int(row[name]) for name in ("booked", "held", "written_off"))
        if int(row["last"]) - int(row["first"]) != parts or row["balance"] != "0":
            found.append(f"ledger {row}")
    return found


def archive_faults(service: Service, world: World, scratch: Path) -> list[str]:
    """What is wrong with a stopped service's archive: files, or results worked out from it alone."""
    found = []
    checked = meterflow("archive", "check", "--data", service.folder)
    if checked.returncode:
        found.append(f"archive check: {checked.stdout[-2000:]}{checked.stderr[-500:]}")
    folders = ("--data", service.folder, "--out", scratch / "rebuilt", "--against", service.folder)
    rebuilt = meterflow("archive", "rebuild", world.site, *folders)
    if rebuilt.returncode:
        found.append(f"archive rebuild: {rebuilt.stdout[-2000:]}{rebuilt.stderr[-500:]}")
    return found
