"""Kafka, InfluxDB and Mosquitto in containers, by testcontainers.

The images are the upstream ones unless METERFLOW_IMAGES=local asks for those that ``make images`` builds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.real.influxd import BUCKET, ORG, TOKEN, Influx, influxd_version
from tests.real.kafka import kafka_version
from tests.real.server import START_S, free_port, wait_until

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

MOSQUITTO_VERSION = "2.0.22"


def image(name: str) -> str:
    """The image of ``kafka``, ``influxdb`` or ``mosquitto``."""
    if os.environ.get("METERFLOW_IMAGES") == "local":
        return f"meterflow-{name}:local"
    return {
        "kafka": f"apache/kafka:{kafka_version()}",
        "influxdb": f"influxdb:{influxd_version()}-alpine",
        "mosquitto": f"eclipse-mosquitto:{MOSQUITTO_VERSION}",
    }[name]


@contextmanager
def running(
    name: str, inside: int, outside: int, settings: Mapping[str, str], files: Mapping[Path, str] | None = None
) -> Iterator[DockerContainer]:
    """A container whose port ``inside`` is this machine's port ``outside``; it is removed at the end.

    settings: its environment. files: files of this machine and where it sees them.
    """
    # Its reaper is an image of its own; the context manager removes the container without it.
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    from testcontainers.core.container import DockerContainer

    container = DockerContainer(image(name)).with_bind_ports(inside, outside)
    for key, value in settings.items():
        container = container.with_env(key, value)
    for file, place in (files or {}).items():
        container = container.with_volume_mapping(str(file), place, "ro")
    with container:
        yield container


@contextmanager
def kafka_container() -> Iterator[str]:
    """A Kafka's bootstrap address."""
    port = free_port()
    settings = {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        # The broker calls itself, for transactions, and cannot do so at the address that this machine sees.
        "KAFKA_LISTENERS": "PLAINTEXT://:9092,SELF://localhost:9094,CONTROLLER://localhost:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port},SELF://localhost:9094",
        "KAFKA_INTER_BROKER_LISTENER_NAME": "SELF",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,SELF:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "4",
        "KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS": "4",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR": "1",
        "KAFKA_HEAP_OPTS": "-Xmx512m",
    }
    with running("kafka", 9092, port, settings) as container:
        wait_for_log(container, "Kafka Server started")
        yield f"127.0.0.1:{port}"


@contextmanager
def influx_container() -> Iterator[Influx]:
    """An InfluxDB, set up by its image."""
    port = free_port()
    settings = {
        "DOCKER_INFLUXDB_INIT_MODE": "setup",
        "DOCKER_INFLUXDB_INIT_USERNAME": "admin",
        "DOCKER_INFLUXDB_INIT_PASSWORD": "password-of-the-tests",
        "DOCKER_INFLUXDB_INIT_ORG": ORG,
        "DOCKER_INFLUXDB_INIT_BUCKET": BUCKET,
        "DOCKER_INFLUXDB_INIT_ADMIN_TOKEN": TOKEN,
    }
    influx = Influx(f"http://127.0.0.1:{port}", ORG, TOKEN)
    with running("influxdb", 8086, port, settings):
        wait_until(lambda: is_set_up(influx), "InfluxDB in a container")
        yield influx


@contextmanager
def mosquitto_container(folder: Path) -> Iterator[int]:
    """The port of a Mosquitto that everybody may use; its configuration is written into ``folder``."""
    config = folder / "mosquitto.conf"
    config.write_text("listener 1883\nallow_anonymous true\n")
    folder.chmod(0o755)
    port = free_port()
    with running("mosquitto", 1883, port, {}, {config: "/mosquitto/config/mosquitto.conf"}) as container:
        wait_for_log(container, "running")
        yield port


def is_set_up(influx: Influx) -> bool:
    """Whether it answers, and to this token."""
    try:
        influx.org_id()
    except (OSError, ValueError, LookupError):
        return False
    return True


def wait_for_log(container: DockerContainer, text: str) -> None:
    """Waits until the container has said it."""
    until = time.monotonic() + START_S
    while text not in (said := b"".join(container.get_logs()).decode()):
        assert time.monotonic() < until, f"waited {START_S} s in vain for {text!r}:\n{said[-2000:]}"
        time.sleep(0.2)
