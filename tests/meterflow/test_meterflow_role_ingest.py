"""The role ingest in this process: what becomes of a part of it that fails."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from bus.kafka_producer import Producer
from ingest.kafka_decode import TopicDecoder
from meterflow.role_ingest import IngestRole
from meterflow.roles import NEEDS
from meterflow.settings import load_settings
from tests.meterflow.helper import free_port
from tests.meterflow.roles import PLANT, SITE

NOTICED_S = 20


def test_a_json_topic_whose_decoder_fails_ends_the_role(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told and started again, rather than taking nothing for ever while it says that all is well."""

    def broken(*_: object) -> None:
        raise AssertionError("a mistake of ours")

    monkeypatch.setattr(TopicDecoder, "decode", broken)
    (tmp_path / "site.yaml").write_text(SITE + PLANT.format(id="steel-a"))
    prefix = f"test-{os.getpid()}-failing"
    file = tmp_path / "meterflow.yaml"
    file.write_text(
        f"site: site.yaml\nkafka: {{bootstrap: '{kafka}', prefix: {prefix}, partitions: 1}}\n"
        f"http: {{ingest_port: {free_port()}}}\njson_topic: {{topic: {prefix}.rejected, group: {prefix}}}\n"
    )
    assert isinstance(asyncio.run(_what_ends_it(file, f"{prefix}.rejected")), AssertionError)


async def _what_ends_it(file: Path, topic: str) -> BaseException | None:
    """What ends the role when somebody writes to the topic; None when nothing does."""
    role = IngestRole(load_settings(file, NEEDS["ingest"]))
    try:
        await role.start()
        producer = Producer(role.log._connection)
        await producer.start()
        await producer.produce({(topic, 0): [(b"", b"{}", 0)]})
        await asyncio.wait([role.failed], timeout=NOTICED_S)
        return role.failed.exception() if role.failed.done() else None
    finally:
        await role.stop()
