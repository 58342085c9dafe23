"""The real servers that tests of every area may ask for: Kafka, InfluxDB, Mosquitto, an object store.

``kafka`` and ``influxdb`` are shared by a whole run; each test makes topics or buckets of its own. They are
found at the addresses given in the environment, else in containers where METERFLOW_TEST_CONTAINERS=1 asks
for them, else started from the programs that ``make setup-services`` provides. A test that stops, kills or
pauses a server takes one of its own from ``kafka_server``, ``influx_server`` or ``mosquitto_server``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.real.influxd import Influx, InfluxServer
from tests.real.kafka import KafkaServer
from tests.real.mosquitto import Mosquitto
from tests.real.places import influx_place, kafka_place
from tests.real.server import Server
from tests.real.versitygw import ObjectStore


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bootstrap address of a Kafka 4 that makes no topics by itself."""
    with kafka_place(tmp_path_factory) as address:
        yield address


@pytest.fixture(scope="session")
def influxdb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influx]:
    """An InfluxDB 2: url, org, token; ``influxdb.bucket()`` makes a bucket for a test."""
    with influx_place(tmp_path_factory) as influx:
        yield influx


@pytest.fixture
def servers() -> Iterator[Callable[[Server], None]]:
    """Takes servers that are stopped at the end of the test."""
    with ExitStack() as stack:

        def take(server: Server) -> None:
            stack.callback(server.kill)

        yield take


@pytest.fixture
def kafka_server(
    tmp_path_factory: pytest.TempPathFactory, servers: Callable[[Server], None]
) -> Callable[..., KafkaServer]:
    """Starts a Kafka of the test's own; the keywords are those of ``KafkaServer``."""

    def start(**options: object) -> KafkaServer:
        server = KafkaServer(_folder(tmp_path_factory, "kafka"), **options)  # type: ignore[arg-type]
        servers(server)
        return server.start()

    return start


@pytest.fixture
def influx_server(
    tmp_path_factory: pytest.TempPathFactory, servers: Callable[[Server], None]
) -> Callable[..., InfluxServer]:
    """Starts an InfluxDB of the test's own; the keywords are those of ``InfluxServer``."""

    def start(**options: object) -> InfluxServer:
        server = InfluxServer(_folder(tmp_path_factory, "influxd"), **options)  # type: ignore[arg-type]
        servers(server)
        return server.start()

    return start


@pytest.fixture
def mosquitto_server(
    tmp_path_factory: pytest.TempPathFactory, servers: Callable[[Server], None]
) -> Callable[..., Mosquitto]:
    """Starts a Mosquitto of the test's own; the keywords are those of ``Mosquitto``."""

    def start(**options: object) -> Mosquitto:
        server = Mosquitto(_folder(tmp_path_factory, "mosquitto"), **options)  # type: ignore[arg-type]
        servers(server)
        return server.start()

    return start


@pytest.fixture
def object_store(
    tmp_path_factory: pytest.TempPathFactory,
    servers: Callable[[Server], None],
    monkeypatch: pytest.MonkeyPatch,
) -> ObjectStore:
    """Starts an object store of the test's own; its key stands in the environment."""
    server = ObjectStore(_folder(tmp_path_factory, "versitygw"))
    servers(server)
    for name, value in server.keys.items():
        monkeypatch.setenv(name, value)
    return server.start()


def _folder(factory: pytest.TempPathFactory, name: str) -> Path:
    return factory.mktemp(name)
