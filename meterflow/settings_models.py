"""The settings file as data: one class a section. docs/operations.md describes every key.

Secrets are not in here: a key that ends in ``_file`` names the file that holds one.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, Strict

from meterflow.settings_types import FilePath, Flag, HttpUrl, MqttUrl, Name, Port, Servers, pairs
from metering.site_models import Listed, Part
from metering.site_types import DurationMs, Text, Word

NAME: Final = "meterflow"
"""Of a copy that has been given no other."""
Count = Annotated[int, Strict(), Field(ge=1, le=10_000)]
Replicas = Annotated[int, Strict(), Field(ge=1, le=100)]
ReceiveMaximum = Annotated[int, Strict(), Field(ge=1, le=65_535)]
Protocol = Annotated[int, Strict(), Field(ge=4, le=5)]
"""5, or 4 for MQTT 3.1.1."""
Client = Annotated[Literal["native", "paho"], Word("client", ("native", "paho"))]

Mechanism = Annotated[str, Word("SASL mechanism", ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"))]


class MqttSection(Part):
    """The broker that the collector subscribes to (ingest.broker_settings.Broker)."""

    url: MqttUrl
    client_id: Text = "meterflow-collector"
    filters: Annotated[list[Text], Listed, Field(min_length=1)] = Field(default=["meterflow/v1/#"])
    user: Text = ""
    password_file: FilePath | None = None
    protocol: Protocol = 5
    session_expiry_ms: DurationMs = Field(default=7 * 86_400_000, alias="session_expiry")
    receive_maximum: ReceiveMaximum = 1_000
    ca_file: FilePath | None = None
    cert_file: FilePath | None = None
    key_file: FilePath | None = None
    client: Client = "native"


class DecisionsSection(Part):
    """Where the page and the command publish people's decisions.

    Where the section stands, the collector takes them from its broker: whose they are is the broker's to say.
    """

    url: MqttUrl
    user: Text = ""
    password_file: FilePath | None = None


class EndpointSection(Part):
    """Our own MQTT endpoint: what meters connect to when there is no broker."""

    host: Text = "127.0.0.1"
    port: Port = 1883
    users_file: FilePath | None = None
    cert_file: FilePath | None = None
    key_file: FilePath | None = None


class JsonFieldsSection(Part):
    """What others call the fields of a reading (ingest.kafka_fields.JsonFields)."""

    plant: Text = "plant"
    point: Text = "point"
    time: Text = "time"
    value: Text = "value"
    unit: Text = "unit"
    start: Text = "start"
    serial: Text = "serial"
    product: Text = "product"
    revision: Text = "revision"
    seq: Text = "seq"
    quality: Text = "quality"
    ignored: Annotated[list[Text], Listed] = Field(default=[])


class JsonTopicSection(Part):
    """A Kafka topic of JSON readings that others write."""

    topic: Name
    group: Name = "meterflow"
    fields: Annotated[JsonFieldsSection, BeforeValidator(pairs)] = JsonFieldsSection()


class KafkaSection(Part):
    """The log. ``results``: the name of the results in the names of topics and groups."""

    bootstrap: Servers
    prefix: Name = "meterflow"
    results: Name = "results"
    partitions: Count = 4
    replication: Replicas = 1
    user: Text = ""
    password_file: FilePath | None = None
    mechanism: Mechanism = "SCRAM-SHA-512"
    tls: Flag = False
    ca_file: FilePath | None = None


class InfluxdbSection(Part):
    """Where the results go, and where the page and the export read them."""

    url: HttpUrl
    org: Text
    bucket: Text
    token_file: FilePath
    ca_file: FilePath | None = None
    gzip: Flag = False


class ArchiveSection(Part):
    """Where readings are kept for ever: a folder that all copies of ``process`` share, or an object store.

    ``raw``: raw payloads of messages are kept, too, for ever or for so many days.
    """

    url: Text
    every_ms: DurationMs = Field(default=900_000, alias="every")
    raw: Flag = False
    keep_raw_days: Count | None = None


class ProcessSection(Part):
    """The processors. ``scratch``: a folder on a disk, for state that rests (meterflow.paging)."""

    scratch: Text = "/var/tmp"  # noqa: S108 files in it have no name


class HttpSection(Part):
    """The page, and the health and metrics of each role."""

    host: Text = "127.0.0.1"
    port: Port = 8080
    ingest_port: Port = 8081
    process_port: Port = 8082
    sink_port: Port = 8083
    token_file: FilePath | None = None


class SettingsFile(Part):
    """All sections; a role asks for those it needs."""

    name: Name = NAME
    site: FilePath | None = None
    mqtt: MqttSection | None = None
    endpoint: EndpointSection | None = None
    json_topic: JsonTopicSection | None = None
    decisions: DecisionsSection | None = None
    kafka: KafkaSection | None = None
    influxdb: InfluxdbSection | None = None
    archive: ArchiveSection | None = None
    process: ProcessSection = ProcessSection()
    http: HttpSection = HttpSection()
