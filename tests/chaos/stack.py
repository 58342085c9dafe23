"""The distributed service of one run: real servers, wires before each, and copies of the roles.

Everything goes by wires: collectors and publishers to Mosquitto, publishers to the endpoints, all roles to
Kafka and InfluxDB. Kafka, InfluxDB, the archive and the processors' scratch have disks of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.chaos.disks import Disks
from tests.chaos.wiring import Wiring
from tests.chaos.world import DOORS, World
from tests.meterflow.helper import eventually
from tests.meterflow.roles import Copy
from tests.meterflow.versions import environment_of
from tests.real.influxd import InfluxServer
from tests.real.kafka import KafkaServer
from tests.real.mosquitto import Mosquitto
from tests.real.server import Server, free_port

PARTITIONS = 3
PREFIX = BUCKET = "chaos"
COPIES = {"ingest": 2, "process": 3, "sink": 2}
READY_S = 120.0


@dataclass(slots=True)
class One:
    """A copy of a role, and what the run does with it."""

    copy: Copy
    name: str
    environ: dict[str, str]
    busy: bool = False
    """Whether a fault is under way with it."""
    wanted: bool = True
    """Whether it is started again when it ends by itself."""
    ends: int = 0
    code: Path | None = None
    """The tree of another version, which it runs."""

    @property
    def pid(self) -> int:
        """Its process, 0 while there is none."""
        process = self.copy.process
        return 0 if process is None or process.poll() is not None else process.pid

    def launch(self) -> None:
        """Starts it, without waiting."""
        other = {} if self.code is None else environment_of(self.code)
        self.copy.launch(**self.environ, **other)


@dataclass(slots=True)
class Stack:
    """Use it as a context: everything is up inside, and ended behind it."""

    folder: Path
    world: World
    wiring: Wiring = field(default_factory=Wiring)
    copies: list[One] = field(default_factory=list)
    _exit: AsyncExitStack = field(default_factory=AsyncExitStack)
    kafka: KafkaServer = field(init=False)
    influx: InfluxServer = field(init=False)
    broker: Mosquitto = field(init=False)
    settings: Path = field(init=False)
    disks: Disks = field(init=False)
    direct: Path = field(init=False)
    """Settings that lead to InfluxDB itself, for looking at the results."""

    async def __aenter__(self) -> Self:
        await self._exit.enter_async_context(self.wiring)
        kafka_wire = free_port()
        self.disks = Disks(self.folder)
        self._exit.callback(self.disks.unmount)
        self.disks.mount("kafka/data")
        for name in ("influxd", "archive", "scratch"):
            self.disks.mount(name)
        self.kafka = KafkaServer(self.folder / "kafka", advertised=f"127.0.0.1:{kafka_wire}")
        self.influx = InfluxServer(
            self.folder / "influxd", options=["--storage-cache-snapshot-write-cold-duration=30s"]
        )
        self.influx.log_path = self.folder / "influxd.log"
        self.broker = Mosquitto(self.folder / "mosquitto", persistent=True)
        for server in (self.kafka, self.influx, self.broker):
            self._exit.callback(server.kill)
        await asyncio.gather(*(asyncio.to_thread(server.start) for server in self.servers))
        await self.wiring.listen("kafka", self.kafka.port, frames=True, port=kafka_wire)
        await self.wiring.listen("influxdb", self.influx.port)
        await self.wiring.listen("collectors", self.broker.port)
        await self.wiring.listen("broker", self.broker.port)
        self._settings()
        await self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for one in self.copies:
            one.wanted = False
            one.copy.kill()
        await self._exit.aclose()

    @property
    def servers(self) -> tuple[Server, ...]:
        return self.kafka, self.influx, self.broker

    @property
    def archive(self) -> Path:
        """The archive's folder."""
        return self.folder / "archive" / "archive"

    @property
    def delete(self) -> str:
        """Where InfluxDB is asked to delete what its bucket has."""
        return f"/api/v2/delete?org={self.influx.org}&bucket={BUCKET}"

    @property
    def doors(self) -> dict[str, str]:
        """Where each recording is published."""
        return {door: f"mqtt://127.0.0.1:{self.wiring.ports[door]}" for door in DOORS}

    def of(self, role: str) -> list[One]:
        """The copies of a role."""
        return [one for one in self.copies if one.copy.role == role]

    def alive(self, role: str) -> list[One]:
        """Those that run, and that nothing is done to."""
        return [one for one in self.of(role) if one.pid and not one.busy and one.wanted]

    def pids(self) -> dict[int, One]:
        """Running copies by their processes."""
        return {one.pid: one for one in self.copies if one.pid}

    def add(self, role: str) -> One:
        """A further copy, started."""
        number = len(self.of(role)) + 1
        name = f"{role}-{number}"
        environ = {"METERFLOW_NAME": name}
        if role == "ingest":
            mine = self.world.plants[number - 1 :: COPIES["ingest"]]
            environ |= {
                "METERFLOW_MQTT_CLIENT_ID": name,
                "METERFLOW_MQTT_FILTERS": ",".join(f"meterflow/v1/{plant}/#" for plant in mine),
                "METERFLOW_ENDPOINT_PORT": str(free_port()),
            }
        copy = Copy(role, self.settings, number)
        one = One(copy, name, environ)
        self.copies.append(one)
        one.launch()
        return one

    async def _start(self) -> None:
        for role, count in COPIES.items():
            for _ in range(count):
                one = self.add(role)
                if role == "ingest":
                    door = f"endpoint-{len(self.of(role))}"
                    await self.wiring.listen(door, int(one.environ["METERFLOW_ENDPOINT_PORT"]))
        for one in self.copies:
            await asyncio.to_thread(eventually, one.copy.ready, READY_S, f"{one.name} ready: {one.copy.log}")

    def _settings(self) -> None:
        token = self.folder / "token"
        token.write_text(self.influx.token)
        token.chmod(0o600)
        bucket = self.influx.influx.bucket(BUCKET, shard_s=86_400)
        ports = self.wiring.ports
        kafka = f"127.0.0.1:{ports['kafka']}"
        text = (
            f"site: {self.world.site}\n"
            f"mqtt: {{url: 'mqtt://127.0.0.1:{ports['collectors']}', receive_maximum: 500}}\n"
            "endpoint: {port: 0}\n"
            f"decisions: {{url: 'mqtt://127.0.0.1:{ports['broker']}'}}\n"
            f"kafka: {{bootstrap: '{kafka}', prefix: {PREFIX}, partitions: {PARTITIONS}}}\n"
            f"influxdb: {{url: 'http://127.0.0.1:{{}}', org: {self.influx.org}, bucket: {bucket},"
            " token_file: token}\n"
            f"archive: {{url: {self.archive}, every: 2s}}\n"
            f"process: {{scratch: {self.folder / 'scratch'}}}\n"
            "http: {port: 0, ingest_port: 0, process_port: 0, sink_port: 0}\n"
        )
        self.settings, self.direct = self.folder / "settings.yaml", self.folder / "direct.yaml"
        self.settings.write_text(text.replace("{}", str(ports["influxdb"])))
        self.direct.write_text(text.replace("{}", str(self.influx.port)))


def tracebacks(copies: list[One]) -> Iterator[str]:
    """What copies said that nobody should ever see."""
    for one in copies:
        if one.copy.log.exists() and "Traceback" in one.copy.said:
            yield f"{one.name}: a traceback in {one.copy.log}"
