"""Services on folders of their own, whose laws are checked when a test ends; recordings and sites."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.meterflow.helper import ROOT, Service, check_laws, free_port
from tests.meterflow.roles import PLANT, PLANTS, SITE, Services
from tests.real.influxd import Influx
from tests.real.mosquitto import Mosquitto

DATA = ROOT.parent / "shared" / "data"
Serve = Callable[..., Service]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Makes services; those still running at the end have their books checked, and are ended."""
    made: list[Service] = []

    def make(site: Path | None = None, *options: str, folder: Path | None = None) -> Service:
        service = Service(folder or tmp_path / f"data-{len(made)}", site, options)
        made.append(service)
        return service

    yield make
    for service in made:
        if service.process is not None:
            if service.process.poll() is None and service.status("/readyz") == 200:
                check_laws(service)
            service.kill()
        if service.log.exists():
            assert "Traceback" not in service.said


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A works with electricity, water, output and value added."""
    path = tmp_path / "site.yaml"
    path.write_text(WORKS)
    return path


@pytest.fixture
def make_services(
    tmp_path: Path, kafka: str, influxdb: Influx, mosquitto_server: Callable[..., Mosquitto]
) -> Iterator[Callable[[Path], Services]]:
    """Settings over topics and a bucket of their own; copies that still run at the end are killed."""
    made: list[Services] = []

    def make(site: Path) -> Services:
        broker, prefix = mosquitto_server(), f"test-{uuid.uuid4().hex[:8]}"
        (tmp_path / "token").write_text(influxdb.token)
        (tmp_path / "token").chmod(0o600)
        settings = tmp_path / "settings.yaml"
        settings.write_text(
            f"site: {site}\n"
            f"mqtt: {{url: '{broker.url}', client_id: {prefix}}}\n"
            f"kafka: {{bootstrap: '{kafka}', prefix: {prefix}, partitions: 3}}\n"
            f"influxdb: {{url: '{influxdb.url}', org: {influxdb.org}, bucket: {influxdb.bucket()},"
            " token_file: token}\n"
            f"http: {{port: {free_port()}, ingest_port: 0, process_port: 0, sink_port: 0}}\n"
        )
        made.append(Services(tmp_path, site, settings, broker, influxdb, []))
        return made[-1]

    yield make
    for copy in (copy for services in made for copy in services.copies):
        copy.kill()
        if copy.log.exists():
            assert "Traceback" not in copy.said, copy.said


@pytest.fixture
def services(tmp_path: Path, make_services: Callable[[Path], Services]) -> Services:
    """Three plants on different partitions, in one group."""
    site = tmp_path / "site.yaml"
    site.write_text(SITE + "".join(PLANT.format(id=plant) for plant in PLANTS))
    return make_services(site)


def shared_data(name: str) -> Path:
    """A file of real readings; in CI it has to be there."""
    path = DATA / name
    if not path.exists():
        assert not os.environ.get("CI"), f"{path} is missing"
        pytest.skip(f"{path} is missing")
    return path


WORKS = """\
meterflow: 1
policy: cn-2025
plants:
  - id: works
    time_zone: Asia/Shanghai
    energies: [electricity]
    patience: 2m
    products:
      - {id: billet, unit: t}
    points:
      - {id: main, measures: electricity, reads: register, unit: kWh, expect_every: 60s, limit: 9000 kW,
         installations: [{digits: 6, decimals: 1, multiplier: 10}]}
      - {id: intake, measures: water, reads: register, unit: m3, expect_every: 60s, limit: 500 m3/h,
         installations: [{digits: 7, decimals: 3}]}
      - {id: count, measures: output, product: billet, reads: register, unit: t, expect_every: 60s,
         limit: 50 t/h}
      - {id: books, measures: value_added, reads: interval, unit: CNY}
    intensity:
      - {id: kwh-per-t, of: electricity, per: billet, windows: [15m, 1h, 8h, 24h]}
      - {id: yuan, of: electricity, per: value_added, windows: [day]}
    alerts:
      - {id: hot, when: kwh-per-t, window: 15m, above: 610, clear_below: 600}
"""
