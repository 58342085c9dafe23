"""What a process has to know to work on Kafka: addresses, names, and how patient it is."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bus.log import PAYLOADS, PORTIONS, READINGS, REJECTED, RESULTS, SITES
from metering.errors import UsageError

STATE = "state"
"""Saved states of consumers, compacted: see bus.kafka_state."""
JSON = "json"
"""Behind the name of the results: the same rows as JSON objects, for everybody else."""

INPUTS: Mapping[str, str] = {
    "process": READINGS,
    "groups": PORTIONS,
    "sink": RESULTS,
    "sink-rejected": REJECTED,
    "raw": PAYLOADS,
}
"""Of which topic a consumer's ``done`` is an offset; of ``readings`` where it is not named here."""

OF_READINGS = ("archive", "raw")
"""Consumers of which there is one for all results: what they do does not depend on how results are named."""

RECORD_BYTES_MAX = 8 << 20
"""Of a record, and so of a batch: max.message.bytes of every topic."""
TRANSACTION_MS = 15_000
"""An open transaction holds up every reader behind it, for as long at most."""


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """``bootstrap``: ``host:port`` of some brokers, with commas between them.

    ``results``: the results' own part in the names of topics and groups; another one beside the first
    makes everything anew while the first is still read. ``request_ms``: after so long without an
    answer a connection is given up; ``patience_ms``: after so long a call says Unavailable.
    """

    bootstrap: str
    prefix: str = "meterflow"
    partitions: int = 4
    replication: int = 1
    user: str = ""
    password: str = field(default="", repr=False)
    ca_file: Path | None = None
    tls: bool = False
    mechanism: str = "SCRAM-SHA-512"
    results: str = RESULTS
    request_ms: int = 5_000
    patience_ms: int = 10_000

    def topic(self, name: str) -> str:
        """The topic's name on Kafka. What is made of readings has the results' part in its name."""
        if name == RESULTS:
            return f"{self.prefix}.{self.results}"
        own = name in (PORTIONS, STATE) and self.results != RESULTS
        return f"{self.prefix}.{name}.{self.results}" if own else f"{self.prefix}.{name}"

    @property
    def json_topic(self) -> str:
        return f"{self.topic(RESULTS)}-{JSON}"

    def group(self, consumer: str) -> str:
        """The consumer group whose committed offsets are the consumer's ``done``."""
        name = f"{self.prefix}.{consumer}"
        return name if self.results == RESULTS or consumer in OF_READINGS else f"{name}.{self.results}"

    def state(self, consumer: str) -> str:
        """The topic that a consumer's saved state is in."""
        return f"{self.prefix}.{STATE}" if consumer in OF_READINGS else self.topic(STATE)

    def transactional_id(self, consumer: str, partition: int) -> str:
        """One for each partition of a consumer: whoever takes it up shuts out the one before."""
        return f"{self.group(consumer)}-{partition}"

    @property
    def topics(self) -> tuple[str, ...]:
        """All topics by their names on Kafka."""
        names = (self.topic(name) for name in (READINGS, REJECTED, PAYLOADS, RESULTS, PORTIONS, STATE, SITES))
        states = (self.state(consumer) for consumer in OF_READINGS)
        return (*dict.fromkeys((*names, *states)), self.json_topic)


def client_options(settings: KafkaSettings, name: str) -> dict[str, Any]:
    """The keywords every client of aiokafka takes. Raises UsageError for a certificate file that is none."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap,
        "client_id": name,
        "request_timeout_ms": settings.request_ms,
        "connections_max_idle_ms": 60_000,
        "metadata_max_age_ms": 60_000,
        "security_protocol": ("SASL_" if settings.user else "") + ("SSL" if settings.tls else "PLAINTEXT"),
    }
    if settings.user:
        options["sasl_mechanism"] = settings.mechanism
        options["sasl_plain_username"] = settings.user
        options["sasl_plain_password"] = settings.password
    if settings.tls:
        options["ssl_context"] = _tls(settings.ca_file)
    return options


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        what = f"the certificate of Kafka's authority cannot be used: {error.strerror or error}"
        raise UsageError(what, where=str(ca_file), hint="A PEM file is needed.") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
