"""Doctor and a role against a Kafka that speaks only TLS, as the settings file says it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.meterflow.helper import free_port, meterflow
from tests.meterflow.roles import Copy
from tests.real.certificates import make_certificate
from tests.real.kafka import KafkaServer


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The folder of two authorities' certificates, and the address of a Kafka that the first vouches for."""
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("ca", "other"):
        make_certificate(folder, name)
    certificate = make_certificate(folder, "broker", "IP:127.0.0.1", "ca")
    with KafkaServer(tmp_path_factory.mktemp("kafka"), certificate=certificate) as server:
        yield folder, server.address


@pytest.fixture
def settings(secure: tuple[Path, str], site: Path, tmp_path: Path) -> Path:
    """A settings file with the right authority."""
    folder, address = secure
    path = tmp_path / "settings.yaml"
    kafka = f'{{bootstrap: "{address}", partitions: 2, tls: true, ca_file: {folder / "ca.pem"}}}'
    path.write_text(f"site: {site}\nkafka: {kafka}\nhttp: {{port: {free_port()}}}\n")
    return path


def kafka_findings(settings: Path, **environ: str) -> list[dict[str, str]]:
    """What doctor says of Kafka."""
    ended = meterflow("doctor", "--settings", settings, "--json", **environ)
    return [finding for finding in json.loads(ended.stdout) if finding["of"] == "kafka"]


def test_a_role_works_over_tls(settings: Path) -> None:
    """It becomes ready, and ends in order; doctor finds nothing wrong."""
    copy = Copy("process", settings)
    try:
        copy.start()
        copy.stop()
    finally:
        copy.kill()
    assert {finding["verdict"] for finding in kafka_findings(settings)} == {"good"}


def test_a_wrong_authority_is_named(settings: Path, secure: tuple[Path, str]) -> None:
    """By doctor, with the key to put right; and so does a setting without TLS."""
    (finding,) = kafka_findings(settings, METERFLOW_KAFKA_CA_FILE=str(secure[0] / "other.pem"))
    assert (finding["verdict"], "not trusted" in finding["detail"]) == ("bad", True)
    assert "kafka.ca_file" in finding["hint"]
    (finding,) = kafka_findings(settings, METERFLOW_KAFKA_TLS="false")
    assert (finding["verdict"], "tls" in finding["hint"]) == ("bad", True)
