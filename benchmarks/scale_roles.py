"""``meterflow process`` on a real Kafka, as many copies as wanted, looked at from outside."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from urllib.request import urlopen

from benchmarks import kafka_topics as topics
from benchmarks import servers
from bus.kafka_settings import KafkaSettings
from bus.log import READINGS
from bus.log_kafka import open_kafka
from metering.errors import MeterflowError

TIMEOUT_S = 900.0
LIVE_S = 30.0
_SETTINGS = """\
name: {name}
site: {site}
kafka: {{bootstrap: "{bootstrap}", prefix: {prefix}, partitions: {partitions}}}
process: {{scratch: {scratch}}}
http: {{process_port: {port}}}
"""
_OWNED = re.compile(r'^meterflow_partition_lag_records\{[^}]*partition="(\d+)"', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Copy:
    """A running ``meterflow process``."""

    child: Popen[bytes]
    port: int
    log: Path

    def check(self) -> None:
        """Raises MeterflowError when it has ended."""
        if self.child.poll() is not None:
            said = self.log.read_text(errors="replace")[-2000:]
            raise MeterflowError(f"meterflow process ended:\n{said}")

    def get(self, path: str) -> str:
        """What it answers there; empty while it does not listen."""
        with suppress(OSError), urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=LIVE_S) as answer:
            return str(answer.read().decode())
        return ""

    def partitions(self) -> set[int]:
        """Those that it works on."""
        return set(map(int, _OWNED.findall(self.get("/metrics"))))


@contextmanager
def copies(folder: Path, kafka: KafkaSettings, site: Path, count: int) -> Iterator[list[Copy]]:
    """So many copies while the block runs."""
    asyncio.run(_make_log(kafka))
    with ExitStack() as stack:
        yield [_copy(stack, folder, kafka, site, number) for number in range(count)]


async def _make_log(kafka: KafkaSettings) -> None:
    log = await open_kafka(kafka)
    await log.close()


def _copy(stack: ExitStack, folder: Path, kafka: KafkaSettings, site: Path, number: int) -> Copy:
    name, port = f"{kafka.prefix}-{number}", servers.free_port()
    file, log = folder / f"{name}.yaml", folder / f"{name}.log"
    text = _SETTINGS.format(
        name=name,
        site=site,
        bootstrap=kafka.bootstrap,
        prefix=kafka.prefix,
        partitions=kafka.partitions,
        scratch=folder,
        port=port,
    )
    file.write_text(text)
    command = [sys.executable, "-m", "meterflow", "process", "--settings", str(file)]
    return Copy(stack.enter_context(servers.process(command, log)), port, log)


async def until_read(kafka: KafkaSettings, running: list[Copy]) -> None:
    """Waits until the copies have worked on all that is on the log."""

    def check() -> None:
        for copy in running:
            copy.check()

    group, topic = kafka.group("process"), kafka.topic(READINGS)
    await topics.wait_until_read(kafka.bootstrap, group, topic, check, TIMEOUT_S, kafka.partitions)


async def until_shared(kafka: KafkaSettings, running: list[Copy]) -> None:
    """Waits until each copy has a partition, where there are enough, and each partition a copy."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            owned = [await asyncio.to_thread(copy.partitions) for copy in running]
            if sum(map(len, owned)) == kafka.partitions and all(owned):
                return
            for copy in running:
                copy.check()
            await asyncio.sleep(0.2)
