"""What is wrong around a collector: said plainly, and tried again until it is right."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ingest.broker_settings import Broker, tls_context
from ingest.collector import AWAY, REFUSED
from ingest.mqtt_events import V3, V5
from metering.errors import UsageError
from tests.ingest.collector_builders import CLIENTS, broker, collecting, publish_readings, values
from tests.ingest.ingest_builders import serving, until
from tests.real.mosquitto import Mosquitto
from tests.real.server import free_port

Start = Callable[..., Mosquitto]
BOTH = pytest.mark.parametrize("client", CLIENTS)


@BOTH
async def test_a_broker_that_is_away_at_the_start_is_waited_for(client: str, tmp_path: Path) -> None:
    """The collector starts, says what it waits for, and goes on by itself."""
    server = Mosquitto(tmp_path, port=free_port())
    async with collecting(broker(server.port, client), listens=False) as (collector, log):
        await until(lambda: collector.status.retried >= 2)
        assert collector.status.state == AWAY
        assert not collector.listening
        assert f"127.0.0.1:{server.port}" in collector.status.error
        assert "url" in collector.status.error
        try:
            await asyncio.to_thread(server.start)
            await until(lambda: collector.listening)
            await publish_readings(server.port, range(10))
            await until(lambda: collector.counters.acknowledged == 10)
            assert await values(log) == list(range(10))
            assert collector.status.error == ""
        finally:
            server.kill()


@BOTH
@pytest.mark.parametrize("protocol", [V3, V5])
async def test_a_wrong_password_names_the_setting(
    client: str, protocol: int, mosquitto_server: Start
) -> None:
    """And it is tried again, slowly; the password itself is nowhere in the message."""
    server = mosquitto_server(users={"collector": "right"})
    settings = broker(server.port, client, user="collector", password="wrong-canary", protocol=protocol)
    async with collecting(settings, listens=False) as (collector, _):
        await until(lambda: collector.status.retried >= 2)
        assert collector.status.state == REFUSED
        assert "password_file" in collector.status.error
        assert "canary" not in collector.status.error + repr(settings)
        assert collector._pause_s == settings.retry_s_max


@BOTH
async def test_the_right_password_is_let_in(client: str, mosquitto_server: Start) -> None:
    """With user name and password, in MQTT 5."""
    server = mosquitto_server(users={"collector": "pä ss"})
    settings = broker(server.port, client, user="collector", password="pä ss")
    async with collecting(settings) as (collector, _):
        assert collector.listening


@BOTH
@pytest.mark.parametrize("protocol", [V3, V5])
async def test_a_refused_subscription_is_told(client: str, protocol: int) -> None:
    """By a server that refuses every subscription: our own endpoint. Patience must not run out then."""
    async with serving() as (endpoint, _):
        settings = broker(endpoint.port, client, filters=("meterflow/v1/#",), protocol=protocol)
        async with collecting(settings, listens=False) as (collector, _):
            await until(lambda: collector.status.state == REFUSED)
            assert "refuses subscriptions: meterflow/v1/#" in collector.status.error
            assert "section mqtt" in collector.status.error
            assert not collector.listening
            assert endpoint.counters.connections == 1, "it stays connected, and asks again slowly"


@BOTH
async def test_a_broker_without_qos_1_is_refused(client: str, mosquitto_server: Start) -> None:
    """It keeps nothing until it is acknowledged: readings would be lost unseen."""
    server = mosquitto_server(settings=["max_qos 0"])
    async with collecting(broker(server.port, client), listens=False) as (collector, _):
        await until(lambda: collector.status.retried)
        assert collector.status.state == REFUSED
        assert "QoS 1" in collector.status.error


def _made(folder: Path, name: str, subject: str, authority: str | None) -> None:
    """A key and a certificate, signed by an authority or by itself."""
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-days", "2", "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(certificate)]
    if authority:
        command += ["-CA", str(folder / f"{authority}.pem"), "-CAkey", str(folder / f"{authority}.key")]
        command += ["-addext", f"subjectAltName={subject}", "-addext", "basicConstraints=critical,CA:FALSE"]
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two authorities; a broker's certificate for 127.0.0.1 and one for another name."""
    folder = tmp_path_factory.mktemp("certificates")
    for authority in ("ca", "other"):
        _made(folder, authority, "", None)
    _made(folder, "broker", "IP:127.0.0.1", "ca")
    _made(folder, "stranger", "DNS:elsewhere.example", "ca")
    _made(folder, "client", "DNS:client.example", "ca")
    return folder


def _secure(server: Mosquitto, client: str, **settings: Any) -> Broker:
    return Broker(server.url, client=client, retry_s=0.05, retry_s_max=0.3, **settings)  # type: ignore[arg-type]


@BOTH
async def test_readings_come_over_tls_with_a_certificate_of_the_collectors_own(
    client: str, certificates: Path, mosquitto_server: Start
) -> None:
    """The broker asks for one; both sides are checked."""
    files = {"certificate": certificates / "broker.pem", "key": certificates / "broker.key"}
    asks = [f"cafile {certificates / 'ca.pem'}", "require_certificate true"]
    server = mosquitto_server(**files, settings=asks)
    own = {"cert_file": certificates / "client.pem", "key_file": certificates / "client.key"}
    settings = _secure(server, client, ca_file=certificates / "ca.pem", **own)
    async with collecting(settings) as (collector, _):
        assert collector.listening
    without = _secure(server, client, ca_file=certificates / "ca.pem")
    async with collecting(without, listens=False) as (collector, _):
        await until(lambda: collector.status.retried)
        assert not collector.listening


@BOTH
@pytest.mark.parametrize(("name", "authority"), [("broker", "other"), ("stranger", "ca")])
async def test_a_broker_that_cannot_prove_its_name_is_refused(
    client: str, name: str, authority: str, certificates: Path, mosquitto_server: Start
) -> None:
    """An unknown authority, another name: the message names the setting, nothing is sent."""
    server = mosquitto_server(certificate=certificates / f"{name}.pem", key=certificates / f"{name}.key")
    settings = _secure(server, client, ca_file=certificates / f"{authority}.pem")
    async with collecting(settings, listens=False) as (collector, _):
        await until(lambda: collector.status.retried)
        assert collector.status.state == REFUSED
        assert "ca_file" in collector.status.error


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "http://broker"},
        {"url": "mqtt://"},
        {"url": "mqtt://me:secret@broker"},
        {"url": "mqtt://broker:0"},
        {"client_id": ""},
        {"filters": ()},
        {"filters": ("a/#/b",)},
        {"filters": ("a+/b",)},
        {"filters": ("$share/g/meterflow/v1/#",)},
        {"receive_maximum": 0},
        {"session_expiry_s": 0},
        {"protocol": 3},
        {"password": "x"},
        {"cert_file": Path("x")},
        {"client": "other"},
        {"retry_s": 0.0},
    ],
)
def test_wrong_settings_are_refused_at_once(wrong: dict[str, Any]) -> None:
    """With the key in the message, and without what may be a password."""
    with pytest.raises(UsageError) as raised:
        Broker(**{"url": "mqtt://broker", **wrong})
    assert next(iter(wrong)).split("_")[0] in str(raised.value).replace("receive", "receive")
    assert "secret" not in str(raised.value)


def test_a_missing_certificate_file_is_named(tmp_path: Path) -> None:
    """Before anything is connected."""
    with pytest.raises(UsageError, match="ca_file"):
        tls_context(Broker("mqtts://broker", ca_file=tmp_path / "none.pem"))
