"""The log's topics on Kafka: made as they must be, or checked and complained about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ssl import SSLError
from typing import Any

from aiokafka.errors import TopicAlreadyExistsError, UnknownTopicOrPartitionError
from aiokafka.protocol.admin import ApiVersionRequest, CreateTopicsRequest, DescribeConfigsRequest
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.metadata import MetadataRequest

from bus.kafka_connection import GROUP, Connection, check_code
from bus.kafka_producer import Producer
from bus.kafka_settings import OF_READINGS, RECORD_BYTES_MAX, STATE, KafkaSettings
from bus.log import PAYLOADS, PORTIONS, READINGS, REJECTED, RESULTS, SITES
from metering.errors import MeterflowError, Unavailable, UsageError
from metering.findings import Finding, Verdict

_DAY_MS = 86_400_000
RESULTS_KEPT_MS = 14 * _DAY_MS
"""A sink that is away for longer begins with what is left; the processors can make everything anew."""
REJECTED_KEPT_MS = 30 * _DAY_MS
PAYLOADS_KEPT_MS = 30 * _DAY_MS
"""So long an archive may be away before raw payloads are lost; ``archive check`` tells where some are."""
_INIT_PRODUCER_ID, _INIT_PRODUCER_ID_MIN = 22, 3
"""KIP-360, Kafka 2.5."""
_TOPIC_RESOURCE = 2

_ALL = {
    "max.message.bytes": str(RECORD_BYTES_MAX),
    "message.timestamp.before.max.ms": str((1 << 63) - 1),
    "message.timestamp.after.max.ms": "3600000",
    "unclean.leader.election.enable": "false",
    # A reader need not fear a small batch that becomes a large one; frames are compressed inside.
    "compression.type": "uncompressed",
}
_FOR_EVER = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
_FOR_A_WHILE = {
    "cleanup.policy": "delete",
    "retention.bytes": "-1",
    "message.timestamp.type": "LogAppendTime",
}
"""By Kafka's own clock: results of a replayed past would else be let go as soon as they are made."""
_ANY_STAMP = {"message.timestamp.type": "CreateTime", "message.timestamp.after.max.ms": str((1 << 63) - 1)}
"""Readings are kept for ever, so a stamp of the future keeps nothing longer. Refused, it would hold up ingest
until a clock that jumped ahead for a moment is there again: stamps never go back."""
_COMPACTED = {
    "cleanup.policy": "compact",
    "message.timestamp.type": "LogAppendTime",
    "min.cleanable.dirty.ratio": "0.2",
    "segment.bytes": str(64 << 20),
    "max.compaction.lag.ms": str(_DAY_MS),
}
_NEEDED = frozenset(("cleanup.policy",))
"""Records are lost where these differ; other differences are for people to judge."""


def wanted(settings: KafkaSettings) -> dict[str, dict[str, str]]:
    """The configuration of each topic, by its name on Kafka."""
    kept = {
        settings.topic(READINGS): {**_FOR_EVER, **_ANY_STAMP},
        settings.topic(PORTIONS): {**_FOR_EVER, "message.timestamp.type": "LogAppendTime"},
        settings.topic(REJECTED): {**_FOR_A_WHILE, "retention.ms": str(REJECTED_KEPT_MS)},
        settings.topic(PAYLOADS): {**_FOR_A_WHILE, "retention.ms": str(PAYLOADS_KEPT_MS)},
        settings.topic(RESULTS): {**_FOR_A_WHILE, "retention.ms": str(RESULTS_KEPT_MS)},
        settings.json_topic: {
            **_FOR_A_WHILE,
            "retention.ms": str(RESULTS_KEPT_MS),
            "compression.type": "gzip",  # nobody reads it here, and every client can
        },
        **dict.fromkeys(
            (settings.topic(STATE), *map(settings.state, OF_READINGS), settings.topic(SITES)), _COMPACTED
        ),
    }
    return {name: _ALL | its for name, its in kept.items()}


async def make_topics(connection: Connection) -> None:
    """Makes the topics that are missing, and checks the others.

    Raises UsageError when one has another number of partitions, or would lose records.
    """
    settings = connection.settings
    found = await present(connection)
    missing = {name: its for name, its in wanted(settings).items() if name not in found}
    if missing:
        await connection.patiently("make its topics", lambda: make(connection, missing))
        found = await connection.patiently("make its topics", lambda: _all_there(connection))
    for finding in await _compared(connection, found):
        if finding.verdict == "bad":
            where = f"{settings.bootstrap}: {finding.what}"
            raise UsageError(finding.detail, where=where, hint=finding.hint)


async def check(settings: KafkaSettings) -> list[Finding]:
    """What ``meterflow doctor`` says of Kafka: reachable, version, rights, topics. Makes nothing."""
    findings: list[Finding] = []
    try:
        connection = Connection(settings, "meterflow-doctor")
    except UsageError as error:
        return [Finding("kafka", "certificate", "bad", error.what, error.hint)]
    try:
        findings.append(await _reachable(connection))
        findings.append(await _version(connection))
        findings.append(await _rights(connection))
        findings += await _compared(connection, await present(connection))
    except MeterflowError as error:
        hint = error.hint
        if isinstance(error, Unavailable) and not findings and not isinstance(error.__cause__, SSLError):
            hint = "Look at the address, the port, tls, user and password, and whether the brokers run."
        findings.append(Finding("kafka", settings.bootstrap, "bad", error.what, hint))
    finally:
        await connection.close()
    return findings


async def _reachable(connection: Connection) -> Finding:
    answer = await _metadata(connection)
    return Finding("kafka", "reachable", detail=f"{len(answer.brokers)} broker(s)")


async def _version(connection: Connection) -> Finding:
    async def attempt() -> Any:
        return await connection.send(await connection.any_node(), ApiVersionRequest())

    answer = await connection.patiently("say its version", attempt)
    newest = {key: last for key, _, last, *_ in answer.api_versions}
    if newest.get(_INIT_PRODUCER_ID, 0) < _INIT_PRODUCER_ID_MIN:
        hint = "Kafka 2.5 is the oldest that works, 4.1 is tested."
        return Finding("kafka", "version", "bad", "the brokers are too old for transactions", hint)
    return Finding("kafka", "version", detail="transactions as needed")


async def _rights(connection: Connection) -> Finding:
    settings = connection.settings
    await Producer(connection, f"{settings.prefix}.doctor").start()
    group = settings.group("process")

    async def attempt() -> None:
        node = await connection.coordinator(GROUP, group)
        answer = await connection.send(node, OffsetFetchRequest(group, [(settings.topic(READINGS), [0])]))
        check_code(answer.error_code, group)

    await connection.patiently("say how far a group is", attempt)
    return Finding("kafka", "rights", detail=f"transactions and groups as {settings.user or 'ANONYMOUS'}")


async def _metadata(connection: Connection) -> Any:
    async def attempt() -> Any:
        names = list(connection.settings.topics)
        return await connection.send(await connection.any_node(), MetadataRequest(names, False))

    return await connection.patiently("name its topics", attempt)


async def present(connection: Connection) -> dict[str, int]:
    """Topics of the settings that are there, and their numbers of partitions."""
    answer = await _metadata(connection)
    unknown = 3
    found = {}
    for code, name, _, partitions, *_ in answer.topics:
        if code != unknown and partitions:
            found[name] = len(partitions)
        elif code != unknown:
            await connection.patiently("name its topics", lambda code=code, name=name: _checked(code, name))  # type: ignore[misc]
    return found


async def _all_there(connection: Connection) -> dict[str, int]:
    """The same when every broker knows all of them, which takes some milliseconds."""
    found = await present(connection)
    for name in connection.settings.topics:
        if name not in found:
            raise UnknownTopicOrPartitionError(name)
    return found


async def _checked(code: int, name: str) -> None:
    check_code(code, name)


async def make(connection: Connection, missing: Mapping[str, Mapping[str, str]]) -> None:
    """Makes topics with their configurations; not patient."""
    settings = connection.settings
    topics: list[Any] = [
        (name, settings.partitions, settings.replication, [], list(its.items()))
        for name, its in missing.items()
    ]
    request = CreateTopicsRequest(topics, settings.request_ms, False)
    answer = await connection.send(await connection.any_node(), request)
    for name, code, message in answer.topic_errors:
        if code not in (0, TopicAlreadyExistsError.errno):
            check_code(code, f"{name}: {message}")


async def _compared(connection: Connection, found: Mapping[str, int]) -> list[Finding]:
    resources = [(_TOPIC_RESOURCE, name, None) for name in found]

    async def attempt() -> Any:
        answer = await connection.send(await connection.any_node(), DescribeConfigsRequest(resources))
        for code, message, _, name, _ in answer.resources:
            check_code(code, f"{name}: {message}")
        return answer

    configs: dict[str, dict[str, str]] = {}
    if resources:
        answer = await connection.patiently("describe its topics", attempt)
        configs = {name: {e[0]: e[1] for e in entries} for _, _, _, name, entries in answer.resources}
    return [
        finding
        for name, its in wanted(connection.settings).items()
        for finding in _differences(connection.settings, name, its, found.get(name), configs.get(name, {}))
    ]


def _differences(
    settings: KafkaSettings,
    name: str,
    its: Mapping[str, str],
    partitions: int | None,
    config: Mapping[str, str],
) -> Iterator[Finding]:
    if partitions is None:
        yield Finding("kafka", name, "warning", "is not there yet", "The first role that starts makes it.")
        return
    if partitions != settings.partitions:
        detail = f"has {partitions} partitions, the settings say {settings.partitions}"
        hint = (
            f"Set kafka.partitions to {partitions}, or give another kafka.prefix: with another number of"
            " partitions, plants would move away from their own readings."
        )
        yield Finding("kafka", name, "bad", detail, hint)
    different = [(key, value) for key, value in its.items() if config.get(key, value) != value]
    for key, value in different:
        verdict: Verdict = "bad" if key in _NEEDED else "warning"
        change = f"kafka-configs.sh --alter --topic {name} --add-config {key}={value}"
        yield Finding("kafka", name, verdict, f"{key} is {config[key]}, wanted {value}", f"Set it: {change}")
    if partitions == settings.partitions and not different:
        yield Finding("kafka", name, detail=f"{partitions} partitions")
