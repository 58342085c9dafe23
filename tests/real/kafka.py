"""A real Kafka of one node, from the jars that scripts/fetch-kafka puts into the cache."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.real.server import Server, cache, free_port, missing

POM = Path(__file__).resolve().parents[2] / "services" / "kafka" / "pom.xml"
CLUSTER = "bWV0ZXJmbG93LXRlc3RzLQ"
HEAP_MIB = 512


def kafka_version() -> str:
    """The version that the tests run."""
    found = re.search(r"<kafka\.version>(.+)</kafka\.version>", POM.read_text())
    assert found is not None
    return found[1]


def kafka_jars() -> Path:
    """The folder of jars; skips the test when it is not there."""
    jars = cache() / f"kafka-{kafka_version()}" / "libs"
    if not jars.is_dir():
        missing(f"Kafka {kafka_version()} (make setup-services)")
    if shutil.which("java") is None:
        missing("java (on Debian: apt-get install default-jre-headless)")
    return jars


class KafkaServer(Server):
    """A broker and controller in one, which makes no topics by itself.

    ``advertised`` is the ``host:port`` that clients are sent to instead of the broker's own address: a
    proxy's, or the machine's as a container sees it. ``host`` is the address it listens on. ``certificate``
    is a PEM file beside which its key lies as NAME.key: the listener then speaks TLS. ``settings`` are
    further lines of its server.properties, or others for those here.
    """

    name = "kafka"

    def __init__(
        self,
        folder: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        advertised: str = "",
        heap_mib: int = HEAP_MIB,
        certificate: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder)
        self.jars = kafka_jars()
        self.host = host
        self.port = port or free_port()
        self.advertised = advertised
        self._own_port, self._controller_port = free_port(), free_port()
        self._heap_mib = heap_mib
        self._settings = (self._tls(certificate) if certificate else {}) | dict(settings or {})

    def _tls(self, certificate: Path) -> dict[str, str]:
        both = self.folder / "keystore.pem"
        both.write_text(certificate.with_suffix(".key").read_text() + certificate.read_text())
        return {
            "listener.security.protocol.map": "PLAINTEXT:SSL,CONTROLLER:PLAINTEXT",
            "listener.name.plaintext.ssl.keystore.type": "PEM",
            "listener.name.plaintext.ssl.keystore.location": str(both),
        }

    @property
    def address(self) -> str:
        """The broker's own ``host:port``, whatever it advertises."""
        return f"127.0.0.1:{self.port}"

    def properties(self) -> dict[str, str]:
        """The server's settings."""
        own, controller = f"127.0.0.1:{self._own_port}", f"127.0.0.1:{self._controller_port}"
        properties = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{controller}",
            "controller.listener.names": "CONTROLLER",
            # The broker calls itself, for transactions: not by way of what stands in front of it.
            "listeners": f"PLAINTEXT://{self.host}:{self.port},SELF://{own},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.advertised or self.address},SELF://{own}",
            "inter.broker.listener.name": "SELF",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self.folder / "data"),
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": "0",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "share.coordinator.state.topic.num.partitions": "1",
            "log.cleaner.dedupe.buffer.size": str(16 << 20),
            "controlled.shutdown.enable": "false",
            # How long a killed broker's name stays taken: so long does its restart take.
            "broker.session.timeout.ms": "2000",
            "broker.heartbeat.interval.ms": "250",
            **self._settings,
        }
        properties["listener.security.protocol.map"] += ",SELF:PLAINTEXT"
        return properties

    def command(self) -> Sequence[str]:
        """Formats the data folder the first time."""
        config = self.folder / "server.properties"
        config.write_text("".join(f"{key}={value}\n" for key, value in self.properties().items()))
        if not (self.folder / "data" / "meta.properties").exists():
            self._format(config)
        return [*self._java(), "kafka.Kafka", str(config)]

    def _java(self) -> list[str]:
        options = [f"-Xmx{self._heap_mib}m", "-XX:+UseSerialGC"]
        return [
            "java",
            *options,
            f"-Dlog4j2.configurationFile={POM.parent / 'log4j2.yaml'}",
            "-cp",
            f"{self.jars}/*",
        ]

    def _format(self, config: Path) -> None:
        format_ = [*self._java(), "kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c", str(config)]
        done = subprocess.run(format_, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def answers(self) -> bool:
        return "Kafka Server started" in self.log()
