"""What the parts want to know, made of the settings."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from meterflow.settings import Settings
from metering.errors import UsageError

if TYPE_CHECKING:
    from bus.kafka_settings import KafkaSettings
    from ingest.broker_settings import Broker
    from ingest.kafka_json import JsonTopic
    from sinks.archive_place import Place
    from sinks.influx_client import InfluxSettings


def role_port(settings: Settings, role: str) -> int:
    """Where a role's page, or its health and metrics, are."""
    http = settings.values.http
    return http.port if role == "web" else int(getattr(http, f"{role}_port"))


def page_token(settings: Settings) -> str | None:
    """What the page, /readyz and /metrics ask for; None: nothing."""
    return settings.secret("http", "token_file") or None


def broker(settings: Settings) -> Broker:
    """The collector's broker. Raises UsageError for what cannot be one."""
    from ingest.broker_settings import Broker

    mqtt = settings.values.mqtt
    assert mqtt is not None
    return Broker(
        url=mqtt.url,
        client_id=mqtt.client_id,
        filters=tuple(mqtt.filters),
        user=mqtt.user,
        password=settings.secret("mqtt", "password_file"),
        session_expiry_s=mqtt.session_expiry_ms // 1000,
        receive_maximum=mqtt.receive_maximum,
        protocol=mqtt.protocol,
        ca_file=settings.path(mqtt.ca_file),
        cert_file=settings.path(mqtt.cert_file),
        key_file=settings.path(mqtt.key_file),
        client=mqtt.client,
        decisions=settings.values.decisions is not None,
    )


def archive(settings: Settings) -> Place:
    """Where readings are kept for ever. Raises UsageError for an address of a kind that is not known."""
    from sinks.archive_place import open_place

    its = settings.values.archive
    assert its is not None
    return open_place(its.url if "://" in its.url else str(settings.path(Path(its.url))))


def json_topic(settings: Settings) -> JsonTopic:
    """The topic of JSON readings. Raises UsageError when two fields have one name."""
    from ingest.kafka_fields import JsonFields
    from ingest.kafka_json import JsonTopic

    its = settings.values.json_topic
    assert its is not None
    names = its.fields.model_dump()
    return JsonTopic(its.topic, its.group, JsonFields(**{**names, "ignored": tuple(names["ignored"])}))


def endpoint_tls(settings: Settings) -> ssl.SSLContext | None:
    """TLS of our endpoint; None without a certificate. Raises UsageError."""
    endpoint = settings.values.endpoint
    assert endpoint is not None
    certificate, key = settings.path(endpoint.cert_file), settings.path(endpoint.key_file)
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"the endpoint's certificate cannot be used: {error.strerror or error}",
            where=f"{settings.file}: endpoint.cert_file: {certificate}",
            hint="PEM files are needed: the certificate with its chain, and its key without a password.",
        ) from error
    return context


def kafka(settings: Settings) -> KafkaSettings:
    """How to reach Kafka, and what the topics are called."""
    from bus.kafka_settings import KafkaSettings

    its = settings.values.kafka
    assert its is not None
    return KafkaSettings(
        bootstrap=its.bootstrap,
        prefix=its.prefix,
        results=its.results,
        partitions=its.partitions,
        replication=its.replication,
        user=its.user,
        password=settings.secret("kafka", "password_file"),
        mechanism=its.mechanism,
        ca_file=settings.path(its.ca_file),
        tls=its.tls,
    )


def influx(settings: Settings) -> InfluxSettings:
    """How to reach InfluxDB, and the bucket."""
    from sinks.influx_client import InfluxSettings

    its = settings.values.influxdb
    assert its is not None
    return InfluxSettings(
        url=its.url,
        org=its.org,
        bucket=its.bucket,
        token=settings.secret("influxdb", "token_file"),
        ca_file=settings.path(its.ca_file),
        gzip=its.gzip,
    )
