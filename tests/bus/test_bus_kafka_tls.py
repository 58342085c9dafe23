"""Kafka over TLS: only the broker that the authority's certificate vouches for is spoken to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bus.kafka_settings import KafkaSettings
from bus.kafka_shares import Shares
from bus.kafka_topics import check
from bus.log import READINGS, RESULTS
from bus.log_kafka import open_kafka
from metering.errors import MeterflowError
from tests.bus.kafka_tools import entry, settings_at
from tests.real.certificates import make_certificate
from tests.real.kafka import KafkaServer


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one that signed the broker's certificate, and another one."""
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("ca", "other"):
        make_certificate(folder, name)
    make_certificate(folder, "broker", "IP:127.0.0.1", "ca")
    return folder


@pytest.fixture(scope="module")
def secure(authorities: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    """A Kafka that speaks only TLS."""
    with KafkaServer(tmp_path_factory.mktemp("kafka"), certificate=authorities / "broker.pem") as server:
        yield replace(settings_at(server.address), tls=True, ca_file=authorities / "ca.pem")


async def test_the_log_works_over_tls(secure: KafkaSettings) -> None:
    """Appends, transactions, reads and the group's membership."""
    log = await open_kafka(secure)
    await log.append({READINGS: [entry(1)]})
    await log.commit("process", 1, {RESULTS: [entry(2)]})
    assert await log.wait(RESULTS, 0, 5)
    assert [record.value for record in await log.read(RESULTS, 0)] == [b"2"]
    taken: list[int] = []

    async def take(partition: int) -> None:
        taken.append(partition)

    async with Shares(secure, "process", READINGS, taken=take, given_up=take):
        assert await log.wait(READINGS, 0, 5)
    await log.close()
    assert {finding.verdict for finding in await check(secure)} == {"good"}


@pytest.mark.parametrize("authority", ["other", ""])
async def test_a_broker_of_another_authority_is_not_spoken_to(
    secure: KafkaSettings, authorities: Path, authority: str
) -> None:
    """Another authority's certificate, or this machine's own ones: the error names the certificate."""
    ca_file = authorities / f"{authority}.pem" if authority else None
    wrong = replace(secure, ca_file=ca_file, patience_ms=3_000)
    with pytest.raises(MeterflowError, match="certificate is not trusted"):
        await open_kafka(wrong)
    (finding,) = await check(wrong)
    assert (finding.verdict, "not trusted" in finding.detail) == ("bad", True)
    assert "ca_file" in finding.hint


async def test_a_broker_under_another_name_is_not_spoken_to(secure: KafkaSettings) -> None:
    """Its certificate is of the right authority, and for another name than the settings have."""
    other = secure.bootstrap.replace("127.0.0.1", "localhost")
    (finding,) = await check(replace(secure, bootstrap=other, patience_ms=3_000))
    assert finding.verdict == "bad"
    assert "localhost" in finding.detail
    assert "kafka.bootstrap" in finding.hint


async def test_a_client_without_tls_gets_nothing(secure: KafkaSettings) -> None:
    """And is told to look at tls, among others."""
    (finding,) = await check(replace(secure, tls=False, ca_file=None, patience_ms=3_000))
    assert (finding.verdict, "tls" in finding.hint) == ("bad", True)


async def test_a_file_that_is_no_certificate_is_told_of(secure: KafkaSettings, tmp_path: Path) -> None:
    """By its path."""
    (tmp_path / "ca.pem").write_text("no certificate")
    (finding,) = await check(replace(secure, ca_file=tmp_path / "ca.pem"))
    assert (finding.verdict, "PEM" in finding.hint) == ("bad", True)
