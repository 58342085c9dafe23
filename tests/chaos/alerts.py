"""The alerts as somebody hears them who reads Kafka: none lost, none twice, in their order.

Committed records of the results are read from the first on by a client that is not ours. Each change of an
alert has to be said once per revision, revisions going up by one; what stands behind each record has to go
firing, ok, firing, ok; and in the end it has to be what ``compute`` says.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from aiokafka import AIOKafkaConsumer, TopicPartition

from bus.frames import decode_table

TABLE = "alert"
SILENT_S = 60.0
SAID = ("id", "scope", "at", "to", "value")
Alert = tuple[str, str]
"""Its id and its scope."""


@dataclass(slots=True)
class Heard:
    """What a listener holds; ``wrong``: what he should not have heard."""

    revisions: dict[tuple[Alert, int], int] = field(default_factory=dict)
    standing: dict[Alert, dict[int, dict[str, Any]]] = field(default_factory=lambda: defaultdict(dict))
    said: int = 0
    double: int = 0
    wrong: list[str] = field(default_factory=list)

    def hear(self, rows: Iterable[dict[str, Any]], where: str) -> None:
        """One record of the topic: what it says is said at once."""
        touched = set()
        for row in rows:
            self.said += 1
            alert, at = (row["id"], row["scope"]), row["at"]
            wanted = self.revisions.get((alert, at), -1) + 1
            if row["revision"] < wanted:
                self.double += 1
                self.wrong.append(f"{where}: said twice: {row}")
                continue
            if row["revision"] > wanted:
                self.wrong.append(f"{where}: revision {wanted} was never said: {row}")
            self.revisions[alert, at] = row["revision"]
            if row["position"] < 0:
                self.standing[alert].pop(at, None)
            else:
                self.standing[alert][at] = row
            touched.add(alert)
        for alert in touched:
            states = [row["to"] for _, row in sorted(self.standing[alert].items())]
            if states != [("firing", "ok")[number % 2] for number in range(len(states))]:
                self.wrong.append(f"{where}: {alert} goes {states}")

    def rows(self) -> set[tuple[Any, ...]]:
        """What stands in the end."""
        found = (row for changes in self.standing.values() for row in changes.values())
        return {tuple(row[name] for name in SAID) for row in found}


async def hear(bootstrap: str, topic: str, partitions: int) -> Heard:
    """Reads all that was committed, partition by partition, in the order of their offsets."""
    heard, places = Heard(), [TopicPartition(topic, number) for number in range(partitions)]
    async with AIOKafkaConsumer(
        bootstrap_servers=bootstrap, isolation_level="read_committed", auto_offset_reset="earliest"
    ) as reader:
        reader.assign(places)
        ends = await reader.end_offsets(places)
        while any([await reader.position(place) < ends[place] for place in places]):
            batch = await asyncio.wait_for(reader.getmany(timeout_ms=500), SILENT_S)
            for place, records in batch.items():
                for record in records:
                    if record.key == TABLE.encode():
                        _, rows = decode_table(record.value)
                        heard.hear(_plain(rows), f"{topic} {place.partition} {record.offset}")
    return heard


def _plain(rows: Any) -> Iterator[dict[str, Any]]:
    return iter(rows.to_pylist())


def compare(heard: Heard, computed: Path) -> tuple[int, list[str]]:
    """How many changes of compute's nobody heard of, and what is wrong besides."""
    table = pq.read_table(computed / f"{TABLE}.parquet", columns=list(SAID)).to_pylist()
    wanted = {tuple(row[name] for name in SAID) for row in table}
    missing, further = wanted - heard.rows(), heard.rows() - wanted
    wrong = [f"alerts on the log: {len(missing)} are missing, {len(further)} are others"]
    return len(missing), [*heard.wrong, *(wrong if missing or further else [])]
