"""Telegraf's way from MQTT to Kafka: its configuration for the benchmark mqtt-kafka, and what it wrote."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.servers import telegraf_peer

_CONFIG = """\
[agent]
  interval = "1s"
  metric_batch_size = 1000
  metric_buffer_limit = 100000
  flush_interval = "200ms"
  omit_hostname = true
  logtarget = "stderr"

[[inputs.mqtt_consumer]]
  servers = ["tcp://127.0.0.1:{port}"]
  topics = ["meterflow/v1/#"]
  qos = 1
  persistent_session = true
  client_id = "telegraf"
  max_undelivered_messages = 1000
  data_format = "json_v2"
  [[inputs.mqtt_consumer.json_v2]]
    measurement_name = "reading"
    timestamp_path = "time"
    timestamp_format = "unix_ms"
    [[inputs.mqtt_consumer.json_v2.field]]
      path = "value"
      type = "float"

[[outputs.kafka]]
  brokers = ["{bootstrap}"]
  topic = "{topic}"
  routing_tag = "topic"
  required_acks = -1
  data_format = "json"
  json_timestamp_units = "1ms"
"""


def command(folder: Path, mqtt_port: int, bootstrap: str, topic: str) -> list[str]:
    """How it is started: mqtt_consumer with a persistent session and json_v2, to Kafka with acks=all."""
    config = folder / "telegraf.conf"
    config.write_text(_CONFIG.format(port=mqtt_port, bootstrap=bootstrap, topic=topic))
    return [telegraf_peer(), str(config)]


def readings(values: list[bytes]) -> list[tuple[str, int]]:
    """Topic and time of each reading that it wrote."""
    found = [json.loads(value) for value in values]
    return [(one["tags"]["topic"], one["timestamp"]) for one in found]
