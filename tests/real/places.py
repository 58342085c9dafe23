"""Where the shared servers of a test run are: given addresses, containers, or programs of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.real.influxd import ORG, TOKEN, Influx, InfluxServer
from tests.real.kafka import KafkaServer


def containers_wanted() -> bool:
    """Whether the environment asks for containers."""
    return os.environ.get("METERFLOW_TEST_CONTAINERS") == "1"


@contextmanager
def kafka_place(folders: pytest.TempPathFactory) -> Iterator[str]:
    """A Kafka's bootstrap address, METERFLOW_TEST_KAFKA if that is given."""
    given = os.environ.get("METERFLOW_TEST_KAFKA")
    if given:
        yield given
    elif containers_wanted():
        from tests.real.containers import kafka_container

        with kafka_container() as address:
            yield address
    else:
        with KafkaServer(folders.mktemp("kafka")) as server:
            yield server.address


@contextmanager
def influx_place(folders: pytest.TempPathFactory) -> Iterator[Influx]:
    """An InfluxDB, at METERFLOW_TEST_INFLUXDB_URL with _ORG and _TOKEN if that is given."""
    given = os.environ.get("METERFLOW_TEST_INFLUXDB_URL")
    if given:
        org = os.environ.get("METERFLOW_TEST_INFLUXDB_ORG", ORG)
        yield Influx(given.rstrip("/"), org, os.environ.get("METERFLOW_TEST_INFLUXDB_TOKEN", TOKEN))
    elif containers_wanted():
        from tests.real.containers import influx_container

        with influx_container() as influx:
            yield influx
    else:
        with InfluxServer(folders.mktemp("influxd")) as server:
            yield server.influx
